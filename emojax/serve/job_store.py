"""Recordings that take longer than a request: accepted jobs lie on disk until they are done, so no crash loses one.

DIR/ID/media.SUFFIX, request.json (written last: a folder that has it is an accepted job), then outputs and done.json.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUEST, DONE = "request.json", "done.json"


@dataclass(frozen=True)
class Job:
    """One accepted recording."""

    folder: Path

    @property
    def id(self) -> str:
        """Its name, not to be guessed."""
        return self.folder.name

    @property
    def request(self) -> dict[str, Any]:
        """What was asked."""
        return json.loads((self.folder / REQUEST).read_text())

    @property
    def state(self) -> dict[str, Any]:
        """{state: waiting | done | failed, ...}."""
        path = self.folder / DONE
        return json.loads(path.read_text()) if path.exists() else {"state": "waiting"}

    def finish(self, **facts: Any) -> None:
        """Says that it is done or has failed; the last thing that is written."""
        put(self.folder / DONE, facts)


class Jobs:
    """All jobs of a folder."""

    def __init__(self, root: Path):
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        for folder in root.iterdir():  # an upload that a crash cut off was never accepted
            if folder.is_dir() and not (folder / REQUEST).exists():
                shutil.rmtree(folder)

    def new_folder(self) -> Path:
        """A folder to put media into, before `accept`."""
        folder = self.root / secrets.token_urlsafe(16)
        folder.mkdir()
        return folder

    def accept(self, folder: Path, request: dict[str, Any]) -> Job:
        """From here on the job is never lost: media and request are on the disk before this returns."""
        for path in folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        put(folder / REQUEST, request)
        return Job(folder)

    def find(self, name: str) -> Job | None:
        """A job by its id; anything that is no plain name is none."""
        if not name or set(name) - set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
        ):
            return None
        folder = self.root / name
        return Job(folder) if (folder / REQUEST).exists() else None

    def unfinished(self) -> Iterator[Job]:
        """Those that are to be done, oldest first."""
        found = [
            f for f in self.root.iterdir() if (f / REQUEST).exists() and not (f / DONE).exists()
        ]
        yield from (Job(f) for f in sorted(found, key=lambda f: (f / REQUEST).stat().st_mtime_ns))


def put(path: Path, facts: dict[str, Any]) -> None:
    """JSON, whole or not at all, on the disk before this returns."""
    half = path.with_suffix(".part")
    with half.open("w") as file:
        json.dump(facts, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(half, path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)

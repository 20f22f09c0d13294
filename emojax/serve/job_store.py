"""Jobs on disk: accepted recordings survive a crash until they are done.

A job is the folder DIR/ID with media.SUFFIX, request.json (written last: a folder that has it is an
accepted job), then the outputs and done.json.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.io import write_text

REQUEST, DONE = "request.json", "done.json"
_ID_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-_")


@dataclass(frozen=True)
class Job:
    """One accepted recording.

    Attributes:
      folder: where its files are.
    """

    folder: Path

    @property
    def id(self) -> str:
        """Its name, which cannot be guessed."""
        return self.folder.name

    @property
    def request(self) -> dict[str, Any]:
        """The fields of the request."""
        return _read(self.folder / REQUEST)

    @property
    def state(self) -> dict[str, Any]:
        """{state: waiting | done | failed, ...}."""
        path = self.folder / DONE
        return _read(path) if path.exists() else {"state": "waiting"}

    def finish(self, **facts: Any) -> None:
        """Records that the job is done or has failed; call it when all outputs are written."""
        _write(self.folder / DONE, facts)


class JobStore:
    """All jobs of a folder."""

    def __init__(self, root: Path):
        """Opens the folder and removes uploads that were never accepted because of a crash."""
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        for folder in root.iterdir():
            if folder.is_dir() and not (folder / REQUEST).exists():
                shutil.rmtree(folder)

    def new_folder(self) -> Path:
        """Makes a folder for the media of a job that is to be accepted."""
        folder = self.root / secrets.token_urlsafe(16)
        folder.mkdir()
        return folder

    def accept(self, folder: Path, request: dict[str, Any]) -> Job:
        """Accepts a job; its media and request are on the disk when this returns."""
        for path in folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        _write(folder / REQUEST, request)
        return Job(folder)

    def find(self, name: str) -> Job | None:
        """The job with this id; None if there is none or the name is not a valid id."""
        if not name or set(name) - _ID_CHARACTERS:
            return None
        folder = self.root / name
        return Job(folder) if (folder / REQUEST).exists() else None

    def unfinished(self) -> Iterator[Job]:
        """Yields accepted jobs that are not done, oldest first."""
        folders = [
            f for f in self.root.iterdir() if (f / REQUEST).exists() and not (f / DONE).exists()
        ]
        yield from (Job(f) for f in sorted(folders, key=lambda f: (f / REQUEST).stat().st_mtime_ns))


def _read(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


def _write(path: Path, facts: dict[str, Any]) -> None:
    write_text(path, json.dumps(facts), durable=True)

"""Answers of many files as JSON lines that a stopped run continues, and parts for machines."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from data_pipeline.io import try_lock

FIRST_FIELDS = (b'{"path"', b'{"schema"')  # how lines of clips and of recordings begin


def part_of(paths: Sequence[str], part: tuple[int, int]) -> list[str]:
    """One of n consecutive parts; their sizes differ by at most one.

    Args:
      paths: all files; every machine must find the same ones in the same order.
      part: (number of the part, from 1; number of parts).
    """
    number, parts = part
    return list(paths[(number - 1) * len(paths) // parts : number * len(paths) // parts])


class AnswerFile:
    """A file of one JSON object per line, one line per answered file.

    A last line that was cut off when its writer was stopped is removed.

    Attributes:
      path: the file.
      rows: its lines, by their field `path`.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file, if there is one.

        Raises:
          ValueError: it holds something else.
        """
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        self._file: BinaryIO | None = None
        data = path.read_bytes() if path.exists() else b""
        self._complete = data.rfind(b"\n") + 1
        for number, line in enumerate(data[: self._complete].splitlines(), 1):
            row = _read(line)
            if row is None:
                raise self._foreign(number)
            self.rows[row["path"]] = row
        cut_off = data[self._complete :]
        if not any(cut_off.startswith(first[: len(cut_off)]) for first in FIRST_FIELDS):
            raise self._foreign(len(self.rows) + 1)

    def _foreign(self, line: int) -> ValueError:
        return ValueError(
            f"{self.path}, line {line}: this is not an answer of `emojax predict --json`; choose "
            "another file for --resume"
        )

    def check_model(self, model: str) -> None:
        """Raises ValueError if the file holds answers of another model than `NAME@FOLDER`."""
        others = {r["model"] for r in self.rows.values() if r.get("model")}
        if wrong := sorted(m for m in others if _place(m) != _place(model)):
            raise ValueError(
                f"{self.path} holds answers of another model, {wrong[0]}: choose another file for "
                "--resume"
            )

    @contextlib.contextmanager
    def writing(self) -> Iterator[Self]:
        """Opens the file for new answers; no other process can write into it meanwhile."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        with (
            try_lock(lock, f"another process writes into {self.path}"),
            self.path.open("ab") as self._file,
        ):
            self._file.truncate(self._complete)
            yield self
        lock.unlink(missing_ok=True)

    def add(self, row: dict[str, Any]) -> None:
        """Appends an answer; `writing` must be open."""
        assert self._file is not None
        text = json.dumps(row, ensure_ascii=False) + "\n"
        self._file.write(text.encode("utf-8", "surrogateescape"))
        self._file.flush()
        self.rows[row["path"]] = row


def _place(model: str) -> tuple[str, Path]:
    name, _, folder = model.partition("@")
    return name, Path(folder).absolute()


def _read(line: bytes) -> dict[str, Any] | None:
    """A line as an answer; None if it is something else."""
    try:
        row = json.loads(line.decode("utf-8", "surrogateescape"))
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("path"), str) else None


@dataclasses.dataclass(kw_only=True)
class Todo:
    """What a run has to answer.

    Attributes:
      paths: all files, of all parts.
      part: those of this part.
      missing: those of this part that are not answered yet.
      file: where answers are kept, or None.
      refused: how many files of this part were refused.
    """

    paths: list[str]
    part: list[str]
    missing: list[str]
    file: AnswerFile | None
    refused: int

    @classmethod
    def of(cls, paths: list[str], *, part: tuple[int, int] | None, resume: str | None) -> Self:
        """Plans a run.

        Args:
          paths: all files.
          part: see `part_of`; None: all of them.
          resume: the file with the answers of an earlier run, which grows.

        Raises:
          ValueError: `resume` holds something else.
        """
        own = part_of(paths, part) if part else paths
        file = AnswerFile(Path(resume)) if resume else None
        rows = file.rows if file is not None else {}
        missing = [path for path in own if path not in rows]
        if file is not None:  # one line for a file that is named twice
            missing = list(dict.fromkeys(missing))
        refused = sum(bool(rows[path].get("error")) for path in own if path in rows)
        return cls(paths=paths, part=own, missing=missing, file=file, refused=refused)

    def writing(self) -> contextlib.AbstractContextManager[object]:
        """Opens the file of answers, if there is one."""
        return self.file.writing() if self.file is not None else contextlib.nullcontext()

    def add(self, row: dict[str, Any]) -> None:
        """Counts and keeps one answer."""
        self.refused += bool(row.get("error"))
        if self.file is not None:
            self.file.add(row)

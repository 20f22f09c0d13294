"""Answers of many files as JSON lines that a stopped run continues, and parts for machines."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from data_pipeline.io import temporary_lock

FIRST_FIELDS = (b'{"path"', b'{"schema"')  # how lines of clips and of recordings begin


def part_of(paths: Sequence[str], part: tuple[int, int]) -> list[str]:
    """One of n consecutive parts; their sizes differ by at most one.

    Args:
      paths: all files; every machine must find the same ones in the same order.
      part: (number of the part, from 1; number of parts).

    Returns:
      The files of this part, in their order.
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
          ValueError: it holds something else, or is a folder, a pipe or a device.
          OSError: it cannot be read.
        """
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        self._file: BinaryIO | None = None
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a pipe or a device"
            raise ValueError(f"{path} is {kind}: give a file for --resume")
        data = path.read_bytes() if path.exists() else b""
        self._size = len(data)
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

    def check_question(self, *, model: str, labels: Sequence[str], is_recording: bool) -> None:
        """Checks that the answers in the file are to the same question.

        Args:
          model: `NAME@FOLDER`.
          labels: label strings to choose from.
          is_recording: whether the answers are emotion tracks of recordings.

        Raises:
          ValueError: the file holds answers of another kind, of another model, or to other labels.
        """
        for path, row in self.rows.items():
            if row.get("error"):
                continue
            other = ""
            if ("segments" in row) != is_recording:
                other = f"{'single answers' if is_recording else 'emotion tracks'} (of {path})"
            elif row.get("model") and _place(row["model"]) != _place(model):
                other = f"answers of another model, {row['model']}"
            elif (known := _labels(row)) and known != set(labels):
                other = f"answers with the labels {', '.join(sorted(known))}"
            if other:
                raise ValueError(f"{self.path} holds {other}: choose another file for --resume")

    @contextlib.contextmanager
    def writing(self) -> Iterator[Self]:
        """Opens the file for new answers; no other process can write into it meanwhile.

        Raises:
          ValueError: another process writes, or has written since the file was read.
          OSError: the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_name(f".{self.path.name}.lock")
        with (
            self.path.open("ab") as self._file,
            temporary_lock(lock, f"another process writes into {self.path}"),
        ):
            if self._file.tell() != self._size:
                raise ValueError(
                    f"another process has written into {self.path} meanwhile: run the same command"
                    " again to go on"
                )
            self._file.truncate(self._complete)
            yield self

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


def _labels(row: dict[str, Any]) -> set[str]:
    """The labels that an answer chose from; none if it does not say."""
    return set(row.get("labels") or row.get("probabilities") or ())


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

"""Answers of a recording's segments on disk, so that a run that was stopped can continue.

JSON lines: the first one holds the key of the question, each further one the answer of one segment
and person.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from data_pipeline.media.transcript import Transcript
from emojax import __version__
from emojax.bundle.model_folder import MODEL_FILE, Bundle
from emojax.config import original_names
from emojax.infer.face_tracks import PersonSplitter
from emojax.infer.timeline_records import SCHEMA, TimelineOptions
from emojax.types import Answer

Place = tuple[int, str]  # number of the segment, name of the person's track
_DERIVED = ("purpose", "smoothing", "change_price")  # options that answers do not depend on


class AnswerCache:
    """Answers of one question, kept in a file while the context is open.

    Without a file, nothing is kept. Whoever has written the outputs deletes the file.
    """

    def __init__(self, path: Path | None, key: str, *, fingerprint: str = ""):
        """Reads the answers of an earlier run with the same key.

        Args:
          path: the file, or None.
          key: of the question, see `answer_key`.
          fingerprint: of the recording; others leave the file alone, see `output_stems`.
        """
        self._answers: dict[Place, Answer] = {}
        self._file = None
        if path is None:
            return
        self._answers = _read(path, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self._answers:
            header = {"schema": SCHEMA, "key": key, "fingerprint": fingerprint}
            path.write_text(json.dumps(header) + "\n", encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def get(self, place: Place) -> Answer | None:
        """The kept answer of a segment and person."""
        return self._answers.get(place)

    def add(self, answers: Mapping[Place, Answer]) -> None:
        """Keeps answers; they are on the disk when this returns."""
        if self._file is None:
            return
        for place, answer in answers.items():
            line = json.dumps({"at": list(place), "answer": answer.to_json()})
            self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def answer_key(
    bundle: Bundle,
    path: str,
    options: TimelineOptions,
    *,
    labels: tuple[str, ...],
    transcript: Transcript,
    people: PersonSplitter,
) -> str:
    """Hash of everything that an answer depends on: file, model and question.

    Args:
      bundle: the model.
      path: media file.
      options: those of the timeline; what is derived from answers is left out.
      labels: labels to choose from.
      transcript: words with times.
      people: how people are separated.

    Returns:
      Hex digits.

    Raises:
      OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        head = hashlib.sha256(file.read(1 << 20)).hexdigest()
        size = [file.seek(0, os.SEEK_END), os.stat(path).st_mtime_ns]
    # A model that was trained again has the same name and folder.
    model_file = Path(bundle.name.partition("@")[2]) / MODEL_FILE
    trained = model_file.stat().st_mtime_ns if model_file.is_file() else 0
    facts: list[Any] = [
        head,
        size,
        bundle.name,
        original_names(bundle.settings.raw),  # answers begun by older versions are found
        dataclasses.asdict(bundle.calibration) if bundle.calibration else None,
        trained,
        __version__,
        {k: v for k, v in options.to_json().items() if k not in _DERIVED},
        labels,
        {k: v for k, v in dataclasses.asdict(transcript).items() if k != "notes"},
        people.name,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _read(path: Path, key: str) -> dict[Place, Answer]:
    """The answers in a file if its key is the same; an incomplete last line is cut off."""
    if not path.exists():
        return {}
    lines = path.read_bytes().split(b"\n")
    try:
        if json.loads(lines[0]).get("key") != key:
            return {}
    except (ValueError, AttributeError):
        return {}
    answers: dict[Place, Answer] = {}
    good = len(lines[0]) + 1
    for line in lines[1:-1]:
        try:
            fields = json.loads(line)
            place = int(fields["at"][0]), str(fields["at"][1])
            answers[place] = Answer.from_json(fields["answer"])
            good += len(line) + 1
        except (ValueError, KeyError, TypeError, IndexError):
            break
    os.truncate(path, good)
    return answers

"""The unified schema: what is known of a clip (`ClipRecord`) and one instruction made of it (`Example`).

Records travel as JSON Lines; reading checks every field and names file, line and field of a fault.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class ClipRecord:
    """One annotated clip of one data set.

    Attributes:
      id: unique in the data set.
      dataset: its name.  split: one of SPLITS.
      path: media file, absolute.
      label: the class label; labels: the label space in its native order.
      subtitle: spoken words, "" when not known.
      speaker: identity, "" when not known.
      start, end: span in seconds, None for the file's border.
      peak_index: frame number of the apex, None when not known.
      texts: description by kind: `audio` clue, `image` clue, `text` clue (of the words), multimodal `reason`.
      truth: known facts of embedded clips (what each modality shows, clues, conflict).
    """

    id: str
    dataset: str
    split: str
    path: str
    label: str
    labels: tuple[str, ...]
    subtitle: str = ""
    speaker: str = ""
    start: float | None = None
    end: float | None = None
    peak_index: int | None = None
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    truth: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split is '{self.split}', needs one of {', '.join(SPLITS)}")
        if self.label not in self.labels:
            raise ValueError(f"label '{self.label}' is not in the label space {list(self.labels)}")

    def to_json(self) -> str:
        """One line of JSON, with the schema's version."""
        return json.dumps({"schema": SCHEMA_VERSION, **dataclasses.asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> ClipRecord:
        """The inverse of `to_json`.

        Raises:
          ValueError: not JSON, another schema version, an unknown or missing field.
        """
        fields = json.loads(line)
        version = fields.pop("schema", None)
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version is {version}, this program reads {SCHEMA_VERSION}")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown fields {unknown}")
        try:
            return cls(**{**fields, "labels": tuple(fields.get("labels", ()))})
        except TypeError as error:
            raise ValueError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class Example:
    """One instruction sample.

    Attributes:
      clip: the clip it is about.
      task: the tag in the prompt, without brackets.
      prompt: everything between the chat template's markers, with `<VideoHere>`.
      answer: normalised target text, without the end token.
      streams: which inputs the task may look at (`image`, `video`, `audio`).
    """

    clip: ClipRecord
    task: str
    prompt: str
    answer: str
    streams: tuple[str, ...] = ("image", "video", "audio")


def write_records(path: Path, records: Iterable[ClipRecord]) -> None:
    """Writes JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(record.to_json() + "\n")


def read_records(path: Path) -> list[ClipRecord]:
    """Reads JSON Lines.

    Raises:
      ValueError: names file and line of the first fault.
    """
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            records.append(ClipRecord.from_json(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return records

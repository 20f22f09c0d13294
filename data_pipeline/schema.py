"""The unified schema: an annotated clip (`ClipRecord`), an instruction sample (`Example`).

Both are stored as JSON Lines. Reading checks every field; errors name the file, line and field.
docs/data.md describes the format for users.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.io import atomic_path, refuse_device

SCHEMA_VERSION = 2
_READABLE = (1, 2)  # version 1 has a subset of the fields of version 2
# `unsplit`: no split or no label is given; such clips are neither trained nor evaluated on.
SPLITS = ("train", "val", "test", "unsplit")
LABEL_TASKS = ("emotion", "sentiment", "intent", "multi-label", "open-vocabulary")
SEPARATOR = ", "  # between the labels of one clip
VIDEO_HERE = "<VideoHere>"  # where a prompt has the features of its clip
MODALITIES = ("video", "audio", "text")  # `video` covers everything visual
STREAMS = ("image", "video", "audio")  # the inputs of a model that a task may use


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """The decoded content of one media file.

    Attributes:
      id: name of the clip, unique in its data set.
      path: the source, as given by the caller.
      frames: uint8[F, H, W, 3], the temporally sampled frames; None if there is no picture.
      times: float64[F], seconds of each frame from the file's first shown frame (of a segment:
        from its start), or None.
      image: uint8[H, W, 3], the single frame that represents the clip, or None.
      image_index: number of the decoded frame used as `image`, or None.
      waveform: float32[n], mono at 16 kHz; None if there is no sound.
      subtitle: the transcript, "" if unknown.
      duration: seconds, the longer of picture and sound.
      num_frames: number of frames in the file, 0 if there is no picture.
      notes: irregularities of the file, one sentence each.
    """

    id: str
    path: str
    frames: np.ndarray | None
    times: np.ndarray | None
    image: np.ndarray | None
    image_index: int | None
    waveform: np.ndarray | None
    subtitle: str = ""
    duration: float = 0.0
    num_frames: int = 0
    notes: tuple[str, ...] = ()

    @property
    def silent(self) -> bool:
        """Whether there is a sound track and every sample of it is digital silence."""
        return self.waveform is not None and not np.any(np.abs(self.waveform) > 1e-6)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The members of `MODALITIES` that the clip contains."""
        present = {
            "video": self.frames is not None,
            "audio": self.waveform is not None and not self.silent,
            "text": bool(self.subtitle.strip()),
        }
        return tuple(name for name in MODALITIES if present[name])


@dataclasses.dataclass(frozen=True)
class Target:
    """The label of a clip for one label task.

    Attributes:
      label: spelled as in `labels`; several labels are joined by SEPARATOR; "" if unlabelled.
      labels: the label space in the order used in prompts; () for an open vocabulary.
      native: the spelling in the data set's own annotation file.
    """

    label: str
    labels: tuple[str, ...]
    native: str = ""

    def __post_init__(self) -> None:
        if self.label and self.labels and self.label not in self.labels:
            for part in self.label.split(SEPARATOR):
                if part not in self.labels:
                    raise ValueError(
                        f"label '{part}' is not in the label space {list(self.labels)}"
                    )

    @property
    def parts(self) -> tuple[str, ...]:
        """All labels of the clip, as a tuple."""
        return (
            (self.label,)
            if self.label in self.labels
            else tuple(filter(None, self.label.split(SEPARATOR)))
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """One annotated clip (or still image) of a data set.

    Attributes:
      id: unique within the data set and fold.
      dataset: name of the data set.
      split: one of SPLITS.
      path: media file, absolute.
      label: label of the main label task; see Target.
      labels: label space of the main label task; see Target.
      subtitle: the transcript, "" if unknown.
      speaker: speaker identity, "" if unknown.
      start: seconds from the file's first shown frame; None is the beginning of the file.
      end: seconds from the file's first shown frame; None is the end of the file.
      peak_index: frame number of the apex, from 0; None if unknown.
      texts: descriptions by kind: `audio` (and `audio_2`, by a second model), `image`, `text` clue
        (about the transcript), multimodal `reason` (`reason_sentiment` and `reason_multi` for the
        other label tasks, `reason_long` for MERR's longer form); `action_units` and
        `peak_action_units`, codes joined by SEPARATOR.
      truth: ground truth of synthetic clips (what each modality shows, clues, conflict).
      task: the main label task, one of LABEL_TASKS.
      native: the main label as spelled in the data set's own annotation file.
      targets: further label tasks and their labels.
      scores: numbers by kind, each in the range of its data set: `valence`, `activation`,
        `arousal`, `dominance`, `sentiment`.
      mode: the data set's own name of the split (`test1`, `Session5`).
      fold: the data set's own fold, "" without folds.
      question: question of a general image set.
      answers: answers of a general image set; a repeated answer is drawn more often.
      provenance: the author of each text, by field name or key of `texts`: `human`, or the model
        and the version of the pipeline.
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
    task: str = "emotion"
    native: str = ""
    targets: dict[str, Target] = dataclasses.field(default_factory=dict)
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    mode: str = ""
    fold: str = ""
    question: str = ""
    answers: tuple[str, ...] = ()
    provenance: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("the id is empty")
        if not self.dataset or self.dataset in (".", "..") or set("/\\\0") & set(self.dataset):
            raise ValueError(
                f"dataset is {self.dataset!r}, needs a plain name: it is used as a folder name"
            )
        if self.split not in SPLITS:
            raise ValueError(f"split is '{self.split}', must be one of {', '.join(SPLITS)}")
        for task in (self.task, *self.targets):
            if task not in LABEL_TASKS:
                raise ValueError(f"label task is '{task}', must be one of {', '.join(LABEL_TASKS)}")
        self.target(self.task)  # checks the main label
        if not 0 <= (self.start or 0) < (float("inf") if self.end is None else self.end):
            raise ValueError(f"the span from {self.start} to {self.end} s is not valid")
        if self.peak_index is not None and self.peak_index < 0:
            raise ValueError(f"peak_index is {self.peak_index}; frames are counted from 0")

    def target(self, task: str) -> Target | None:
        """The target of a label task, None if the clip is not annotated for it."""
        return (
            Target(self.label, self.labels, self.native)
            if task == self.task
            else self.targets.get(task)
        )

    def to_json(self) -> str:
        """One line of JSON, including the schema version."""
        return _to_line({"schema": SCHEMA_VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, line: str | bytes) -> ClipRecord:
        """The inverse of `to_json`.

        Raises:
          ValueError: the line is not JSON, has an unsupported schema version, an unknown or
            missing field, or a value of the wrong type.
        """
        return cls.from_fields(_parse_versioned(line))

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> ClipRecord:
        """Builds a record from the JSON object without its version.

        Raises:
          ValueError: a field is unknown or missing, or has a value of the wrong type.
        """
        _check_fields(cls, fields)
        try:
            targets: dict[str, Target] = {
                k: Target(t["label"], tuple(t["labels"]), t.get("native", ""))
                for k, t in fields.get("targets", {}).items()
            }
            tuples: dict[str, Any] = {
                k: tuple(fields[k]) for k in ("labels", "answers") if k in fields
            }
            return cls(**{**fields, **tuples, "targets": targets})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a field is missing or has the wrong type ({error})") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One instruction sample.

    Attributes:
      clip: the clip that the instruction is about.
      task: the tag in the prompt, without brackets.
      prompt: the instruction in its chat template, with `<VideoHere>`.
      answer: normalized target text, without the end token.
      streams: the inputs that the task may use, some of STREAMS.
      provenance: the author of the answer; see ClipRecord.
    """

    clip: ClipRecord
    task: str
    prompt: str
    answer: str
    streams: tuple[str, ...] = STREAMS
    provenance: str = ""

    def to_json(self) -> str:
        """One line of JSON, including the schema version; the clip is a nested object."""
        return _to_line({"schema": SCHEMA_VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, line: str | bytes) -> Example:
        """The inverse of `to_json`.

        Raises:
          ValueError: the same errors as `ClipRecord.from_json`.
        """
        fields = _parse_versioned(line)
        _check_fields(cls, fields)
        try:
            changes: dict[str, Any] = {"clip": ClipRecord.from_fields(fields["clip"])}
            if "streams" in fields:
                changes["streams"] = tuple(fields["streams"])
            return cls(**{**fields, **changes})
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from error


def _to_line(fields: dict[str, Any]) -> str:
    """JSON in which names of files that are not UTF-8 are escapes, as Python reads them again."""
    text = json.dumps(fields, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "float | None": (int, float, type(None)),
    "int | None": (int, type(None)),
    "dict[str, str]": (dict,),
    "dict[str, float]": (dict,),
    "dict[str, Target]": (dict,),
    "dict[str, Any] | None": (dict, type(None)),
    "tuple[str, ...]": (list, tuple),
    "ClipRecord": (dict,),
}


def _parse_versioned(line: str | bytes) -> dict[str, Any]:
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("the line is not a JSON object")
    version = fields.pop("schema", None)
    if version not in _READABLE:
        raise ValueError(
            f"schema version is {version}, this program reads {_READABLE[0]} to {_READABLE[-1]}"
        )
    return fields


def _check_fields(cls: type, fields: dict[str, Any]) -> None:
    known = {field.name: str(field.type) for field in dataclasses.fields(cls)}
    if unknown := sorted(set(fields) - set(known)):
        raise ValueError(f"unknown fields {unknown}")
    for name, value in fields.items():
        if not isinstance(value, _TYPES[known[name]]) or isinstance(value, bool):
            raise ValueError(f"field '{name}' is {value!r}, must be {known[name]}")
        if known[name] in ("tuple[str, ...]", "dict[str, str]"):
            if wrong := [x for x in _items(value) if not isinstance(x, str)]:
                raise ValueError(f"field '{name}' contains {wrong[0]!r}, must contain only text")
        if known[name] == "dict[str, float]":
            if wrong := [x for x in _items(value) if not _is_number(x)]:
                raise ValueError(f"field '{name}' contains {wrong[0]!r}, must contain only numbers")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _items(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, dict) else value)


def write_records(path: Path, records: Iterable[ClipRecord] | Iterable[Example]) -> None:
    """Writes records or examples as JSON Lines, atomically."""
    with atomic_path(path) as part, part.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(record.to_json() + "\n")


def holds_records(path: Path) -> bool:
    """Whether a .jsonl file is one of records; any other one is a table of rows by column.

    Raises:
      OSError: the file cannot be read.
    """
    if path.suffix != ".jsonl":
        return False
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
    try:
        value = json.loads(first)
    except ValueError:
        return True  # the reader of records names the fault
    return not isinstance(value, dict) or "schema" in value


def read_records(path: Path) -> list[ClipRecord]:
    """Reads ClipRecords from JSON Lines.

    Raises:
      OSError: the file cannot be read.
      ValueError: a line is not a valid record; names the file and line of the first error.
    """
    out = []
    try:
        text = refuse_device(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from error
    # Not splitlines: it would also split at U+2028 and the like, which JSON strings may contain.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            out.append(ClipRecord.from_json(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return out

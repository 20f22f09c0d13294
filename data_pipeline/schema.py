"""The unified schema: what is known of a clip (`ClipRecord`) and one instruction made of it (`Example`).

Both travel as JSON Lines; reading checks every field and names file, line and field of a fault. docs/data.md is the
description for users.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

SCHEMA_VERSION = 2
_READABLE = (1, 2)  # version 1 had fewer fields, all of them the same
# `unsplit`: the set names no split, or no label; nothing trains or is scored on it.
SPLITS = ("train", "val", "test", "unsplit")
LABEL_TASKS = ("emotion", "sentiment", "intent", "multi-label", "open-vocabulary")
SEPARATOR = ", "  # between the labels of one clip
MODALITIES = ("video", "audio", "text")  # `video` is everything that is seen


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """What was decoded from one media file.

    Attributes:
      id: name of the clip, unique in its data set.
      path: where it came from, as given.
      frames: uint8[F, H, W, 3], the frames of the temporal sampling, or None without a picture.
      times: float64[F], seconds of each frame, or None.
      image: uint8[H, W, 3], the one frame that stands for the clip, or None.
      image_index: which decoded frame `image` is, or None.
      waveform: float32[n], mono at 16 kHz, or None without sound.
      subtitle: the words, "" when not known.
      duration: seconds, the longer of picture and sound.
      num_frames: frames that the file holds, 0 without a picture.
      notes: what was irregular about the file, one sentence each.
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
        """True when there is a sound track and every sample of it is digital silence."""
        return self.waveform is not None and not np.any(np.abs(self.waveform) > 1e-6)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of `MODALITIES` the clip can be judged by."""
        found = {
            "video": self.frames is not None,
            "audio": self.waveform is not None and not self.silent,
            "text": bool(self.subtitle.strip()),
        }
        return tuple(name for name in MODALITIES if found[name])


@dataclasses.dataclass(frozen=True)
class Target:
    """What one label task asks of a clip.

    Attributes:
      label: in the spelling of `labels`; several are joined by SEPARATOR; "" when the clip is not labelled.
      labels: the label space in the order of the set's prompts; () for an open vocabulary.
      native: the spelling in the set's own file.
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
        """Every label of the clip."""
        return (
            (self.label,)
            if self.label in self.labels
            else tuple(filter(None, self.label.split(SEPARATOR)))
        )


@dataclasses.dataclass(frozen=True)
class ClipRecord:
    """One annotated clip (or still image) of one data set.

    Attributes:
      id: unique in the data set and fold.
      dataset: its name.  split: one of SPLITS.
      path: media file, absolute.
      label, labels: main label and its space; see Target.
      subtitle: spoken words, "" when not known.
      speaker: identity, "" when not known.
      start, end: span in seconds, None for the file's border.
      peak_index: frame number of the apex, from 0, None when not known.
      texts: description by kind: `audio` (and `audio_2`, by a second model), `image`, `text` clue (of the words),
        multimodal `reason` (and `reason_sentiment`, `reason_multi`, for the other label tasks).
      truth: known facts of embedded clips (what each modality shows, clues, conflict).
      task: what the main label answers, one of LABEL_TASKS.  native: the main label as the set's file spells it.
      targets: further label tasks.
      scores: numbers by kind: `valence`, `sentiment`.
      mode: the set's own word for the split (`test1`, `Session5`).  fold: the set's own fold, "" without folds.
      question, answers: of general image sets; an answer that stands there twice is drawn twice as often.
      provenance: who wrote what: `human`, or the model and the version of the pipeline; by field name or key of
        `texts`.
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
            raise ValueError(f"dataset is {self.dataset!r}, needs a plain name: it names a folder")
        if self.split not in SPLITS:
            raise ValueError(f"split is '{self.split}', needs one of {', '.join(SPLITS)}")
        for task in (self.task, *self.targets):
            if task not in LABEL_TASKS:
                raise ValueError(f"label task is '{task}', needs one of {', '.join(LABEL_TASKS)}")
        self.target(self.task)  # checks the main label
        if not 0 <= (self.start or 0) < (float("inf") if self.end is None else self.end):
            raise ValueError(f"the span from {self.start} to {self.end} s is none")
        if self.peak_index is not None and self.peak_index < 0:
            raise ValueError(f"peak_index is {self.peak_index}; frames count from 0")

    def target(self, task: str) -> Target | None:
        """What a label task asks of this clip, None where it is not annotated for it."""
        return (
            Target(self.label, self.labels, self.native)
            if task == self.task
            else self.targets.get(task)
        )

    def to_json(self) -> str:
        """One line of JSON, with the schema's version."""
        return json.dumps(
            {"schema": SCHEMA_VERSION, **dataclasses.asdict(self)}, ensure_ascii=False
        )

    @classmethod
    def from_json(cls, line: str | bytes) -> ClipRecord:
        """The inverse of `to_json`.

        Raises:
          ValueError: not JSON, another schema version, an unknown or missing field, a value of another type.
        """
        return cls.from_fields(_versioned(line))

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> ClipRecord:
        """The JSON object without its version -> record; raises as `from_json`."""
        _check_fields(cls, fields)
        try:
            targets: dict[str, Target] = {
                k: Target(t["label"], tuple(t["labels"]), t.get("native", ""))
                for k, t in fields.get("targets", {}).items()
            }
            lists: dict[str, Any] = {
                k: tuple(fields[k]) for k in ("labels", "answers") if k in fields
            }
            return cls(**{**fields, **lists, "targets": targets})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a field is missing or of another kind ({error})") from error


@dataclasses.dataclass(frozen=True)
class Example:
    """One instruction sample.

    Attributes:
      clip: the clip it is about.
      task: the tag in the prompt, without brackets.
      prompt: everything between the chat template's markers, with `<VideoHere>`.
      answer: normalised target text, without the end token.
      streams: which inputs the task may look at (`image`, `video`, `audio`).
      provenance: who wrote the answer; see ClipRecord.
    """

    clip: ClipRecord
    task: str
    prompt: str
    answer: str
    streams: tuple[str, ...] = ("image", "video", "audio")
    provenance: str = ""

    def to_json(self) -> str:
        """One line of JSON, with the schema's version; the clip is a nested object."""
        return json.dumps(
            {"schema": SCHEMA_VERSION, **dataclasses.asdict(self)}, ensure_ascii=False
        )

    @classmethod
    def from_json(cls, line: str | bytes) -> Example:
        """The inverse of `to_json`; raises as ClipRecord.from_json."""
        fields = _versioned(line)
        _check_fields(cls, fields)
        try:
            clip = ClipRecord.from_fields(fields["clip"])
            return cls(**{**fields, "clip": clip, "streams": tuple(fields.get("streams", ()))})
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from error


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


def _versioned(line: str | bytes) -> dict[str, Any]:
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("the line holds no JSON object")
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
            raise ValueError(f"field '{name}' is {value!r}, needs {known[name]}")
        if known[name] in ("tuple[str, ...]", "dict[str, str]"):
            if wrong := next((x for x in _items(value) if not isinstance(x, str)), None):
                raise ValueError(f"field '{name}' holds {wrong!r}, needs text")
        if known[name] == "dict[str, float]":
            if bad := next(
                (
                    x
                    for x in _items(value)
                    if isinstance(x, bool) or not isinstance(x, (int, float))
                ),
                None,
            ):
                raise ValueError(f"field '{name}' holds {bad!r}, needs numbers")


def _items(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, dict) else value)


T = TypeVar("T", ClipRecord, Example)


def write_records(path: Path, records: Iterable[ClipRecord] | Iterable[Example]) -> None:
    """Writes JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(record.to_json() + "\n")


def read_records(path: Path) -> list[ClipRecord]:
    """Reads ClipRecords from JSON Lines.

    Raises:
      ValueError: names file and line of the first fault.
    """
    return _read_lines(path, ClipRecord.from_json)


def read_examples(path: Path) -> list[Example]:
    """Reads Examples from JSON Lines; raises as `read_records`."""
    return _read_lines(path, Example.from_json)


def _read_lines(path: Path, parse: Callable[[str], T]) -> list[T]:
    out = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from error
    # Not splitlines: U+2028 and the like may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            out.append(parse(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return out

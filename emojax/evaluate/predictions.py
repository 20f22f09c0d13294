"""Predictions of any system: one row a clip, read from the files that such systems write.

JSON Lines with the keys of Emotion-LLaMAv2 (`video_id`, `mode`, `answer`, `response`, optionally `new_response`) and, where
they are known, ours; npz files of AffectGPT; CSV files of EMER outputs. docs/evaluation.md lists every key.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.datasets.unpickle import load_object_npz


class PredictionError(ValueError):
    """A predictions file can not be used; names file, line and field."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """One answered clip.

    Attributes:
      clip: its id in the set.  set: name of the benchmark set, "" where the file does not say.
      mode: the set's own word for the part that the clip belongs to.
      answer: the truth, as the set's file spells it; several labels are separated by commas or semicolons.
      response: what the system said, untouched.  new_response: a corrected one, which some official scores prefer.
      probabilities: by label, where the system gives them; they may add up to less than 1.
      speaker, video: whom or what clips have in common; intervals are drawn over them.
      modalities: what the clip had (`video`, `audio`, `text`).  duration: seconds.  language: as a short code.
      path, start, end, subtitle: of the clip (a file, the span in seconds), for the report.  reason: what the system wrote as its reason.
      valence, valence_answer: predicted and true valence.
      error: why there is no response: the clip could not be decoded (`refused: ...`), the server said nothing.
    """

    clip: str
    answer: str = ""
    response: str = ""
    mode: str = ""
    set: str = ""
    new_response: str | None = None
    probabilities: Mapping[str, float] | None = None
    speaker: str = ""
    video: str = ""
    modalities: tuple[str, ...] | None = None
    duration: float | None = None
    language: str = ""
    path: str = ""
    start: float | None = None
    end: float | None = None
    subtitle: str = ""
    reason: str = ""
    valence: float | None = None
    valence_answer: float | None = None
    error: str = ""

    @property
    def group(self) -> str:
        """What intervals are drawn over: the speaker, else the video, else the clip itself ("")."""
        return self.speaker or self.video

    @property
    def said(self) -> str:
        """The corrected response where there is one."""
        return self.response if self.new_response is None else self.new_response

    def to_json(self) -> str:
        """One line of JSON, with the key of the original for the clip; fields without a value are left out."""
        fields = {
            "video_id": self.clip,
            "mode": self.mode,
            "answer": self.answer,
            "response": self.response,
        }
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("clip", "mode", "answer", "response") and value != field.default:
                fields[field.name] = value
        return json.dumps(fields, ensure_ascii=False)


_TEXT = (
    "answer", "response", "mode", "set", "new_response", "speaker", "video", "language", "path", "subtitle", "reason", "error",
)  # fmt: skip
_NUMBERS = ("duration", "start", "end", "valence", "valence_answer")
_IDS = ("video_id", "clip", "name", "id")


def read_predictions(path: Path, *, truth: Mapping[str, str] | None = None) -> list[Prediction]:
    """Predictions of one file, by its suffix: .jsonl (or .json), .npz, .csv.

    Args:
      truth: label by clip, for files that hold none; clips that it does not name are left out.

    Raises:
      PredictionError: no such file, another format, a row that can not be used, a clip that stands there twice.
    """
    if not path.is_file():
        raise PredictionError(f"there is no predictions file '{path}'")
    readers = {
        ".jsonl": _read_json_lines,
        ".json": _read_json_lines,
        ".npz": _read_npz,
        ".csv": _read_csv,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise PredictionError(
            f"{path}: predictions are read from .jsonl, .json, .npz and .csv files"
        )
    rows = reader(path)
    if truth is not None:
        if other := next(
            (
                r
                for r in rows
                if r.answer and r.clip in truth and r.answer.strip() != truth[r.clip].strip()
            ),
            None,
        ):
            raise PredictionError(
                f"{path}: clip '{other.clip}' has the answer '{other.answer}', the truth says '{truth[other.clip]}'; leave out one of them"
            )
        rows = [dataclasses.replace(r, answer=truth[r.clip]) for r in rows if r.clip in truth]
        if not rows:
            raise PredictionError(f"{path} and the truth have no clip in common")
        if lost := [clip for clip in truth if clip not in {r.clip for r in rows}]:
            raise PredictionError(
                f"{path} has no prediction for {len(lost)} clips of the truth, such as '{lost[0]}'"
            )
    seen: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(rows, 1):
        key = (row.set, row.mode, row.clip, row.speaker)  # E3 asks of several people of one clip
        if key in seen:
            raise PredictionError(
                f"{path}: clip '{row.clip}' stands there twice (rows {seen[key]} and {number})"
            )
        seen[key] = number
    if not rows:
        raise PredictionError(f"{path} holds no prediction")
    return rows


def _read_json_lines(path: Path) -> list[Prediction]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PredictionError(f"{path} is not UTF-8 text (byte {error.start})") from error
    if text.lstrip().startswith("["):
        try:
            objects = list(enumerate(json.loads(text), 1))
        except ValueError as error:
            raise PredictionError(f"{path} is no JSON ({error})") from error
    else:
        objects = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    objects.append((number, json.loads(line)))
                except ValueError as error:
                    raise PredictionError(f"{path}, line {number}: no JSON ({error})") from error
    rows = []
    for number, fields in objects:
        try:
            rows.append(prediction_of(fields, number=number))
        except ValueError as error:
            raise PredictionError(f"{path}, row {number}: {error}") from error
    return rows


def prediction_of(fields: Any, *, number: int = 0) -> Prediction:
    """One JSON object -> Prediction; keys that are not known are not read.

    Raises:
      ValueError: a key is missing, or its value of another kind.
    """
    if not isinstance(fields, dict):
        raise ValueError("needs a JSON object")
    clip = next((fields[k] for k in _IDS if fields.get(k) not in (None, "")), None)
    if "response" not in fields and "new_response" not in fields:
        raise ValueError(
            f"has no 'response' (\"\" where nothing was said); it has {', '.join(map(str, fields)) or 'nothing'}"
        )
    values: dict[str, Any] = {"clip": str(clip) if clip is not None else f"row {number}"}
    for key in _TEXT:
        value = fields.get(key)
        if isinstance(value, list):  # labels as a list of words
            value = ", ".join(map(str, value))
        if value is not None:
            if isinstance(value, dict):
                raise ValueError(f"'{key}' is {value!r}, needs text")
            values[key] = str(value)
    if values.get("set", "").startswith(".") or set("/\\\0") & set(values.get("set", "")):
        raise ValueError(f"'set' is {values['set']!r}, needs a plain name")
    for key in _NUMBERS:
        if fields.get(key) is not None:
            values[key] = _number(key, fields[key])
    if (chances := fields.get("probabilities")) is not None:
        if not isinstance(chances, dict) or not chances:
            raise ValueError("'probabilities' needs an object of label: number")
        values["probabilities"] = {
            str(k): _number(f"probability of {k}", v) for k, v in chances.items()
        }
        total = sum(values["probabilities"].values())
        if min(values["probabilities"].values()) < 0 or not 0 < total <= 1.05:
            raise ValueError(
                f"'probabilities' add up to {total:g}, or one is negative; they are shares of 1"
            )
    if fields.get("modalities") is not None:
        if not isinstance(fields["modalities"], list):
            raise ValueError("'modalities' needs a list")
        values["modalities"] = tuple(map(str, fields["modalities"]))
    return Prediction(**values)


def _number(key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise ValueError(f"{key} is {value!r}, needs a number")
    return number


def _read_npz(path: Path) -> list[Prediction]:
    """AffectGPT: `name2reason` (a dictionary of texts), or `filenames` and `fileitems` (labels by clip)."""
    try:
        arrays = load_object_npz(path)
    except ValueError as error:
        raise PredictionError(f"{path}: {error}") from error
    if "name2reason" in arrays:
        found = arrays["name2reason"]
        texts = found.tolist() if hasattr(found, "tolist") else found
        if not isinstance(texts, dict):
            raise PredictionError(f"{path}: 'name2reason' is no dictionary of texts")
        return [Prediction(clip=str(clip), response=str(text)) for clip, text in texts.items()]
    if {"filenames", "fileitems"} <= set(arrays):
        return [
            Prediction(
                clip=str(clip),
                response=item if isinstance(item, str) else ", ".join(map(str, item)),
            )
            for clip, item in zip(
                *(_listed(arrays[k]) for k in ("filenames", "fileitems")), strict=True
            )
        ]
    raise PredictionError(
        f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; read are 'name2reason', or 'filenames' with 'fileitems'"
    )


def _listed(array: Any) -> list[Any]:
    return array.tolist() if hasattr(array, "tolist") else list(array)


_CSV_TEXT = (
    "response",
    "chi_reasons",
    "reasons",
    "reason",
    "openset",
    "prediction",
    "discrete",
    "label",
)


def _read_csv(path: Path) -> list[Prediction]:
    """EMER outputs (`names`, `chi_reasons`, English in spite of its name) and any CSV with a clip and a response."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise PredictionError(f"{path} is no CSV in UTF-8 ({error})") from error
    if not rows:
        raise PredictionError(f"{path} has no rows below its header")
    header = [*rows[0]]
    clip = next((c for c in ("names", *_IDS) if c in header), None)
    said = next((c for c in _CSV_TEXT if c in header), None)
    if clip is None or said is None:
        raise PredictionError(
            f"{path} has the columns {header}; needed are one of names, {', '.join(_IDS)} and one of {', '.join(_CSV_TEXT)}"
        )
    return [
        Prediction(
            clip=row[clip] or "",
            answer=row.get("answer") or "",
            response=row[said] or "",
            mode=row.get("mode") or "",
        )
        for row in rows
    ]


def read_truth(path: Path) -> dict[str, str]:
    """Labels by clip: .npz of the official scorer (an array a clip), .csv (name and openset, discrete, label or emotions), or
    .jsonl rows with an answer.

    Raises:
      PredictionError: it is none of these.
    """
    if not path.is_file():
        raise PredictionError(f"there is no truth file '{path}'")
    if path.suffix.lower() == ".npz":
        return {clip: str(value) for clip, value in load_object_npz(path).items()}
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        header = [*rows[0]] if rows else []
        clip = next((c for c in ("names", *_IDS) if c in header), None)
        label = next(
            (
                c
                for c in ("answer", "openset", "discrete", "label", "emotions", "emotion")
                if c in header
            ),
            None,
        )
        if clip and label:
            found: dict[str, str] = {}
            for row in rows:
                if found.setdefault(row[clip], row[label] or "") != (row[label] or ""):
                    raise PredictionError(
                        f"{path} says '{found[row[clip]]}' and '{row[label]}' of clip '{row[clip]}'"
                    )
            return found
        raise PredictionError(f"{path} has the columns {header}; needed are a clip and a label")
    return {r.clip: r.answer for r in _read_json_lines(path)}


def read_references(path: Path) -> dict[str, str]:
    """Reference texts by clip, for judges: .csv (names or name; reference, english, reasons, reason or openset) or .jsonl rows
    with a `reference`, `reason` or `answer`.

    Raises:
      PredictionError: it is neither.
    """
    if not path.is_file():
        raise PredictionError(f"there is no file of references '{path}'")
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        header = [*rows[0]] if rows else []
        clip = next((c for c in ("names", *_IDS) if c in header), None)
        text = next(
            (c for c in ("reference", "english", "reasons", "reason", "openset") if c in header),
            None,
        )
        if clip and text:
            return {row[clip]: row[text] for row in rows if row[text]}
        raise PredictionError(f"{path} has the columns {header}; needed are a clip and a reference")
    out: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                fields = json.loads(line)
                clip = next(str(fields[k]) for k in _IDS if fields.get(k))
                out[clip] = next(
                    str(fields[k]) for k in ("reference", "reason", "answer") if fields.get(k)
                )
            except (ValueError, AttributeError, StopIteration) as error:
                raise PredictionError(
                    f"{path}, line {number}: needs a clip and a `reference`"
                ) from error
    return out


def write_predictions(path: Path, rows: Iterable[Prediction]) -> None:
    """Writes JSON Lines that `read_predictions` and the official scripts read."""
    write_whole(path, "".join(r.to_json() + "\n" for r in rows))


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that it is there whole or not at all, whenever the program is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def split_by_set(rows: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """Rows by the name of their set, in the order of the file."""
    out: dict[str, list[Prediction]] = {}
    for row in rows:
        out.setdefault(row.set, []).append(row)
    return out

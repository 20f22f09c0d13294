"""Predictions: one record per answered clip, and the JSON Lines that hold them.

docs/evaluation.md lists every key. `prediction_files` reads the files of other systems.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.io import write_text


class PredictionError(ValueError):
    """A predictions file cannot be used; the message names file, line and field."""


# NO_ROW is a whole Prediction.error, the others are how one begins.
NO_ROW = "no prediction: the file has no row for this clip of the truth"
REFUSED = "refused: "
NO_ANSWER = "no answer: "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer to one clip.

    Attributes:
      clip: its id in the set.
      answer: the truth as the set's file spells it; several labels are separated by commas or
        semicolons.
      response: the unchanged answer of the system.
      mode: the set's own name of the part that the clip belongs to.
      set: name of the benchmark set, "" if the file does not name it.
      new_response: a corrected response, which some official scores prefer.
      probabilities: by label, if the system gives them; they may add up to less than 1.
      speaker: who is shown; intervals are resampled over speakers.
      video: which video the clip is from; used where speakers are not known.
      modalities: those present in the clip (`video`, `audio`, `text`).
      duration: in seconds.
      language: short language code.
      path: the media file, for the report.
      start: start of the clip in the file, in seconds.
      end: end of the clip in the file, in seconds.
      subtitle: what is spoken in the clip.
      reason: the reason that the system wrote.
      valence: predicted valence.
      valence_answer: true valence.
      error: why there is no response: the clip could not be decoded (`refused: ...`), or the
        server gave no usable reply (`no answer: ...`), or the file has no row for it (NO_ROW).
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
        """The group that intervals resample: the speaker, else the video, else "" (the clip)."""
        return self.speaker or self.video

    @property
    def final_response(self) -> str:
        """The corrected response if there is one, else the response."""
        return self.response if self.new_response is None else self.new_response

    @property
    def is_answered(self) -> bool:
        """Whether the system answered, maybe with an empty text."""
        return not self.error or bool(self.final_response)

    @property
    def error_type(self) -> str:
        """`refused`, `no_answer`, `no_row` or `other`; "" without an error."""
        starts = {REFUSED: "refused", NO_ANSWER: "no_answer", NO_ROW: "no_row"}
        found = (name for start, name in starts.items() if self.error.startswith(start))
        return next(found, "other") if self.error else ""

    def to_json(self) -> str:
        """One line of JSON with the keys of Emotion-LLaMAv2; fields without a value are omitted."""
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


ID_KEYS = ("video_id", "clip", "name", "id")  # of the clip, in order of preference
_TEXT_KEYS = (
    *("answer", "response", "mode", "set", "new_response", "speaker", "video", "language"),
    *("path", "subtitle", "reason", "error"),
)
_NUMBER_KEYS = ("duration", "start", "end", "valence", "valence_answer")


def parse_prediction(fields: Any, *, number: int = 0) -> Prediction:
    """Converts one JSON object to a Prediction; unknown keys are ignored.

    Args:
      fields: the decoded JSON value.
      number: its row in the file, which names a clip without an id.

    Raises:
      ValueError: a key is missing, or its value has the wrong type.
    """
    if not isinstance(fields, dict):
        raise ValueError("needs a JSON object")
    clip = next((fields[k] for k in ID_KEYS if fields.get(k) not in (None, "")), None)
    if "response" not in fields and "new_response" not in fields:
        raise ValueError(
            "has no 'response' (\"\" for an empty answer); it has "
            f"{', '.join(map(str, fields)) or 'nothing'}"
        )
    values: dict[str, Any] = {"clip": str(clip) if clip is not None else f"row {number}"}
    for key in _TEXT_KEYS:
        value = fields.get(key)
        if isinstance(value, list):  # labels as a list of words
            value = ", ".join(map(str, value))
        if value is not None:
            if isinstance(value, dict):
                raise ValueError(f"'{key}' is {value!r}, needs text")
            values[key] = str(value)
    if values.get("set", "").startswith(".") or set("/\\\0") & set(values.get("set", "")):
        raise ValueError(f"'set' is {values['set']!r}, needs a plain name")
    for key in _NUMBER_KEYS:
        if fields.get(key) is not None:
            values[key] = _number(key, fields[key])
    if fields.get("probabilities") is not None:
        values["probabilities"] = _probabilities(fields["probabilities"])
    if fields.get("modalities") is not None:
        if not isinstance(fields["modalities"], list):
            raise ValueError("'modalities' needs a list")
        values["modalities"] = tuple(map(str, fields["modalities"]))
    return Prediction(**values)


_PREDICT_KEYS = {"path", "label", "probabilities", "reason", "modalities", "seconds"}


def is_predict_output(fields: Any) -> bool:
    """Whether a JSON value is an answer of `emojax predict --json`."""
    return isinstance(fields, dict) and _PREDICT_KEYS <= set(fields) and "response" not in fields


def predict_output_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """An answer of `emojax predict --json` under the names of our fields.

    The clip is the path, and the response is the label; of a refused clip, it is empty.
    """
    kept = ("path", "probabilities", "reason", "modalities", "duration")
    named = {key: fields[key] for key in kept if fields.get(key)}
    error = {"error": f"{REFUSED}{fields['error']}"} if fields.get("error") else {}
    return {"clip": fields["path"], "response": fields["label"] or "", **named, **error}


def _number(key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise ValueError(f"{key} is {value!r}, needs a number")
    return number


def _probabilities(value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or not value:
        raise ValueError("'probabilities' needs an object of label: number")
    probs = {str(k): _number(f"probability of {k}", v) for k, v in value.items()}
    total = sum(probs.values())
    if min(probs.values()) < 0 or not 0 < total <= 1.05:
        raise ValueError(
            f"'probabilities' add up to {total:g}, or one is negative; they must add up to at "
            "most 1"
        )
    return probs


def write_predictions(path: Path, rows: Iterable[Prediction]) -> None:
    """Writes JSON Lines that `read_predictions` and the official scripts read."""
    write_text(path, "".join(r.to_json() + "\n" for r in rows), durable=True)


def split_by_set(rows: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """Rows by the name of their set, in the order of the file."""
    out: dict[str, list[Prediction]] = {}
    for row in rows:
        out.setdefault(row.set, []).append(row)
    return out

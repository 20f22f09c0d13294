"""Shape conventions and the records that pass between folders.

The same letters in every docstring, einsum and einops string:

    B batch          F frames          P image patches    S audio steps     T text tokens
    Q soft tokens    D width           N attention heads  H head width      M MLP width
    V vocabulary     L layers          R LoRA rank        A answer tokens   C label choices
    K key-value heads
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

# Encoder outputs by name. v2: image float[B, 1 + P, D], summary token first, video float[B, S, D],
# audio float[B, S, D]. v1: image as in v2, and one vector float[B, D] per clip of face (MAE),
# motion (VideoMAE) and audio (HuBERT).
Features = dict[str, Any]
# Which streams each sample has, {image, video, audio: bool[B]}; tasks may use the image alone.
Present = dict[str, Any]


class SoftPrompt(NamedTuple):
    """The embeddings that replace the placeholders of a prompt (`<VideoHere>`).

    Attributes:
      tokens: float[B, Q, D].
      mask: bool[B, Q], True on tokens that the language model may attend to.
    """

    tokens: Any
    mask: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """A model's answer for one clip; `to_json` is the contract of `emojax predict --json`.

    Attributes:
      path: path of the clip, as given or as found in a folder.
      label: the most probable label; None when the clip was refused.
      probabilities: {label: probability}, sum 1.
      reason: the explanation; "" when the model was not trained to write one.
      modalities: the modalities that the prediction could use.
      seconds: time for decoding and answering.
      error: None, or one sentence why the file was refused.
      model: name and folder of the model.
      notes: irregularities of the file.
      duration: seconds of the clip.
      leading: the two most probable labels when the answer is "cannot tell", else ().
      contributions: {modality: change of the label's log-probability, in nats}; the sum is the
        change from a prompt without any input. None when not requested.
      calibrated: whether the probabilities were calibrated on validation clips.
      fusion_weights: {stream: one weight per position} of the Conv-Attention, see
        infer/attribution.py. None when not requested.
      signs: what the clip has of a person: `face`, `speech`, `words`; () where nobody is seen,
        heard or quoted and the answer is "cannot tell". None in answers of earlier versions.
      transcript: the words that were transcribed because none were given: language, text, cues
        (start, end, text; seconds of the clip), certainty (mean log-probability per token). None
        when nothing was transcribed.
    """

    path: str
    label: str | None
    probabilities: dict[str, float]
    reason: str
    modalities: tuple[str, ...]
    seconds: float
    error: str | None = None
    model: str = ""
    notes: tuple[str, ...] = ()
    duration: float = 0.0
    leading: tuple[str, ...] = ()
    contributions: dict[str, float] | None = None
    calibrated: bool = False
    fusion_weights: dict[str, list[float]] | None = None
    transcript: dict[str, Any] | None = None
    signs: tuple[str, ...] | None = None

    @property
    def nobody(self) -> bool:
        """Whether the clip was answered although nobody is seen, heard or quoted in it."""
        return self.error is None and self.signs == ()

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types in the order of the fields; `transcript` is written as "heard"."""
        record = dataclasses.asdict(self)
        record["modalities"] = list(self.modalities)
        record["notes"] = list(self.notes)
        record["leading"] = list(self.leading)
        record["signs"] = None if self.signs is None else list(self.signs)
        record["heard"] = record.pop("transcript")  # the last key, so the order stays
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Answer:
        """The inverse of `to_json`."""
        fields = {("transcript" if k == "heard" else k): v for k, v in record.items()}
        for name in ("modalities", "notes", "leading"):
            fields[name] = tuple(fields[name])
        if fields.get("signs") is not None:
            fields["signs"] = tuple(fields["signs"])
        return cls(**fields)

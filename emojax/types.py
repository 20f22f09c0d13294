"""The words of the house: shape letters and the records that pass between its rooms.

Letters, the same in every docstring, einsum and einops string:

    B batch          F frames          P image patches    S audio steps     T text tokens
    Q soft tokens    D width           N attention heads  H head width      M mlp width
    V vocabulary     L layers          R LoRA rank        A answer tokens   C label choices

This file imports NumPy alone, so that `data_pipeline` can use it without jax.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple


class Features(NamedTuple):
    """Encoder outputs of v2: image[B, 1+P, D_image], video[B, S, D_video], audio[B, S, D_audio]."""

    image: Any
    video: Any
    audio: Any


class FeaturesV1(NamedTuple):
    """Encoder outputs of v1: image[B, 1+P, D_image]; face, motion and audio [B, D_vector], one vector a clip."""

    image: Any
    face: Any
    motion: Any
    audio: Any


class Present(NamedTuple):
    """bool[B] each: which streams exist in a row; `image` and `video` differ in stage 1 tasks."""

    image: Any
    video: Any
    audio: Any


class SoftPrompt(NamedTuple):
    """tokens[B, Q, D] that stand where `<VideoHere>` stands, and mask[B, Q] of the valid ones."""

    tokens: Any
    mask: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What emojax says of one clip; `to_json` is the contract of `emojax predict --json`.

    Attributes:
      path: as given or found.  label: the most probable one, None when refused.
      probabilities: label to number, sum 1.  reason: "" when the model has not learned to write one.
      modalities: what the judgement could use.  seconds: time that decoding and answering took.
      error: None, or one sentence why the file was refused.  model: name and folder.
      notes: what was irregular about the file.  duration: seconds of the clip itself.
      leading: the two most probable labels where the answer is "cannot tell", else ().
      contributions: what each modality adds to the label's log-probability, in nats; their sum is the change from a prompt
        that shows nothing. None where it was not asked for.
      calibrated: whether the probabilities were calibrated on validation clips.
      heard: words that were transcribed because none were given: language, text, cues (start, end, text; s of the clip),
        certainty (mean log-probability of a token); else None.
      fusion_weights: of the Conv-Attention, {stream: one a position}, see infer/confidence.py; None where it was not asked for.
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
    heard: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types, keys in the order of the fields."""
        record = dataclasses.asdict(self)
        record["modalities"] = list(self.modalities)
        record["notes"] = list(self.notes)
        record["leading"] = list(self.leading)
        return record

"""The agents of a recipe: each builds a prompt from the facts of a clip and parses the reply.

Prompts are our own wording, in prompts/*.txt.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from string import Template
from typing import Any

import numpy as np

from data_pipeline.annotate import units
from data_pipeline.annotate.peaks import ALL_UNITS, APEX, Peak
from data_pipeline.annotate.recipe import Recipe, prompt_text
from data_pipeline.answers.parse_answers import read_labels
from data_pipeline.llm.endpoint import Messages
from data_pipeline.llm.messages import audio_part, image_part
from data_pipeline.llm.replies import UnusableReply
from data_pipeline.llm.reply_text import last_object, strip_thoughts

MAX_IMAGE_SIDE = 512  # pixels
NOT_KNOWN = "(not known)"
_REFUSAL = re.compile(
    r"^\W*(?:(?:unfortunately|apologies|sorry),? (?:but )?)?"
    r"(?:i'?m sorry|i am sorry|sorry|i can(?:no|')t|i can not|i(?:'m| am) (?:un|not )able|"
    r"i won't|as an ai)\b",
    re.I,
)
_LABEL_NAMES = ("label", "emotion", "final_label", "emotion_label", "predicted_label", "answer")
# The ten tones from which MERR's audio agent chose.
TONES = (
    "joyful",
    "sad",
    "shocked",
    "fearful",
    "angry",
    "positive",
    "negative",
    "calm",
    "doubtful",
    "dismissive",
)
AgentReply = dict[str, str]  # fields of an agent's reply


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipContext:
    """The input of an agent's prompt.

    Attributes:
      label: "" if agents must not know it.
      labels: the label space.
      words: the transcript, "" if unknown.
      peak: None without a picture.
      scale: the highest possible intensity of its action units.
      frames: uint8[F, h, w, 3], the peak frame first; None without a picture.
      sound: float32[n] at 16 kHz, None without sound.
      remark: the annotators' remark about an earlier answer that they sent back, "" otherwise.
      notes: replies of the agents that were asked before, by agent.
    """

    label: str
    labels: tuple[str, ...]
    words: str
    peak: Peak | None
    scale: float
    frames: Sequence[np.ndarray] | None
    sound: np.ndarray | None
    remark: str = ""
    notes: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agent:
    """One agent of a recipe.

    Attributes:
      name: one of recipe.AGENTS.
      needs: `frames`, `sound` or "" (text alone).
      make: builds the messages.
      read: parses a reply; raises UnusableReply if it has no usable content.
    """

    name: str
    needs: str
    make: Callable[[Recipe, ClipContext], Messages]
    read: Callable[[ClipContext, str], AgentReply]

    def applies(self, context: ClipContext) -> bool:
        """Returns whether the clip has the modality that the agent needs."""
        return not self.needs or getattr(context, self.needs) is not None


def agent(name: str) -> Agent:
    """Returns one of recipe.AGENTS."""
    return {
        "visual": Agent(name="visual", needs="frames", make=_ask_visual, read=_read_description),
        "audio": Agent(name="audio", needs="sound", make=_ask_audio, read=_read_tone),
        "audio_2": Agent(name="audio_2", needs="sound", make=_ask_audio, read=_read_tone),
        "reasoning": Agent(name="reasoning", needs="", make=_ask_reasoning, read=_read_reason),
    }[name]


def _fill(name: str, context: ClipContext, **fields: str) -> str:
    lines = Template(prompt_text(name)).substitute(fields).splitlines()
    if context.remark:
        lines.append(
            "People who checked an earlier answer about this clip did not agree that it is right. "
            f"{context.remark}".strip()
        )
    return "\n".join(line for line in lines if line.strip())


def _label_line(context: ClipContext) -> str:
    if not context.label:
        return ""
    return f"People who watched the whole clip say that the person shows: {context.label}."


def describe_face(context: ClipContext) -> str:
    """Describes the action units at the peak in words; "" if none were measured."""
    peak = context.peak
    if peak is None or peak.by == APEX:
        return ""
    if not peak.all_units:
        return "the face is at rest"
    intensities = {u: peak.intensities.get(u, 0.0) for u in peak.all_units}
    parts = units.strength_phrases(intensities, context.scale)
    phrases = units.unit_phrases(peak.units) if peak.by != ALL_UNITS else []
    also = f" ({', '.join(phrases)})" if phrases else ""
    return f"measured at its peak: {', '.join(parts)}{also}"


def _ask_visual(recipe: Recipe, context: ClipContext) -> Messages:  # noqa: ARG001 (Agent.make)
    text = _fill("visual", context, measured=describe_face(context), label=_label_line(context))
    assert context.frames is not None
    side = MAX_IMAGE_SIDE
    pictures = [image_part(f, width=side, height=side) for f in context.frames]
    return [{"role": "user", "content": [{"type": "text", "text": text}, *pictures]}]


def _ask_audio(recipe: Recipe, context: ClipContext) -> Messages:  # noqa: ARG001 (Agent.make)
    words = f'The words are: "{context.words}"' if context.words else ""
    label = _label_line(context)
    text = _fill("audio", context, words=words, label=label, tones=", ".join(TONES))
    assert context.sound is not None
    parts = [{"type": "text", "text": text}, audio_part(context.sound)]
    return [{"role": "user", "content": parts}]


def _ask_reasoning(recipe: Recipe, context: ClipContext) -> Messages:
    notes = context.notes
    audio = [notes[a]["description"] for a in ("audio", "audio_2") if a in notes]
    text = _fill(
        "reasoning",
        context,
        visual=notes.get("visual", {}).get("description", NOT_KNOWN),
        measured=describe_face(context) or NOT_KNOWN,
        audio=" / ".join(audio) or NOT_KNOWN,
        words=context.words or NOT_KNOWN,
        label=_label_line(context),
        labels=", ".join(context.labels),
        most=str(recipe.words),
        short=str(recipe.short_words),
    )
    return [{"role": "user", "content": text}]


def _fields(text: str, *names: str) -> dict[str, Any]:
    """Returns the fields of the last JSON object of a reply; earlier ones may be drafts.

    Raises:
      UnusableReply: the reply is empty, a refusal or without an object.
    """
    plain = strip_thoughts(text.replace("’", "'"))
    if not plain:
        raise UnusableReply("empty")
    try:
        return last_object(plain, names)
    except UnusableReply:
        if _REFUSAL.match(plain):
            raise UnusableReply("refusal") from None
        raise


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        value = " ".join(value)
    if not isinstance(value, str) or not re.search(r"\w", value):
        raise UnusableReply(f"no '{name}'")
    plain = " ".join(value.split())
    if _REFUSAL.match(plain):
        raise UnusableReply("refusal")
    return plain


def _choices(value: Any, choices: Sequence[str]) -> tuple[str, ...]:
    """Returns the choices that the value of a field states.

    Args:
      value: a text, which may be another spelling or a synonym, a list, or an object with a label.
      choices: those that were offered.
    """
    if isinstance(value, dict):
        value = value.get("label") or value.get("name") or ""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return read_labels(text, choices).labels


def _read_description(context: ClipContext, text: str) -> AgentReply:  # noqa: ARG001 (Agent.read)
    return {"description": _text(_fields(text, "description"), "description")}


def _read_tone(context: ClipContext, text: str) -> AgentReply:  # noqa: ARG001 (Agent.read)
    fields = _fields(text, "description", "tone")
    tones = _choices(fields.get("tone"), TONES)
    tone = tones[0] if len(tones) == 1 else ""
    return {"description": _text(fields, "description"), "tone": tone}


def _read_reason(context: ClipContext, text: str) -> AgentReply:
    fields = _fields(text, "reason", "short", "label")
    stated = next((fields[name] for name in _LABEL_NAMES if fields.get(name)), None)
    labels = _choices(stated, context.labels)
    if not labels:
        raise UnusableReply("a label that was not offered")
    if len(labels) > 1:
        raise UnusableReply("several labels in place of one")
    out = {"reason": _text(fields, "reason"), "short": _text(fields, "short"), "label": labels[0]}
    words = fields.get("words")
    if isinstance(words, str) and words.strip() and context.words:
        out["words"] = " ".join(words.split())
    return out

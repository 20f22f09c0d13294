"""Who is asked what: an agent makes messages from what is known of a clip, and reads the reply.

All speak the chat protocol of OpenAI, which hosted services, vLLM and Ollama serve. Prompts are files (prompts/*.txt), our own words.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from string import Template
from typing import Any

import numpy as np

from data_pipeline.annotate import units
from data_pipeline.annotate.peaks import ALL_UNITS, APEX, Peak
from data_pipeline.annotate.recipe import Recipe, prompt
from data_pipeline.llm.client import UnusableReply
from data_pipeline.llm.endpoint import Messages
from data_pipeline.llm.messages import audio_part, image_part

LONGEST_SIDE = 512  # pixels of a picture that is sent
NOT_KNOWN = "(not known)"
_REFUSAL = re.compile(
    r"^\W*(?:(?:unfortunately|apologies|sorry),? (?:but )?)?"
    r"(?:i'?m sorry|i am sorry|sorry|i can(?:no|')t|i can not|i(?:'m| am) (?:un|not )able|i won't|as an ai)\b",
    re.I,
)
_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.S | re.I)
# MERR's ten, of which its audio agent chose one.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipContext:
    """What is known of a clip when an agent is asked.

    Attributes:
      label: "" where agents may not know it.  labels: the label space.
      words: what is said, "" when not known.
      peak: None without a picture.  scale: highest intensity of its units.
      frames: uint8[F, h, w, 3], that of the peak first; None without a picture.  sound: float32[n] at 16 kHz or None.
      remark: what people said of an earlier answer that they sent back, "" at first.
      notes: what other agents answered, by agent.
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


AgentReply = dict[str, str]  # what an agent answered, by field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agent:
    """One agent. needs: `frames`, `sound` or "" (text alone).  make: (recipe, what is known) -> messages.  read: (what was known, reply) -> Note,
    raising Unusable for one that says nothing.
    """

    name: str
    needs: str
    make: Callable[[Recipe, ClipContext], Messages]
    read: Callable[[ClipContext, str], AgentReply]

    def applies(self, known: ClipContext) -> bool:
        """Whether the clip has what it looks at."""
        return not self.needs or getattr(known, self.needs) is not None


def agent(name: str) -> Agent:
    """One of recipe.AGENTS."""
    return {
        "visual": Agent(name="visual", needs="frames", make=_visual, read=_description),
        "audio": Agent(name="audio", needs="sound", make=_audio, read=_tone),
        "audio_2": Agent(name="audio_2", needs="sound", make=_audio, read=_tone),
        "reasoning": Agent(name="reasoning", needs="", make=_reasoning, read=_reason),
    }[name]


def _fill(name: str, known: ClipContext, **parts: str) -> str:
    lines = Template(prompt(name)).substitute(parts).splitlines()
    if known.remark:
        lines.append(
            f"People who checked an earlier answer about this clip did not agree that it is right. {known.remark}".strip()
        )
    return "\n".join(line for line in lines if line.strip())


def _label_line(known: ClipContext) -> str:
    return (
        f"People who watched the whole clip say that the person shows: {known.label}."
        if known.label
        else ""
    )


def measured(known: ClipContext) -> str:
    """What the face was measured to do, in words; "" where nothing was."""
    peak = known.peak
    if peak is None or peak.by == APEX:
        return ""
    if not peak.all_units:
        return "the face is at rest"
    parts = units.with_strength(
        {u: peak.intensities.get(u, 0.0) for u in peak.all_units}, known.scale
    )
    also = units.phrases(peak.units) if peak.by != ALL_UNITS else []
    return "measured at its peak: " + ", ".join(parts) + (f" ({', '.join(also)})" if also else "")


def _visual(recipe: Recipe, known: ClipContext) -> Messages:
    text = _fill("visual", known, measured=measured(known), label=_label_line(known))
    assert known.frames is not None
    pictures = [image_part(f, LONGEST_SIDE, LONGEST_SIDE) for f in known.frames]
    return [{"role": "user", "content": [{"type": "text", "text": text}, *pictures]}]


def _audio(recipe: Recipe, known: ClipContext) -> Messages:
    words = f'The words are: "{known.words}"' if known.words else ""
    text = _fill("audio", known, words=words, label=_label_line(known), tones=", ".join(TONES))
    assert known.sound is not None
    return [{"role": "user", "content": [{"type": "text", "text": text}, audio_part(known.sound)]}]


def _reasoning(recipe: Recipe, known: ClipContext) -> Messages:
    heard = [known.notes[a]["description"] for a in ("audio", "audio_2") if a in known.notes]
    text = _fill(
        "reasoning",
        known,
        visual=known.notes.get("visual", {}).get("description", NOT_KNOWN),
        measured=measured(known) or NOT_KNOWN,
        audio=" / ".join(heard) or NOT_KNOWN,
        words=known.words or NOT_KNOWN,
        label=_label_line(known),
        labels=", ".join(known.labels),
        most=str(recipe.words),
        short=str(recipe.short_words),
    )
    return [{"role": "user", "content": text}]


def _object(text: str) -> dict[str, Any]:
    """The JSON object of a reply, whatever stands around it; raises Unusable."""
    plain = _THOUGHT.sub(" ", text.replace("’", "'")).strip()
    if not plain:
        raise UnusableReply("empty")
    if _REFUSAL.match(plain):
        raise UnusableReply("refusal")
    found, at, decoder = None, plain.find("{"), json.JSONDecoder(strict=False)
    while at >= 0:  # the last whole object: others may stand in what comes before the answer
        try:
            value, end = decoder.raw_decode(plain, at)
            found = value if isinstance(value, dict) else found
        except ValueError:
            end = at + 1
        at = plain.find("{", end)
    if found is None:
        raise UnusableReply("no JSON object")
    return found


def _text(found: Mapping[str, Any], field: str) -> str:
    value = found.get(field)
    if not isinstance(value, str) or not value.strip():
        raise UnusableReply(f"no '{field}'")
    plain = " ".join(value.split())
    if not re.search(r"\w", plain):
        raise UnusableReply(f"no '{field}'")
    if _REFUSAL.match(plain):
        raise UnusableReply("refusal")
    return plain


def _description(known: ClipContext, text: str) -> AgentReply:
    return {"description": _text(_object(text), "description")}


def _tone(known: ClipContext, text: str) -> AgentReply:
    found = _object(text)
    tone = str(found.get("tone", "")).strip().lower()
    return {"description": _text(found, "description"), "tone": tone if tone in TONES else ""}


def _reason(known: ClipContext, text: str) -> AgentReply:
    found = _object(text)
    said = str(found.get("label", "")).strip()
    label = next((x for x in known.labels if x.lower() == said.lower()), "")
    if not label:
        raise UnusableReply("a label that was not offered")
    words = found.get("words")
    told = (
        {"words": " ".join(words.split())}
        if isinstance(words, str) and words.strip() and known.words
        else {}
    )
    return {
        "reason": _text(found, "reason"),
        "short": _text(found, "short"),
        "label": label,
        **told,
    }

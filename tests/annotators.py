"""Scripted chat models that play the agents of a recipe, and hand-made annotations.

Images and audio are recognized by hashes that are computed from the clips of an embedded corpus
beforehand; the reasoning agent writes what its prompt contains.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chat_server import Chat

from data_pipeline.annotate.agents import MAX_IMAGE_SIDE
from data_pipeline.annotate.annotation import Annotation
from data_pipeline.annotate.describe import Annotator
from data_pipeline.annotate.peaks import LABEL_UNITS
from data_pipeline.annotate.recipe import load_recipe
from data_pipeline.annotate.runner import STATE
from data_pipeline.annotate.unit_tracks import provider_named
from data_pipeline.embedded import clues
from data_pipeline.embedded.truth import opposite
from data_pipeline.llm.messages import audio_part, image_part
from data_pipeline.schema import ClipRecord

FLIGHT = 4  # requests in flight


def parts(body: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    content = body["messages"][-1]["content"]
    return [] if isinstance(content, str) else [p for p in content if p["type"] == kind]


def agent_of(body: dict[str, Any]) -> str:
    if parts(body, "image_url"):
        return "visual"
    return "audio" if parts(body, "input_audio") else "reasoning"


def text_of(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def question_of(body: dict[str, Any]) -> str:
    """Identifies a question: messages, seed and model."""
    return hashlib.sha256(
        json.dumps([body["messages"], body["seed"], body["model"]]).encode()
    ).hexdigest()


def plain_reply(body: dict[str, Any]) -> str:
    """A usable reply that differs between clips."""
    name = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:8]
    if agent_of(body) == "visual":
        return json.dumps({"description": f"A person at a desk looks at somebody, number {name}."})
    if agent_of(body) == "audio":
        return json.dumps(
            {"description": f"The voice is loud and fast, take {name}.", "tone": "angry"}
        )
    text = text_of(body)
    label = re.search(r"the person shows: (.*)\.$", text, re.M)
    offered = re.search(r'"one of (.*?)"', text).group(1).split(", ")
    chosen = label.group(1) if label else offered[0]
    reason = (
        f"In clip {name} the person frowns and speaks loudly to somebody, "
        f"so the person is {chosen}."
    )
    reply = {"reason": reason, "short": f"A frown, so {chosen}.", "label": chosen}
    return f"Here it is:\n```json\n{json.dumps(reply)}\n```"


class Faulty:
    """Faults by the number of the request; counts the usable replies to each question."""

    def __init__(self, every: int = 7, reply: Callable[[dict[str, Any]], str] = plain_reply):
        self.every, self.reply = every, reply
        self.count, self.good, self.sent = 0, Counter[str](), Counter[str]()
        self.silent = 0
        self.lock = threading.Lock()

    def __call__(self, body: dict[str, Any], number: int) -> Any:
        question = question_of(body)
        with self.lock:
            self.count += 1
            self.sent[question] += 1
            kind = (self.count // self.every) % 6 if self.count % self.every == 0 else -1
        if kind == 0:
            return 429, "slow down"
        if kind == 1:
            return 503, "away"
        if kind == 2:
            self.silent += 1
            return 2.5  # longer than the client waits
        if kind == 3:
            return 200, "<html>a page of a proxy</html>"
        with self.lock:
            self.good[question] += 1
        if kind == 4:
            return ""
        if kind == 5:
            return "I'm sorry, but I can't help with describing people."
        return self.reply(body)

    @property
    def repeated(self) -> int:
        """Number of requests for questions that already had a reply."""
        return sum(n - 1 for n in self.good.values())


class Scripted:
    """Agents that know what embedded clips show; `units`: folder that determines the peaks."""

    def __init__(self, records: Sequence[ClipRecord], units: Path):
        self.known: dict[str, str] = {}
        self.records = {r.id: r for r in records}
        annotator = Annotator(
            recipe=load_recipe("mmeverse"), clients={}, provider=provider_named(str(units))
        )
        for r in records:
            clip = annotator._read(r, annotator._peak(r)[1])
            if clip.image is not None:
                part = image_part(clip.image, width=MAX_IMAGE_SIDE, height=MAX_IMAGE_SIDE)
                url = part["image_url"]["url"]
                self.known[hashlib.sha256(url.encode()).hexdigest()] = r.id
            if "audio" in clip.modalities:
                data = audio_part(clip.waveform)["input_audio"]["data"]
                self.known[hashlib.sha256(data.encode()).hexdigest()] = r.id

    def _clip(self, media: str) -> ClipRecord:
        return self.records[self.known[hashlib.sha256(media.encode()).hexdigest()]]

    def __call__(self, body: dict[str, Any]) -> str:
        who = agent_of(body)
        if who == "visual":
            record = self._clip(parts(body, "image_url")[0]["image_url"]["url"])
            return json.dumps({"description": record.texts["image"]})
        if who == "audio":
            record = self._clip(parts(body, "input_audio")[0]["input_audio"]["data"])
            return json.dumps({"description": record.texts["audio"], "tone": ""})
        notes = dict(re.findall(r"^(Seen|Heard|Said): (.*)$", text_of(body), re.M))
        label = re.search(r"the person shows: (.*)\.$", text_of(body), re.M).group(1)
        spoken = _shown_by(notes["Said"])
        phrase = f"the person says {clues.WORD_PHRASES[spoken]}" if spoken else ""
        clues_found = [notes[k] for k in ("Seen", "Heard") if notes[k] != "(not known)"]
        clues_found += [phrase] if phrase else []
        face, voice = clues.face_clues(label), clues.tone_clues(clues.EMOTION_TONES[label])
        sees_face = notes["Seen"] == clues.visual_text(face)
        both = sees_face and notes["Heard"] == clues.audio_text(voice)
        end = "face and voice deny the words so" if both and spoken in opposite(label) else "so"
        reason = ", ".join([*clues_found, f"{end} it is {label}"])
        return json.dumps({"reason": reason, "short": reason, "label": label, "words": phrase})


def _shown_by(subtitle: str) -> str:
    """Returns the emotion of an embedded clip's words, "" for none."""
    return next(
        (emotion for emotion, cues in clues.CUES.items() if any(c in subtitle for c in cues)), ""
    )


def chat(reply: Any, model: str = "agent-1") -> Chat:
    return Chat(reply, model)


def annotate_command(corpus: Path, out: Path, url: str, *more: str) -> list[str]:
    """Arguments of `emojax annotate` for an embedded corpus."""
    return [
        *("annotate", str(corpus / "manifest.csv"), "--out", str(out)),
        *("--units", str(corpus / "units"), "--endpoint", url, "--model", "agent"),
        *("--timeout", "2", "--backoff", "0.01", "--concurrency", str(FLIGHT), *more),
    ]


def annotation_lines(out: Path) -> list[dict[str, Any]]:
    """The lines of annotations.jsonl."""
    return [json.loads(line) for line in (out / STATE).read_text().splitlines()]


def made(clip: str, label: str = "angry", reason: str = "", **fields: Any) -> Annotation:
    """A complete annotation; `fields` replace its own."""
    reason = (
        reason
        or f"In {clip} the person frowns and says 'how dare you', so it is {label} in the end."
    )
    notes = {
        "visual": {"description": f"A man leans in, {clip}."},
        "audio": {"description": "A loud voice.", "tone": "angry"},
        "reasoning": {"reason": reason, "short": f"A frown: {label}.", "label": label},
    }
    defaults = {
        "path": f"/clips/{clip}.mp4",
        "media": clip,
        "label": label,
        "label_from": "given",
        "labels": ("angry", "happy", "neutral", "sad"),
        "units": (4,),
        "peak_units": (4, 25),
        "ever": (4, 25),
        "peak_index": 12,
        "peak_time": 0.48,
        "peak_by": LABEL_UNITS,
        "units_from": "openface",
        "words": f"how dare you, {clip}",
        "words_from": "given",
        "notes": notes,
        "split": "train",
        "authors": dict.fromkeys(notes, "agent-1"),
        "dataset": "own",
    }
    return Annotation(clip=clip, key=f"key of {clip}", **{**defaults, **fields})

"""Language models of the real protocol that play the agents of a recipe: they hear and see by what the embedded corpus knows of a clip.

A picture or sound is told by its own hash, learned from the clips beforehand; the merging one writes what its prompt says.
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
from data_pipeline.annotate.describe import Annotator
from data_pipeline.annotate.recipe import load_recipe
from data_pipeline.annotate.unit_tracks import provider_named
from data_pipeline.embedded import clues
from data_pipeline.embedded.truth import opposite
from data_pipeline.llm.messages import audio_part, image_part
from data_pipeline.schema import ClipRecord


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
    """What makes two requests the same one: what is asked, of whom, and the seed."""
    return hashlib.sha256(
        json.dumps([body["messages"], body["seed"], body["model"]]).encode()
    ).hexdigest()


def plain_reply(body: dict[str, Any]) -> str:
    """Something usable of the right form, which differs between clips."""
    own = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:8]
    if agent_of(body) == "visual":
        return json.dumps({"description": f"A person at a desk looks at somebody, number {own}."})
    if agent_of(body) == "audio":
        return json.dumps(
            {"description": f"The voice is loud and fast, take {own}.", "tone": "angry"}
        )
    text = text_of(body)
    label = re.search(r"the person shows: (.*)\.$", text, re.M)
    offered = re.search(r'"one of (.*?)"', text).group(1).split(", ")
    chosen = label.group(1) if label else offered[0]
    reason = (
        f"In clip {own} the person frowns and speaks loudly to somebody, so the person is {chosen}."
    )
    return f"Here it is:\n```json\n{json.dumps({'reason': reason, 'short': f'A frown, so {chosen}.', 'label': chosen})}\n```"


class Faulty:
    """Faults by the number of a request, the same in every run; counts how often a question was answered well."""

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
        """Questions that had an answer already and were asked again."""
        return sum(n - 1 for n in self.good.values())


class Scripted:
    """Agents that know what embedded clips show. units: folder of their action units, by which the pictures are chosen."""

    def __init__(self, records: Sequence[ClipRecord], units: Path):
        self.known: dict[str, str] = {}
        self.records = {r.id: r for r in records}
        looking = Annotator(
            recipe=load_recipe("mmeverse"), clients={}, provider=provider_named(str(units))
        )
        for r in records:
            clip = looking._read(r, looking._peak(r)[1])
            if clip.image is not None:
                url = image_part(clip.image, MAX_IMAGE_SIDE, MAX_IMAGE_SIDE)["image_url"]["url"]
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
        told = dict(re.findall(r"^(Seen|Heard|Said): (.*)$", text_of(body), re.M))
        label = re.search(r"the person shows: (.*)\.$", text_of(body), re.M).group(1)
        spoken = _shown_by(told["Said"])
        said = f"the person says {clues.WORD_PHRASES[spoken]}" if spoken else ""
        found = [told[k] for k in ("Seen", "Heard") if told[k] != "(not known)"] + (
            [said] if said else []
        )
        face, voice = clues.face_clues(label), clues.tone_clues(clues.EMOTION_TONES[label])
        both = told["Seen"] == clues.visual_text(face) and told["Heard"] == clues.audio_text(voice)
        end = "face and voice deny the words so" if both and spoken in opposite(label) else "so"
        reason = ", ".join([*found, f"{end} it is {label}"])
        return json.dumps({"reason": reason, "short": reason, "label": label, "words": said})


def _shown_by(subtitle: str) -> str:
    """The emotion that a model that reads would see in the words of an embedded clip, "" for none."""
    return next(
        (emotion for emotion, cues in clues.CUES.items() if any(c in subtitle for c in cues)), ""
    )


def chat(reply: Any, model: str = "agent-1") -> Chat:
    return Chat(reply, model)

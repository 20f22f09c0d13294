"""Answers of any OpenAI-compatible multimodal server to the clips of a set: pictures or the film, the sound, the words."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.llm.client import ChatClient, UnusableReply
from data_pipeline.llm.endpoint import Messages, prompt_hash
from data_pipeline.llm.messages import audio_part, image_part
from data_pipeline.media.clip import SAMPLE_RATE, Sampling, read_clip
from data_pipeline.schema import ClipRecord
from emojax.evaluate.predictions import Prediction
from emojax.evaluate.suite_runner import NO_ANSWER, Answerer, Decode, Decoded

_HEIGHT = 448  # of pictures that are sent
_TASKS = {
    "emotion": "Which one of these emotions does the person show: {labels}? Answer with that word alone.",
    "sentiment": "Which one of these sentiments does the person show: {labels}? Answer with that word alone.",
    "intent": "Which one of these intents does the person have: {labels}? Answer with that word alone.",
    "multi-label": "Which of these emotions does the person show: {labels}? Answer with a list of all that fit, separated by commas.",
    "reason_v2": "Which clues of face, gesture, voice and words show which emotion? Answer in a few sentences.",
}


def prompts_id() -> str:
    """Tells one wording of the questions from another."""
    return prompt_hash("".join(_TASKS.values()))


def decode_for_server(send: str, *, frames: int = 8) -> Decode:
    """Clips as parts of a message; the sound as 16 kHz WAV, at most 30 s of it."""

    def decode(record: ClipRecord) -> Decoded:
        clip = read_clip(
            record.path,
            sampling=Sampling(image="middle", temporal="uniform", num_frames=frames),
            clip_id=record.id,
            subtitle=record.subtitle,
            start=record.start,
            end=record.end,
        )
        parts: list[dict[str, Any]] = []
        if send == "video" and record.start is None and record.end is None:
            film = base64.b64encode(Path(record.path).read_bytes()).decode()
            parts.append(
                {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{film}"}}
            )
        elif clip.frames is not None:
            parts += [image_part(picture, 8 * _HEIGHT, _HEIGHT) for picture in clip.frames]
        if clip.waveform is not None and not clip.silent and send == "frames":
            parts.append(audio_part(clip.waveform[: 30 * SAMPLE_RATE]))
        return Decoded(parts, clip.duration, clip.modalities)

    return decode


def question(record: ClipRecord, tag: str, parts: Sequence[dict[str, Any]]) -> Messages:
    """What the server is asked about a clip."""
    words = f'The person says: "{record.subtitle}". ' if record.subtitle else ""
    text = f"You see and hear a clip of a person. {words}{_TASKS[tag].format(labels=', '.join(record.labels))}"
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def server_answerer(client: ChatClient) -> Answerer:
    """Asks all clips of a batch at once; a clip that got no usable reply is answered by nothing and says why."""

    def read(text: str) -> str:
        if not text.strip():
            raise UnusableReply("empty reply")
        return text

    def answer(items: Sequence[tuple[ClipRecord, Any]], tag: str) -> list[Prediction]:
        asked = [question(record, tag, parts) for record, parts in items]
        return [
            dataclasses.replace(Prediction(clip=record.id), response=reply.value)
            if reply.value is not None
            else Prediction(clip=record.id, error=f"{NO_ANSWER}{reply.fault}")
            for (record, _), reply in zip(items, client.ask_all(asked, read), strict=True)
        ]

    return answer

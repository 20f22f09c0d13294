"""Asks any OpenAI-compatible multimodal server about clips: frames or video, audio, subtitle."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.llm.client import ChatClient
from data_pipeline.llm.endpoint import Messages, prompt_hash
from data_pipeline.llm.messages import audio_part, image_part
from data_pipeline.llm.replies import UnusableReply
from data_pipeline.media.clip import SAMPLE_RATE, Sampling, read_clip
from data_pipeline.schema import ClipRecord
from emojax.evaluate.predictions import NO_ANSWER, Prediction
from emojax.evaluate.suite_runner import Answerer, Decode, DecodedClip

_HEIGHT = 448  # of the frames that are sent, in pixels
_TASKS = {
    "emotion": (
        "Which one of these emotions does the person show: {labels}? Answer with that word alone."
    ),
    "sentiment": (
        "Which one of these sentiments does the person show: {labels}? Answer with that word alone."
    ),
    "intent": (
        "Which one of these intents does the person have: {labels}? Answer with that word alone."
    ),
    "multi-label": (
        "Which of these emotions does the person show: {labels}? Answer with a list of all that "
        "fit, separated by commas."
    ),
    "reason_v2": (
        "Which clues of face, gesture, voice and words show which emotion? Answer in a few "
        "sentences."
    ),
}


def prompts_id() -> str:
    """Hash of the wording of the questions."""
    return prompt_hash("".join(_TASKS.values()))


def decode_for_server(send: str, *, frames: int = 8) -> Decode:
    """Decodes clips to parts of a message.

    Args:
      send: `frames` sends frames and the first 30 s of audio as 16 kHz WAV; `video` sends the file,
        if the clip is a whole file, and else the same as `frames`.
      frames: number of frames.
    """

    def decode(record: ClipRecord) -> DecodedClip:
        clip = read_clip(
            record.path,
            sampling=Sampling(image="middle", temporal="uniform", num_frames=frames),
            clip_id=record.id,
            subtitle=record.subtitle,
            start=record.start,
            end=record.end,
        )
        parts: list[dict[str, Any]] = []
        whole = send == "video" and record.start is None and record.end is None
        if whole:
            video = base64.b64encode(Path(record.path).read_bytes()).decode()
            parts.append(
                {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{video}"}}
            )
        elif clip.frames is not None:
            parts += [image_part(p, width=8 * _HEIGHT, height=_HEIGHT) for p in clip.frames]
        if clip.waveform is not None and not clip.silent and not whole:
            parts.append(audio_part(clip.waveform[: 30 * SAMPLE_RATE]))
        return DecodedClip(parts, clip.duration, clip.modalities)

    return decode


def question(record: ClipRecord, tag: str, parts: Sequence[dict[str, Any]]) -> Messages:
    """The message that asks a server about a clip."""
    words = f'The person says: "{record.subtitle}". ' if record.subtitle else ""
    task = _TASKS[tag].format(labels=", ".join(record.labels))
    text = f"You see and hear a clip of a person. {words}{task}"
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def server_answerer(client: ChatClient) -> Answerer:
    """Asks about all clips of a batch concurrently.

    A clip without a usable reply gets an empty response and an `error`.
    """

    def read(text: str) -> str:
        if not text.strip():
            raise UnusableReply("empty reply")
        return text

    def answer(items: Sequence[tuple[ClipRecord, Any]], tag: str) -> list[Prediction]:
        questions = [question(record, tag, parts) for record, parts in items]
        return [
            Prediction(clip=record.id, response=reply.value)
            if reply.value is not None
            else Prediction(clip=record.id, error=f"{NO_ANSWER}{reply.explanation}")
            for (record, _), reply in zip(items, client.ask_all(questions, read), strict=True)
        ]

    return answer

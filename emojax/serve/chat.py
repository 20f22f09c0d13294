"""/v1/chat/completions in OpenAI's format, with a clip in the message; answers can be streamed.

The clip is a video_url, or image_url parts, each with or without one input_audio.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import io
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from PIL import Image, UnidentifiedImageError

from data_pipeline.loader.prompts import QUESTIONS
from data_pipeline.media.clip import read_clip
from data_pipeline.media.container import ClipError
from data_pipeline.media.views import make_views
from data_pipeline.schema import Clip
from emojax.bundle.model_folder import REASON_TASKS, Bundle
from emojax.infer.answer import (
    Encoded,
    answer_questions,
    encode,
    label_probabilities,
    unlabelled_record,
)
from emojax.infer.sample import Sampler
from emojax.serve.limits import RequestError, check_duration, check_text, text_field
from emojax.serve.service import Service, prompt_must_fit

_TAG = re.compile(r"^\s*\[([a-z][a-z_-]*)\]\s*")
MAX_IMAGES = 64
MAX_PIXELS = 50_000_000  # of one image
CLIP_ID = "chat"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """One question about one clip.

    Attributes:
      question: the text of the message.
      clip: the decoded clip.
      sampler: how tokens are chosen.
      seed: of the random draws.
    """

    question: str
    clip: Clip
    sampler: Sampler
    seed: int


def add_chat(app: FastAPI, service: Service) -> None:
    """Adds the routes /v1/chat/completions and /v1/models."""

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            raise RequestError(422, "the body is not valid JSON") from None
        question, clip = await asyncio.to_thread(read_messages, body, service)
        chat_request = ChatRequest(
            question=question, clip=clip, sampler=_sampler(body, service), seed=_seed(body)
        )
        head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": service.name,
        }
        if body.get("stream") is True:
            service.check_queue()  # while the response can still have an error status
            return StreamingResponse(
                _events(service, chat_request, head), media_type="text/event-stream"
            )
        answer = await service.run_on_model(lambda: answer_chat(service.bundle, chat_request))
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer},
            "finish_reason": "stop",
        }
        return {**head, "object": "chat.completion", "choices": [choice]}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [{"id": service.name, "object": "model", "owned_by": "emojax"}],
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Message:
    text: str
    words: str
    videos: list[Any]
    images: list[Any]
    sounds: list[Any]


def read_messages(body: Any, service: Service) -> tuple[str, Clip]:
    """The question and the clip in the last message of the user.

    Raises:
      RequestError: the message is not valid or has no clip, or the clip is too long or cannot be
        read.
    """
    message = _last_message(body)
    try:
        clip = _read_clip(message, service)
    except ClipError as error:
        raise RequestError(422, str(error)) from None
    audio_seconds = len(clip.waveform) / 16_000 if clip.waveform is not None else 0.0
    seconds = max(clip.duration, audio_seconds)
    check_duration(seconds, service.limits.seconds, hint="send it to /v1/jobs")
    return message.text, _chat_clip(clip, waveform=clip.waveform, subtitle=message.words)


def _last_message(body: Any) -> _Message:
    try:
        content = [m for m in body["messages"] if m["role"] == "user"][-1]["content"]
        parts: list[Any] = (
            [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        )
        message = _Message(
            text=check_text(" ".join(str(p["text"]) for p in parts if p["type"] == "text")),
            words=text_field(body, "subtitle", 100_000),
            videos=[p["video_url"]["url"] for p in parts if p["type"] == "video_url"],
            images=[p["image_url"]["url"] for p in parts if p["type"] == "image_url"],
            sounds=[p["input_audio"]["data"] for p in parts if p["type"] == "input_audio"],
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        raise RequestError(
            422,
            "messages: a list of {role, content}, the last one of the user with a text and a clip",
        ) from None
    videos, images, sounds = message.videos, message.images, message.sounds
    if len(videos) > 1 or len(sounds) > 1 or len(images) > MAX_IMAGES or (videos and images):
        raise RequestError(
            422,
            f"one clip per question: a video_url, or at most {MAX_IMAGES} image_url,"
            " and one input_audio",
        )
    if not videos and not images and not sounds and not message.words:
        raise RequestError(
            422, "there is no clip: send video_url, image_url or input_audio as base64 data"
        )
    return message


def _read_clip(message: _Message, service: Service) -> Clip:
    """The clip of a message without its words; separate audio replaces that of the video."""
    sampling = service.bundle.settings.sampling(None)

    def decode(url: Any) -> Clip:
        return read_clip(_data(url), sampling=sampling, clip_id=CLIP_ID, timeout=8.0)

    sound = decode(message.sounds[0]) if message.sounds else None
    if message.videos:
        clip = decode(message.videos[0])
    else:
        clip = _clip_of_images(message.images, sampling.num_frames)
    if sound is not None and sound.waveform is not None:
        clip = _chat_clip(clip, waveform=sound.waveform)
    return clip


def _chat_clip(clip: Clip, *, waveform: np.ndarray | None, subtitle: str = "") -> Clip:
    """A clip with other audio and words, without the facts of its file."""
    return Clip(
        id=clip.id,
        path="",
        frames=clip.frames,
        times=clip.times,
        image=clip.image,
        image_index=clip.image_index,
        waveform=waveform,
        subtitle=subtitle,
    )


def _data(url: Any) -> bytes:
    if not isinstance(url, str) or (":" in url[:40] and not url.startswith("data:")):
        raise RequestError(
            422, "send media as base64 data: this server fetches nothing from other servers"
        )
    try:
        return base64.b64decode(
            url.partition(",")[2] if url.startswith("data:") else url, validate=True
        )
    except (binascii.Error, ValueError):
        raise RequestError(422, "the media are not valid base64") from None


def _clip_of_images(urls: list[Any], frames: int) -> Clip:
    if not urls:
        return Clip(
            id=CLIP_ID,
            path="",
            frames=None,
            times=None,
            image=None,
            image_index=None,
            waveform=None,
        )
    images = []
    for url in urls:
        try:
            with Image.open(io.BytesIO(_data(url))) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise RequestError(422, "an image is too large")
                images.append(image.convert("RGB"))
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
            raise RequestError(422, "an image cannot be read") from None
    size = images[0].size
    arrays = np.stack([np.asarray(p if p.size == size else p.resize(size)) for p in images])
    chosen = ((np.arange(frames) + 0.5) * len(arrays) / frames).astype(int)
    return Clip(
        id=CLIP_ID,
        path="",
        frames=arrays[chosen],
        times=chosen.astype(float),
        image=arrays[len(arrays) // 2],
        image_index=len(arrays) // 2,
        waveform=None,
    )


def _sampler(body: dict[str, Any], service: Service) -> Sampler:
    """Temperature and top_p rounded to a tenth: each sampler is a program that is compiled."""
    try:
        temperature, top_p = (
            float(default if (given := body.get(key)) is None else given)
            for key, default in (("temperature", 0.0), ("top_p", 1.0))
        )
    except (TypeError, ValueError):
        temperature = -1.0
    if not (0 <= temperature <= 2 and 0 < top_p <= 1):
        raise RequestError(422, "temperature must be from 0 to 2, top_p above 0 and at most 1")
    return Sampler(
        max_tokens=service.bundle.settings.data.max_answer,
        temperature=round(temperature, 1),
        top_p=max(0.1, round(top_p, 1)),
    )


def _seed(body: dict[str, Any]) -> int:
    seed = body.get("seed") or 0
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise RequestError(422, "seed: a whole number from 0 to 2147483647")
    return seed


def answer_chat(
    bundle: Bundle, request: ChatRequest, *, on_text: Callable[[str], None] | None = None
) -> str:
    """The model's answer to a question. Call it in the model's thread.

    Args:
      bundle: the model.
      request: question and clip.
      on_text: called with the answer so far.

    Raises:
      RequestError: the prompt is too long.
    """
    clip = request.clip
    record = unlabelled_record(bundle, CLIP_ID, subtitle=clip.subtitle, dataset="serve")
    encoded = encode(bundle, [(record, make_views(clip, bundle.settings.views))], batch_size=1)
    return answer_text(
        bundle, encoded, request.question, request.sampler, seed=request.seed, on_text=on_text
    )


def answer_text(
    bundle: Bundle,
    encoded: Encoded,
    text: str,
    sampler: Sampler,
    *,
    seed: int = 0,
    on_text: Callable[[str], None] | None = None,
) -> str:
    """The model's answer to a question about one encoded clip.

    A model that was trained on labels only answers with the most probable one.

    Args:
      bundle: the model.
      encoded: one clip.
      text: the question; it may begin with the tag of a task, such as `[reason]`, or be only that.
      sampler: how tokens are chosen.
      seed: of the random draws.
      on_text: called with the answer so far.

    Raises:
      RequestError: the prompt is too long.
    """
    tag = _TAG.match(text)
    task = tag.group(1) if tag and tag.group(1) in QUESTIONS else bundle.reason_task
    if not bundle.can_reason:
        labels = encoded.records[0].labels
        with prompt_must_fit("labels", "give fewer labels"):
            probs = label_probabilities(bundle, encoded, labels, batch_size=1)[0]
        return labels[int(probs.argmax())]
    if task in REASON_TASKS:
        task = bundle.reason_task  # the one that this model was trained on
    wording = _TAG.sub("", text).strip() or None
    on_answer = (lambda _, so_far: on_text(so_far)) if on_text else None
    with prompt_must_fit("question", "shorten the question"):
        return answer_questions(
            bundle, encoded, [(task, wording)], sampler=sampler, seed=seed, on_text=on_answer
        )[0]


async def _events(
    service: Service, request: ChatRequest, head: dict[str, Any]
) -> AsyncIterator[bytes]:
    """Server-sent events of a streamed answer."""
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def on_text(so_far: str) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, so_far)

    def event(fields: dict[str, Any]) -> bytes:
        return f"data: {json.dumps(fields)}\n\n".encode()

    def chunk(delta: dict[str, Any], end: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": end}
        return event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    async def run() -> str:
        try:
            text: str = await service.run_on_model(
                lambda: answer_chat(service.bundle, request, on_text=on_text)
            )
            return text
        finally:
            pieces.put_nowait(None)

    yield chunk({"role": "assistant", "content": ""})
    task, sent = asyncio.create_task(run()), ""
    while (so_far := await pieces.get()) is not None:
        if so_far.startswith(sent) and len(so_far) > len(sent):
            yield chunk({"content": so_far[len(sent) :]})
            sent = so_far
    try:
        whole = await task
    except RequestError as error:
        yield event({"error": {"message": error.message, "code": error.status}})
        return
    yield chunk(
        {"content": whole[len(sent) :]} if whole.startswith(sent) else {"content": ""}, "stop"
    )
    yield b"data: [DONE]\n\n"

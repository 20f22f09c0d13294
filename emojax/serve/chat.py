"""/v1/chat/completions as OpenAI has it, with a clip as video_url, or as image_url parts and input_audio; answers may be streamed."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from PIL import Image, UnidentifiedImageError

from data_pipeline.loader.prompts import QUESTIONS
from data_pipeline.loader.tokens import RowTooLong
from data_pipeline.media.clip import ClipError, read_clip
from data_pipeline.media.views import make_views
from data_pipeline.schema import Clip, ClipRecord
from emojax.bundle.model_folder import REASON_TASKS, Bundle
from emojax.infer.answer import Encoded, answer_questions, encode, label_probabilities
from emojax.infer.sample import Sampler
from emojax.serve.limits import Refuse, check_text, text_of

if TYPE_CHECKING:
    from emojax.serve.app import Service

_TAG = re.compile(r"^\s*\[([a-z][a-z_-]*)\]\s*")
MOST_IMAGES = 64


def add_chat(app: FastAPI, service: Service) -> None:
    """Adds the route."""

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            raise Refuse(422, "the body is no JSON") from None
        text, clip = await asyncio.to_thread(read_messages, body, service)
        sampler = _sampler(body, service)
        head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": service.name,
        }
        seed = body.get("seed") or 0
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
            raise Refuse(422, "seed: a whole number from 0 to 2147483647")
        if body.get("stream") is True:
            service.check_room()  # before the answer begins, while there is a status to tell
            return StreamingResponse(
                _events(service, text, clip, sampler=sampler, seed=seed, head=head),
                media_type="text/event-stream",
            )
        answer = await service.ask(lambda: answer_chat(service, text, clip, sampler, seed))
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


def read_messages(body: Any, service: Service) -> tuple[str, Clip]:
    """(question, clip) of the last message of the user; raises Refuse."""
    try:
        content = [m for m in body["messages"] if m["role"] == "user"][-1]["content"]
        parts: list[Any] = (
            [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        )
        text = " ".join(str(p["text"]) for p in parts if p["type"] == "text")
        films = [p["video_url"]["url"] for p in parts if p["type"] == "video_url"]
        pictures = [p["image_url"]["url"] for p in parts if p["type"] == "image_url"]
        sounds = [p["input_audio"]["data"] for p in parts if p["type"] == "input_audio"]
        words = text_of(body, "subtitle", 100_000)
        check_text(text)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Refuse(
            422,
            "messages: a list of {role, content}, the last one of the user with a text and a clip",
        ) from None
    if len(films) > 1 or len(sounds) > 1 or len(pictures) > MOST_IMAGES or (films and pictures):
        raise Refuse(
            422,
            f"one clip a question: a video_url, or at most {MOST_IMAGES} image_url, and one input_audio",
        )
    if not films and not pictures and not sounds and not words:
        raise Refuse(422, "there is no clip: video_url, image_url or input_audio as base64 data")
    sampling = service.bundle.settings.sampling(None)
    try:
        sound = (
            read_clip(_data(sounds[0]), sampling=sampling, clip_id="chat", timeout=8.0)
            if sounds
            else None
        )
        if films:
            clip = read_clip(_data(films[0]), sampling=sampling, clip_id="chat", timeout=8.0)
        else:
            clip = _still(pictures, sampling.num_frames)
    except ClipError as error:
        raise Refuse(422, str(error)) from None
    if sound is not None and sound.waveform is not None:
        clip = Clip(
            id=clip.id,
            path="",
            frames=clip.frames,
            times=clip.times,
            image=clip.image,
            image_index=clip.image_index,
            waveform=sound.waveform,
        )
    lasts = max(clip.duration, len(clip.waveform) / 16_000 if clip.waveform is not None else 0.0)
    if lasts > service.limits.seconds:
        raise Refuse(
            413,
            f"clips may last {service.limits.seconds:g} s, this one lasts {lasts:.0f} s: send it to /v1/jobs",
        )
    return text, Clip(
        id=clip.id,
        path="",
        frames=clip.frames,
        times=clip.times,
        image=clip.image,
        image_index=clip.image_index,
        waveform=clip.waveform,
        subtitle=words,
    )


def _data(url: str) -> bytes:
    if not isinstance(url, str) or (":" in url[:40] and not url.startswith("data:")):
        raise Refuse(422, "media come as base64 data: this server fetches nothing")
    try:
        return base64.b64decode(
            url.partition(",")[2] if url.startswith("data:") else url, validate=True
        )
    except (binascii.Error, ValueError):
        raise Refuse(422, "the media are no base64") from None


def _still(urls: list[str], frames: int) -> Clip:
    if not urls:
        return Clip(
            id="chat", path="", frames=None, times=None, image=None, image_index=None, waveform=None
        )
    pictures = []
    for url in urls:
        try:
            with Image.open(io.BytesIO(_data(url))) as found:
                if found.width * found.height > 50_000_000:
                    raise Refuse(422, "a picture is too large")
                pictures.append(found.convert("RGB"))
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
            raise Refuse(422, "a picture can not be read") from None
    size = pictures[0].size
    arrays = np.stack([np.asarray(p if p.size == size else p.resize(size)) for p in pictures])
    chosen = ((np.arange(frames) + 0.5) * len(arrays) / frames).astype(int)
    return Clip(
        id="chat",
        path="",
        frames=arrays[chosen],
        times=chosen.astype(float),
        image=arrays[len(arrays) // 2],
        image_index=len(arrays) // 2,
        waveform=None,
    )


def _sampler(body: dict[str, Any], service: Service) -> Sampler:
    """Few samplers, as each is a program of its own: temperature and top_p to a tenth."""
    try:
        temperature, top_p = (
            float(default if (given := body.get(key)) is None else given)
            for key, default in (("temperature", 0.0), ("top_p", 1.0))
        )
    except (TypeError, ValueError):
        temperature = -1.0
    if not (0 <= temperature <= 2 and 0 < top_p <= 1):
        raise Refuse(422, "temperature from 0 to 2, top_p above 0, at most 1")
    return Sampler(
        max_tokens=service.bundle.settings.data.max_answer,
        temperature=round(temperature, 1),
        top_p=max(0.1, round(top_p, 1)),
    )


def answer_chat(
    service: Service, text: str, clip: Clip, sampler: Sampler, seed: int, *, on_text: Any = None
) -> str:
    """The text that the model writes about a clip. On the model's thread."""
    bundle = service.bundle
    record = ClipRecord(
        id="chat",
        dataset="serve",
        split="test",
        path="",
        label=bundle.labels[0],
        labels=bundle.labels,
        subtitle=clip.subtitle,
    )
    encoded = encode(bundle, [(record, make_views(clip, bundle.settings.views))], batch_size=1)
    return answer_text(bundle, encoded, text, sampler, seed=seed, on_text=on_text)


def answer_text(
    bundle: Bundle,
    encoded: Encoded,
    text: str,
    sampler: Sampler,
    *,
    seed: int = 0,
    on_text: Callable[[str], None] | None = None,
) -> str:
    """What the model writes about one encoded clip; one that has learned labels alone names the likeliest.

    Args:
      text: the question; it may begin with a task, `[reason]` say, and be nothing else.
      on_text: called with the answer so far.
    """
    tag = _TAG.match(text)
    task = tag.group(1) if tag and tag.group(1) in QUESTIONS else bundle.reason_task
    if not bundle.can_reason:
        labels = encoded.records[0].labels
        return labels[int(label_probabilities(bundle, encoded, labels, batch_size=1)[0].argmax())]
    if task in REASON_TASKS:
        task = bundle.reason_task  # the one that this model has learned
    wording = _TAG.sub("", text).strip() or None
    tell = (lambda _, so_far: on_text(so_far)) if on_text else None
    try:
        return answer_questions(
            bundle, encoded, [(task, wording)], sampler=sampler, seed=seed, on_text=tell
        )[0]
    except RowTooLong as error:
        raise Refuse(
            422,
            f"clip, words and question make {error.length} tokens, this model reads {error.limit}: shorten the question",
        ) from None


async def _events(
    service: Service, text: str, clip: Clip, *, sampler: Sampler, seed: int, head: dict[str, Any]
) -> AsyncIterator[bytes]:
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def tell(so_far: str) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, so_far)

    def event(delta: dict[str, Any], end: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": end}
        return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n".encode()

    async def run() -> str:
        try:
            return await service.ask(
                lambda: answer_chat(service, text, clip, sampler, seed, on_text=tell)
            )
        finally:
            pieces.put_nowait(None)

    yield event({"role": "assistant", "content": ""})
    task, sent = asyncio.create_task(run()), ""
    while (so_far := await pieces.get()) is not None:
        if so_far.startswith(sent) and len(so_far) > len(sent):
            yield event({"content": so_far[len(sent) :]})
            sent = so_far
    try:
        whole = await task
    except Refuse as refusal:
        yield f"data: {json.dumps({'error': {'message': refusal.text, 'code': refusal.status}})}\n\n".encode()
        return
    yield event(
        {"content": whole[len(sent) :]} if whole.startswith(sent) else {"content": ""}, "stop"
    )
    yield b"data: [DONE]\n\n"

"""Reads requests of OpenAI's chat format: every part and field is used, or refused by its name."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_pipeline.loader.prompts import QUESTIONS
from data_pipeline.media.clip import SAMPLE_RATE, Sampling, read_clip
from data_pipeline.media.container import NO_PICTURE, NO_SOUND, SILENT_SOUND, ClipError
from data_pipeline.schema import Clip
from data_pipeline.suggestions import no_such
from emojax.infer.grounding import Grounds, find_grounds
from emojax.infer.sample import Sampler
from emojax.serve.limits import RequestError, check_duration, check_text, text_field
from emojax.serve.service import Service

MAX_IMAGES = 64
MAX_PIXELS = 50_000_000  # of one image
CLIP_ID = "chat"
_TAG = re.compile(r"^\s*\[([a-z][a-z0-9_-]*)\]\s*", re.I)  # names a task
_SYSTEM = ("system", "developer")
# type of a content part -> the key within it
_PARTS = {
    "text": "",
    "image_url": "url",
    "video_url": "url",
    "audio_url": "url",
    "input_audio": "data",
}
_USED = (
    "messages", "stream", "stream_options", "temperature", "top_p", "seed", "max_tokens",
    "max_completion_tokens", "subtitle",
)  # fmt: skip
# what the caller keeps books with; it changes no answer
_WITHOUT_EFFECT = (
    "model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "parallel_tool_calls",
)  # fmt: skip
# fields that are not used, with the values that ask for nothing
_UNUSED: Mapping[str, Sequence[Any]] = {
    "n": (1,),
    "best_of": (1,),
    "stop": ("", []),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """One question about one clip.

    Attributes:
      question: the text of the messages.
      clip: the decoded clip.
      grounds: what the clip has that the answer may be about.
      sampler: how tokens are chosen.
      seed: of the random draws.
      max_tokens: most tokens of the answer, None for the model's own limit.
      stream: whether the answer is sent while it is written.
      stream_usage: whether a stream ends with the counts of tokens.
    """

    question: str
    clip: Clip
    grounds: Grounds
    sampler: Sampler
    seed: int = 0
    max_tokens: int | None = None
    stream: bool = False
    stream_usage: bool = False


@dataclasses.dataclass(kw_only=True)
class _Content:
    """The texts and media of the messages, in their order; media as (type of the part, data)."""

    system: list[str] = dataclasses.field(default_factory=list)
    texts: list[str] = dataclasses.field(default_factory=list)
    videos: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    images: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    sounds: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def read_request(body: Any, service: Service) -> ChatRequest:
    """Reads the body of a request, media included.

    Args:
      body: the JSON.
      service: its settings decide how clips are sampled and how long they may be.

    Raises:
      RequestError: a part, role or field is not used by this server, a value is not valid, there is
        no clip, or the clip is too long or cannot be read.
    """
    if not isinstance(body, dict):
        raise RequestError(422, "the body must be an object with messages")
    _check_fields(body)
    content = _read_messages(body.get("messages"))
    words = text_field(body, "subtitle", 100_000)
    _check_one_clip(content, words)
    options = body.get("stream_options") or {}
    if not isinstance(options, dict) or set(options) - {"include_usage"}:
        raise RequestError(400, "stream_options: only include_usage is used")
    stream, usage = _flag(body, "stream"), _flag(options, "include_usage")
    request = ChatRequest(
        question=_question(content),
        clip=_nothing(),
        grounds=Grounds(modalities=(), signs=()),
        sampler=_sampler(body, service),
        seed=_whole(body, "seed", 0, 2**31 - 1) or 0,
        max_tokens=_max_tokens(body),
        stream=stream,
        stream_usage=usage,
    )
    clip = _clip_of(content, words, service)  # last: the other fields are refused sooner
    return dataclasses.replace(request, clip=clip, grounds=find_grounds(clip))


def _check_fields(body: Mapping[str, Any]) -> None:
    for name, value in body.items():
        known = name in _USED or name in _WITHOUT_EFFECT or value in _UNUSED.get(name, ())
        if value is not None and not known:
            raise RequestError(
                400,
                f"{check_text(name)}: this server does not use this field, or not with this value; "
                f"leave it out. It uses {', '.join(_USED)}",
            )


def _read_messages(messages: Any) -> _Content:
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise RequestError(422, "messages: a list of {role, content}")
    out = _Content()
    for message in messages:
        role = message.get("role")
        if role not in (*_SYSTEM, "user"):
            raise RequestError(
                400,
                f"messages: role {check_text(repr(role))[:40]} is not read. This model answers one "
                "question about one clip and knows no earlier answers: send both in one message of "
                "the user",
            )
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list) or not parts:
            raise RequestError(422, "messages: content must be a text or a list of parts")
        for part in parts:
            kind, value = _read_part(part)
            if role in _SYSTEM and kind != "text":
                raise RequestError(400, f"messages: a {role} message cannot have a part {kind}")
            if kind == "text":
                (out.system if role in _SYSTEM else out.texts).append(value)
            else:
                lists = {"video_url": out.videos, "image_url": out.images}
                lists.get(kind, out.sounds).append((kind, value))
    if not out.texts:
        raise RequestError(422, "messages: there is no message of the user with a text")
    return out


def _read_part(part: Any) -> tuple[str, Any]:
    """The type and the text or media of a content part."""
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind not in _PARTS:
        raise RequestError(
            400,
            f"messages: a part of type {check_text(repr(kind))[:40]} is not read; the types are "
            f"{', '.join(_PARTS)}",
        )
    value, key = part.get(kind), _PARTS[kind]
    if isinstance(value, dict) and key:
        value = value.get(key)
    if not isinstance(value, str):
        inner = f'{{"{key}": ...}}' if key else "a text"
        raise RequestError(422, f"messages: a part {kind} must have {kind}: {inner}")
    return kind, check_text(value)


def _question(content: _Content) -> str:
    """The text of the user, behind that of the system; a tag stays in front."""
    text, system = " ".join(content.texts), " ".join(content.system)
    task, question = split_task(text)
    if not system:
        return text
    if not question:
        raise RequestError(422, "messages: a system message needs a question in words beside it")
    return f"{f'[{task}] ' if task else ''}{system} {question}"


def split_task(text: str) -> tuple[str, str]:
    """Splits a question into the task of the tag at its beginning, "" without one, and the rest.

    Raises:
      RequestError: there is no such task.
    """
    tag = _TAG.match(text)
    if tag is None:
        return "", text.strip()
    task = tag[1].lower()
    if task not in QUESTIONS:
        raise RequestError(
            422,
            f"{no_such('task', task, QUESTIONS)}. Words in brackets at the beginning of a question "
            "name its task",
        )
    return task, text[tag.end() :].strip()


def _check_one_clip(content: _Content, words: str) -> None:
    videos, images, sounds = content.videos, content.images, content.sounds
    if len(videos) > 1 or len(sounds) > 1 or len(images) > MAX_IMAGES or (videos and images):
        raise RequestError(
            422,
            f"one clip per question: a video_url, or at most {MAX_IMAGES} image_url,"
            " and one input_audio or audio_url",
        )
    if not videos and not images and not sounds and not words:
        raise RequestError(
            422,
            "there is no clip: send video_url, image_url, audio_url or input_audio as base64 data",
        )


def _clip_of(content: _Content, words: str, service: Service) -> Clip:
    """The clip of the messages; separate audio replaces that of the video."""
    sampling = service.bundle.settings.sampling(None)
    sound = _decode(*content.sounds[0], sampling) if content.sounds else None
    clip = _decode(*content.videos[0], sampling) if content.videos else None
    if sound is not None and sound.waveform is None:
        raise RequestError(422, f"{content.sounds[0][0]}: these media have no sound")
    clip = clip or _clip_of_images(content.images, sampling.num_frames)
    waveform = sound.waveform if sound is not None else clip.waveform
    seconds = max(clip.duration, len(waveform) / SAMPLE_RATE if waveform is not None else 0.0)
    check_duration(seconds, service.limits.seconds, hint="send it to /v1/jobs")
    return dataclasses.replace(
        _nothing(),
        frames=clip.frames,
        times=clip.times,
        image=clip.image,
        image_index=clip.image_index,
        waveform=waveform,
        subtitle=words,
        duration=seconds,
        notes=_notes_of(clip, sound),
    )


def _notes_of(picture: Clip, sound: Clip | None) -> tuple[str, ...]:
    """The notes on a film or pictures and on separate sound, without those on what is replaced."""
    if sound is None:
        return picture.notes
    of_sound = [n for n in sound.notes if n != NO_PICTURE or picture.frames is None]
    of_picture = [n for n in picture.notes if n not in (NO_SOUND, SILENT_SOUND)]
    return (*of_picture, *of_sound)


def _decode(part: str, url: str, sampling: Sampling) -> Clip:
    """The clip of a part.

    Raises:
      RequestError: it cannot be read.
    """
    try:
        return read_clip(_data(part, url), sampling=sampling, clip_id=CLIP_ID, timeout=8.0)
    except ClipError as error:
        raise RequestError(422, f"{part}: {error}") from None


def _nothing() -> Clip:
    return Clip(
        id=CLIP_ID,
        path="",
        frames=None,
        times=None,
        image=None,
        image_index=None,
        waveform=None,
    )


def _data(part: str, url: str) -> bytes:
    if ":" in url[:40] and not url.startswith("data:"):
        raise RequestError(
            422,
            f"{part}: send media as base64 data: this server fetches nothing from other servers",
        )
    try:
        text = url.partition(",")[2] if url.startswith("data:") else url
        return base64.b64decode("".join(text.split()), validate=True)  # some encoders break lines
    except (binascii.Error, ValueError):
        raise RequestError(422, f"{part}: not valid base64") from None


def _clip_of_images(parts: Sequence[tuple[str, str]], frames: int) -> Clip:
    if not parts:
        return _nothing()
    images = []
    for number, (kind, url) in enumerate(parts, 1):
        part = f"{kind} {number} of {len(parts)}" if len(parts) > 1 else kind
        try:
            with Image.open(io.BytesIO(_data(part, url))) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise RequestError(
                        422, f"{part}: more than {MAX_PIXELS:,} pixels; send a smaller picture"
                    )
                images.append(ImageOps.exif_transpose(image).convert("RGB"))
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
            raise RequestError(422, f"{part}: not a picture that can be read") from None
    size = images[0].size
    arrays = np.stack([np.asarray(p if p.size == size else p.resize(size)) for p in images])
    chosen = ((np.arange(frames) + 0.5) * len(arrays) / frames).astype(int)
    return dataclasses.replace(
        _nothing(),
        frames=arrays[chosen],
        times=chosen.astype(float),
        image=arrays[len(arrays) // 2],
        image_index=len(arrays) // 2,
    )


def _sampler(body: Mapping[str, Any], service: Service) -> Sampler:
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
        max_tokens=service.bundle.answer_tokens,
        temperature=round(temperature, 1),
        top_p=max(0.1, round(top_p, 1)),
    )


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    limits = [_whole(body, key, 1, 10**9) for key in ("max_tokens", "max_completion_tokens")]
    return min((n for n in limits if n is not None), default=None)


def _whole(body: Mapping[str, Any], key: str, low: int, high: int) -> int | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(422, f"{key}: a whole number from {low} to {high}")
    return value


def _flag(fields: Mapping[str, Any], key: str) -> bool:
    value = fields.get(key)
    if value is not None and not isinstance(value, bool):
        raise RequestError(422, f"{key}: true or false")
    return bool(value)

"""/v1/chat/completions in OpenAI's format, with a clip in the message; answers can be streamed."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from data_pipeline.loader.tokens import Tokenizer
from data_pipeline.media.views import make_views
from emojax.bundle.model_folder import REASON_TASKS, Bundle
from emojax.infer.answer import answer_questions, label_probabilities, make_samples
from emojax.infer.attribution import CANNOT_TELL
from emojax.infer.encode_clips import Encoded, encode, unlabelled_record
from emojax.infer.grounding import Grounds, grounded_start, grounded_text
from emojax.infer.predict import PredictOptions, clip_notes
from emojax.infer.sample import Sampler
from emojax.serve.chat_request import CLIP_ID, ChatRequest, read_request, split_task
from emojax.serve.limits import RequestError
from emojax.serve.service import FOR_RECORDINGS, Service, prompt_must_fit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """An answer.

    Attributes:
      text: the answer.
      prompt_tokens: tokens of the prompt, those of the clip included.
      reply_tokens: tokens of the answer.
      is_cut: whether it ended at a limit of its tokens.
      notes: what was left out of the answer.
    """

    text: str
    prompt_tokens: int
    reply_tokens: int
    is_cut: bool = False
    notes: tuple[str, ...] = ()

    @property
    def finish_reason(self) -> str:
        """As in OpenAI's format."""
        return "length" if self.is_cut else "stop"

    def usage(self) -> dict[str, int]:
        """As in OpenAI's format."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.reply_tokens,
            "total_tokens": self.prompt_tokens + self.reply_tokens,
        }


def add_chat(app: FastAPI, service: Service) -> None:
    """Adds the routes /v1/chat/completions and /v1/models."""

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            raise RequestError(422, "the body is not valid JSON") from None
        chat_request = await asyncio.to_thread(read_request, body, service)
        notes = _notes(service.bundle, chat_request)
        head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": service.name,
            "notes": notes,
        }
        if chat_request.stream:
            service.check_queue()  # while the response can still have an error status
            return StreamingResponse(
                _events(service, chat_request, head), media_type="text/event-stream"
            )
        answer: Written = await service.run_on_model(
            lambda: answer_chat(service.bundle, chat_request)
        )
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer.text},
            "finish_reason": answer.finish_reason,
        }
        usage = answer.usage()
        head["notes"] = [*notes, *answer.notes]
        return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [{"id": service.name, "object": "model", "owned_by": "emojax"}],
        }


def _notes(bundle: Bundle, request: ChatRequest) -> list[str]:
    """Those of /v1/analyze that are known before the answer."""
    clip = request.clip
    record = unlabelled_record(bundle, CLIP_ID, subtitle=clip.subtitle)
    options = PredictOptions(for_recordings=FOR_RECORDINGS)
    return [*clip_notes(bundle, clip, record, options), *request.grounds.missing]


def answer_chat(
    bundle: Bundle, request: ChatRequest, *, on_text: Callable[[str], None] | None = None
) -> Written:
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
    return write_answer(
        bundle,
        encoded,
        request.question,
        request.sampler,
        grounds=request.grounds,
        seed=request.seed,
        max_tokens=request.max_tokens,
        on_text=on_text,
    )


def write_answer(
    bundle: Bundle,
    encoded: Encoded,
    text: str,
    sampler: Sampler,
    *,
    grounds: Grounds,
    seed: int = 0,
    max_tokens: int | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Written:
    """The model's answer to a question about one encoded clip.

    A model that was trained on labels only answers with the most probable one. Where nobody is
    seen, heard or quoted, and where nothing of the text is about what the clip has, the answer is
    "cannot tell".

    Args:
      bundle: the model.
      encoded: one clip.
      text: the question; it may begin with the tag of a task, such as `[reason]`, or be only that.
      sampler: how tokens are chosen.
      grounds: of the clip; what the text describes beyond them is left out.
      seed: of the random draws.
      max_tokens: the answer is cut after so many tokens; None: after those of the sampler. (A
        sampler of its own would be compiled for each value.)
      on_text: called with the answer so far.

    Raises:
      RequestError: the prompt is too long.
    """
    tokenizer, limit = bundle.tokenizer, min(max_tokens or sampler.max_tokens, sampler.max_tokens)
    task, question = _task_of(bundle, text)
    if bundle.can_reason:
        part, advice = "question", "shorten the question"
    else:
        part, advice = "labels", "give fewer labels"
    with prompt_must_fit(part, advice):
        samples, _ = make_samples(bundle, encoded, task, question=question)
        text, ids, notes = "", list[int](), list[str]()
        if bundle.can_reason and not grounds.nobody:
            on_ids = _shows_ids(tokenizer, grounds, limit, on_text) if on_text else None
            (ids,) = answer_questions(
                bundle, encoded, [(task, question)], sampler=sampler, seed=seed, on_ids=on_ids
            )
            text, notes = grounded_text(tokenizer.decode(ids[:limit]), grounds)
        elif not grounds.nobody:
            labels = encoded.records[0].labels
            probs = label_probabilities(bundle, encoded, labels, batch_size=1)[0]
            text = labels[int(probs.argmax())]
            ids = tokenizer.encode(text)[:limit]
    return Written(
        text=CANNOT_TELL if grounds.nobody or (notes and not text) else text,
        prompt_tokens=len(samples[0].row.ids),
        reply_tokens=min(len(ids), limit),
        is_cut=len(ids) > limit or len(ids) == sampler.max_tokens,
        notes=tuple(notes),
    )


def _task_of(bundle: Bundle, text: str) -> tuple[str, str | None]:
    """The task of a question and its wording, None for the model's own."""
    if not bundle.can_reason:
        return "emotion", None
    task, wording = split_task(text)
    if not task or task in REASON_TASKS:
        task = bundle.reason_task  # the one that this model was trained on
    return task, wording or None


def _shows_ids(
    tokenizer: Tokenizer, grounds: Grounds, limit: int, on_text: Callable[[str], None]
) -> Callable[[int, Sequence[int]], None]:
    """The function that gets the ids so far and passes on the text that they certainly begin."""
    return lambda _, ids: on_text(grounded_start(tokenizer.decode(ids[:limit]), grounds))


async def _events(
    service: Service, request: ChatRequest, head: dict[str, Any]
) -> AsyncIterator[bytes]:
    """Server-sent events of a streamed answer."""
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def on_text(so_far: str) -> None:
        # the rest of a character may be in tokens that are still to come
        loop.call_soon_threadsafe(pieces.put_nowait, so_far.rstrip("\ufffd"))

    def event(fields: dict[str, Any]) -> bytes:
        return f"data: {json.dumps(fields)}\n\n".encode()

    def chunk(delta: dict[str, Any], end: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": end}
        return event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    async def run() -> Written:
        try:
            written: Written = await service.run_on_model(
                lambda: answer_chat(service.bundle, request, on_text=on_text)
            )
            return written
        finally:
            pieces.put_nowait(None)

    yield chunk({"role": "assistant", "content": ""})
    task, sent = asyncio.create_task(run()), ""
    while (so_far := await pieces.get()) is not None:
        if so_far.startswith(sent) and len(so_far) > len(sent):
            yield chunk({"content": so_far[len(sent) :]})
            sent = so_far
    try:
        written = await task
    except RequestError as error:
        yield event({"error": {"message": error.message, "code": error.status}})
        return
    if written.notes:
        head = {**head, "notes": [*head["notes"], *written.notes]}
    yield chunk({"content": written.text.removeprefix(sent)}, written.finish_reason)
    if request.stream_usage:
        usage = written.usage()
        yield event({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"

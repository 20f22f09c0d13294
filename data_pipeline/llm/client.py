"""The chat client of emojax: stored replies, retries with backoff, counted faults.

A reply that is stored is never requested again. Unusable replies are counted by type and reported,
never scored.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import httpx2

from data_pipeline.llm.budget import Ledger
from data_pipeline.llm.endpoint import BACKOFF, RETRIES, Endpoint, EndpointError, Messages
from data_pipeline.llm.replies import StoredReply, parse_reply, retry_after
from data_pipeline.llm.reply_cache import ReplyCache
from data_pipeline.llm.transport import Halted, Transport
from data_pipeline.progress import Progress, no_progress

T = TypeVar("T")
_TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_BAD_REQUEST = (400, 413, 422)  # too long or filtered: other questions may be answered
_MAX_CONSECUTIVE_FAILURES = 10  # unanswered questions after which the endpoint is unusable


class UnusableReply(ValueError):
    """Raised by functions that read replies; the message is the fault that is counted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply(Generic[T]):
    """The result of one question.

    Attributes:
      value: parsed from the text, None if there is no usable reply.
      text: the reply as received.
      fault: type of the last fault if there is no value, see `is_retryable`.
      model: the model that answered, as named by the server.
      tokens: (prompt, reply).
      cached: whether the reply was stored already.
      message: the text of the endpoint with the last fault.
    """

    value: T | None
    text: str = ""
    fault: str = ""
    model: str = ""
    tokens: tuple[int, int] = (0, 0)
    cached: bool = False
    message: str = ""


class ChatClient:
    """Queries one endpoint from several threads.

    Attributes:
      endpoint: where requests go.
      faults: how often each type of fault occurred.
      tokens_paid: [prompt, reply] of the replies that this run requested.
      tokens_used: [prompt, reply] of all replies, stored ones included.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        cache: Path,
        *,
        retries: int | None = None,
        rereads: int = 2,
        concurrency: int = 4,
        backoff: float = BACKOFF,
        sleep: Callable[[float], object] | None = None,
        ledger: Ledger | None = None,
        retry_unusable: bool = False,
    ):
        """Opens connections; use as a context manager or call `close`.

        Args:
          endpoint: where requests go.
          cache: folder of stored replies.
          retries: of a request that failed, None for `RETRIES`.
          rereads: how often an unusable reply is requested again, each time with another seed.
          concurrency: maximum number of requests in flight, over all threads.
          backoff: seconds before the first retry; doubles per retry, up to a minute.
          sleep: replaces the wait between retries, for tests.
          ledger: budget to keep.
          retry_unusable: whether stored replies that are unusable are requested once more.
        """
        self.endpoint = endpoint
        self.faults: Counter[str] = Counter()
        self.tokens_paid, self.tokens_used = [0, 0], [0, 0]
        self._retries = RETRIES if retries is None else retries
        self._rereads, self._concurrency, self._backoff = rereads, concurrency, backoff
        self._cache = ReplyCache(cache, endpoint)
        self._transport = Transport(endpoint, concurrency=concurrency, ledger=ledger)
        self._sleep = sleep or self._transport.pause
        self._mutex = threading.Lock()
        self._retry_unusable, self._retried = retry_unusable, set[str]()
        self._refused: EndpointError | None = None
        self._thread = threading.local()  # .message: the endpoint's text with the last fault
        self._consecutive_failures = 0

    @property
    def requests_sent(self) -> int:
        """Number of requests sent by this client."""
        return self._transport.requests_sent

    def halt(self) -> None:
        """Sends nothing more; requests in flight are completed."""
        self._transport.halt()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cost(self, tokens: Sequence[int]) -> float | None:
        """Returns the money for [prompt, reply] tokens, None if prices are unknown."""
        if self.endpoint.price_in is None or self.endpoint.price_out is None:
            return None
        return self.endpoint.cost(*tokens)

    def ask_all(
        self,
        questions: Sequence[Messages],
        read: Callable[[str], T] | Sequence[Callable[[str], T]],
        *,
        task: str = "ask",
        progress: Progress = no_progress,
    ) -> list[Reply[T]]:
        """Asks several questions concurrently; identical questions are sent once.

        Args:
          questions: messages of each question.
          read: reads all replies, or one function per question; see `ask`. Identical questions must
            have the same function: they share one reply, which is read once.
          task: name of the task for `progress`.
          progress: called with the number of answered questions.

        Returns:
          Replies in the order of the questions.

        Raises:
          EndpointError: the endpoint refuses every request.
          BudgetReached: a request might exceed the budget.
          Halted: the run is being stopped.
          OSError: a reply cannot be stored.
        """
        readers = [read] * len(questions) if callable(read) else read
        keys = [self._cache.key(messages) for messages in questions]
        unique = dict(zip(keys, zip(questions, readers, strict=True), strict=True))
        with concurrent.futures.ThreadPoolExecutor(self._concurrency) as pool:
            futures = {
                key: pool.submit(self.ask, messages, reader)
                for key, (messages, reader) in unique.items()
            }
            try:
                for done, future in enumerate(concurrent.futures.as_completed(futures.values()), 1):
                    future.result()
                    progress(task, done, len(futures))
            except BaseException:
                for future in futures.values():
                    future.cancel()
                raise
        return [futures[key].result() for key in keys]

    def ask(self, messages: Messages, read: Callable[[str], T]) -> Reply[T]:
        """Asks one question, unless its reply is stored.

        Args:
          messages: the question.
          read: returns the value of a reply's text; raises UnusableReply if it has none.

        Returns:
          The reply; with a fault if there is no usable one.

        Raises:
          EndpointError: the endpoint refuses every request.
          BudgetReached: the request was not sent because it might exceed the budget.
          Halted: the run is being stopped.
          OSError: the reply cannot be stored.
        """
        reply: Reply[T] = Reply(value=None, fault="none")
        for attempt in range(1 + self._rereads):
            key = self._cache.key(messages, attempt=attempt)
            with self._cache.exclusive(key):
                stored, fault = self._cache.load(key), ""
                if stored is not None and self._asks_once_more(key, stored["text"], read):
                    stored = None
                fresh = stored is None
                if stored is None:
                    stored, fault = self._request(messages, attempt, key)
            if stored is None:
                self._count_failure(fault)
                message = getattr(self._thread, "message", "")
                return Reply(value=None, fault=fault, message=message)
            with self._mutex:
                for i in (0, 1):
                    self.tokens_used[i] += stored["tokens"][i]
            reply = Reply(
                value=None,
                text=stored["text"],
                model=stored["model"],
                tokens=tuple(stored["tokens"]),
                cached=not fresh,
            )
            try:
                return dataclasses.replace(reply, value=read(reply.text))
            except UnusableReply as error:
                if fresh:
                    self._count(str(error))
                reply = dataclasses.replace(reply, fault=str(error))
        return reply

    def _asks_once_more(self, key: str, text: str, read: Callable[[str], T]) -> bool:
        """Whether a stored reply is requested again: unusable, and not yet retried in this run."""
        if not self._retry_unusable or key in self._retried:
            return False
        try:
            read(text)
        except UnusableReply:
            self._retried.add(key)
            return True
        return False

    def _count_failure(self, fault: str) -> None:
        """Counts a question without any reply.

        Raises:
          EndpointError: too many in a row.
        """
        with self._mutex:
            self._consecutive_failures += 1
            if self._consecutive_failures < _MAX_CONSECUTIVE_FAILURES:
                return
        self._refused = EndpointError(
            f"{self.endpoint.url} gave no reply to {_MAX_CONSECUTIVE_FAILURES} questions in a row "
            f"({fault}); replies so far are kept, run the same command again to continue"
        )
        raise self._refused

    def _request(
        self, messages: Messages, attempt: int, key: str
    ) -> tuple[StoredReply | None, str]:
        """Returns a reply, which is now stored, and "", or None and the type of the last fault."""
        endpoint, fault = self.endpoint, ""
        body = {
            "model": endpoint.model,
            "messages": messages,
            "temperature": endpoint.temperature,
            "seed": endpoint.seed + attempt,
            "max_tokens": endpoint.max_tokens,
        }
        for retry in range(1 + self._retries):
            jitter = 0.5 + random.random() / 2  # noqa: S311
            wait = min(60.0, self._backoff * 2**retry) * jitter
            if self._refused:  # by another thread's request
                raise self._refused
            if self._transport.halted:
                raise Halted
            self._thread.message = ""
            try:
                response, ticket = self._transport.post(body)
            except httpx2.TimeoutException:
                fault = "timeout"
            except httpx2.TransportError:
                fault = "no connection"
            else:
                status = response.status_code
                if status in _TRANSIENT:
                    fault = str(status)
                    wait = max(wait, retry_after(response))
                elif status in _BAD_REQUEST:
                    self._thread.message = _excerpt(response)
                    self._count(f"refused with {status}")
                    return None, f"refused with {status}"
                elif status >= 300:
                    self._refused = EndpointError(
                        f"{endpoint.url} answers {status} ({_excerpt(response)}): check address, "
                        "key and model, then run the same command again to continue"
                    )
                    raise self._refused
                else:
                    reply = parse_reply(response)
                    if reply is not None:
                        self._accept(reply, messages, ticket, key)
                        return reply, ""
                    fault = "malformed reply"
                    self._transport.abandon(ticket)  # it was probably billed
            self._count(fault)
            if retry < self._retries:
                self._sleep(wait)
        return None, fault

    def _accept(self, reply: StoredReply, messages: Messages, ticket: str, key: str) -> None:
        """Stores a reply and settles its cost."""
        self._consecutive_failures = 0
        with self._mutex:
            for i in (0, 1):
                self.tokens_paid[i] += reply["tokens"][i]
        self._cache.store(key, reply)
        self._transport.settle(ticket, messages, reply["tokens"])

    def _count(self, fault: str) -> None:
        with self._mutex:
            self.faults[fault] += 1


def _excerpt(response: httpx2.Response) -> str:
    return " ".join(response.text.split())[:200]


def is_retryable(fault: str) -> bool:
    """Returns whether a later run may succeed: transport errors and refused requests."""
    known = ("timeout", "no connection", "malformed reply")
    return fault in known or fault.isdigit() or fault.startswith("refused with")

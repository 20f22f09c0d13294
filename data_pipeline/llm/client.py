"""The chat client of emojax: stored replies, retries with backoff, counted faults.

A reply that is stored is never requested again. Unusable replies are counted by type and reported,
never scored.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx2

from data_pipeline.llm.budget import Ledger
from data_pipeline.llm.endpoint import (
    BACKOFF,
    OPTIONAL_FIELDS,
    RETRIES,
    Endpoint,
    EndpointError,
    Messages,
)
from data_pipeline.llm.replies import (
    ERROR,
    NotAReply,
    StoredReply,
    UnusableReply,
    parse_reply,
    retry_after,
    server_message,
)
from data_pipeline.llm.reply_cache import ReplyCache
from data_pipeline.llm.reply_text import CUT_FAULTS, is_cut, reply_fault
from data_pipeline.llm.transport import Halted, Transport
from data_pipeline.progress import Progress, no_progress

T = TypeVar("T")
_TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_BAD_REQUEST = (400, 413, 422)  # too long or filtered: other questions may be answered
_MAX_CONSECUTIVE_FAILURES = 10  # unanswered questions after which the endpoint is unusable
_MAX_WAIT = 300.0  # seconds; an endpoint that asks to wait longer is asked again by a later run
# messages of servers about a field that they do not accept
_UNSUPPORTED = re.compile(
    r"unsupported|not supported|n[o']t support|unrecogni[sz]ed|unknown|unexpected|not permitted"
    r"|not allowed|only the default|extra (?:inputs|fields)|no such",
    re.I,
)
# ... about its value; max_tokens may be too large for one question only
_INVALID = re.compile(r"invalid|not (?:a )?valid|must be|n[o']t accept|deprecated", re.I)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Failure:
    """Why a request has no reply, and how long to wait before the next one."""

    fault: str
    message: str = ""
    wait: float = 0.0
    is_final: bool = False


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
      message: the endpoint's own words about the last fault.
    """

    value: T | None
    text: str = ""
    fault: str = ""
    model: str = ""
    tokens: tuple[int, int] = (0, 0)
    cached: bool = False
    message: str = ""

    @property
    def explanation(self) -> str:
        """The fault with the endpoint's own words."""
        return f"{self.fault} ({self.message})" if self.message else self.fault


class ChatClient:
    """Queries one endpoint from several threads.

    Attributes:
      endpoint: where requests go.
      faults: how often each type of fault occurred.
      tokens_paid: [prompt, reply] of the replies that this run requested.
      tokens_used: [prompt, reply] of all replies, stored ones included.
      estimated: number of these replies whose tokens are estimated: the server counted none.
      cut: number of replies that are used although they were cut off.
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
        use_cut: bool = False,
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
          use_cut: whether replies that were cut off at their limit of tokens are read.
        """
        self.endpoint = endpoint
        self.faults: Counter[str] = Counter()
        self.tokens_paid, self.tokens_used = [0, 0], [0, 0]
        self.estimated, self.cut = 0, 0
        self._retries = RETRIES if retries is None else retries
        self._rereads, self._concurrency, self._backoff = rereads, concurrency, backoff
        self._cache = ReplyCache(cache, endpoint)
        self._transport = Transport(endpoint, concurrency=concurrency, ledger=ledger)
        self._sleep = sleep or self._transport.pause
        self._mutex = threading.Lock()
        self._retry_unusable, self._retried = retry_unusable, set[str]()
        self._use_cut = use_cut
        self._refused: EndpointError | None = None
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
                stored, failure = self._cache.load(key), None
                if stored is not None and self._asks_once_more(key, stored, read):
                    stored = None
                fresh = stored is None
                if stored is None:
                    stored, failure = self._request(messages, attempt, key)
            if stored is None:
                assert failure is not None
                self._count_failure(failure)
                return Reply(value=None, fault=failure.fault, message=failure.message)
            reply = Reply(
                value=None,
                text=stored["text"],
                model=stored["model"],
                tokens=self._count_tokens(stored, messages),
                cached=not fresh,
            )
            try:
                reply = dataclasses.replace(reply, value=self._read(stored, read))
            except UnusableReply as error:
                reply = dataclasses.replace(reply, fault=str(error))
                if fresh:
                    self._count(reply.fault)
                if reply.fault in CUT_FAULTS:  # another seed does not make it shorter
                    break
            else:
                with self._mutex:
                    self.cut += is_cut(stored)
                break
        return reply

    def _read(self, stored: StoredReply, read: Callable[[str], T]) -> T:
        """Reads a reply.

        Raises:
          UnusableReply: it has no value.
        """
        if fault := reply_fault(stored, use_cut=self._use_cut):
            raise UnusableReply(fault)
        return read(stored["text"])

    def _count_tokens(self, stored: StoredReply, messages: Messages) -> tuple[int, int]:
        """Adds the tokens of a reply that is used to the counts, and returns them."""
        tokens, is_counted = self._tokens(stored, messages)
        with self._mutex:
            self.estimated += not is_counted
            for i in (0, 1):
                self.tokens_used[i] += tokens[i]
        return tokens

    def _tokens(self, stored: StoredReply, messages: Messages) -> tuple[tuple[int, int], bool]:
        """Returns (prompt, reply) tokens, and whether the server counted them."""
        prompt, reply = stored["tokens"]
        is_counted = bool(prompt and (reply or not stored["text"]))
        if is_counted:
            return (prompt, reply), True
        estimate = self.endpoint.estimated_tokens(messages, stored["text"])
        return (prompt or estimate[0], reply or estimate[1]), False

    def _asks_once_more(self, key: str, stored: StoredReply, read: Callable[[str], T]) -> bool:
        """Whether a stored reply is requested again: unusable, and not yet retried in this run."""
        if not self._retry_unusable or key in self._retried:
            return False
        try:
            self._read(stored, read)
        except UnusableReply:
            self._retried.add(key)
            return True
        return False

    def _count_failure(self, failure: _Failure) -> None:
        """Counts a question without any reply.

        Raises:
          EndpointError: too many in a row.
        """
        with self._mutex:
            self._consecutive_failures += 1
            if self._consecutive_failures < _MAX_CONSECUTIVE_FAILURES:
                return
        words = f": {failure.message}" if failure.message else ""
        raise self._stop(
            f"{self.endpoint.url} gave no reply to {_MAX_CONSECUTIVE_FAILURES} questions in a row "
            f"({failure.fault}{words}); check that it runs, then run the same command again: it "
            "asks only what has no reply"
        )

    def _stop(self, message: str) -> EndpointError:
        """Ends the requests of all threads; returns the error to raise."""
        self._refused = EndpointError(message)
        return self._refused

    def _request(
        self, messages: Messages, attempt: int, key: str
    ) -> tuple[StoredReply | None, _Failure | None]:
        """Returns a reply, which is now stored, or the last failure."""
        body, failure = self.endpoint.request(messages, attempt=attempt), None
        for retry in range(1 + self._retries):
            jitter = 0.5 + random.random() / 2  # noqa: S311
            wait = min(60.0, self._backoff * 2**retry) * jitter
            if self._refused:  # by another thread's request
                raise self._refused
            if self._transport.halted:
                raise Halted
            found = self._send(body, key)
            if not isinstance(found, _Failure):
                return found, None
            failure = found
            self._count(failure.fault)
            if failure.is_final:
                break
            if retry < self._retries:
                self._sleep(max(wait, failure.wait))
        return None, failure

    def _send(self, body: dict[str, Any], key: str) -> StoredReply | _Failure:
        """Sends one request, and stores its reply."""
        try:
            response, ticket = self._transport.post(body)
        except httpx2.TimeoutException:
            return _Failure(
                fault="timeout", message=f"no whole reply within {self.endpoint.timeout:g} s"
            )
        except httpx2.ConnectError as error:
            return _Failure(fault="no connection", message=str(error))
        except httpx2.TransportError as error:
            return _Failure(fault="connection broken off", message=str(error))
        if response.status_code >= 300:
            return self._failure(response, response.status_code, server_message(response), body)
        try:
            reply = parse_reply(response)
        except NotAReply as error:
            if error.billed:
                self._transport.abandon(ticket)
            else:
                self._transport.settle_refused(ticket)
            if error.status:
                return self._failure(response, error.status, error.message, body)
            return _Failure(fault=error.fault, message=error.message)
        self._accept(reply, body["messages"], ticket, key)
        return reply

    def _failure(
        self, response: httpx2.Response, status: int, message: str, body: dict[str, Any]
    ) -> _Failure:
        """Returns the failure of a request that the endpoint answers with an error.

        Raises:
          EndpointError: it would answer every request so.
        """
        answers = f"{self.endpoint.url} answers {status} ({message})"
        if status in _TRANSIENT:
            wait = retry_after(response)
            if wait > _MAX_WAIT:
                message = f"{message}; it asks to wait {wait:.0f} s".removeprefix("; ")
            return _Failure(
                fault=str(status), message=message, wait=wait, is_final=wait > _MAX_WAIT
            )
        if status in _BAD_REQUEST:
            if advice := self._advice(f"{message} {response.text[:2000]}", body):
                raise self._stop(f"{answers}: {advice}")
            return _Failure(fault=f"refused with {status}", message=message, is_final=True)
        if place := response.headers.get("Location"):
            raise self._stop(
                f"{answers.removesuffix(' ()')}: check address, it redirects to {place}"
            )
        raise self._stop(
            f"{answers}: check address, key and model, then run the same command again to continue"
        )

    def _advice(self, words: str, body: dict[str, Any]) -> str:
        """Returns what to do if an error is about a field that the server refuses, or ""."""
        names = dict(self.endpoint.renamed)
        for field in OPTIONAL_FIELDS:
            name = names.get(field, field)
            is_refused = _UNSUPPORTED.search(words) or (
                field != "max_tokens" and _INVALID.search(words)
            )
            if is_refused and name in body and re.search(rf"\b{re.escape(name)}\b", words):
                known_as = "max_completion_tokens"
                rename = f" or --rename {field}={known_as}" if known_as in words else ""
                return (
                    f"it does not accept {name} as it is sent; run again with "
                    f"--leave-out {field}{rename}"
                )
        return ""

    def _accept(self, reply: StoredReply, messages: Messages, ticket: str, key: str) -> None:
        """Stores a reply and settles its cost."""
        self._consecutive_failures = 0
        tokens, is_counted = self._tokens(reply, messages)
        with self._mutex:
            for i in (0, 1):
                self.tokens_paid[i] += tokens[i]
        self._cache.store(key, reply)
        self._transport.settle(ticket, messages, tokens, counted=is_counted)

    def _count(self, fault: str) -> None:
        with self._mutex:
            self.faults[fault] += 1


def is_retryable(fault: str) -> bool:
    """Returns whether a later run may succeed: transport errors and refused requests."""
    known = ("timeout", "no connection", "connection broken off", "malformed reply", "web page")
    return fault in (*known, ERROR) or fault.isdigit() or fault.startswith("refused with")

"""Asks an OpenAI-compatible chat endpoint: replies kept on disk, faults counted, tried again with backoff.

A stored reply is never asked for again. Whatever is not a usable reply is counted by kind and told; it never becomes a
number.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx2

from data_pipeline.llm.budget import Ledger
from data_pipeline.llm.replies import LONGEST, reply_of, retry_after

T = TypeVar("T")
Messages = list[dict[str, Any]]
_TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_OF_THE_REQUEST = (400, 413, 422)  # too long, filtered: another question may be answered
RETRIES = 5  # of a request that failed
_IN_A_ROW = 10  # questions without any reply, after which nothing more is asked


class EndpointError(ValueError):
    """The endpoint can not be used at all: wrong address, key or model; says what to change."""


class Halted(Exception):
    """Nothing more is sent: the run is being stopped."""


class Unusable(ValueError):
    """Raised by a reader of replies; str() is the kind of fault it is counted under."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where and how to ask.

    Attributes:
      url: base address, as `http://localhost:8000/v1`.  model: as the server names it.
      key: sent as bearer token; never written anywhere.
      temperature, seed, max_tokens: of the reply.  timeout: seconds a request.
      price_in, price_out: money for a million tokens of prompts and replies; None: not known.
      image_tokens, second_tokens: at most, of a picture and of a second of sound; budgets are kept by them.
    """

    url: str
    model: str
    key: str = ""
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 512
    timeout: float = 60.0
    price_in: float | None = None
    price_out: float | None = None
    image_tokens: int = 1500
    second_tokens: int = 50

    def money(self, tokens_in: int, tokens_out: int) -> float:
        """What tokens cost; 0 where prices are not known."""
        return (tokens_in * (self.price_in or 0.0) + tokens_out * (self.price_out or 0.0)) / 1e6

    def most_tokens(self, messages: Messages) -> int:
        """More tokens than a prompt can have: no token is shorter than a byte."""
        total = 0
        for message in messages:
            total += 16
            content = message["content"]
            parts: list[Any] = (
                [{"type": "text", "text": content}] if isinstance(content, str) else content
            )
            for part in parts:
                if part["type"] == "text":
                    total += len(part["text"].encode())
                elif part["type"] == "image_url":
                    total += self.image_tokens
                else:  # 16-bit sound at 16 kHz as base64
                    total += round(
                        self.second_tokens * (1 + len(part["input_audio"]["data"]) * 0.75 / 32_000)
                    )
        return total

    def settings(self) -> dict[str, Any]:
        """What a reply depends on, apart from what is asked."""
        return {k: getattr(self, k) for k in ("url", "model", "temperature", "seed", "max_tokens")}


@dataclasses.dataclass(frozen=True)
class Reply(Generic[T]):
    """What came back.

    Attributes:
      value: what was read from the text, None where there is none.  text: as it came.
      fault: kind of the last fault where there is no value.  said: the endpoint's own words with it.
      model: who answered, in the server's own words.  tokens: (prompt, reply).  cached: it was stored already.
    """

    value: T | None
    text: str = ""
    fault: str = ""
    model: str = ""
    tokens: tuple[int, int] = (0, 0)
    cached: bool = False
    said: str = ""


class Asker:
    """Asks one endpoint from several threads.

    Attributes:
      faults: how often each kind of fault came.  asked: requests that were sent.
      tokens: [prompt, reply] of replies that this run paid for.  used: the same of all replies, stored ones too.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        cache: Path,
        *,
        retries: int | None = None,
        rereads: int = 2,
        concurrency: int = 4,
        backoff: float = 1.0,
        sleep: Callable[[float], object] | None = None,
        ledger: Ledger | None = None,
        again: bool = False,
    ):
        """`retries`: of a request that failed (None: RETRIES).  `rereads`: how often an unusable reply is asked again, with another
        seed.  `backoff`: seconds before the first retry; doubles, up to a minute.  `ledger`: keeps to a budget.
        `concurrency`: requests under way at once, whoever asks.  `again`: stored replies that are unusable are asked once more.
        """
        self.endpoint, self.cache = endpoint, cache
        retries = RETRIES if retries is None else retries
        self.retries, self.rereads, self.concurrency, self.backoff, self._sleep = (
            retries,
            rereads,
            concurrency,
            backoff,
            sleep or self._pause,
        )
        self.faults: Counter[str] = Counter()
        self.asked = 0
        self.tokens, self.used = [0, 0], [0, 0]
        self._lock = threading.Lock()
        self._under_way: dict[str, tuple[threading.Lock, int]] = {}  # by key of the question
        self._again, self._asked_again = again, set[str]()
        self._ledger, self._places = ledger, threading.BoundedSemaphore(concurrency)
        self._refused: EndpointError | None = None
        self._halt = threading.Event()
        self._said = (
            threading.local()
        )  # .text: the endpoint's own words with the last fault of this thread
        self._over = 1.0  # by how much the server's count of a prompt went over the most we know of
        self._lost = 0  # questions in a row that got no reply
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self._client = httpx2.Client(timeout=endpoint.timeout, headers=headers)
        cache.mkdir(parents=True, exist_ok=True)

    def _pause(self, seconds: float) -> None:
        self._halt.wait(seconds)

    def halt(self) -> None:
        """From here on nothing is sent; what is under way comes to its end."""
        self._halt.set()
        if self._ledger is not None:
            self._ledger.wake()

    def close(self) -> None:
        """Closes connections."""
        self._client.close()

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cost(self, tokens: Sequence[int]) -> float | None:
        """Money for [prompt, reply] tokens, None where prices are not known."""
        e = self.endpoint
        if e.price_in is None or e.price_out is None:
            return None
        return (tokens[0] * e.price_in + tokens[1] * e.price_out) / 1e6

    def ask_all(
        self,
        asked: Sequence[Messages],
        read: Callable[[str], T] | Sequence[Callable[[str], T]],
        *,
        tick: Callable[[int, int], None] | None = None,
    ) -> list[Reply[T]]:
        """Replies in the order of `asked`; a question that stands there twice is asked once.

        Args:
          read: of all replies, or one for each question; see `ask`.
        """
        readers = [read] * len(asked) if callable(read) else read
        names = [self.key_of(messages) for messages in asked]
        with concurrent.futures.ThreadPoolExecutor(self.concurrency) as pool:
            futures = {
                name: pool.submit(self.ask, messages, own)
                for name, messages, own in dict(
                    zip(names, zip(names, asked, readers, strict=True), strict=True)
                ).values()
            }
            try:
                for done, future in enumerate(concurrent.futures.as_completed(futures.values()), 1):
                    future.result()
                    if tick:
                        tick(done, len(futures))
            except BaseException:  # what has not begun shall not begin
                for future in futures.values():
                    future.cancel()
                raise
        return [futures[name].result() for name in names]

    def ask(self, messages: Messages, read: Callable[[str], T]) -> Reply[T]:
        """One reply, read by `read`, which raises Unusable for one that says nothing.

        Raises:
          EndpointError: the endpoint refuses every request.
          BudgetReached: it was not sent, because it might cost too much.
        """
        reply: Reply[T] = Reply(None, fault="none")
        for attempt in range(1 + self.rereads):
            with self._alone(self.key_of(messages, attempt=attempt)):
                stored, fault = self._stored(messages, attempt), ""
                if stored is not None and self._once_more(
                    self.key_of(messages, attempt=attempt), stored["text"], read
                ):
                    stored = None
                fresh = stored is None
                if stored is None:
                    stored, fault = self._request(messages, attempt)
            if stored is None:
                self._give_up(fault)
                return Reply(None, fault=fault, said=getattr(self._said, "text", ""))
            with self._lock:
                self.used = [a + b for a, b in zip(self.used, stored["tokens"], strict=True)]
            text = stored["text"]
            known = (stored["model"], tuple(stored["tokens"]))
            try:
                return Reply(read(text), text, "", known[0], known[1], not fresh)
            except Unusable as error:
                if fresh:
                    self._count(str(error))
                reply = Reply(None, text, str(error), known[0], known[1], not fresh)
        return reply

    def _once_more(self, key: str, text: str, read: Callable[[str], T]) -> bool:
        """Whether a stored reply is asked for again: once a run, where that is wanted and nothing can be read from it."""
        if not self._again or key in self._asked_again:
            return False
        try:
            read(text)
        except Unusable:
            self._asked_again.add(key)
            return True
        return False

    @contextlib.contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Two threads with the same question: the second waits for the first one's reply."""
        with self._lock:
            mine, waiting = self._under_way.get(key, (threading.Lock(), 0))
            self._under_way[key] = mine, waiting + 1
        try:
            with mine:
                yield
        finally:
            with self._lock:
                mine, waiting = self._under_way[key]
                self._under_way[key] = mine, waiting - 1
                if waiting == 1:
                    del self._under_way[key]

    def _give_up(self, fault: str) -> None:
        """Counts a question without any reply.

        Raises:
          EndpointError: so many in a row that the endpoint is away.
        """
        with self._lock:
            self._lost += 1
            if self._lost < _IN_A_ROW:
                return
        self._refused = EndpointError(
            f"{self.endpoint.url} gave no reply to {_IN_A_ROW} questions in a row ({fault}); replies so far are kept, the same command goes on"
        )
        raise self._refused

    def key_of(self, messages: Messages, *, attempt: int = 0) -> str:
        """Name of a stored reply: hash of everything that it depends on."""
        # Not by the address: the same model may answer at another one tomorrow.
        own = {k: v for k, v in self.endpoint.settings().items() if k != "url"}
        asked = {**own, "messages": messages, "attempt": attempt}
        return hashlib.sha256(
            json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()
        ).hexdigest()

    def _stored(self, messages: Messages, attempt: int) -> dict[str, Any] | None:
        path = self.cache / f"{self.key_of(messages, attempt=attempt)}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) and "text" in found else None
        except (OSError, ValueError):
            return None

    def _request(self, messages: Messages, attempt: int) -> tuple[dict[str, Any] | None, str]:
        """(a reply that is now stored, "") or (None, kind of the last fault)."""
        e, fault = self.endpoint, ""
        body = {
            "model": e.model,
            "messages": messages,
            "temperature": e.temperature,
            "seed": e.seed + attempt,
            "max_tokens": e.max_tokens,
        }
        for retry in range(1 + self.retries):
            wait = min(60.0, self.backoff * 2**retry) * (0.5 + random.random() / 2)
            if self._refused:  # by another thread's request
                raise self._refused
            if self._halt.is_set():
                raise Halted
            self._said.text = ""
            try:
                answer, ticket = self._post(body)
            except httpx2.TimeoutException:
                fault = "timeout"
            except httpx2.TransportError:
                fault = "no connection"
            else:
                if answer.status_code in _TRANSIENT:
                    fault = str(answer.status_code)
                    wait = max(wait, retry_after(answer))
                elif answer.status_code in _OF_THE_REQUEST:
                    self._said.text = " ".join(answer.text.split())[:200]
                    self._count(f"refused with {answer.status_code}")
                    return None, f"refused with {answer.status_code}"
                elif answer.status_code >= 300:
                    said = " ".join(answer.text.split())[:200]
                    self._refused = EndpointError(
                        f"{e.url} answers {answer.status_code} ({said}): check address, key and model, and the same command goes on"
                    )
                    raise self._refused
                else:
                    found = reply_of(answer)
                    if found is not None:
                        self._lost = 0
                        self._store(messages, attempt, found)
                        if found["tokens"][0]:
                            most = self.endpoint.most_tokens(messages)
                            self._over = max(
                                self._over, found["tokens"][0] / most
                            )  # it counts more than we thought
                            self._settle(ticket, *found["tokens"])
                        elif (
                            self._ledger is not None
                        ):  # a server that does not count leaves the request at its most
                            self._ledger.lost(ticket)
                        return found, ""
                    fault = "malformed reply"
                    if self._ledger is not None:  # it was probably paid for
                        self._ledger.lost(ticket)
            self._count(fault)
            if retry < self.retries:
                self._sleep(wait)
        return None, fault

    def _post(self, body: dict[str, Any]) -> tuple[httpx2.Response, str]:
        """(what came back, ticket of the ledger); what was refused costs nothing, what may have been answered unseen stays reserved."""
        with self._places:
            ticket = ""
            if self._ledger is not None:
                most = (
                    round(self._over * self.endpoint.most_tokens(body["messages"])),
                    self.endpoint.max_tokens,
                )
                ticket = self._ledger.reserve(
                    self.endpoint.money(*most), *most, wait=lambda: not self._halt.is_set()
                )
            try:
                if self._halt.is_set():
                    raise Halted
                with self._lock:
                    self.asked += 1
                answer = self._sent(body)
            except httpx2.TransportError as error:
                if isinstance(error, httpx2.ConnectError):
                    self._settle(ticket, 0, 0, answered=False)
                elif self._ledger is not None:  # it may have been answered unseen
                    self._ledger.lost(ticket)
                raise
            except BaseException:  # nothing was sent
                self._settle(ticket, 0, 0, answered=False)
                raise
        if answer.status_code >= 300:
            self._settle(ticket, 0, 0, answered=False)
        return answer, ticket

    def _sent(self, body: dict[str, Any]) -> httpx2.Response:
        """One request; httpx2.ReadTimeout when the whole reply is not there in time, and no content where it has no end."""
        url, end = (
            f"{self.endpoint.url.rstrip('/')}/chat/completions",
            time.monotonic() + self.endpoint.timeout,
        )
        with self._client.stream("POST", url, json=body) as answer:
            found = bytearray()
            try:
                for part in answer.iter_bytes():
                    found += part
                    if time.monotonic() > end:  # the client's own limit is of each read
                        raise httpx2.ReadTimeout("the reply came too slowly")
                    if len(found) > LONGEST:
                        found.clear()
                        break
            except httpx2.DecodingError:  # packed, or so it says
                found.clear()
            later = {k: v for k, v in answer.headers.items() if k.lower() == "retry-after"}
            return httpx2.Response(answer.status_code, headers=later, content=bytes(found))

    def _settle(
        self, ticket: str, tokens_in: int, tokens_out: int, *, answered: bool = True
    ) -> None:
        if self._ledger is not None:
            self._ledger.settle(
                ticket,
                self.endpoint.money(tokens_in, tokens_out),
                tokens_in,
                tokens_out,
                answered=answered,
            )

    def _store(self, messages: Messages, attempt: int, found: dict[str, Any]) -> None:
        with self._lock:
            self.tokens[0] += found["tokens"][0]
            self.tokens[1] += found["tokens"][1]
        path = self.cache / f"{self.key_of(messages, attempt=attempt)}.json"
        new = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.new")
        new.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
        new.replace(path)

    def _count(self, fault: str) -> None:
        with self._lock:
            self.faults[fault] += 1


def prompt_hash(text: str) -> str:
    """First 16 hex digits of a prompt's SHA-256, to tell which wording was used."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def away(fault: str) -> bool:
    """Whether a fault is of the way to the endpoint, so that another run may have an answer; not of what was answered."""
    known = ("timeout", "no connection", "malformed reply")
    return fault in known or fault.isdigit() or fault.startswith("refused with")

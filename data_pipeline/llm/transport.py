"""HTTP requests to a chat endpoint, within limits of concurrency, budget, time and size.

Ours instead of the openai client: that one can neither reserve budget before a request nor bound
the time and size of a whole response.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx2

from data_pipeline.llm.budget import Ledger
from data_pipeline.llm.endpoint import Endpoint, Messages
from data_pipeline.llm.replies import MAX_RESPONSE_BYTES

_KEPT_HEADERS = ("retry-after", "content-type", "location")


class Halted(Exception):
    """The run is being stopped; the request was not sent."""


class Transport:
    """Sends the requests of all threads to one endpoint.

    Attributes:
      requests_sent: number of requests so far.
    """

    def __init__(self, endpoint: Endpoint, *, concurrency: int, ledger: Ledger | None):
        """Opens a connection pool.

        Args:
          endpoint: where requests go.
          concurrency: maximum number of requests in flight.
          ledger: budget to keep, None for no limit.
        """
        self.requests_sent = 0
        self._endpoint, self._ledger = endpoint, ledger
        self._slots = threading.BoundedSemaphore(concurrency)
        self._mutex = threading.Lock()
        self._halted = threading.Event()
        # Largest ratio of the server's count of prompt tokens to our upper bound, at least 1.
        self._token_ratio = 1.0
        # most tokens that a reply may have; more where the server does not keep the limit
        self._largest_reply = endpoint.max_tokens
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self._client = httpx2.Client(timeout=endpoint.timeout, headers=headers)

    @property
    def halted(self) -> bool:
        """Whether `halt` has been called."""
        return self._halted.is_set()

    def halt(self) -> None:
        """Sends nothing more; requests in flight are completed."""
        self._halted.set()
        if self._ledger is not None:
            self._ledger.wake_waiters()

    def pause(self, seconds: float) -> None:
        """Sleeps, but returns early when halted."""
        self._halted.wait(seconds)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def post(self, body: dict[str, Any]) -> tuple[httpx2.Response, str]:
        """Reserves budget and sends one chat completion request.

        Requests that the endpoint refuses are settled at no cost. Requests that may have been
        answered although the response was lost stay reserved.

        Args:
          body: the JSON body.

        Returns:
          The response and, for a status below 300, the ledger's ticket to settle or abandon.

        Raises:
          BudgetReached: the request might exceed the budget.
          Halted: the run is being stopped.
          httpx2.TransportError: there is no response.
        """
        with self._slots:
            ticket = self._reserve(body["messages"])
            try:
                if self.halted:
                    raise Halted
                with self._mutex:
                    self.requests_sent += 1
                response = self._send(body)
            except httpx2.TransportError as error:
                if isinstance(error, httpx2.ConnectError):
                    self.settle_refused(ticket)
                else:  # the server may have answered
                    self.abandon(ticket)
                raise
            except BaseException:  # nothing was sent
                self.settle_refused(ticket)
                raise
        if response.status_code >= 300:
            self.settle_refused(ticket)
        return response, ticket

    def settle(
        self, ticket: str, messages: Messages, tokens: Sequence[int], *, counted: bool
    ) -> None:
        """Settles an answered request.

        Args:
          ticket: what `post` returned.
          messages: the prompt.
          tokens: [prompt, reply].
          counted: whether the server counted them; if not, the request is settled at its maximum.
        """
        if self._ledger is None:
            return
        if not counted:
            self._ledger.settle_at_maximum(ticket)
            return
        ratio = tokens[0] / self._endpoint.max_prompt_tokens(messages)
        self._token_ratio = max(self._token_ratio, ratio)
        self._largest_reply = max(self._largest_reply, tokens[1])
        self._ledger.settle(ticket, self._endpoint.cost(*tokens), *tokens)

    def settle_refused(self, ticket: str) -> None:
        """Settles a request that was not answered, at no cost."""
        if self._ledger is not None:
            self._ledger.settle(ticket, 0.0, 0, 0, answered=False)

    def abandon(self, ticket: str) -> None:
        """Leaves a request of unknown cost reserved at its maximum."""
        if self._ledger is not None:
            self._ledger.abandon(ticket)

    def _reserve(self, messages: Messages) -> str:
        if self._ledger is None:
            return ""
        tokens_in = round(self._token_ratio * self._endpoint.max_prompt_tokens(messages))
        tokens_out = self._largest_reply
        money = self._endpoint.cost(tokens_in, tokens_out)
        return self._ledger.reserve(money, tokens_in, tokens_out, wait=lambda: not self.halted)

    def _send(self, body: dict[str, Any]) -> httpx2.Response:
        """Sends one request.

        A response that is too long or cannot be decompressed has a content that says so.

        Raises:
          httpx2.ReadTimeout: the whole response did not arrive in time.
        """
        url = f"{self._endpoint.url.rstrip('/')}/chat/completions"
        deadline = time.monotonic() + self._endpoint.timeout
        with self._client.stream("POST", url, json=body) as response:
            content = bytearray()
            try:
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > deadline:  # the client's own timeout is per read
                        raise httpx2.ReadTimeout("the response came too slowly")
                    if len(content) > MAX_RESPONSE_BYTES:
                        content = bytearray(b"(a response that is too long)")
                        break
            except httpx2.DecodingError:
                content = bytearray(b"(a response that cannot be decompressed)")
            headers = {k: v for k, v in response.headers.items() if k.lower() in _KEPT_HEADERS}
            return httpx2.Response(response.status_code, headers=headers, content=bytes(content))

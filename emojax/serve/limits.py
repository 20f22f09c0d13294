"""Limits of requests (size, length, time to arrive) and their token, checked by an ASGI layer."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
PUBLIC_PATHS = ("/health", "/")  # load balancers request them without a token
PAGE_PATH = "/ui"  # its login form asks for the token
MAX_PURPOSE = 2000  # characters


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server.

    Attributes:
      body: most bytes of a request.
      seconds: longest clip; longer recordings are jobs.
      job_seconds: longest recording.
      arrive: s within which a body must arrive.
      idle: longest s between two pieces of a body.
      waiting: requests that may wait for the model.
      token: token that requests must carry; "": none.
      folders: requests may name files below these folders by path.
    """

    body: int = 200_000_000
    seconds: float = 60.0
    job_seconds: float = 6 * 3600.0
    arrive: float = 120.0
    idle: float = 15.0
    waiting: int = 32
    token: str = ""
    folders: tuple[Path, ...] = ()


class RequestError(Exception):
    """Ends a request with an error response.

    Attributes:
      status: HTTP status.
      message: one sentence for the client.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


class TooManyRequests(RequestError):
    """HTTP 429.

    Attributes:
      seconds: wait before the next attempt, in seconds.
    """

    def __init__(self, message: str, seconds: int):
        super().__init__(429, message)
        self.seconds = seconds


class Guard:
    """Checks the token and the announced size, real size and pace of a body before the app runs."""

    def __init__(self, app: Any, limits: Limits, record: Callable[[str, int, float], None]):
        """Wraps an application.

        Args:
          app: the ASGI application.
          limits: see Limits.
          record: called with (route, status, seconds) of every request.
        """
        self.app, self.limits, self.record = app, limits, record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection, see ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        status, begin = 0, time.monotonic()

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(scope["path"], headers)
            await self.app(scope, self._limited(receive), observed_send)
        except RequestError as error:
            if not status:
                await _send_error(observed_send, error)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.record(route, status, time.monotonic() - begin)

    def _check(self, path: str, headers: dict[str, str]) -> None:
        is_page = path == PAGE_PATH or path.startswith(f"{PAGE_PATH}/")
        if self.limits.token and path not in PUBLIC_PATHS and not is_page:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(given.strip().encode("latin-1"), self.limits.token.encode())
            if scheme.lower() != "bearer" or not same:
                raise RequestError(401, "this server needs a token: Authorization: Bearer ...")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise RequestError(400, "content-length is not a number")
        if int(length) > self.limits.body:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        """`receive` with limits on the size and pace of the body."""
        size, end = 0, asyncio.get_running_loop().time() + self.limits.arrive
        complete = False

        async def limited() -> Message:
            nonlocal size, complete
            if complete:  # after the body, only the end of the connection can come
                return await receive()
            left = min(self.limits.idle, end - asyncio.get_running_loop().time())
            try:
                message = await asyncio.wait_for(receive(), max(0.01, left))
            except TimeoutError:
                raise RequestError(408, "the request arrived too slowly") from None
            size += len(message.get("body", b""))
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            if size > self.limits.body:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> RequestError:
        return RequestError(413, f"a request may have at most {self.limits.body:,} bytes")


async def _send_error(send: Send, error: RequestError) -> None:
    body = json.dumps(
        {"error": {"message": error.message, "type": "refused", "code": error.status}}
    ).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def check_text(text: str) -> str:
    """Returns the text.

    Raises:
      RequestError: it has half of a surrogate pair, so it is not valid Unicode.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(
            422, "a text has a character that is not valid Unicode (a lone surrogate)"
        ) from None
    return text


def text_field(fields: Mapping[str, Any], key: str, max_length: int) -> str:
    """A text of a request, "" if it is missing or null.

    Args:
      fields: of the request.
      key: name of the field.
      max_length: most characters.

    Raises:
      RequestError: the value is not a text, or too long.
    """
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > max_length:
        raise RequestError(422, f"{key}: a text of at most {max_length:,} characters")
    return check_text(value)


def parse_labels(given: Any) -> list[str]:
    """The labels of a request, without repetitions.

    Args:
      given: a list of texts, or one text with commas between the labels.

    Raises:
      RequestError: these are not 2 to 200 texts of at most 80 characters.
    """
    if isinstance(given, str):
        given = [x for x in given.split(",") if x.strip()]
    valid = isinstance(given, list) and all(
        isinstance(x, str) and 0 < len(x.strip()) <= 80 for x in given
    )
    labels = list(dict.fromkeys(check_text(x).strip() for x in given)) if valid else []
    if not 2 <= len(labels) <= 200:
        raise RequestError(422, "labels: 2 to 200 different texts of at most 80 characters")
    return labels


def check_duration(seconds: float, limit: float, *, what: str = "clips", hint: str = "") -> None:
    """Checks the length of a clip or recording.

    Args:
      seconds: its length.
      limit: most seconds that it may last.
      what: which media the limit is for, a plural noun for the message.
      hint: what to do instead, for the message.

    Raises:
      RequestError: it is too long.
    """
    if seconds > limit:
        message = f"{what} may last {limit:g} s, this one lasts {seconds:.0f} s"
        raise RequestError(413, f"{message}: {hint}" if hint else message)


def allowed_path(text: str, folders: tuple[Path, ...]) -> Path:
    """The file that a request names, with links resolved.

    Args:
      text: path from the request.
      folders: the file must be below one of these.

    Raises:
      RequestError: the file is elsewhere or does not exist; the message does not say which.
    """
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # names that no file can have
        path = Path(text).resolve()
        if any(path.is_relative_to(folder.resolve()) for folder in folders) and path.is_file():
            return path
    raise RequestError(
        403, "paths must name a file below a folder that this server was started with (--allow)"
    )

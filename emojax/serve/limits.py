"""What a request may take: bytes, seconds, time to arrive; and who may ask. One ASGI layer before everything else."""

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
OPEN = ("/health", "/")  # asked by load balancers, without a token
PAGE = "/ui"  # asks for the token itself, by a form


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server.

    Attributes:
      body: bytes of a request.  seconds: of a clip; longer recordings are jobs.  job_seconds: of a recording.
      arrive: s in which a body must have come.  idle: s between two of its pieces.
      waiting: requests that may wait.  token: that requests must carry; "" for none.  folders: below which paths may be named.
    """

    body: int = 200_000_000
    seconds: float = 60.0
    job_seconds: float = 6 * 3600.0
    arrive: float = 120.0
    idle: float = 15.0
    waiting: int = 32
    token: str = ""
    folders: tuple[Path, ...] = ()


class Refuse(Exception):
    """An answer that ends a request: HTTP status and one sentence."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status, self.text = status, text


class TooMany(Refuse):
    """429 with the time after which to come again."""

    def __init__(self, text: str, seconds: int):
        super().__init__(429, text)
        self.seconds = seconds


class Guard:
    """Checks token, announced length, real length and pace of a body before the application sees it."""

    def __init__(self, app: Any, limits: Limits, count: Callable[[str, int, float], None]):
        """count: called with (route, status, seconds) of every request."""
        self.app, self.limits, self.count = app, limits, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        status, begin = 0, time.monotonic()

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(scope["path"], headers)
            await self.app(scope, self._paced(receive), tell)
        except Refuse as refusal:
            if not status:
                await _say(tell, refusal)
        finally:
            self.count(
                getattr(scope.get("route"), "path", "other"), status, time.monotonic() - begin
            )

    def _check(self, path: str, headers: dict[str, str]) -> None:
        if self.limits.token and path not in OPEN and not _below(path, PAGE):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(given.strip().encode("latin-1"), self.limits.token.encode())
            if scheme.lower() != "bearer" or not same:
                raise Refuse(401, "this server wants a token: Authorization: Bearer ...")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise Refuse(400, "content-length is no number")
        if int(length) > self.limits.body:
            raise Refuse(
                413,
                f"a request may hold {self.limits.body:,} bytes, this one announces {int(length):,}",
            )

    def _paced(self, receive: Receive) -> Receive:
        seen, end = 0, asyncio.get_running_loop().time() + self.limits.arrive
        over = False

        async def paced() -> Message:
            nonlocal seen, over
            if over:  # behind the body only the client's going is waited for
                return await receive()
            left = min(self.limits.idle, end - asyncio.get_running_loop().time())
            try:
                message = await asyncio.wait_for(receive(), max(0.01, left))
            except TimeoutError:
                raise Refuse(408, "the request came too slowly") from None
            seen += len(message.get("body", b""))
            over = message["type"] != "http.request" or not message.get("more_body", False)
            if seen > self.limits.body:
                raise Refuse(413, f"a request may hold {self.limits.body} bytes")
            return message

        return paced


def check_text(text: str) -> str:
    """The same text; raises Refuse where it is none (half of a surrogate pair)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refuse(
            422, "a text holds a character that is no Unicode (a lone surrogate)"
        ) from None
    return text


def text_of(fields: Mapping[str, Any], key: str, most: int) -> str:
    """A text of a request, "" where it is left out or null; raises Refuse for anything else."""
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most:
        raise Refuse(422, f"{key}: a text of at most {most:,} characters")
    return check_text(value)


def _below(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


async def _say(send: Send, refusal: Refuse) -> None:
    body = json.dumps(
        {"error": {"message": refusal.text, "type": "refused", "code": refusal.status}}
    ).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def allowed_path(text: str, folders: tuple[Path, ...]) -> Path:
    """A path that a request names, if it lies below an allowed folder, links followed.

    Raises:
      Refuse: it does not, or there is no such file; both are told alike.
    """
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # names that no file can have
        path = Path(text).resolve()
        if any(path.is_relative_to(folder.resolve()) for folder in folders) and path.is_file():
            return path
    raise Refuse(
        403, "paths must name a file below a folder that this server was started with (--allow)"
    )

"""A local chat endpoint with scripted replies, faults and delays that records all requests."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Chat:
    """The endpoint's replies and what it has received.

    `reply(body, number)` returns the text for the number-th request with this content, or (status,
    text), or a float: seconds of silence. Requests are counted by content (`asked`) and kept
    (`bodies`).
    """

    def __init__(self, reply: Callable[[dict[str, Any], int], Any], model: str = "judge-1"):
        self.reply, self.model = reply, model
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.lock = threading.Lock()
        self.url = ""

    def answer(self, body: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        key = json.dumps(body["messages"])
        with self.lock:
            self.asked[key] += 1
            number = self.asked[key]
            self.bodies.append(body)
        reply = self.reply(body, number)
        if isinstance(reply, float):
            time.sleep(reply)
            reply = "late"
        if isinstance(reply, tuple):
            return reply[0], reply[1].encode(), {"Retry-After": "0"} if reply[0] == 429 else {}
        completion = {
            "id": "x",
            "object": "chat.completion",
            "model": self.model,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": reply},
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
        return 200, json.dumps(completion).encode(), {}


@contextmanager
def serve(chat: Chat) -> Iterator[Chat]:
    """Serves it on a free port; `chat.url` is its base address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            chat.keys.append(self.headers.get("Authorization", ""))
            if self.path != "/v1/chat/completions":
                status, content, headers = 404, b"no such page", {}
            else:
                status, content, headers = chat.answer(body)
            try:
                self.send_response(status)
                for name, value in {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(content)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client has given up

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

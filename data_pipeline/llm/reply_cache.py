"""Replies on disk: one JSON file per question, named by a hash of all that the reply depends on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.io import write_text
from data_pipeline.llm.endpoint import Endpoint, Messages
from data_pipeline.llm.replies import StoredReply


class ReplyCache:
    """Stores and loads the replies of one endpoint."""

    def __init__(self, folder: Path, endpoint: Endpoint):
        self._folder, self._endpoint = folder, endpoint
        self._mutex = threading.Lock()
        self._in_flight: dict[str, tuple[threading.Lock, int]] = {}

    def key(self, messages: Messages, *, attempt: int = 0) -> str:
        """Returns the hash of everything that a reply depends on."""
        # The address is left out: the same model may be served from another one later.
        settings = {k: v for k, v in self._endpoint.settings().items() if k != "url"}
        question = {**settings, "messages": messages, "attempt": attempt}
        text = json.dumps(question, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def load(self, key: str) -> StoredReply | None:
        """Returns a stored reply, None if there is no readable one."""
        try:
            reply = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
            return reply if isinstance(reply, dict) and "text" in reply else None
        except (OSError, ValueError):
            return None

    def store(self, key: str, reply: StoredReply) -> None:
        """Writes a reply atomically."""
        self._folder.mkdir(parents=True, exist_ok=True)  # only now: a refused run leaves nothing
        write_text(self._folder / f"{key}.json", json.dumps(reply, ensure_ascii=False))

    @contextlib.contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        """Makes a second thread with the same question wait for the first one's reply."""
        with self._mutex:
            lock, users = self._in_flight.get(key, (threading.Lock(), 0))
            self._in_flight[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._mutex:
                lock, users = self._in_flight[key]
                self._in_flight[key] = lock, users - 1
                if users == 1:
                    del self._in_flight[key]

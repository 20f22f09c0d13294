"""One model, one thread that asks it, and a queue of bounded length before it: who comes too late is told so at once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Busy(Exception):
    """The queue is full; `seconds`: when to try again."""

    def __init__(self, seconds: int):
        super().__init__(f"too many requests are waiting: try again in {seconds} s")
        self.seconds = seconds


class Worker:
    """Runs tasks one after the other; JAX programs of one device gain nothing from running side by side."""

    def __init__(self, waiting: int):
        """waiting: tasks that may wait beside the one that runs; 0: any number."""
        self._queue: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue(waiting)
        self._took = 1.0  # s, mean of the last tasks
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Tasks in the queue."""
        return self._queue.qsize()

    def submit(self, task: Callable[[], Any]) -> Future[Any]:
        """Raises Busy when the queue is full."""
        future: Future[Any] = Future()
        try:
            self._queue.put_nowait((task, future))
        except queue.Full:
            raise Busy(max(1, round(self._took * self._queue.maxsize))) from None
        return future

    def _run(self) -> None:
        while True:
            task, future = self._queue.get()
            if not future.set_running_or_notify_cancel():
                continue
            begin = time.monotonic()
            try:
                future.set_result(task())
            except BaseException as error:  # whatever the task raises is told to whom it belongs
                future.set_exception(error)
            self._took += 0.2 * (time.monotonic() - begin - self._took)

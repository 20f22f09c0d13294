"""A thread that runs tasks on the model, behind a queue of limited length."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class QueueFull(Exception):
    """The queue is full.

    Attributes:
      seconds: wait before the next attempt, in seconds.
    """

    def __init__(self, seconds: int):
        super().__init__(f"too many requests are waiting: try again in {seconds} s")
        self.seconds = seconds


class Worker:
    """Runs tasks one after the other; on one device, parallel JAX programs are not faster."""

    def __init__(self, max_waiting: int):
        """Starts the thread.

        Args:
          max_waiting: tasks that may wait besides the one that runs; 0: any number.
        """
        self._queue: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue(max_waiting)
        self._mean_seconds = 1.0  # of the last tasks
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of tasks in the queue."""
        return self._queue.qsize()

    def submit(self, task: Callable[[], Any]) -> Future[Any]:
        """Queues a task.

        Raises:
          QueueFull: too many tasks are waiting.
        """
        future: Future[Any] = Future()
        try:
            self._queue.put_nowait((task, future))
        except queue.Full:
            raise QueueFull(max(1, round(self._mean_seconds * self._queue.maxsize))) from None
        return future

    def _run(self) -> None:
        while True:
            task, future = self._queue.get()
            if not future.set_running_or_notify_cancel():
                continue
            begin = time.monotonic()
            try:
                future.set_result(task())
            except BaseException as error:  # raised again where the result is awaited
                future.set_exception(error)
            self._mean_seconds += 0.2 * (time.monotonic() - begin - self._mean_seconds)

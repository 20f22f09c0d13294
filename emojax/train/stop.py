"""Stopping a training run after the step in progress, on SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any, Self

import jax

STOPPING = "stopping after this step, which is saved first; Ctrl-C again stops at once"

logger = logging.getLogger(__name__)


class Stopped(KeyboardInterrupt):
    """The run was stopped by SIGTERM or Ctrl-C, and its last step is saved.

    `code` is the exit code of that signal.
    """

    def __init__(self, text: str, *, code: int = 128 + signal.SIGTERM) -> None:
        super().__init__(text)
        self.code = code


class StopRequest:
    """Waits for SIGTERM (sent before a machine is preempted) or Ctrl-C while its body runs.

    The training loop asks after each step whether to stop. A second Ctrl-C interrupts at once.
    """

    def __init__(self) -> None:
        self._requested = False
        self._checks = 0
        self.code = 128 + signal.SIGTERM
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            for one in (signal.SIGTERM, signal.SIGINT):
                self._previous[one] = signal.signal(one, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._previous.items():
            signal.signal(one, handler)

    def _receive(self, number: int, *_: Any) -> None:
        if self._requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self._requested:  # from a thread: a handler must not wait for locks of the log
            threading.Thread(target=logger.info, args=(STOPPING,), daemon=True).start()
        self._requested = True
        self.code = 128 + number

    def check(self) -> bool:
        """Whether to stop after this step.

        All processes get the same answer, whichever of them received the signal.
        """
        self._checks += 1
        if jax.process_count() == 1:
            return self._requested
        from jax.experimental import multihost_utils

        return bool(multihost_utils.reached_preemption_sync_point(self._checks))

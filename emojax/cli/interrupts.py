"""Ctrl-C in the process of a command: always seen, and the process ends at once afterwards."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from typing import Any, NoReturn, Self


class Interrupts:
    """Handles Ctrl-C while its body runs; the main thread of a process uses it once.

    Python raises KeyboardInterrupt wherever the main thread is. If that is a callback of a library,
    the exception is lost, or becomes another one (an ImportError, for example). `requested` is true
    after any Ctrl-C; a lost exception is raised again. A second Ctrl-C ends the process at once.

    Other exceptions that Python cannot raise are printed, except TensorStore's "Event loop is
    closed": one for every write that is under way when a checkpoint has failed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None
        self._print_unraisable: Any = None
        self._lost = False

    def __enter__(self) -> Self:
        self._previous = signal.getsignal(signal.SIGINT)
        if self._previous != signal.SIG_IGN:  # as of a command that a shell runs behind `&`
            signal.signal(signal.SIGINT, self._receive)
        self._print_unraisable = sys.unraisablehook
        sys.unraisablehook = self._handle_unraisable
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._previous)
        sys.unraisablehook = self._print_unraisable

    def _receive(self, *_: object) -> None:
        if self.requested and not self._lost:
            os.write(2, b"\n")
            end_process(128 + signal.SIGINT)
        self.requested, self._lost = True, False
        raise KeyboardInterrupt

    def _handle_unraisable(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            if str(unraisable.exc_value) != "Event loop is closed":
                self._print_unraisable(unraisable)
            return
        self._lost = True
        # Not from here, where it would be lost again.
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()


def end_process(code: int) -> NoReturn:
    """Ends the process without the exit functions of libraries.

    They wait for threads that still compile or write, and end in a segmentation fault or in
    tracebacks about files that cannot be written.
    """
    for child in multiprocessing.active_children():
        child.terminate()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)

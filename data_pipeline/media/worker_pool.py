"""Worker processes for decoding and drawing clips."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import signal
from collections.abc import Iterator


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def spawn_pool(workers: int) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """Starts worker processes that end with the block.

    The processes are spawned: the caller may have started jax threads, which do not survive a fork.
    Only the parent handles Ctrl-C. If the block raises, running calls are finished and waiting ones
    are cancelled.

    Args:
      workers: number of processes.

    Yields:
      The pool.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, _ignore_interrupts) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise

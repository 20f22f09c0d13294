"""What the command line does to its process: log records and progress on the console, settings.

Only `emojax/cli/` changes global state; what several commands need is here (log levels, warning
filters, the configuration of jax). Library code logs below the logger `emojax`, reports through
`Progress` and returns values.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rich.progress
from rich.console import Console
from rich.text import Text

from data_pipeline.io import cache_root
from data_pipeline.progress import Progress


class ConsoleHandler(logging.Handler):
    """Prints the message of each log record on a console, wrapped only by the terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one message. A closed pipe raises BrokenPipeError, as print does."""
        self.console.print(Text(record.getMessage()), soft_wrap=True)


def escape_unprintable() -> None:
    """Makes stdout and stderr write characters that their encoding lacks as escapes.

    JSON reads these escapes too. Such characters occur in file names that are not UTF-8, and in any
    text on a terminal of another encoding.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def shown_log(console: Console) -> Iterator[None]:
    """Shows records of the logger `emojax` from INFO up on the console, while the body runs."""
    logger, handler = logging.getLogger("emojax"), ConsoleHandler(console)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # absl shows records of the root logger too
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextmanager
def progress_bars(
    console: Console, *, note: Callable[[float, float | None], str] | None = None
) -> Iterator[Progress]:
    """A `Progress` that draws one bar per task.

    A finished bar becomes an ordinary line of the output. Where the output is not a terminal, only
    that line is printed, or the last state of the bar if the task ends early.

    Args:
      console: where to draw.
      note: text at the end of a bar, from (done, total).

    Yields:
      The callback. It may be called from several threads. A task that starts again after it
      finished gets a new bar.
    """
    columns: list[rich.progress.ProgressColumn] = [
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    ]
    if note is not None:
        columns.append(rich.progress.TextColumn("{task.fields[note]}", markup=False))
    running: dict[str, rich.progress.TaskID] = {}
    finished: set[str] = set()
    lock = threading.Lock()
    # Where stdout is a file, what is printed there must not go to the terminal with the bars.
    redirect = sys.stdout.isatty()
    bars = rich.progress.Progress(*columns, console=console, redirect_stdout=redirect)

    def progress(task: str, done: float, total: float | None) -> None:
        complete = total is not None and done >= total
        with lock:
            if task in finished and complete:
                return
            if task not in running:
                finished.discard(task)
                running[task] = bars.add_task(task, total=None, note="")
            number = running[task]
            whole = None if total is None else int(total)
            text = note(done, total) if note is not None else ""
            bars.update(number, completed=int(done), total=whole, note=text)
            if complete:
                bar = bars.tasks[bars.task_ids.index(number)]
                bars.console.print(bars.make_tasks_table([bar]))
                bars.remove_task(running.pop(task))
                finished.add(task)

    bars.start()
    try:
        yield progress
    finally:
        if running:
            bars.stop()
        else:  # without the empty line that `stop` prints
            bars.live.transient = True
            bars.live.stop()


def setup(*, training: bool = False) -> None:
    """Prepares the process for a command that uses the model.

    Marks absl's flags as parsed (Grain reads them), silences Orbax (which raises its errors) and
    transformers below errors, and keeps compiled programs in the cache folder.

    Args:
      training: whether to tune malloc for training steps. Must then run before threads start.
    """
    import absl.logging
    import jax
    from absl import flags

    if training:
        from emojax.train.malloc import tune_malloc

        tune_malloc()
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    # Orbax logs each step that it saves, and the traceback of each thread that cannot write.
    absl.logging.set_verbosity(absl.logging.FATAL)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", message=".*donated buffers were not usable.*")
    config: Any = jax.config  # its methods have no types
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # else the user has chosen
        config.update("jax_compilation_cache_dir", str(cache_root() / "jax"))
        config.update("jax_persistent_cache_min_compile_time_secs", 1.0)

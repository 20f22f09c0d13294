"""Progress bars of the commands; where output is not a terminal, their last line alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


@contextmanager
def bars(console: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    """Bars by name, fed with (name, done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def tick(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=None)
            progress.update(tasks[name], completed=done, total=total)

        yield tick


@contextmanager
def bar(console: Console, text: str) -> Iterator[Callable[[int, int], None]]:
    """One bar, fed with (done, total)."""
    with bars(console) as tick:
        tick(text, 0, None)  # shown before the first step ends
        yield lambda done, total: tick(text, done, total)

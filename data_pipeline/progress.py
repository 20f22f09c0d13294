"""The callback protocol by which long tasks report progress, shared by both packages."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A callback that every long task takes as `progress`."""

    def __call__(self, task: str, done: float, total: float | None) -> None:
        """Receives the progress of one task.

        Args:
          task: name of the task, such as "decode clips"; several tasks may run at once.
          done: units (clips, steps, bytes or seconds) finished since the task began.
          total: number of units in all, None while it is unknown.
        """


def no_progress(task: str, done: float, total: float | None) -> None:
    """A callback that ignores its arguments."""

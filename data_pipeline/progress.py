"""How long tasks say how far they are: one callback protocol for both packages."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A callback that every long task takes as `progress`."""

    def __call__(self, task: str, done: float, total: float | None) -> None:
        """Records how far a task is.

        Args:
          task: what is being done, such as "decode clips"; several tasks may be under way.
          done: finished units (clips, steps, bytes or seconds) since the task began.
          total: units in all, None while that is not known.
        """


def no_progress(task: str, done: float, total: float | None) -> None:
    """The callback that records nothing."""

"""Smoothed probabilities, the best label path and label changes of consecutive segments.

Both are derived from the segments' probabilities and reported next to them: the average over
neighbours in time, and the label path with the least loss if every change of label has a cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

_FLOOR = 1e-6
_LONGEST = 3.0  # s; a longer segment counts no more than this in the path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """A change of label in the path.

    Attributes:
      time: s, start of the first segment with the new label.
      before: the label before it.
      after: the new label.
      gain: nats by which the new label explains the segments up to the next change better than the
        one before would.
    """

    time: float
    before: str
    after: str
    gain: float


def smooth(
    probabilities: np.ndarray, starts: np.ndarray, ends: np.ndarray, *, seconds: float
) -> np.ndarray:
    """Averages probabilities with a Gaussian in time, weighted by the segments' lengths.

    Args:
      probabilities: float[n, C], rows that sum to 1.
      starts: float[n], s, ascending.
      ends: float[n], s, ascending.
      seconds: standard deviation of the Gaussian; 0 returns the rows unchanged.

    Returns:
      float[n, C].
    """
    if seconds <= 0 or len(probabilities) < 2:
        return probabilities.copy()
    middles, lengths = (starts + ends) / 2, np.maximum(ends - starts, 1e-3)
    out = np.empty_like(probabilities)
    # Only neighbours are averaged: recordings of hours have thousands of segments.
    for i, middle in enumerate(middles):
        low, high = np.searchsorted(middles, [middle - 4 * seconds, middle + 4 * seconds])
        near = slice(min(low, i), max(high, i + 1))
        weight = lengths[near] * np.exp(-0.5 * ((middles[near] - middle) / seconds) ** 2)
        out[i] = weight @ probabilities[near] / weight.sum()
    return out


def viterbi_path(
    probabilities: np.ndarray, starts: np.ndarray, ends: np.ndarray, *, switch_penalty: float
) -> np.ndarray:
    """The label path with the least loss, by dynamic programming (exact).

    A segment loses -log p of its label times its length in seconds, at most 3; each change of label
    costs `switch_penalty`.

    Args:
      probabilities: float[n, C].
      starts: float[n], s, ascending.
      ends: float[n], s, ascending.
      switch_penalty: nats per change of label.

    Returns:
      int[n], label numbers.
    """
    n, labels = probabilities.shape
    weight = np.minimum(ends - starts, _LONGEST)
    loss = -np.log(np.maximum(probabilities, _FLOOR)) * weight[:, None]
    best, previous = loss[0], np.zeros((n, labels), np.int64)
    for i in range(1, n):
        other = int(best.argmin())
        stay = best <= best[other] + switch_penalty
        previous[i] = np.where(stay, np.arange(labels), other)
        best = np.where(stay, best, best[other] + switch_penalty) + loss[i]
    path = np.zeros(n, np.int64)
    path[-1] = int(best.argmin())
    for i in range(n - 1, 0, -1):
        path[i - 1] = previous[i, path[i]]
    return path


def label_changes(
    path: np.ndarray,
    probabilities: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    labels: Sequence[str],
) -> list[Change]:
    """Where a path changes its label.

    Args:
      path: int[n], label numbers.
      probabilities: float[n, C].
      starts: float[n], s, ascending.
      ends: float[n], s, ascending.
      labels: the C label strings.

    Returns:
      The changes, in order of time.
    """
    at = [i for i in range(1, len(path)) if path[i] != path[i - 1]]
    weight = np.minimum(ends - starts, _LONGEST)
    logs = np.log(np.maximum(probabilities, _FLOOR)) * weight[:, None]
    out = []
    for number, i in enumerate(at):
        end = at[number + 1] if number + 1 < len(at) else len(path)
        gain = float((logs[i:end, path[i]] - logs[i:end, path[i - 1]]).sum())
        out.append(
            Change(
                time=round(float(starts[i]), 3),
                before=labels[path[i - 1]],
                after=labels[path[i]],
                gain=round(gain, 3),
            )
        )
    return out

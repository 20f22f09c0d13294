"""Labels of consecutive segments -> a smoothed track and its changes.

Two views of the same answers, none of which replaces them: probabilities averaged over neighbours in time, and the labels of the
likeliest track if every change of label has a price.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

_FLOOR = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """At `time` (s) the track goes from one label to another; `gain`: nats by which the change explains the answers better."""

    time: float
    before: str
    after: str
    gain: float


def smooth(
    probabilities: np.ndarray, starts: np.ndarray, ends: np.ndarray, seconds: float
) -> np.ndarray:
    """float[n, C] -> the same, averaged with a Gaussian in time over segments, weighted by their length.

    Args:
      probabilities: rows that add up to 1.  starts, ends: float[n], s, in order.
      seconds: standard deviation; 0 gives the rows back.
    """
    if seconds <= 0 or len(probabilities) < 2:
        return probabilities.copy()
    middles, lengths = (starts + ends) / 2, np.maximum(ends - starts, 1e-3)
    out = np.empty_like(probabilities)
    for i, middle in enumerate(
        middles
    ):  # neighbours alone: recordings of hours have thousands of segments
        low, high = np.searchsorted(middles, [middle - 4 * seconds, middle + 4 * seconds])
        near = slice(min(low, i), max(high, i + 1))
        weight = lengths[near] * np.exp(-0.5 * ((middles[near] - middle) / seconds) ** 2)
        out[i] = weight @ probabilities[near] / weight.sum()
    return out


def likeliest_track(
    probabilities: np.ndarray, starts: np.ndarray, ends: np.ndarray, price: float
) -> np.ndarray:
    """int[n]: the labels that lose least, if a segment's loss is -log p times its length, at most 3 s of it, and a change costs `price`.

    Exact, by dynamic programming (Viterbi).
    """
    n, labels = probabilities.shape
    weight = np.minimum(ends - starts, 3.0)
    loss = -np.log(np.maximum(probabilities, _FLOOR)) * weight[:, None]
    best, came = loss[0], np.zeros((n, labels), np.int64)
    for i in range(1, n):
        other = int(best.argmin())
        stay = best <= best[other] + price
        came[i] = np.where(stay, np.arange(labels), other)
        best = np.where(stay, best, best[other] + price) + loss[i]
    track = np.zeros(n, np.int64)
    track[-1] = int(best.argmin())
    for i in range(n - 1, 0, -1):
        track[i - 1] = came[i, track[i]]
    return track


def changes(
    track: np.ndarray,
    probabilities: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    labels: Sequence[str],
) -> list[Change]:
    """Where a track changes its label.

    `gain`: how much better the segments up to the next change are explained by the new label than by the one before.
    """
    at = [i for i in range(1, len(track)) if track[i] != track[i - 1]]
    weight = np.minimum(ends - starts, 3.0)
    logs = np.log(np.maximum(probabilities, _FLOOR)) * weight[:, None]
    out = []
    for number, i in enumerate(at):
        end = at[number + 1] if number + 1 < len(at) else len(track)
        gain = float((logs[i:end, track[i]] - logs[i:end, track[i - 1]]).sum())
        out.append(
            Change(
                time=round(float(starts[i]), 3),
                before=labels[track[i - 1]],
                after=labels[track[i]],
                gain=round(gain, 3),
            )
        )
    return out

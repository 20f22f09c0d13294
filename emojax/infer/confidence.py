"""Which modality an answer rests on, and when it is better to give none.

What each modality adds is measured by asking again with modalities hidden, in every combination: Shapley's shares, which sum
to the change in the label's log-probability from a prompt that shows nothing to one that shows all there is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

CANNOT_TELL = "cannot tell"
_FLOOR = 1e-12


def shares(value: Mapping[frozenset[str], float], modalities: Sequence[str]) -> dict[str, float]:
    """Shapley's shares of modalities; their sum is value(all) - value(none).

    Args:
      value: of every subset of `modalities`.
    """
    n = len(modalities)
    out = {}
    for m in modalities:
        rest = [o for o in modalities if o != m]
        total = 0.0
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for chosen in itertools.combinations(rest, size):
                without = frozenset(chosen)
                total += weight * (value[without | {m}] - value[without])
        out[m] = total
    return out


def contributions(
    score: Callable[[Sequence[str]], np.ndarray], chosen: np.ndarray, present: Sequence[Sequence[str]]
) -> list[dict[str, float]]:
    """What each modality adds to the log-probability of each clip's label, in nats.

    Args:
      score: modalities that may be used -> float[n, C] probabilities of all clips.
      chosen: int[n], number of the label that is explained.
      present: for each clip the modalities that it has; others get no share.
    """
    every = sorted({m for p in present for m in p})
    rows = np.arange(len(chosen))
    logs = {
        frozenset(subset): np.log(np.maximum(score(subset)[rows, chosen], _FLOOR))
        for size in range(len(every) + 1)
        for subset in itertools.combinations(every, size)
    }
    return [shares({s: float(values[i]) for s, values in logs.items()}, list(own)) for i, own in enumerate(present)]

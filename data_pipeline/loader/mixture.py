"""Chooses the data set and clip at each position of a mixture, as a function of seed and position.

Draws do not depend on previous draws, so any process can compute any position: shards are disjoint,
a run resumes at the exact element, and the number of workers does not matter.

grain.MapDataset.mix is not used: it interleaves data sets in a fixed order by their weights, while
the released loaders draw each data set at random.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Mapping
from typing import Any, Literal

import grain
import numpy as np

Per = Literal["batch", "sample"]
_BLOCK = 1 << 14  # draws computed at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """Weighted random draws of data sets.

    Attributes:
      weights: of the data sets, in a fixed order.
      seed: of the draws.
      per: `batch`: one draw for all rows of a step on all processes, as released; `sample`: one
        draw per row.
      batch: number of rows of a step on all processes.

    Raises:
      ValueError: a weight is not positive, or there is none.
    """

    weights: tuple[float, ...]
    seed: int
    per: Per = "sample"
    batch: int = 1

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) <= 0:
            raise ValueError(f"the weights of a mixture must be positive, got {self.weights}")

    def locate(self, position: int) -> tuple[int, int]:
        """Finds the data set of the row at a position.

        Returns:
          (number of the data set, number of its rows at earlier positions).
        """
        if len(self.weights) == 1:
            return 0, position
        rows = self.batch if self.per == "batch" else 1
        draw, row = divmod(position, rows)
        block, offset = divmod(draw, _BLOCK)
        draws, counts = _block(self, block)
        chosen = int(draws[offset])
        earlier = int(counts[chosen]) + int(np.count_nonzero(draws[:offset] == chosen))
        return chosen, earlier * rows + row


@functools.lru_cache(maxsize=64)
def _block(mixture: Mixture, block: int) -> tuple[np.ndarray, np.ndarray]:
    """(data sets drawn in a block, number of draws of each data set before the block)."""
    return _draws(mixture, block), _counts(mixture, block)


def _draws(mixture: Mixture, block: int) -> np.ndarray:
    bits = np.random.Philox(key=[mixture.seed & (2**64 - 1), block])
    bounds = np.cumsum(mixture.weights) / np.sum(mixture.weights)
    uniform = np.random.Generator(bits).random(_BLOCK)
    return np.searchsorted(bounds[:-1], uniform, side="right").astype(np.int16)


_EXTENDS_TOTALS = threading.Lock()  # loaders call from several threads


@functools.lru_cache(maxsize=16)
def _totals(mixture: Mixture) -> list[np.ndarray]:
    """The list in which `_counts` keeps its results for the blocks from 0."""
    return [np.zeros(len(mixture.weights), np.int64)]


def _counts(mixture: Mixture, block: int) -> np.ndarray:
    """Number of draws of each data set before a block."""
    with _EXTENDS_TOTALS:
        totals = _totals(mixture)
        while len(totals) <= block:
            draws = np.bincount(_draws(mixture, len(totals) - 1), minlength=len(mixture.weights))
            totals.append(totals[-1] + draws)
        return totals[block]


class MixedSource:
    """An infinite random-access source: position -> element of one of the data sets.

    Each data set is shuffled differently in every epoch (by Grain), as in the released loaders.

    Args:
      sources: name -> (random-access source, weight).
      seed: of the draws and shuffles.
      per: see Mixture.
      batch: see Mixture.

    Raises:
      ValueError: a data set is empty.
    """

    def __init__(
        self, sources: Mapping[str, tuple[Any, float]], *, seed: int, per: Per, batch: int
    ):
        names = sorted(sources)
        self.sets = [sources[n][0] for n in names]
        if empty := [n for n, s in zip(names, self.sets, strict=True) if not len(s)]:
            raise ValueError(f"data set '{empty[0]}' of the mixture contains no clip")
        self.mixture = Mixture(
            weights=tuple(float(sources[n][1]) for n in names), seed=seed, per=per, batch=batch
        )
        # The order of each data set is a Grain data set of numbers, reshuffled by `repeat`.
        self.orders = [
            grain.MapDataset.range(len(s)).seed(seed + i).shuffle().repeat()
            for i, s in enumerate(self.sets)
        ]

    def __len__(self) -> int:
        return 1 << 40

    def locate(self, position: int) -> tuple[int, int]:
        """(number of the data set, number of the element in it) at a position."""
        chosen, count = self.mixture.locate(position)
        return chosen, int(self.orders[chosen][count])

    def __getitem__(self, position: Any) -> Any:
        chosen, index = self.locate(int(position))
        return self.sets[chosen][index]

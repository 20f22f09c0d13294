"""Which data set, and which of its clips, comes next: a function of seed and position alone.

Nothing is remembered from draw to draw, so any process can say what stands at any position: shards are disjoint, a run
goes on at the element, and the number of workers does not matter.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import grain
import numpy as np

Per = Literal["batch", "sample"]
_BLOCK = 1 << 14  # draws that are made at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """Weighted draws of data sets.

    Attributes:
      weights: of each set, in a fixed order.  seed: of the draws.
      per: `batch`: one draw for all rows of a step on all processes, as released; `sample`: one a row.
      batch: rows of a step on all processes together.
    """

    weights: tuple[float, ...]
    seed: int
    per: Per = "sample"
    batch: int = 1

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) <= 0:
            raise ValueError(f"weights of a mixture are above 0, not {self.weights}")

    def locate(self, position: int) -> tuple[int, int]:
        """(set, how many rows of that set stand before it) of the row at a position."""
        if len(self.weights) == 1:
            return 0, position
        rows = self.batch if self.per == "batch" else 1
        draw, row = divmod(position, rows)
        block, place = divmod(draw, _BLOCK)
        chosen, before = _block(self, block)
        own = int(chosen[place])
        return own, (int(before[own]) + int(np.count_nonzero(chosen[:place] == own))) * rows + row


@functools.lru_cache(maxsize=64)
def _block(mixture: Mixture, block: int) -> tuple[np.ndarray, np.ndarray]:
    """(sets drawn in a block, how often each was drawn before it)."""
    chosen = _draws(mixture, block)
    if block == 0:
        return chosen, np.zeros(len(mixture.weights), np.int64)
    before = _counts(mixture, block)
    return chosen, before


def _draws(mixture: Mixture, block: int) -> np.ndarray:
    bits = np.random.Philox(key=[mixture.seed & (2**64 - 1), block])
    bounds = np.cumsum(mixture.weights) / np.sum(mixture.weights)
    return np.searchsorted(
        bounds[:-1], np.random.Generator(bits).random(_BLOCK), side="right"
    ).astype(np.int16)


_TOTALS: dict[Mixture, list[np.ndarray]] = {}


def _counts(mixture: Mixture, block: int) -> np.ndarray:
    """How often each set was drawn before a block; sums are kept, so that a later block is one more addition."""
    totals = _TOTALS.setdefault(mixture, [np.zeros(len(mixture.weights), np.int64)])
    while len(totals) <= block:
        drawn = np.bincount(_draws(mixture, len(totals) - 1), minlength=len(mixture.weights))
        totals.append(totals[-1] + drawn)
    return totals[block]


class MixedSource:
    """A random-access source without end: position -> element of one of the sets.

    Each set is shuffled anew in every pass (Grain's index shuffle), as the released loaders are.
    """

    def __init__(self, sources: Mapping[str, tuple[Any, float]], seed: int, per: Per, batch: int):
        names = sorted(sources)
        self.sets = [sources[n][0] for n in names]
        if empty := [n for n, s in zip(names, self.sets, strict=True) if not len(s)]:
            raise ValueError(f"data set '{empty[0]}' of the mixture holds no clip")
        self.mixture = Mixture(
            weights=tuple(float(sources[n][1]) for n in names), seed=seed, per=per, batch=batch
        )
        # The order of a set is a Grain data set of numbers; `repeat` shuffles each pass differently.
        self.orders = [
            grain.MapDataset.range(len(s)).seed(seed + i).shuffle().repeat()
            for i, s in enumerate(self.sets)
        ]

    def __len__(self) -> int:
        return 1 << 40

    def place(self, position: int) -> tuple[int, int]:
        """(set, number of its element) that stands at a position."""
        chosen, count = self.mixture.locate(position)
        return chosen, int(self.orders[chosen][count])

    def __getitem__(self, position: Any) -> Any:
        chosen, index = self.place(int(position))
        return self.sets[chosen][index]

"""Sufficient statistics: sums over clips from which every score of a set follows.

A bootstrap resample, a subgroup and a mix of two runs are each just one weight per clip.
`SufficientStatistics` turns weights into scores with one sparse product and one formula. The
formulas are in `single_label_scores`, `hit_rate`, `open_vocabulary_score`, `multi_label_scores` and
`valence_scores`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.sparse

Scores = dict[str, np.ndarray]  # score name -> values, one per row of sums
NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class SufficientStatistics:
    """What one family of scores needs to know about each clip of a set.

    Attributes:
      per_clip: sparse float64[n, K], one row per clip.
      formula: maps sums float[..., K] to {score: float[...]}; NaN where a score is undefined.
      primary: the score that represents the set.
    """

    per_clip: scipy.sparse.csr_matrix
    formula: Callable[[np.ndarray], Scores]
    primary: str

    def scores(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """Scores of all clips, or of the clips weighted by `weights` (float[n])."""
        weights = np.ones(self.per_clip.shape[0]) if weights is None else weights
        sums = self.per_clip.T @ weights
        return {name: float(value) for name, value in self.formula(sums).items()}

    def json_scores(self) -> dict[str, float | None]:
        """Scores of all clips, with None in place of NaN."""
        return {name: None if np.isnan(value) else value for name, value in self.scores().items()}

    def subset(self, mask: np.ndarray) -> SufficientStatistics:
        """The statistics of the clips where `mask` (bool[n]) is true."""
        return SufficientStatistics(self.per_clip[mask], self.formula, self.primary)


def ratio(numerator: np.ndarray, denominator: np.ndarray, *, empty: float = 0.0) -> np.ndarray:
    """Elementwise quotient; `empty` where the denominator is not positive."""
    out = np.full(np.broadcast(numerator, denominator).shape, empty)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def sparse_rows(rows: Sequence[Mapping[int, float]], width: int) -> scipy.sparse.csr_matrix:
    """A sparse matrix from one {column: value} mapping per row."""
    starts = np.cumsum([0, *map(len, rows)])
    columns = np.fromiter((k for row in rows for k in row), np.int64)
    values = np.fromiter((v for row in rows for v in row.values()), np.float64)
    return scipy.sparse.csr_matrix((values, columns, starts), shape=(len(rows), width))

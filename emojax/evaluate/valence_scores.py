"""Scores of numbers such as valence: CCC (Lin's concordance), mean absolute error, Pearson's r."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse

from emojax.evaluate.sufficient_statistics import NAN, Scores, SufficientStatistics, ratio


def valence_statistics(truth: Sequence[float], predicted: Sequence[float]) -> SufficientStatistics:
    """Sufficient statistics of ccc, mae and pearson."""
    x, y = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    centre = x.mean() if len(x) else 0.0  # sums of squares of large numbers would lose digits
    x, y = x - centre, y - centre
    per_clip = scipy.sparse.csr_matrix(
        np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, abs(x - y)], axis=1)
    )

    def formula(sums: np.ndarray) -> Scores:
        n = np.maximum(sums[..., 0], 1e-12)
        mx, my, xx, yy, xy, error = (sums[..., i] / n for i in range(1, 7))
        vx, vy, cov = np.maximum(0, xx - mx**2), np.maximum(0, yy - my**2), xy - mx * my
        return {
            "ccc": ratio(2 * cov, vx + vy + (mx - my) ** 2, empty=NAN),
            "mae": error,
            "pearson": ratio(cov, np.sqrt(vx * vy), empty=NAN),
        }

    return SufficientStatistics(per_clip, formula, "ccc")

"""How sure a score is: intervals over speakers or videos, paired tests of two runs, calibration, risk against coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
from scipy import stats

from emojax.evaluate.metrics import Scores, Tally

RESAMPLES = 2000
_CHUNK = 1 << 24  # drawn numbers held at a time


def _clusters(groups: Sequence[str]) -> scipy.sparse.csr_matrix:
    """float64[m, n]: which clips are of which group; a clip of group "" is one of its own."""
    names = [g or f"\0{i}" for i, g in enumerate(groups)]
    _, at = np.unique(names, return_inverse=True)
    n = len(names)
    return scipy.sparse.csr_matrix(
        (np.ones(n), (at, np.arange(n))), shape=(int(at.max()) + 1 if n else 0, n)
    )


def _resampled(sums: scipy.sparse.csr_matrix, tally: Tally, resamples: int, seed: int) -> Scores:
    """Scores of clusters drawn with replacement: {score: float64[resamples]}."""
    rng = np.random.default_rng(seed)
    m = sums.shape[0]
    step = max(1, _CHUNK // max(1, m))
    parts = []
    for start in range(0, resamples, step):
        b = min(step, resamples - start)
        drawn = rng.integers(m, size=(b, m)) + m * np.arange(b)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=b * m).reshape(b, m)
        parts.append(tally.finish(np.asarray((sums.T @ weights.T).T, np.float64)))
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def resampled(
    tally: Tally, groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> Scores:
    """Scores of groups drawn with replacement: {score: float64[resamples]}."""
    return _resampled(_clusters(groups) @ tally.rows, tally, resamples, seed)


# scores that may leave 0 to 1
_UNBOUNDED = ("ccc", "pearson", "mae", "difference", "mean")


def spread_of(groups: Sequence[str]) -> float:
    """What resamples of m groups are widened by: sqrt(m / (m - 1)) for drawing m from m, and Student's t for the normal."""
    m = _clusters(groups).shape[0]
    return (
        float(np.sqrt(m / (m - 1)) * stats.t.ppf(0.975, m - 1) / stats.norm.ppf(0.975))
        if m > 1
        else float("nan")
    )


def intervals(
    tally: Tally,
    groups: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Bootstrap intervals of every score of a tally.

    Whole groups (speakers or videos) are drawn, because clips of one person are alike; the spread is widened by
    `spread_of`. With fewer than two groups there is none.

    Args:
      groups: for each clip its speaker or video; "" makes it a group of its own.

    Returns:
      {score: [low, high]}, by the percentile method; {} with fewer than two groups.
    """
    inside = _clusters(groups)
    if inside.shape[0] < 2:
        return {}
    point, wider, found = tally.scores(), spread_of(groups), {}
    for name, values in _resampled(inside @ tally.rows, tally, resamples, seed).items():
        values = values[np.isfinite(values)]
        if len(values) and np.isfinite(point[name]):
            wide = point[name] + (values - point[name]) * wider
            low, high = np.quantile(wide, [(1 - level) / 2, (1 + level) / 2])
            if name not in _UNBOUNDED:
                low, high = max(0.0, low), min(1.0, high)
            found[name] = [float(low), float(high)]
    return found


def paired_test(
    a: Tally,
    b: Tally,
    groups: Sequence[str],
    *,
    score: str | None = None,
    permutations: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Whether two runs over the same clips differ: a paired permutation test over groups.

    If the runs were equal, the answers of any group could be swapped between them; `p_value` is the share of random
    swaps with a difference at least as large (two-sided, with one added above and below).

    Returns:
      test, score, difference (b minus a), interval (95 %, of the joint bootstrap), p_value, groups.

    Raises:
      ValueError: the tallies are not of the same clips and scores.
    """
    if a.rows.shape != b.rows.shape or a.rows.shape[0] != len(groups):
        raise ValueError(
            f"the runs do not hold the same clips ({a.rows.shape[0]} and {b.rows.shape[0]})"
        )
    score = score or a.primary
    inside = _clusters(groups)
    first, second = inside @ a.rows, inside @ b.rows
    m = inside.shape[0]
    total_a, total_b = (np.asarray(s.sum(axis=0)).ravel() for s in (first, second))

    def difference(sums_a: np.ndarray, sums_b: np.ndarray) -> np.ndarray:
        return b.finish(sums_b)[score] - a.finish(sums_a)[score]

    observed = float(difference(total_a, total_b))
    rng = np.random.default_rng(seed)
    change, at_least, step = second - first, 0, max(1, _CHUNK // max(1, m))
    for start in range(0, permutations, step):
        swapped = rng.random((min(step, permutations - start), m)) < 0.5
        moved = (change.T @ swapped.T).T
        with_swaps = difference(total_a + moved, total_b - moved)
        at_least += int((abs(with_swaps) >= abs(observed) - 1e-12).sum())
    both = Tally(
        scipy.sparse.hstack([first, second]).tocsr(),
        lambda s: {"difference": difference(s[..., : a.rows.shape[1]], s[..., a.rows.shape[1] :])},
        "difference",
    )
    return {
        "test": "paired permutation test over groups, two-sided",
        "score": score,
        "difference": observed,
        "interval": intervals(both, [str(i) for i in range(m)], seed=seed).get("difference"),
        "p_value": (1 + at_least) / (1 + permutations),
        "groups": m,
        "permutations": permutations,
    }


def mcnemar(a_right: Sequence[bool], b_right: Sequence[bool]) -> dict[str, Any]:
    """Exact McNemar test of two runs' right answers; clips count as independent of each other."""
    only_a = sum(x and not y for x, y in zip(a_right, b_right, strict=True))
    only_b = sum(y and not x for x, y in zip(a_right, b_right, strict=True))
    n = only_a + only_b
    p = float(stats.binomtest(only_a, n, 0.5).pvalue) if n else 1.0
    return {
        "test": "exact McNemar test, two-sided",
        "only_first": only_a,
        "only_second": only_b,
        "p_value": p,
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, by Holm's method."""
    order = np.argsort(p_values)
    out = [0.0] * len(p_values)
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[i]))
        out[i] = worst
    return out


def calibration(
    probabilities: np.ndarray, right_class: np.ndarray, *, bins: int = 15
) -> dict[str, Any]:
    """How far stated probabilities are true.

    Args:
      probabilities: float[n, C], rows add up to 1.  right_class: int[n].

    Returns:
      ece (expected calibration error, bins of equal width over the highest probability), brier (sum over classes of
      squared errors, a mean over clips), and by bin confidence, accuracy and n.
    """
    best = probabilities.argmax(axis=1)
    confidence, right = probabilities.max(axis=1), (best == right_class).astype(np.float64)
    at = np.minimum((confidence * bins).astype(int), bins - 1)
    n = np.bincount(at, minlength=bins)
    safe = np.maximum(n, 1)
    mean_confidence = np.bincount(at, confidence, bins) / safe
    accuracy = np.bincount(at, right, bins) / safe
    hot = np.eye(probabilities.shape[1])[right_class]
    return {
        "ece": float((n * abs(accuracy - mean_confidence)).sum() / max(1, n.sum())),
        "brier": float(((probabilities - hot) ** 2).sum(axis=1).mean()),
        "bins": [
            {
                "from": i / bins,
                "to": (i + 1) / bins,
                "n": int(n[i]),
                "confidence": float(c),
                "accuracy": float(a),
            }
            for i, (c, a) in enumerate(zip(mean_confidence, accuracy, strict=True))
            if n[i]
        ],
    }


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Errors among the clips that are answered when the least sure are left unanswered.

    Clips of equal confidence are answered together, so their order does not matter.

    Returns:
      aurc (mean risk over all coverages), and risk at coverages of 0.5, 0.7, 0.8, 0.9, 0.95 and 1.
    """
    order = np.argsort(-confidence, kind="stable")
    n, wrong = len(order), 1.0 - right[order].astype(np.float64)
    # among equals every order is as good as another: each gets the mean of its tie
    _, first, count = np.unique(-confidence[order], return_index=True, return_counts=True)
    wrong = np.repeat(np.add.reduceat(wrong, first) / count, count) if n else wrong
    risk = np.cumsum(wrong) / np.arange(1, n + 1)
    points = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
    return {
        "aurc": float(risk.mean()),
        "curve": [
            {"coverage": c, "risk": float(risk[max(0, int(np.ceil(c * n)) - 1)])} for c in points
        ],
    }

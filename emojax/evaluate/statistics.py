"""Uncertainty of scores: intervals over speakers (bootstrap, Wilson), paired tests of two runs.

Written by hand: whole groups are resampled as weights of sums (`sufficient_statistics`), whereas
`scipy.stats.bootstrap` and `permutation_test` would compute every score from its clips again. SciPy
has no Holm correction; its exact binomial test is used for McNemar's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from emojax.evaluate.sufficient_statistics import Scores, SufficientStatistics

RESAMPLES = 2000
_CHUNK = 1 << 24  # random numbers in memory at a time
EQUAL = 1e-12  # resamples that differ by less are equal
_UNBOUNDED = ("ccc", "pearson", "mae", "difference", "mean")  # scores that may leave 0 to 1


def _group_matrix(groups: Sequence[str]) -> scipy.sparse.csr_matrix:
    """float64[m, n]: 1 where clip n is in group m; a clip with group "" is a group of its own."""
    names = [g or f"\0{i}" for i, g in enumerate(groups)]
    _, index = np.unique(names, return_inverse=True)
    n = len(names)
    return scipy.sparse.csr_matrix(
        (np.ones(n), (index, np.arange(n))), shape=(int(index.max()) + 1 if n else 0, n)
    )


def _resampled(
    group_sums: scipy.sparse.csr_matrix,
    statistics: SufficientStatistics,
    resamples: int,
    seed: int,
) -> Scores:
    rng = np.random.default_rng(seed)
    m = group_sums.shape[0]
    step = max(1, _CHUNK // max(1, m))
    parts = []
    for start in range(0, resamples, step):
        b = min(step, resamples - start)
        drawn = rng.integers(m, size=(b, m)) + m * np.arange(b)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=b * m).reshape(b, m)
        parts.append(statistics.formula(np.asarray((group_sums.T @ weights.T).T, np.float64)))
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def resampled_scores(
    statistics: SufficientStatistics,
    groups: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Scores of bootstrap resamples.

    Args:
      statistics: sufficient statistics of n clips.
      groups: the speaker or video of each clip; "" makes the clip a group of its own.
      resamples: number of resamples.
      seed: of the random draws.

    Returns:
      {score: float64[resamples]} of groups drawn with replacement.
    """
    return _resampled(_group_matrix(groups) @ statistics.per_clip, statistics, resamples, seed)


def interval_widening(groups: Sequence[str]) -> float:
    """The factor by which resampled deviations are widened, for few groups.

    Returns:
      sqrt(m / (m - 1)) for drawing m groups from m, times the quantile of Student's t over that of
      the normal distribution; NaN for fewer than two groups.
    """
    return _widening(_group_matrix(groups).shape[0])


def _widening(m: int) -> float:
    from scipy import stats  # slow to import

    if m < 2:
        return float("nan")
    return float(np.sqrt(m / (m - 1)) * stats.t.ppf(0.975, m - 1) / stats.norm.ppf(0.975))


def intervals(
    statistics: SufficientStatistics,
    groups: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
    own_groups: bool = False,
) -> dict[str, Any]:
    """Intervals of every score: a bootstrap, or Wilson's where all resamples are equal.

    Whole groups (speakers or videos) are resampled, because clips of one person are similar. The
    deviations are widened by `interval_widening`. Where (almost) every resample has the same
    score (all answers right, for instance), the bootstrap says nothing about other clips; the
    interval is then Wilson's for a share of as many independent groups.

    Args:
      statistics: sufficient statistics of n clips.
      groups: the speaker or video of each clip; "" makes the clip a group of its own.
      resamples: number of bootstrap resamples.
      level: confidence level.
      seed: of the random draws.
      own_groups: whether only the groups count in which a score is defined, as for scores of one
        class, of which most clips are not.

    Returns:
      {score: [low, high]}; {} with fewer than two groups; without undefined scores, and without
      scores of no fixed range whose resamples are all equal.
    """
    membership = _group_matrix(groups)
    m = membership.shape[0]
    if m < 2:
        return {}
    point, spans = statistics.scores(), {}
    sums = membership @ statistics.per_clip
    counts = dict.fromkeys(point, m)
    if own_groups:
        alone = statistics.formula(sums.toarray())
        counts = {name: int(np.isfinite(values).sum()) for name, values in alone.items()}
    for name, values in _resampled(sums, statistics, resamples, seed).items():
        finite = values[np.isfinite(values)]
        if not len(finite) or not np.isfinite(point[name]):
            continue
        widened = point[name] + (finite - point[name]) * _widening(max(2, counts[name]))
        low, high = np.quantile(widened, [(1 - level) / 2, (1 + level) / 2])
        if high - low < EQUAL or counts[name] < 2:
            span = _interval_of_equals(name, point[name], counts[name], level=level)
        else:
            if name not in _UNBOUNDED:
                low, high = max(0.0, low), min(1.0, high)
            span = [float(low), float(high)]
        if span:
            spans[name] = span
    return spans


def _interval_of_equals(name: str, point: float, n: int, *, level: float) -> list[float]:
    """The interval of a score that is the same in all resamples of n groups; [] without a range."""
    if name == "difference":  # of two scores from 0 to 1; as wide as Wilson's of n equal groups
        width = 1 - wilson_interval(1.0, n, level=level)[0]
        return [max(-1.0, point - width), min(1.0, point + width)]
    return [] if name in _UNBOUNDED else wilson_interval(point, n, level=level)


def wilson_interval(share: float, n: float, *, level: float = 0.95) -> list[float]:
    """Wilson's score interval of a share of n independent groups, [low, high]."""
    from scipy import stats  # slow to import

    z2 = float(stats.norm.ppf((1 + level) / 2)) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 / n * (share * (1 - share) + z2 / (4 * n))) / (1 + z2 / n)
    return [float(max(0.0, centre - half)), float(min(1.0, centre + half))]


def interval_of_mean(values: Sequence[float], spans: Sequence[Sequence[float]]) -> list[float]:
    """The interval of the mean of independent scores, of their intervals (MOVER).

    Args:
      values: the scores.
      spans: their intervals.
    """
    low = np.sqrt(sum((v - span[0]) ** 2 for v, span in zip(values, spans, strict=True)))
    high = np.sqrt(sum((v - span[1]) ** 2 for v, span in zip(values, spans, strict=True)))
    k, mean = len(values), float(np.mean(values))
    return [max(0.0, mean - float(low) / k), min(1.0, mean + float(high) / k)]


def paired_test(
    a: SufficientStatistics,
    b: SufficientStatistics,
    groups: Sequence[str],
    *,
    score: str | None = None,
    permutations: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """A paired permutation test, over groups, of two runs on the same clips.

    If the runs were equally good, the answers of any group could be swapped between them.

    Args:
      a: sufficient statistics of the first run.
      b: sufficient statistics of the second run.
      groups: the speaker or video of each clip; "" makes the clip a group of its own.
      score: the score to compare; None takes the primary score of `a`.
      permutations: number of random swaps.
      seed: of the random draws.

    Returns:
      test, score, difference (b minus a), interval (95 %, joint bootstrap), p_value (two-sided
      proportion of swaps with at least this difference, one added to both counts), groups,
      permutations.

    Raises:
      ValueError: the statistics are not of the same clips and scores.
    """
    _check_same_clips(a, b, groups)
    score = score or a.primary
    membership = _group_matrix(groups)
    first, second = membership @ a.per_clip, membership @ b.per_clip
    m = membership.shape[0]
    total_a, total_b = (np.asarray(s.sum(axis=0)).ravel() for s in (first, second))

    def difference(sums_a: np.ndarray, sums_b: np.ndarray) -> np.ndarray:
        return b.formula(sums_b)[score] - a.formula(sums_a)[score]

    observed = float(difference(total_a, total_b))
    at_least, change = 0, second - first
    for swapped in _swaps(np.random.default_rng(seed), permutations, m):
        moved = (change.T @ swapped.T).T
        with_swaps = difference(total_a + moved, total_b - moved)
        at_least += int((abs(with_swaps) >= abs(observed) - 1e-12).sum())
    width = a.per_clip.shape[1]
    both = SufficientStatistics(
        scipy.sparse.hstack([first, second]).tocsr(),
        lambda s: {"difference": difference(s[..., :width], s[..., width:])},
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


def _check_same_clips(
    a: SufficientStatistics, b: SufficientStatistics, groups: Sequence[str]
) -> None:
    if a.per_clip.shape != b.per_clip.shape or a.per_clip.shape[0] != len(groups):
        raise ValueError(
            "the runs do not contain the same clips "
            f"({a.per_clip.shape[0]} and {b.per_clip.shape[0]})"
        )


def _swaps(rng: np.random.Generator, permutations: int, groups: int) -> Iterator[np.ndarray]:
    """Yields random choices of groups to swap, bool[k, groups], of `permutations` rows in all."""
    step = max(1, _CHUNK // max(1, groups))
    for start in range(0, permutations, step):
        yield rng.random((min(step, permutations - start), groups)) < 0.5


def mcnemar(a_correct: Sequence[bool], b_correct: Sequence[bool]) -> dict[str, Any]:
    """Exact McNemar test of two runs; treats clips as independent of each other."""
    from scipy import stats  # slow to import

    only_a = sum(x and not y for x, y in zip(a_correct, b_correct, strict=True))
    only_b = sum(y and not x for x, y in zip(a_correct, b_correct, strict=True))
    n = only_a + only_b
    p = float(stats.binomtest(only_a, n, 0.5).pvalue) if n else 1.0
    return {
        "test": "exact McNemar test, two-sided",
        "only_first": only_a,
        "only_second": only_b,
        "p_value": p,
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for multiple tests by Holm's method."""
    order = np.argsort(p_values)
    out = [0.0] * len(p_values)
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[i]))
        out[i] = worst
    return out

"""F_s, the open-vocabulary score (OV-MERD+): overlap of sets of emotion words.

For each emotion wheel, precision and recall of the sets of clusters are averaged over clips and
combined into an F score. F_s is the mean of F over the five wheels (`emotion_wheels`).

Source of the official score: score_hit_ov.py of Emotion-LLaMAv2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emojax.evaluate.emotion_wheels import WordTables
from emojax.evaluate.official_parsing import mean_or_nan, response_items, response_of
from emojax.evaluate.sufficient_statistics import (
    NAN,
    Scores,
    SufficientStatistics,
    ratio,
    sparse_rows,
)


def official_open_vocabulary(
    truth: Mapping[str, Sequence[str]], responses: Mapping[str, str], tables: WordTables
) -> dict[str, Any]:
    """The F_s that the official script prints.

    Clips whose true words have no cluster are skipped. If nothing overlaps in a wheel, its F is
    NaN, and so is F_s.

    Args:
      truth: emotion words by clip.
      responses: text by clip.
      tables: clusters of emotion words.

    Returns:
      f_s, and by_wheel: precision, recall, F and the number of clips for each wheel.

    Raises:
      ValueError: a clip has no response.
    """
    by_wheel = []
    for wheel in range(1, len(tables.clusters) + 1):
        precisions, recalls = [], []
        for clip, words in truth.items():
            true = tables.clusters_of(words, wheel)
            answered = tables.clusters_of(response_items(response_of(responses, clip)), wheel)
            if not true:
                continue
            common = len(true & answered)
            precisions.append(common / len(answered) if answered else 0.0)
            recalls.append(common / len(true))
        p, r = mean_or_nan(precisions), mean_or_nan(recalls)
        f = 2 * p * r / (p + r) if p + r > 0 else NAN
        by_wheel.append({"n": len(recalls), "precision": p, "recall": r, "f": f})
    return {
        "metric": "open_vocabulary",
        "words": tables.name,
        "f_s": float(np.mean([w["f"] for w in by_wheel])),
        "by_wheel": by_wheel,
    }


def set_overlap_statistics(
    truth: Sequence[Sequence[set[str]]],
    answers: Sequence[Sequence[set[str]]],
    *,
    without_overlap: float = 0.0,
) -> SufficientStatistics:
    """Sufficient statistics of F_s.

    Args:
      truth: a set of clusters per clip and wheel; a clip with an empty set does not count in that
        wheel.
      answers: the same for the answers.
      without_overlap: F of a wheel in which nothing overlaps (the official script: NaN).
    """
    wheels = len(truth[0]) if truth else 0
    rows = []
    for true_sets, answer_sets in zip(truth, answers, strict=True):
        row: dict[int, float] = {}
        for w, (true, answered) in enumerate(zip(true_sets, answer_sets, strict=True)):
            if true:
                common = len(true & answered)
                precision, recall = common / max(1, len(answered)), common / len(true)
                row |= {3 * w: 1.0, 3 * w + 1: precision, 3 * w + 2: recall}
        rows.append(row)

    def formula(sums: np.ndarray) -> Scores:
        by_wheel = sums.reshape(*sums.shape[:-1], wheels, 3)
        p = ratio(by_wheel[..., 1], by_wheel[..., 0], empty=NAN)
        r = ratio(by_wheel[..., 2], by_wheel[..., 0], empty=NAN)
        return {
            "f_s": ratio(2 * p * r, p + r, empty=without_overlap).mean(axis=-1),
            "precision": p.mean(axis=-1),
            "recall": r.mean(axis=-1),
        }

    return SufficientStatistics(sparse_rows(rows, 3 * wheels), formula, "f_s")

"""The hit rate (and mscore) of closed emotion sets such as MER2023, MER2024, IEMOCAP and MELD.

A clip is a hit when the emotion-wheel cluster of its true label is among the clusters of the
answer. The hit rate is averaged over the five wheels (`emotion_wheels`).

Source of the official score: score_hit_ov.py of Emotion-LLaMAv2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.datasets.labels import concept
from emojax.evaluate.emotion_wheels import WordTables
from emojax.evaluate.official_parsing import mean_or_nan, response_items, response_of
from emojax.evaluate.sufficient_statistics import (
    NAN,
    Scores,
    SufficientStatistics,
    ratio,
    sparse_rows,
)


def official_hit_rate(
    truth: Mapping[str, str], responses: Mapping[str, str], tables: WordTables
) -> dict[str, Any]:
    """The hit rate that the official script prints.

    Truths without a cluster, such as neutral, are skipped without a message. Additional labels in
    an answer cost nothing.

    Args:
      truth: label by clip.
      responses: text by clip; clips without a truth are ignored.
      tables: clusters of emotion words.

    Returns:
      hit_rate, mscore (a hit divided by the number of clusters that the answer names and that
      occur in the truth), and by_wheel: both and the number of clips for each wheel.

    Raises:
      ValueError: a clip that counts has no response.
    """
    by_wheel = []
    for wheel in range(1, len(tables.clusters) + 1):
        true_clusters = tables.clusters_of(truth.values(), wheel)
        hits, scores = [], []
        for clip, label in truth.items():
            true = tables.clusters_of([label], wheel)
            if not true:
                continue
            answered = tables.clusters_of(response_items(response_of(responses, clip)), wheel)
            hit = len(true & answered)
            hits.append(float(hit))
            counted = answered & true_clusters
            scores.append(hit / len(counted) if counted else 0.0)
        by_wheel.append(
            {"n": len(hits), "hit_rate": mean_or_nan(hits), "mscore": mean_or_nan(scores)}
        )
    return {
        "metric": "hit_rate",
        "words": tables.name,
        "hit_rate": mean_or_nan([w["hit_rate"] for w in by_wheel]),
        "mscore": mean_or_nan([w["mscore"] for w in by_wheel]),
        "by_wheel": by_wheel,
    }


def hit_rate_statistics(
    truth: Sequence[str],
    answers: Sequence[Sequence[str]],
    tables: WordTables,
    all_truths: Sequence[str],
) -> SufficientStatistics:
    """Sufficient statistics of `official_hit_rate`.

    Args:
      truth: the true label of each clip.
      answers: the words of each answer.
      tables: clusters of emotion words.
      all_truths: the true labels of the whole file; their clusters count in mscore.
    """
    wheels = len(tables.clusters)
    true_clusters = [tables.clusters_of(all_truths, wheel) for wheel in range(1, wheels + 1)]
    rows: list[dict[int, float]] = []
    for label, words in zip(truth, answers, strict=True):
        row: dict[int, float] = {}
        for w in range(wheels):
            if true := tables.clusters_of([label], w + 1):
                answered = tables.clusters_of(words, w + 1)
                hit = float(bool(true & answered))
                score = hit / max(1, len(answered & true_clusters[w]))
                row |= {3 * w: 1.0, 3 * w + 1: hit, 3 * w + 2: score}
        rows.append(row)

    def formula(sums: np.ndarray) -> Scores:
        by_wheel = sums.reshape(*sums.shape[:-1], wheels, 3)
        return {
            "hit_rate": ratio(by_wheel[..., 1], by_wheel[..., 0], empty=NAN).mean(axis=-1),
            "mscore": ratio(by_wheel[..., 2], by_wheel[..., 0], empty=NAN).mean(axis=-1),
        }

    return SufficientStatistics(sparse_rows(rows, 3 * wheels), formula, "hit_rate")


def hit_rate_with_neutral(
    answers: Sequence[str],
    truth: Sequence[str],
    parsed: Sequence[Sequence[str]],
    tables: WordTables,
) -> float:
    """The hit rate of parsed labels, with neutral as a cluster of its own.

    Args:
      answers: the true labels as the set's file spells them.
      truth: the true labels in the spelling of the label space.
      parsed: the labels that were parsed from each response.
      tables: clusters of emotion words.

    Returns:
      The mean over wheels; each wheel counts the clips whose truth has a cluster.
    """
    neutral = {"neutral"}
    by_wheel = []
    for wheel in range(1, len(tables.clusters) + 1):
        hits = []
        for answer, true, labels in zip(answers, truth, parsed, strict=True):
            true_clusters = tables.clusters_of([answer], wheel) or neutral & {concept(true)}
            if true_clusters:
                answered = tables.clusters_of(labels, wheel) | neutral & set(map(concept, labels))
                hits.append(bool(true_clusters & answered))
        by_wheel.append(float(np.mean(hits)) if hits else NAN)
    return float(np.mean(by_wheel))

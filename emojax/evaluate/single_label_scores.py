"""Scores of one label per clip: UAR, accuracy (WAR), weighted F1 and macro F1.

The strict scores read answers (`parse_answers`) and count neutral. The official ones
(`official_single_label`, `official_two_class`) compare strings, as the released scripts do.

Source of the official scores: score_split.py and score_split_sentiment_no_neutral.py of
Emotion-LLaMAv2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from emojax.evaluate.sufficient_statistics import (
    NAN,
    Scores,
    SufficientStatistics,
    ratio,
    sparse_rows,
)

SINGLE_LABEL_SCORES = ("uar", "accuracy", "weighted_f1", "macro_f1")


def uar(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Unweighted average recall over the classes that occur in the truth."""
    from sklearn import metrics  # slow to import

    classes = sorted(set(truth))
    return float(
        metrics.recall_score(truth, predicted, labels=classes, average="macro", zero_division=0)
    )


def scores_from_confusion(confusion: np.ndarray) -> Scores:
    """Scores of confusion matrices.

    Args:
      confusion: float[..., C, C + 1]; rows are true classes, the last column counts answers that
        are none of the labels.

    Returns:
      uar, accuracy (= WAR), weighted_f1 and macro_f1 (over the classes that occur in the truth) as
      float[...]; recall, precision, f1 and support per class as float[..., C].
    """
    classes = confusion.shape[-2]
    support = confusion.sum(axis=-1)
    hits = confusion[..., np.arange(classes), np.arange(classes)]
    predicted = confusion[..., :classes].sum(axis=-2)
    recall, precision = ratio(hits, support), ratio(hits, predicted)
    f1 = ratio(2 * hits, support + predicted)
    occurs = support > 0
    number, total = occurs.sum(axis=-1), support.sum(axis=-1)
    return {
        "uar": ratio((recall * occurs).sum(axis=-1), number, empty=NAN),
        "accuracy": ratio(hits.sum(axis=-1), total, empty=NAN),
        "weighted_f1": ratio((f1 * support).sum(axis=-1), total, empty=NAN),
        "macro_f1": ratio((f1 * occurs).sum(axis=-1), number, empty=NAN),
        "recall": recall,
        "precision": precision,
        "f1": f1,
        "support": support,
    }


def single_label_statistics(
    truth: Sequence[str | None],
    predicted: Sequence[Sequence[str]],
    labels: Sequence[str],
    *,
    primary: str = "uar",
) -> SufficientStatistics:
    """Sufficient statistics of a confusion matrix over `labels`.

    Args:
      truth: the true label of each clip; clips with None do not count.
      predicted: the labels that each answer names; each of k labels counts 1 / k, and () counts
        as none of the labels.
      labels: the classes.
      primary: the score that represents the set.

    Raises:
      ValueError: a true label is not in `labels`.
    """
    index = {label: i for i, label in enumerate(labels)}
    if unknown := sorted({t for t in truth if t is not None} - set(index)):
        raise ValueError(f"the truth contains {unknown}, which are not among {list(labels)}")
    classes = len(labels)
    rows: list[dict[int, float]] = []
    for true, answer in zip(truth, predicted, strict=True):
        row: dict[int, float] = {}
        if true is not None:
            for label in answer or ("",):
                cell = index[true] * (classes + 1) + index.get(label, classes)
                row[cell] = row.get(cell, 0.0) + 1 / max(1, len(answer))
        rows.append(row)

    def formula(sums: np.ndarray) -> Scores:
        scores = scores_from_confusion(sums.reshape(*sums.shape[:-1], classes, classes + 1))
        return {name: scores[name] for name in SINGLE_LABEL_SCORES}

    return SufficientStatistics(sparse_rows(rows, classes * (classes + 1)), formula, primary)


def class_statistics(
    statistics: SufficientStatistics, labels: Sequence[str]
) -> SufficientStatistics:
    """Scores of each class, `recall:happy` and so on, of `single_label_statistics`.

    A recall is undefined without clips of the class, a precision without answers that name it.
    """
    classes = len(labels)

    def formula(sums: np.ndarray) -> Scores:
        confusion = sums.reshape(*sums.shape[:-1], classes, classes + 1)
        scores = scores_from_confusion(confusion)
        support, predicted = scores["support"], confusion[..., :classes].sum(axis=-2)
        defined = {"recall": support, "precision": predicted, "f1": support + predicted}
        return {
            f"{name}:{label}": np.where(count[..., i] > 0, scores[name][..., i], NAN)
            for name, count in defined.items()
            for i, label in enumerate(labels)
        }

    return SufficientStatistics(statistics.per_clip, formula, f"recall:{labels[0]}")


def confusion_matrix(statistics: SufficientStatistics, classes: int) -> np.ndarray:
    """The confusion matrix float[C, C + 1] of `single_label_statistics`."""
    return np.asarray(statistics.per_clip.sum(axis=0)).reshape(classes, classes + 1)


def official_single_label(answers: Sequence[str], responses: Sequence[str]) -> dict[str, Any]:
    """Accuracy and weighted F1 of exactly equal strings, as the official script computes them.

    Only the response is converted to lower case, so a truth with capitals never matches. Each
    string that is not a label is a class of its own.

    Raises:
      ValueError: there are no clips.
    """
    return _equal_strings(answers, [r.strip().lower() for r in responses], "single")


def official_two_class(answers: Sequence[str], responses: Sequence[str]) -> dict[str, Any]:
    """Like `official_single_label`, without neutral truths and with truths in lower case.

    Raises:
      ValueError: there are no clips, or all truths are neutral.
    """
    rows = [(a.strip().lower(), r.strip().lower()) for a, r in zip(answers, responses, strict=True)]
    kept = [row for row in rows if row[0] != "neutral"]
    return _equal_strings([a for a, _ in kept], [r for _, r in kept], "two_class")


def _equal_strings(answers: Sequence[str], responses: Sequence[str], metric: str) -> dict[str, Any]:
    from sklearn import metrics  # slow to import

    if not answers:
        raise ValueError("there is no clip to score")
    labels = sorted({*answers, *responses})
    index = {label: i for i, label in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, ([index[a] for a in answers], [index[r] for r in responses]), 1)
    f1 = metrics.f1_score(answers, responses, labels=labels, average="weighted", zero_division=0)
    return {
        "metric": metric,
        "n": len(answers),
        "accuracy": float(metrics.accuracy_score(answers, responses)),
        "weighted_f1": float(f1),
        "labels": labels,
        "confusion": confusion.tolist(),
    }

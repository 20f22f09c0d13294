"""Scores of several labels per clip: micro, macro and sample F1, example accuracy and mAP.

Source of the official scores: score_multilabel.py of Emotion-LLaMAv2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from emojax.evaluate.official_parsing import label_set
from emojax.evaluate.sufficient_statistics import (
    NAN,
    Scores,
    SufficientStatistics,
    ratio,
    sparse_rows,
)


def official_multi_label(answers: Sequence[str], responses: Sequence[str]) -> dict[str, Any]:
    """The scores that the official script prints.

    They are over the labels that occur in the truth of the file; other predicted labels are
    dropped.

    Returns:
      f1_micro, f1_samples, example_accuracy (intersection over union, with 1e-6 added to the
      union) and map (mean average precision with 0 or 1 as the score).

    Raises:
      ValueError: there are no clips, or the truth has fewer than two labels.
    """
    from sklearn import metrics  # slow to import
    from sklearn.preprocessing import MultiLabelBinarizer

    if not answers:
        raise ValueError("there is no clip to score")
    true_sets = [label_set(a) for a in answers]
    classes = sorted({label for labels in true_sets for label in labels})
    binarizer = MultiLabelBinarizer(classes=classes)
    true = binarizer.fit_transform(true_sets)
    known = set(classes)
    predicted = binarizer.transform([[x for x in label_set(r) if x in known] for r in responses])
    intersection, union = (true & predicted).sum(axis=1), (true | predicted).sum(axis=1)
    if len(classes) < 2:
        raise ValueError(f"every truth is '{classes[0]}'; the official script needs two labels")
    precision = [
        float(metrics.average_precision_score(true[:, c], predicted[:, c]))
        for c in range(len(classes))
    ]
    return {
        "metric": "multi_label",
        "n": len(answers),
        "f1_micro": float(metrics.f1_score(true, predicted, average="micro", zero_division=0)),
        "f1_samples": float(metrics.f1_score(true, predicted, average="samples", zero_division=0)),
        "example_accuracy": float(np.mean(intersection / (union + 1e-6))),
        "map": float(np.mean(precision)),
        "average_precision": dict(zip(classes, precision, strict=True)),
    }


def multi_label_statistics(
    truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], classes: Sequence[str]
) -> SufficientStatistics:
    """Sufficient statistics of multi-label scores over `classes`.

    The scores are f1_micro, f1_macro, f1_samples, example_accuracy (intersection over union) and
    map (with 0 or 1 as the score). A predicted label outside `classes` counts as a false positive.
    """
    index, count = {label: i for i, label in enumerate(classes)}, len(classes)
    rows = []
    for true_labels, predicted_labels in zip(truth, predicted, strict=True):
        true, answered = set(true_labels), set(predicted_labels)
        intersection, union = len(true & answered), len(true | answered)
        row = {
            3 * count: 1.0,
            3 * count + 1: 2 * intersection / max(1, len(true) + len(answered)),
            3 * count + 2: intersection / max(1, union),
            3 * count + 3: float(len(answered - set(index))),
        }
        for label in true & answered:
            row[3 * index[label]] = 1.0
        for label in answered - true:
            if label in index:
                row[3 * index[label] + 1] = 1.0
        for label in true - answered:
            row[3 * index[label] + 2] = 1.0
        rows.append(row)
    return SufficientStatistics(
        sparse_rows(rows, 3 * count + 4), lambda sums: _multi_label_formula(sums, count), "f1_micro"
    )


def multi_label_class_statistics(
    statistics: SufficientStatistics, classes: Sequence[str]
) -> SufficientStatistics:
    """Scores of each class, `recall:happy` and so on, of `multi_label_statistics`.

    A recall is undefined without clips of the class, a precision without answers that name it.
    """

    def formula(sums: np.ndarray) -> Scores:
        scores: Scores = {}
        for i, label in enumerate(classes):
            hits, false, missed = (sums[..., 3 * i + k] for k in range(3))
            scores[f"recall:{label}"] = ratio(hits, hits + missed, empty=NAN)
            scores[f"precision:{label}"] = ratio(hits, hits + false, empty=NAN)
            scores[f"f1:{label}"] = ratio(2 * hits, 2 * hits + false + missed, empty=NAN)
        return scores

    return SufficientStatistics(statistics.per_clip, formula, f"recall:{classes[0]}")


def _multi_label_formula(sums: np.ndarray, count: int) -> Scores:
    by_class = sums[..., : 3 * count].reshape(*sums.shape[:-1], count, 3)
    hits, false, missed = by_class[..., 0], by_class[..., 1], by_class[..., 2]
    n, f1, accuracy, outside = (sums[..., 3 * count + i] for i in range(4))
    occurs = hits + missed > 0
    double = 2 * hits.sum(axis=-1)
    mistakes = false.sum(axis=-1) + missed.sum(axis=-1) + outside
    prevalence = ratio(hits + missed, n[..., None])
    recall, precision = ratio(hits, hits + missed), ratio(hits, hits + false)
    average_precision = recall * precision + (1 - recall) * prevalence
    f1_by_class = ratio(2 * hits, 2 * hits + false + missed)
    number = occurs.sum(axis=-1)
    return {
        "f1_micro": ratio(double, double + mistakes, empty=NAN),
        "f1_macro": ratio((f1_by_class * occurs).sum(axis=-1), number, empty=NAN),
        "f1_samples": ratio(f1, n, empty=NAN),
        "example_accuracy": ratio(accuracy, n, empty=NAN),
        "map": ratio((average_precision * occurs).sum(axis=-1), number, empty=NAN),
    }

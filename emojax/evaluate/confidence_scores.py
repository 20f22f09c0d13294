"""How trustworthy probabilities are: ECE, Brier score, reliability bins, risk against coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.datasets.labels import concept
from emojax.evaluate.label_space import to_label_space
from emojax.evaluate.predictions import Prediction


def calibration(
    probabilities: np.ndarray, true_class: np.ndarray, *, bins: int = 15
) -> dict[str, Any]:
    """How well probabilities match accuracies.

    Args:
      probabilities: float[n, C], rows add up to 1.
      true_class: int[n].
      bins: number of bins of equal width over the highest probability.

    Returns:
      ece (expected calibration error), brier (sum of squared errors over classes, averaged over
      clips), and bins: confidence, accuracy and n of each bin with clips.
    """
    best = probabilities.argmax(axis=1)
    confidence, correct = probabilities.max(axis=1), (best == true_class).astype(np.float64)
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    n = np.bincount(index, minlength=bins)
    safe = np.maximum(n, 1)
    mean_confidence = np.bincount(index, confidence, bins) / safe
    accuracy = np.bincount(index, correct, bins) / safe
    one_hot = np.eye(probabilities.shape[1])[true_class]
    return {
        "ece": float((n * abs(accuracy - mean_confidence)).sum() / max(1, n.sum())),
        "brier": float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
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


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    """The error rate among answered clips when the least confident ones are not answered.

    Clips of equal confidence are answered together, so their order does not matter.

    Args:
      confidence: float[n].
      correct: float[n], 1 for a correct answer.

    Returns:
      aurc (the mean risk over all coverages), and curve: the risk at coverages of 0.5, 0.7, 0.8,
      0.9, 0.95 and 1.
    """
    order = np.argsort(-confidence, kind="stable")
    n, wrong = len(order), 1.0 - correct[order].astype(np.float64)
    # clips of equal confidence get the mean error of their tie
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


def probability_scores(
    rows: Sequence[Prediction], parsed: Sequence[tuple[str, ...]], labels: Sequence[str]
) -> dict[str, Any] | None:
    """Calibration and risk against coverage of single-label answers.

    Args:
      rows: the predictions.
      parsed: the labels that were parsed from each response.
      labels: the label space.

    Returns:
      calibration and risk_coverage; None unless every row has probabilities of `labels`.
    """
    if any(r.probabilities is None for r in rows):
        return None
    probs = np.zeros((len(rows), len(labels)))
    index = {concept(label): i for i, label in enumerate(labels)} | {
        label.lower(): i for i, label in enumerate(labels)
    }
    for i, row in enumerate(rows):
        for name, p in (row.probabilities or {}).items():
            column = index.get(name.strip().lower(), index.get(concept(name)))
            if column is not None:
                probs[i, column] += p
    total = probs.sum(axis=1, keepdims=True)
    if (total == 0).any():
        return None
    probs /= total
    _, truth = to_label_space([r.answer for r in rows], labels)
    true_class = np.array([list(labels).index(t) for t in truth])
    best = probs.argmax(axis=1)
    same = [p == (labels[int(i)],) for p, i in zip(parsed, best, strict=True)]
    # the scores are of the most probable label; an answer written as text may be another one
    return {
        "calibration": calibration(probs, true_class)
        | {
            "accuracy": float((best == true_class).mean()),
            "answers_that_are_the_likeliest": float(np.mean(same)),
        },
        "risk_coverage": risk_coverage(probs.max(axis=1), (best == true_class).astype(np.float64)),
    }

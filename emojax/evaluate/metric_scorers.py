"""Scores of one set by the kind of its question: one label, several labels, open vocabulary."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.answers.parse_answers import (
    Reading,
    read_label_list,
    read_labels,
    read_words,
)
from emojax.evaluate.emotion_wheels import WordTables
from emojax.evaluate.hit_rate import (
    hit_rate_statistics,
    hit_rate_with_neutral,
    official_hit_rate,
)
from emojax.evaluate.label_space import answer_words, to_label_space
from emojax.evaluate.multi_label_scores import (
    multi_label_class_statistics,
    multi_label_statistics,
    official_multi_label,
)
from emojax.evaluate.official_parsing import label_set, last_word, response_items
from emojax.evaluate.open_vocabulary_score import official_open_vocabulary, set_overlap_statistics
from emojax.evaluate.predictions import Prediction
from emojax.evaluate.single_label_scores import (
    class_statistics,
    confusion_matrix,
    official_single_label,
    official_two_class,
    scores_from_confusion,
    single_label_statistics,
)
from emojax.evaluate.sufficient_statistics import Scores, SufficientStatistics
from emojax.evaluate.suites import STRICT_PRIMARY


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredSet:
    """A scored set.

    Attributes:
      result: what evaluation.json contains about the set.
      strict: sufficient statistics of the strict scores.
      official: sufficient statistics of the official scores, or None.
      correctness: float[n], how correct each answer is, from 0 to 1.
      parsed: the labels or words that were parsed from each answer.
      how: how each answer was read, see `parse_answers.HOW`.
      rows: the clips, in the same order.
      differences: answers that the official reader reads differently (`reader_differences`).
      classes: sufficient statistics of the scores of each class, or None.
    """

    result: dict[str, Any]
    strict: SufficientStatistics
    official: SufficientStatistics | None
    correctness: np.ndarray
    parsed: list[tuple[str, ...]]
    how: list[str]
    rows: list[Prediction] = dataclasses.field(default_factory=list)
    differences: list[Any] = dataclasses.field(default_factory=list)
    classes: SufficientStatistics | None = None


def official_scores(
    rows: Sequence[Prediction], metric: str, tables: WordTables, labels: Sequence[str] = ()
) -> dict[str, Any]:
    """What the official script of a metric prints about some answers.

    Args:
      rows: the answered clips.
      metric: one of `suites.METRICS`.
      tables: clusters of emotion words.
      labels: the label space, for `last_word`.
    """
    if metric == "open_vocabulary":
        truth = {r.clip: answer_words(r.answer) for r in rows}
        return official_open_vocabulary(truth, {r.clip: r.response for r in rows}, tables)
    if metric == "multi_label":
        return _official_multi_label(rows)
    return _official_single_label(rows, metric, tables, labels)[0]


# --- one label per clip ---


def score_single_label(
    rows: Sequence[Prediction], metric: str, tables: WordTables, asked: Sequence[str]
) -> ScoredSet:
    """Scores answers to a question for one label.

    Args:
      rows: the answered clips.
      metric: hit_rate, two_class, single or last_word.
      tables: clusters of emotion words, for the hit rate.
      asked: labels of the question.
    """
    labels, truth = to_label_space([r.answer for r in rows], asked)
    readings = [read_labels(r.final_response, labels) for r in rows]
    parsed = [r.labels for r in readings]
    strict = single_label_statistics(truth, parsed, labels, primary=STRICT_PRIMARY[metric])
    confusion = confusion_matrix(strict, len(labels))
    by_class = scores_from_confusion(confusion)
    scores = strict.json_scores()
    counts = confusion[:, :-1]
    whole = np.allclose(confusion, confusion.round())
    result: dict[str, Any] = {
        "labels": list(labels),
        **scores,
        "war": scores["accuracy"],
        "confusion": (counts.round().astype(int) if whole else counts.round(6)).tolist(),
        "unparsable_by_class": confusion[:, -1].round().astype(int).tolist(),
        "per_class": [
            {"label": label, "n": int(by_class["support"][i])}
            | {name: float(by_class[name][i]) for name in ("recall", "precision", "f1")}
            for i, label in enumerate(labels)
        ],
        "answers": _answer_counts(readings, parsed),
    }
    result["released"], official = _official_single_label(rows, metric, tables, labels)
    if metric == "hit_rate":
        result["hit_rate_with_neutral"] = hit_rate_with_neutral(
            [r.answer for r in rows], truth, parsed, tables
        )
    correctness = np.array(
        [t in p and 1 / len(p) for t, p in zip(truth, parsed, strict=True)], np.float64
    )
    return ScoredSet(
        result=result,
        strict=strict,
        official=official,
        correctness=correctness,
        parsed=parsed,
        how=[r.how for r in readings],
        classes=class_statistics(strict, labels),
    )


def _answer_counts(readings: Sequence[Reading], parsed: Sequence[Sequence[str]]) -> dict[str, Any]:
    """How answers were parsed, and how many labels they name."""
    lengths = [len(labels) for labels in parsed]
    how = Counter(r.how for r in readings)
    return {
        "read_as": dict(sorted(how.items())),
        "unparsable": sum(not labels for labels in parsed),
        "labels_per_answer": float(np.mean([n for n in lengths if n])) if any(lengths) else 0.0,
        "several_labels": sum(n > 1 for n in lengths),
    }


def _official_single_label(
    rows: Sequence[Prediction], metric: str, tables: WordTables, labels: Sequence[str]
) -> tuple[dict[str, Any], SufficientStatistics]:
    answers = [r.answer for r in rows]
    if metric == "hit_rate":
        result = official_hit_rate(
            {r.clip: r.answer for r in rows}, {r.clip: r.response for r in rows}, tables
        )
        words = [response_items(r.response) for r in rows]
        return result, hit_rate_statistics(answers, words, tables, answers)
    responses = [r.final_response.strip().lower() for r in rows]
    if metric == "last_word":
        responses = [last_word(r.response, labels) for r in rows]
    counted: list[str | None] = list(answers)
    if metric == "two_class":
        counted = [None if (a := r.answer.strip().lower()) == "neutral" else a for r in rows]
    if not any(counted):  # every truth is neutral
        result = {"n": 0, "accuracy": None, "weighted_f1": None}
    elif metric == "two_class":
        result = official_two_class(answers, responses)
    else:
        result = official_single_label(answers, responses)
    all_scores = single_label_statistics(
        counted, [(r,) for r in responses], sorted({a for a in counted if a is not None})
    )

    def formula(sums: np.ndarray) -> Scores:
        return {name: all_scores.formula(sums)[name] for name in ("accuracy", "weighted_f1")}

    if capitals := sum(a is not None and a != a.strip().lower() for a in counted):
        result["note"] = (
            f"{capitals} truths contain capitals or blanks; the official script converts only "
            "responses to lower case, so they never match"
        )
    statistics = SufficientStatistics(all_scores.per_clip, formula, "weighted_f1")
    return result | {"metric": metric}, statistics


# --- several labels per clip ---


def score_multi_label(
    rows: Sequence[Prediction],
    metric: str,  # noqa: ARG001 (all scorers take the same arguments)
    tables: WordTables,  # noqa: ARG001
    asked: Sequence[str],
) -> ScoredSet:
    """Scores answers to a question for all labels that fit.

    Args:
      rows: the answered clips.
      metric: multi_label.
      tables: not used.
      asked: labels of the question.
    """
    true_sets = [label_set(r.answer) for r in rows]
    labels, flat = to_label_space([a for labels in true_sets for a in labels], asked)
    spelled = iter(flat)
    truth = [tuple(dict.fromkeys(next(spelled) for _ in labels)) for labels in true_sets]
    readings = [read_labels(r.final_response, labels, several=True) for r in rows]
    parsed = [read_label_list(r.final_response, labels) for r in rows]
    strict = multi_label_statistics(truth, parsed, labels)
    ranked = _map_from_probabilities(rows, truth, labels)
    result = {
        "labels": list(labels),
        **strict.json_scores(),
        **({"map_from_probabilities": ranked} if ranked is not None else {}),
        "per_class": [_class_scores(label, truth, parsed) for label in labels],
        "answers": _answer_counts(readings, parsed)
        | {"true_labels_per_clip": float(np.mean([len(t) for t in truth]))},
        "released": _official_multi_label(rows),
    }
    classes = sorted({a for labels in true_sets for a in labels})
    known = set(classes)
    predicted = [[x for x in label_set(r.response) if x in known] for r in rows]
    return ScoredSet(
        result=result,
        strict=strict,
        official=multi_label_statistics(true_sets, predicted, classes),
        correctness=np.array(
            [_intersection_over_union(set(t), set(p)) for t, p in zip(truth, parsed, strict=True)]
        ),
        parsed=parsed,
        how=[r.how for r in readings],
        classes=multi_label_class_statistics(strict, labels),
    )


def _class_scores(
    label: str, truth: Sequence[Sequence[str]], parsed: Sequence[Sequence[str]]
) -> dict[str, Any]:
    hits = sum(label in t and label in p for t, p in zip(truth, parsed, strict=True))
    predicted = sum(label in p for p in parsed)
    support = sum(label in t for t in truth)
    return {
        "label": label,
        "n": support,
        "recall": hits / support if support else 0.0,
        "precision": hits / predicted if predicted else 0.0,
        "f1": 2 * hits / (predicted + support) if predicted + support else 0.0,
    }


def _official_multi_label(rows: Sequence[Prediction]) -> dict[str, Any]:
    try:
        return official_multi_label([r.answer for r in rows], [r.response for r in rows])
    except ValueError as error:
        return {"metric": "multi_label", "n": len(rows), "f1_micro": None, "why_not": str(error)}


def _map_from_probabilities(
    rows: Sequence[Prediction], truth: Sequence[Sequence[str]], labels: Sequence[str]
) -> float | None:
    """Mean average precision with probabilities as scores; None unless every row has them."""
    from sklearn.metrics import average_precision_score

    if any(r.probabilities is None for r in rows):
        return None
    by_label = []
    for label in labels:
        true = [label in t for t in truth]
        if any(true):
            scores = [(r.probabilities or {}).get(label, 0.0) for r in rows]
            by_label.append(float(average_precision_score(true, scores)))
    return float(np.mean(by_label)) if by_label else None


def _intersection_over_union(a: set[str], b: set[str]) -> float:
    return len(a & b) / max(1, len(a | b))


# --- open vocabulary ---


def score_open_vocabulary(
    rows: Sequence[Prediction],
    metric: str,  # noqa: ARG001 (all scorers take the same arguments)
    tables: WordTables,
    asked: Sequence[str],  # noqa: ARG001
) -> ScoredSet:
    """Scores open answers by F_s; strict: neutral and unknown words are clusters of their own.

    Args:
      rows: the answered clips.
      metric: open_vocabulary.
      tables: clusters of emotion words.
      asked: not used.
    """
    wheels = range(1, len(tables.clusters) + 1)
    truth = [answer_words(r.answer) for r in rows]
    parsed = [read_words(r.response, tables.known | {"neutral"}) for r in rows]

    def clusters(words: Sequence[str]) -> list[set[str]]:
        return [{tables.cluster(w, k) or f"={w}" for w in words} for k in wheels]

    strict = set_overlap_statistics([clusters(t) for t in truth], [clusters(p) for p in parsed])
    official = set_overlap_statistics(
        [[tables.clusters_of(t, k) for k in wheels] for t in truth],
        [[tables.clusters_of(response_items(r.response), k) for k in wheels] for r in rows],
        without_overlap=float("nan"),
    )
    unknown = sum(w not in tables.known and w != "neutral" for p in parsed for w in p)
    result = {
        **strict.json_scores(),
        "words": tables.name,
        "answers": {
            "unparsable": sum(not p for p in parsed),
            "words_per_answer": float(np.mean([len(p) for p in parsed])),
            "true_words_per_clip": float(np.mean([len(t) for t in truth])),
            "unknown_words": unknown,
        },
        "released": official_scores(rows, "open_vocabulary", tables),
    }
    correctness = [
        _intersection_over_union(clusters(t)[0], clusters(p)[0])
        for t, p in zip(truth, parsed, strict=True)
    ]
    return ScoredSet(
        result=result,
        strict=strict,
        official=official,
        correctness=np.array(correctness),
        parsed=parsed,
        how=["words" if p else "unparsable" for p in parsed],
    )

"""The scores of Emotion-LLaMAv2's official scripts, oddities included; strict.py has those that we stand for.

Nothing is done for an answer that the official scripts do not do: no tag is stripped, no sentence is read, a final dot
makes a word another, truths of capitals never match in the single-label score.

Source: score_hit_ov.py, score_split.py, score_split_sentiment_no_neutral.py and score_multilabel.py of Emotion-LLaMAv2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.preprocessing import MultiLabelBinarizer

from emojax.evaluate.emotion_wheels import WordTables

_SPLIT = re.compile("[,;]")


def item_list(text: str) -> list[str]:
    """`['happy', 'sad']` as its items: one bracket at each end goes, quotes and commas separate. Case stays."""
    return [
        item
        for part in re.split("['\",]", text.removeprefix("[").removesuffix("]"))
        if (item := part.strip())
    ]


def response_items(response: str) -> list[str]:
    """Items of a response: the scorer puts a pair of brackets around it, so the answer's own brackets stay."""
    return item_list(f"[{response}]")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def hit_rate(
    truth: Mapping[str, str], responses: Mapping[str, str], tables: WordTables
) -> dict[str, Any]:
    """Share of clips whose true cluster is among those of the answer, a mean over wheels.

    A truth without a cluster, as neutral, is left out in silence; further labels in an answer cost nothing.

    Args:
      truth: label by clip.  responses: text by clip; clips without a truth are not looked at.

    Returns:
      hit_rate, mscore (hits shared among the known clusters that an answer names), and for each wheel both and n.

    Raises:
      ValueError: a clip that counts has no response.
    """
    by_wheel = []
    for wheel in range(1, len(tables.clusters) + 1):
        known = tables.of(truth.values(), wheel)
        hits, shared = [], []
        for clip, label in truth.items():
            true = tables.of([label], wheel)
            if not true:
                continue
            said = tables.of(response_items(_of(responses, clip)), wheel)
            hit = len(true & said)
            hits.append(float(hit))
            shared.append(hit / len(said & known) if said & known else 0.0)
        by_wheel.append({"n": len(hits), "hit_rate": _mean(hits), "mscore": _mean(shared)})
    return {
        "metric": "hit_rate",
        "words": tables.name,
        "hit_rate": _mean([w["hit_rate"] for w in by_wheel]),
        "mscore": _mean([w["mscore"] for w in by_wheel]),
        "by_wheel": by_wheel,
    }


def open_vocabulary(
    truth: Mapping[str, Sequence[str]], responses: Mapping[str, str], tables: WordTables
) -> dict[str, Any]:
    """F_s: precision and recall of sets of clusters, averaged over clips, then their F, then a mean over wheels.

    Clips whose true words have no cluster are left out. Where nothing at all overlaps in a wheel its F is not a number,
    and so is the mean.

    Raises:
      ValueError: a clip has no response.
    """
    by_wheel = []
    for wheel in range(1, len(tables.clusters) + 1):
        precisions, recalls = [], []
        for clip, words in truth.items():
            true = tables.of(words, wheel)
            said = tables.of(response_items(_of(responses, clip)), wheel)
            if not true:
                continue
            common = len(true & said)
            precisions.append(common / len(said) if said else 0.0)
            recalls.append(common / len(true))
        p, r = _mean(precisions), _mean(recalls)
        f = 2 * p * r / (p + r) if p + r > 0 else float("nan")
        by_wheel.append({"n": len(recalls), "precision": p, "recall": r, "f": f})
    return {
        "metric": "open_vocabulary",
        "words": tables.name,
        "f_s": float(np.mean([w["f"] for w in by_wheel])),
        "by_wheel": by_wheel,
    }


def _of(responses: Mapping[str, str], clip: str) -> str:
    if clip not in responses:
        raise ValueError(
            f"clip '{clip}' has no prediction; the official score needs one for every clip of the truth"
        )
    return responses[clip]


def single_label(answers: Sequence[str], responses: Sequence[str]) -> dict[str, Any]:
    """Accuracy and weighted F1 of equal strings; the truth as it is written, the response in lower case.

    Every other string is a class of its own.

    Raises:
      ValueError: there is nothing to score.
    """
    return _equal_strings(answers, [r.strip().lower() for r in responses], "single")


def two_class(answers: Sequence[str], responses: Sequence[str]) -> dict[str, Any]:
    """As `single_label`, after rows whose truth is neutral were dropped; here the truth is lower-cased too.

    Raises:
      ValueError: there is nothing to score.
    """
    rows = [(a.strip().lower(), r.strip().lower()) for a, r in zip(answers, responses, strict=True)]
    kept = [row for row in rows if row[0] != "neutral"]
    return _equal_strings([a for a, _ in kept], [r for _, r in kept], "two_class")


def _equal_strings(answers: Sequence[str], said: Sequence[str], metric: str) -> dict[str, Any]:
    if not answers:
        raise ValueError("there is no clip to score")
    labels = sorted({*answers, *said})
    at = {label: i for i, label in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, ([at[a] for a in answers], [at[s] for s in said]), 1)
    return {
        "metric": metric,
        "n": len(answers),
        "accuracy": float(metrics.accuracy_score(answers, said)),
        "weighted_f1": float(
            metrics.f1_score(answers, said, labels=labels, average="weighted", zero_division=0)
        ),
        "labels": labels,
        "confusion": confusion.tolist(),
    }


def label_set(text: str) -> list[str]:
    """Labels of a cell or a response, separated by commas or semicolons, in lower case."""
    return [label for part in _SPLIT.split(text) if (label := part.strip().lower())]


def multi_label(answers: Sequence[str], responses: Sequence[str]) -> dict[str, Any]:
    """Scores over the labels that occur in the truth of the file; other predicted labels are dropped.

    Returns:
      f1_micro, f1_samples, example_accuracy (overlap over union, with 1e-6 added to the union) and map (from 0 or 1
      as score).

    Raises:
      ValueError: there is nothing to score.
    """
    if not answers:
        raise ValueError("there is no clip to score")
    true_sets = [label_set(a) for a in answers]
    classes = sorted({label for labels in true_sets for label in labels})
    binarizer = MultiLabelBinarizer(classes=classes)
    true = binarizer.fit_transform(true_sets)
    said = binarizer.transform([[x for x in label_set(r) if x in set(classes)] for r in responses])
    common, either = (true & said).sum(axis=1), (true | said).sum(axis=1)
    if len(classes) < 2:
        raise ValueError(f"every truth is '{classes[0]}'; the official script needs two labels")
    precision = [
        float(metrics.average_precision_score(true[:, c], said[:, c])) for c in range(len(classes))
    ]
    return {
        "metric": "multi_label",
        "n": len(answers),
        "f1_micro": float(metrics.f1_score(true, said, average="micro", zero_division=0)),
        "f1_samples": float(metrics.f1_score(true, said, average="samples", zero_division=0)),
        "example_accuracy": float(np.mean(common / (either + 1e-6))),
        "map": float(np.mean(precision)),
        "average_precision": dict(zip(classes, precision, strict=True)),
    }


def last_word(response: str, labels: Sequence[str], *, otherwise: str = "neutral") -> str:
    """How Emotion-LLaMA (v1) reads an answer: its last word after a blank; what is no label counts as neutral.

    Source: eval_emotion.py of Emotion-LLaMA.
    """
    word = response.rsplit(" ", maxsplit=1)[-1]
    return word if word in labels else otherwise

"""Predictions of one set -> its scores: strict ones with intervals, the official ones beside them.

Strict: every clip counts, neutral too; answers are read (parse.py); what can not be read is wrong and counted; an answer of
k labels to a question for one counts 1 / k for each; words of open answers that no table knows count against it. Released:
what the official script prints (released.py).
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.datasets.labels import concept
from data_pipeline.datasets.open_vocabulary import word_list
from data_pipeline.datasets.rows import CellError
from emojax.evaluate import metrics, official_scripts, statistics
from emojax.evaluate.emotion_wheels import WordTables
from emojax.evaluate.metrics import Tally
from emojax.evaluate.parse_answers import Reading, final_answer, read_labels, read_words
from emojax.evaluate.predictions import Prediction
from emojax.evaluate.suites import STRICT_PRIMARY

_SENTIMENTS = {"positive", "negative", "neutral"}
_DURATIONS = ((0, 2), (2, 5), (5, 10), (10, 30), (30, float("inf")))
SUBGROUP_RESAMPLES = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """A scored set.

    Attributes:
      result: what evaluation.json holds of it.
      strict, official: tallies of the strict score and of the official one (None where it has no tally).
      rows: the clips, in their order.  right: for each how right its answer was, 0 to 1.
      read: for each clip the labels or words that were read.
    """

    result: dict[str, Any]
    strict: Tally
    official: Tally | None
    right: np.ndarray
    read: list[tuple[str, ...]]
    rows: list[Prediction] = dataclasses.field(default_factory=list)


def guess_metric(rows: Sequence[Prediction]) -> str:
    """The metric of rows that come without a set: by what their truths look like.

    Raises:
      ValueError: no row has an answer.
    """
    answers = [r.answer.strip() for r in rows if r.answer.strip()]
    if not answers:
        raise ValueError("no row has an 'answer' to compare with; give --truth")
    if all(re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", a.lower()) for a in answers):
        raise ValueError(
            "every 'answer' is a number: give numbers as valence_answer and valence, or labels such as positive and negative"
        )
    if all(a.startswith("[") and a.endswith("]") for a in answers):
        return "open_vocabulary"
    if any(len(official_scripts.label_set(a)) > 1 for a in answers):
        return "multi_label"
    return "two_class" if {a.lower() for a in answers} <= _SENTIMENTS else "single"


def label_space(answers: Sequence[str], asked: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """(labels asked for and any further ones of the truth, truths in their spelling)."""
    space = list(asked)
    at = {label.lower(): label for label in space}
    by_concept = {concept(label): label for label in space}
    unknown = sorted(
        {a.strip() for a in answers if a.strip().lower() not in at and concept(a) not in by_concept}
    )
    for label in unknown:
        if label.lower() not in at:  # two spellings of one label differ in case alone
            at[label.lower()] = label
            space.append(label)
    truths = [at.get(a.strip().lower()) or by_concept[concept(a)] for a in answers]
    return tuple(space), truths


def score_set(
    rows: Sequence[Prediction],
    metric: str,
    tables: WordTables,
    *,
    asked: Sequence[str] = (),
    resamples: int = statistics.RESAMPLES,
    seed: int = 0,
) -> Scored:
    """Scores the predictions of one set.

    Args:
      rows: answered clips, those of the scored part alone.
      metric: of suites.METRICS.  asked: labels of the question, () takes those of the truth.
      resamples: of the bootstrap; 0 leaves the intervals out.

    Raises:
      ValueError: nothing to score, or a row without a truth.
    """
    if not rows:
        raise ValueError("there is no clip to score")
    if nameless := next((r for r in rows if not r.answer.strip()), None):
        raise ValueError(f"clip '{nameless.clip}' has no 'answer' to compare with")
    scorers: dict[str, Callable[..., Scored]] = {"open_vocabulary": _open, "multi_label": _several}
    scored = scorers.get(metric, _one)(rows, metric, tables, asked)
    result: dict[str, Any] = {"n": len(rows), "metric": metric, "mode": "strict", **scored.result}
    result["primary"] = scored.strict.primary
    groups, drawn_over = groups_of(rows)
    number = len(set(groups) - {""}) + groups.count("")
    result["groups"] = {"drawn_over": drawn_over, "n": number, "clips_alone": groups.count("")}
    if resamples:
        result["intervals"] = statistics.intervals(
            scored.strict, groups, resamples=resamples, seed=seed
        )
        if scored.official is not None:
            result["released"]["intervals"] = statistics.intervals(
                scored.official, groups, resamples=resamples, seed=seed
            )
        result["interval_method"] = (
            f"bootstrap over {number} {drawn_over}s"
            + (
                f" (of which {groups.count('')} are clips whose {drawn_over} is not known)"
                if drawn_over != "clip" and "" in groups
                else ""
            )
            + f", 95 %, {resamples} resamples, percentiles widened for few groups"
            + few_people(rows)
        )
    result["by"] = breakdowns(scored.strict, rows, min(resamples, SUBGROUP_RESAMPLES), seed)
    if (sure := _confidence(rows, scored, result.get("labels", ()))) is not None:
        result |= sure
    if numbers := [
        (r.valence_answer, r.valence) for r in rows if None not in (r.valence_answer, r.valence)
    ]:
        agreement = metrics.agreement(*zip(*numbers, strict=True))
        result["valence"] = {"n": len(numbers), **metrics.tally_scores(agreement)}
    return dataclasses.replace(scored, result=result, rows=list(rows))


FEW_GROUPS = 10


def few_people(rows: Sequence[Prediction]) -> str:
    """A warning where intervals had to be over clips though people are known."""
    people = {r.group for r in rows} - {""}
    if people and groups_of(rows)[1] == "clip":
        return f"; of {len(people)} people alone: it says nothing of others"
    return ""


def groups_of(rows: Sequence[Prediction]) -> tuple[list[str], str]:
    """(group of each clip, what groups are): speakers, else videos, where there are at least FEW_GROUPS of them, else clips.

    Intervals over a handful of speakers say nothing; over clips they are too narrow, but of these clips.
    """
    for name, key in (
        ("speaker", [r.speaker or r.video for r in rows]),
        ("video", [r.video for r in rows]),
    ):
        if any(key) and len(set(key) - {""}) + key.count("") >= FEW_GROUPS:
            return key, name if any(getattr(r, name) for r in rows) else "video"
    return [""] * len(rows), "clip"


def _answers(readings: Sequence[Reading], read: Sequence[Sequence[str]]) -> dict[str, Any]:
    """How answers could be read, and how long their lists were."""
    lengths = [len(labels) for labels in read]
    how = Counter(r.how for r in readings)
    return {
        "read_as": dict(sorted(how.items())),
        "unparsable": sum(not labels for labels in read),
        "labels_per_answer": float(np.mean([n for n in lengths if n])) if any(lengths) else 0.0,
        "several_labels": sum(n > 1 for n in lengths),
    }


def _one(
    rows: Sequence[Prediction], metric: str, tables: WordTables, asked: Sequence[str]
) -> Scored:
    labels, truth = label_space([r.answer for r in rows], asked)
    readings = [read_labels(r.said, labels) for r in rows]
    read = [r.labels for r in readings]
    strict = metrics.one_label(truth, read, labels, primary=STRICT_PRIMARY[metric])
    confusion = metrics.confusion_of(strict, len(labels))
    full = metrics.from_confusion(confusion)
    scores = metrics.tally_scores(strict)
    whole = np.allclose(confusion, confusion.round())
    result: dict[str, Any] = {
        "labels": list(labels),
        **scores,
        "war": scores["accuracy"],
        "confusion": (
            confusion[:, :-1].round().astype(int) if whole else confusion[:, :-1].round(6)
        ).tolist(),
        "unparsable_by_class": confusion[:, -1].round().astype(int).tolist(),
        "per_class": [
            {"label": label, "n": int(full["support"][i])}
            | {name: float(full[name][i]) for name in ("recall", "precision", "f1")}
            for i, label in enumerate(labels)
        ],
        "answers": _answers(readings, read),
    }
    official, old = _official_one(rows, metric, tables, labels)
    result["released"] = official
    if metric == "hit_rate":
        result |= _hit_with_neutral(rows, tables, truth, read)
    right = np.array([t in p and 1 / len(p) for t, p in zip(truth, read, strict=True)], np.float64)
    return Scored(result=result, strict=strict, official=old, right=right, read=read)


def _official_one(
    rows: Sequence[Prediction], metric: str, tables: WordTables, labels: Sequence[str]
) -> tuple[dict[str, Any], Tally]:
    answers, said = [r.answer for r in rows], [r.said.strip().lower() for r in rows]
    if metric == "hit_rate":
        found = official_scripts.hit_rate(
            {r.clip: r.answer for r in rows}, {r.clip: r.response for r in rows}, tables
        )
        return found, metrics.hit_rate(
            answers, [official_scripts.response_items(r.response) for r in rows], tables, answers
        )
    if metric == "last_word":
        said = [official_scripts.last_word(r.response, labels) for r in rows]
    counted: list[str | None] = list(answers)
    if metric == "two_class":
        counted = [None if (a := r.answer.strip().lower()) == "neutral" else a for r in rows]
    if not any(counted):  # every truth is neutral
        found = {"n": 0, "accuracy": None, "weighted_f1": None}
    else:
        found = (
            official_scripts.two_class(answers, said)
            if metric == "two_class"
            else official_scripts.single_label(answers, said)
        )
    own = metrics.one_label(
        counted, [(s,) for s in said], sorted({a for a in counted if a is not None})
    )

    def finish(sums: np.ndarray) -> metrics.Scores:
        return {name: own.finish(sums)[name] for name in ("accuracy", "weighted_f1")}

    if capitals := sum(a is not None and a != a.strip().lower() for a in counted):
        found["note"] = (
            f"{capitals} truths hold capitals or blanks; the official script lower-cases responses alone, so they never match"
        )
    return found | {"metric": metric}, Tally(own.rows, finish, "weighted_f1")


def _hit_with_neutral(
    rows: Sequence[Prediction],
    tables: WordTables,
    truth: Sequence[str],
    read: Sequence[tuple[str, ...]],
) -> dict[str, Any]:
    """The hit rate of the labels that were read, neutral a cluster of its own; in each wheel over the clips with a cluster."""
    neutral = {"neutral"}
    per_wheel = []
    for wheel in range(1, len(tables.clusters) + 1):
        hits = []
        for row, true, said in zip(rows, truth, read, strict=True):
            clusters = tables.of([row.answer], wheel) or neutral & {concept(true)}
            if clusters:
                hits.append(
                    bool(clusters & (tables.of(said, wheel) | neutral & {concept(s) for s in said}))
                )
        per_wheel.append(float(np.mean(hits)) if hits else float("nan"))
    return {"hit_rate_with_neutral": float(np.mean(per_wheel))}


def _several(
    rows: Sequence[Prediction], metric: str, tables: WordTables, asked: Sequence[str]
) -> Scored:
    own = [official_scripts.label_set(r.answer) for r in rows]
    labels, flat = label_space([a for labels in own for a in labels], asked)
    spelled = iter(flat)
    truth = [tuple(dict.fromkeys(next(spelled) for _ in labels_of)) for labels_of in own]
    readings = [read_labels(r.said, labels) for r in rows]
    read = [_read_several(r.said, labels) for r in rows]
    strict = metrics.many_labels(truth, read, labels)
    counts = {
        label: (
            sum(label in t and label in p for t, p in zip(truth, read, strict=True)),
            sum(label in p for p in read),
            sum(label in t for t in truth),
        )
        for label in labels
    }
    scores = metrics.tally_scores(strict)
    ranked = _ranked_map(rows, truth, labels)
    result = {
        "labels": list(labels),
        **scores,
        **({"map_from_probabilities": ranked} if ranked is not None else {}),
        "per_class": [
            {
                "label": label,
                "n": there,
                "recall": hit / there if there else 0.0,
                "precision": hit / said if said else 0.0,
                "f1": 2 * hit / (said + there) if said + there else 0.0,
            }
            for label, (hit, said, there) in counts.items()
        ],
        "answers": _answers(readings, read)
        | {"true_labels_per_clip": float(np.mean([len(t) for t in truth]))},
        "released": _released_several(rows),
    }
    classes = sorted({a for labels_of in own for a in labels_of})
    said = [[x for x in official_scripts.label_set(r.response) if x in set(classes)] for r in rows]
    right = np.array(
        [
            len(set(t) & set(p)) / max(1, len(set(t) | set(p)))
            for t, p in zip(truth, read, strict=True)
        ]
    )
    return Scored(
        result=result,
        strict=strict,
        official=metrics.many_labels(own, said, classes),
        right=right,
        read=read,
    )


def _released_several(rows: Sequence[Prediction]) -> dict[str, Any]:
    try:
        return official_scripts.multi_label([r.answer for r in rows], [r.response for r in rows])
    except ValueError as error:
        return {"metric": "multi_label", "n": len(rows), "f1_micro": None, "why_not": str(error)}


def _read_several(response: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Labels of an answer; items of a plain list that are no labels stand for themselves: they are wrong, not absent."""
    items = official_scripts.label_set(final_answer(response))
    if not all(len(i.split()) <= 3 for i in items):
        return read_labels(response, labels).labels
    return tuple(dict.fromkeys(x for i in items for x in read_labels(i, labels).labels or (i,)))


def _ranked_map(
    rows: Sequence[Prediction], truth: Sequence[Sequence[str]], labels: Sequence[str]
) -> float | None:
    """Mean average precision with the probabilities as scores, where every row has them."""
    from sklearn.metrics import average_precision_score

    if any(r.probabilities is None for r in rows):
        return None
    each = []
    for label in labels:
        true = [label in t for t in truth]
        if any(true):
            scores = [(r.probabilities or {}).get(label, 0.0) for r in rows]
            each.append(float(average_precision_score(true, scores)))
    return float(np.mean(each)) if each else None


def _open(
    rows: Sequence[Prediction], metric: str, tables: WordTables, asked: Sequence[str]
) -> Scored:
    """F_s; strict: neutral and words that no table knows are clusters of their own."""
    truth = [_true_words(r.answer) for r in rows]
    read = [read_words(r.response, tables.known | {"neutral"}) for r in rows]

    def clusters(words: Sequence[str]) -> list[set[str]]:
        return [
            {tables.cluster(w, k) or f"={w}" for w in words}
            for k in range(1, len(tables.clusters) + 1)
        ]

    strict = metrics.set_overlap([clusters(t) for t in truth], [clusters(r) for r in read])
    wheels = range(1, len(tables.clusters) + 1)
    said = [official_scripts.response_items(r.response) for r in rows]
    official = metrics.set_overlap(
        [[tables.of(t, k) for k in wheels] for t in truth],
        [[tables.of(s, k) for k in wheels] for s in said],
        nothing_is=float("nan"),
    )
    by_clip = {r.clip: t for r, t in zip(rows, truth, strict=True)}
    result = {
        **metrics.tally_scores(strict),
        "words": tables.name,
        "answers": {
            "unparsable": sum(not r for r in read),
            "words_per_answer": float(np.mean([len(r) for r in read])),
            "true_words_per_clip": float(np.mean([len(t) for t in truth])),
            "unknown_words": sum(w not in tables.known and w != "neutral" for r in read for w in r),
        },
        "released": official_scripts.open_vocabulary(
            by_clip, {r.clip: r.response for r in rows}, tables
        ),
    }
    first = [(clusters(t)[0], clusters(r)[0]) for t, r in zip(truth, read, strict=True)]
    right = np.array([len(t & r) / max(1, len(t | r)) for t, r in first])
    return Scored(result=result, strict=strict, official=official, right=right, read=read)


def _true_words(answer: str) -> tuple[str, ...]:
    try:
        return word_list(answer)
    except CellError:
        return tuple(official_scripts.label_set(answer))


# --- subgroups and confidence ---


def breakdowns(
    strict: Tally, rows: Sequence[Prediction], resamples: int, seed: int
) -> dict[str, Any]:
    """{what: {value: {n, scores, intervals}}} for modalities present, duration, language; only what is known and differs."""
    keys: Mapping[str, Callable[[Prediction], str | None]] = {
        "modalities": lambda r: (
            None if r.modalities is None else "+".join(sorted(r.modalities)) or "none"
        ),
        "duration": lambda r: None if r.duration is None else _duration(r.duration),
        "language": lambda r: r.language or None,
    }
    out: dict[str, Any] = {}
    own, _ = groups_of(rows)
    for name, key in keys.items():
        values = [key(r) for r in rows]
        found = {}
        for value in sorted({v for v in values if v is not None}):
            at = np.array([v == value for v in values])
            part = Tally(strict.rows[at], strict.finish, strict.primary)
            found[value] = {"n": int(at.sum()), **metrics.tally_scores(part)}
            if resamples:
                groups = [g for g, here in zip(own, at, strict=True) if here]
                found[value]["intervals"] = statistics.intervals(
                    part, groups, resamples=resamples, seed=seed
                )
        if found:
            out[name] = found
    return out


def _duration(seconds: float) -> str:
    low, high = next((low, high) for low, high in _DURATIONS if seconds < high)
    return f"{low} to {high} s" if high < float("inf") else f"over {low} s"


def _confidence(
    rows: Sequence[Prediction], scored: Scored, labels: Sequence[str]
) -> dict[str, Any] | None:
    """Calibration and risk against coverage of one-label answers, where every row has probabilities."""
    if "confusion" not in scored.result or any(r.probabilities is None for r in rows):
        return None
    chances = np.zeros((len(rows), len(labels)))
    at = {concept(label): i for i, label in enumerate(labels)} | {
        label.lower(): i for i, label in enumerate(labels)
    }
    for i, row in enumerate(rows):
        for name, p in (row.probabilities or {}).items():
            where = at.get(name.strip().lower(), at.get(concept(name)))
            if where is not None:
                chances[i, where] += p
    total = chances.sum(axis=1, keepdims=True)
    if (total == 0).any():
        return None
    chances /= total
    _, truth = label_space([r.answer for r in rows], labels)
    own = np.array([list(labels).index(t) for t in truth])
    best = chances.argmax(axis=1)
    likeliest = [labels[int(i)] for i in best]
    same = [p == (label,) for p, label in zip(scored.read, likeliest, strict=True)]
    # of the likeliest label: an answer written as text may be another
    return {
        "calibration": statistics.calibration(chances, own)
        | {
            "accuracy": float((best == own).mean()),
            "answers_that_are_the_likeliest": float(np.mean(same)),
        },
        "risk_coverage": statistics.risk_coverage(chances.max(axis=1), (best == own).astype(float)),
    }

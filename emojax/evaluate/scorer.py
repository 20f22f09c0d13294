"""Scores the predictions of one set: strict scores with intervals, and the official ones.

Strict scores: every clip counts, neutral too. Answers are parsed (`parse_answers`); an answer that
cannot be parsed is wrong and counted. Where one label is asked for, an answer of k labels counts
1 / k for each. Words of open answers that no table knows count against the answer.

Official scores (`released` in the results): what the official script prints (`official_...`
functions in the file of each metric).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from data_pipeline.media.notes import counted
from emojax.evaluate import statistics
from emojax.evaluate.confidence_scores import probability_scores
from emojax.evaluate.emotion_wheels import WordTables
from emojax.evaluate.metric_scorers import (
    ScoredSet,
    score_multi_label,
    score_open_vocabulary,
    score_single_label,
)
from emojax.evaluate.predictions import NO_ROW, Prediction
from emojax.evaluate.reader_differences import reader_differences, summary
from emojax.evaluate.subgroups import interval_method, resampling_groups, subgroup_scores
from emojax.evaluate.valence_scores import valence_statistics

SUBGROUP_RESAMPLES = 500


def score_set(
    rows: Sequence[Prediction],
    metric: str,
    tables: WordTables,
    *,
    asked: Sequence[str] = (),
    resamples: int = statistics.RESAMPLES,
    seed: int = 0,
) -> ScoredSet:
    """Scores the predictions of one set.

    Args:
      rows: the answered clips of the part of the set that is scored.
      metric: one of `suites.METRICS`.
      tables: clusters of emotion words.
      asked: labels of the question; () takes those of the truth.
      resamples: of the bootstrap; 0 leaves the intervals out.
      seed: of the bootstrap.

    Raises:
      ValueError: there are no rows, a row has no truth, or no clip has an answer.
    """
    _check_rows(rows)
    scorers: dict[str, Callable[..., ScoredSet]] = {
        "open_vocabulary": score_open_vocabulary,
        "multi_label": score_multi_label,
    }
    scored = scorers.get(metric, score_single_label)(rows, metric, tables, asked)
    if absent := [r.clip for r in rows if r.error == NO_ROW]:
        scored = _without_official(scored, metric, absent)
    result: dict[str, Any] = {"n": len(rows), "metric": metric, "mode": "strict", **scored.result}
    if unanswered := Counter(r.error_type for r in rows if not r.is_answered):
        result["unanswered"] = dict(sorted(unanswered.items()))
    result["primary"] = scored.strict.primary
    groups = resampling_groups(rows)
    result["groups"] = {
        "drawn_over": groups.kind,
        "n": groups.count,
        "clips_alone": groups.alone,
    }
    if resamples:
        result["intervals"] = statistics.intervals(
            scored.strict, groups.keys, resamples=resamples, seed=seed
        )
        if scored.classes is not None:
            _add_class_intervals(result, scored, groups.keys, resamples=resamples, seed=seed)
        if scored.official is not None:
            result["released"]["intervals"] = statistics.intervals(
                scored.official, groups.keys, resamples=resamples, seed=seed
            )
        result["interval_method"] = interval_method(rows, resamples)
    result["by"] = subgroup_scores(
        scored.strict, rows, resamples=min(resamples, SUBGROUP_RESAMPLES), seed=seed
    )
    if "confusion" in result:
        result |= probability_scores(rows, scored.parsed, result["labels"]) or {}
    result |= _valence_scores(rows, resamples=resamples, seed=seed)
    scored = dataclasses.replace(scored, result=result, rows=list(rows))
    return _with_readers(scored, metric, tables)


def _check_rows(rows: Sequence[Prediction]) -> None:
    """Raises ValueError if there are no rows, a row has no truth, or no clip has an answer."""
    if not rows:
        raise ValueError("there is no clip to score")
    if without := next((r for r in rows if not r.answer.strip()), None):
        raise ValueError(f"clip '{without.clip}' has no 'answer' to compare with")
    if not any(r.is_answered for r in rows):
        raise ValueError(
            f"no clip has an answer, so there is no score; clip '{rows[0].clip}': {rows[0].error}"
        )


def _with_readers(scored: ScoredSet, metric: str, tables: WordTables) -> ScoredSet:
    """The scores with what the official reader of answers does differently."""
    differences = reader_differences(scored, metric, tables)
    scored = dataclasses.replace(scored, differences=differences)
    scored.result["readers"] = summary(scored, metric, tables)
    return scored


def _without_official(scored: ScoredSet, metric: str, absent: Sequence[str]) -> ScoredSet:
    """The scores without the official ones: its script stops at a clip without prediction."""
    note = (
        f"{counted(len(absent), 'clip')} of the truth without a prediction, such as "
        f"'{absent[0]}': the official script stops there; strict scores count this as wrong"
    )
    official = scored.result["released"]
    released = {k: None if isinstance(x, float) else x for k, x in official.items()}
    released |= {"metric": metric, "note": note}
    result = scored.result | {"released": released, "without_prediction": len(absent)}
    return dataclasses.replace(scored, result=result, official=None)


# Scores that are means over the classes of the truth, and the scores that they are means of.
_MEANS_OF_CLASSES = {"uar": "recall", "macro_f1": "f1", "f1_macro": "f1"}


def _add_class_intervals(
    result: dict[str, Any], scored: ScoredSet, keys: Sequence[str], *, resamples: int, seed: int
) -> None:
    """Adds intervals to `per_class`; means of classes that are all 0 or 1 get theirs of them."""
    assert scored.classes is not None
    spans = statistics.intervals(
        scored.classes, keys, resamples=resamples, seed=seed, own_groups=True
    )
    rows = result["per_class"]
    for row in rows:
        names = {name: f"{name}:{row['label']}" for name in ("recall", "precision", "f1")}
        row["intervals"] = {name: spans[key] for name, key in names.items() if key in spans}
    for mean, part in _MEANS_OF_CLASSES.items():
        occur = [row for row in rows if row["n"] and part in row["intervals"]]
        if mean in result["intervals"] and occur and all(row[part] in (0.0, 1.0) for row in occur):
            result["intervals"][mean] = statistics.interval_of_mean(
                [row[part] for row in occur], [row["intervals"][part] for row in occur]
            )


def _valence_scores(rows: Sequence[Prediction], *, resamples: int, seed: int) -> dict[str, Any]:
    """{"valence": scores} of the rows with predicted and true valence, {} if there are none."""
    numbers = [
        (r.valence_answer, r.valence, key)
        for r, key in zip(rows, resampling_groups(rows).keys, strict=True)
        if r.valence_answer is not None and r.valence is not None
    ]
    if not numbers:
        return {}
    truth, predicted, keys = zip(*numbers, strict=True)
    sums = valence_statistics(truth, predicted)
    out: dict[str, Any] = {"n": len(numbers), **sums.json_scores()}
    if resamples:
        out["intervals"] = statistics.intervals(sums, keys, resamples=resamples, seed=seed)
    return {"valence": out}

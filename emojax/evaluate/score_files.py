"""Scores predictions files of any system, set by set, and sums a suite up in one figure.

This is what `emojax evaluate --predictions` does; `results_folder` writes the results.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.datasets.labels import concept
from data_pipeline.progress import Progress, no_progress
from emojax.evaluate import official_files, statistics
from emojax.evaluate.emotion_wheels import WordTables
from emojax.evaluate.label_space import guess_metric
from emojax.evaluate.metric_scorers import ScoredSet
from emojax.evaluate.official_parsing import label_set
from emojax.evaluate.prediction_files import read_predictions, read_truth
from emojax.evaluate.predictions import Prediction, PredictionError, split_by_set
from emojax.evaluate.scorer import score_set
from emojax.evaluate.subgroups import resampling_groups
from emojax.evaluate.suites import SETS, Suite

SUFFIXES = (".jsonl", ".json", ".npz", ".csv", ".tsv")
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """How predictions are scored.

    Attributes:
      tables: clusters of emotion words.
      resamples: of the bootstrap; 0 leaves the intervals out.
      seed: of the bootstrap.
      metric: metric of files that belong to no known set; "" guesses it from the truths.
      labels: label space of such files; () takes the labels of the truth.
      mode: score only rows of this mode; "" takes the modes that the set scores.
    """

    tables: WordTables
    resamples: int = statistics.RESAMPLES
    seed: int = 0
    metric: str = ""
    labels: tuple[str, ...] = ()
    mode: str = ""


def set_name(path: Path) -> str:
    """The set that a file is named after (`mer2023.jsonl`, `dfew_1.jsonl`), "" if none."""
    stem = path.stem
    if stem in SETS:
        return stem
    with_fold = (n for n in SETS if stem.startswith(f"{n}_") and stem[len(n) + 1 :].isdigit())
    return next(with_fold, "")


def read_files(
    path: Path,
    *,
    name: str = "",
    truth: Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> dict[str, list[Prediction]]:
    """Reads a predictions file, or all files of a folder that are named after sets.

    Args:
      path: the file or folder.
      name: the set of a file that is not named after one.
      truth: file of labels by clip, for predictions without truths.
      columns: {field: its column in the files}, where the names are not known.

    Returns:
      {set: rows}.

    Raises:
      PredictionError: there are no predictions, or a file cannot be used.
    """
    known = read_truth(truth, columns=columns) if truth else None
    if not path.is_dir():
        rows = read_predictions(path, truth=known, columns=columns)
        by_set = split_by_set(rows)
        if len(by_set) > 1:
            return by_set
        return {name or rows[0].set or (path.stem if set_name(path) else ""): rows}
    by_set = {}
    files = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES and set_name(p)]
    for file in files:
        if file.name.endswith(".run.json") or ".partial" in file.name:
            continue
        if file.suffix == ".npz" and file.with_suffix(".jsonl") in files:
            continue  # the official scorer writes what it has read next to the predictions
        if file.stem in by_set:
            raise PredictionError(f"{path} contains two files of {file.stem}")
        by_set[file.stem] = read_predictions(file, truth=known, columns=columns)
    if not by_set:
        raise PredictionError(
            f"{path} contains no predictions file named after a set, such as mer2023.jsonl"
        )
    return by_set


def select_scored_rows(
    name: str, rows: Sequence[Prediction], mode: str, *, quiet: bool = False
) -> list[Prediction]:
    """The rows that are scored.

    Args:
      name: the set, "" if unknown.
      rows: all rows.
      mode: score only rows of this mode; "" takes the modes that the set scores.
      quiet: whether to omit the log record about the rows that are not scored.

    Raises:
      PredictionError: no row is left.
    """
    modes = Counter(r.mode for r in rows)
    # the official multi-label script ignores modes
    all_modes = name not in SETS or SETS[name].metric == "multi_label"
    selected = {mode} if mode else set(modes) if all_modes else set(SETS[name].scored_modes)
    if not mode and not selected & set(modes) and set(modes) == {""}:
        selected = {""}  # files without modes
    kept = [r for r in rows if r.mode in selected]
    if not kept:
        raise PredictionError(
            f"{name or 'the file'}: no row of mode {' or '.join(sorted(selected))}; there are "
            f"{', '.join(map(repr, modes))}"
        )
    if len(kept) < len(rows) and not quiet:
        logger.info(
            "%s: %d of %d rows are scored, those of mode %s",
            name or "predictions",
            len(kept),
            len(rows),
            ", ".join(sorted(selected)),
        )
    return kept


def score_sets(
    by_set: Mapping[str, Sequence[Prediction]],
    options: ScoringOptions,
    *,
    progress: Progress = no_progress,
) -> dict[str, ScoredSet]:
    """Scores every set.

    Args:
      by_set: rows by set, named as in SETS, with `_FOLD` appended for sets with folds.
      options: how to score.
      progress: reports the rows that are scored.

    Returns:
      {set: scores}; sets that only a judge can score are left out.

    Raises:
      PredictionError: a set cannot be scored.
    """
    out: dict[str, ScoredSet] = {}
    total, done = sum(map(len, by_set.values())), 0
    for name, rows in by_set.items():
        scored = _score_named_set(name, rows, options)
        done += len(rows)
        progress("score", done, total)
        if scored is None:
            continue
        if name:
            scored.result["set"] = name
        if options.mode:
            scored.result["scored_mode"] = options.mode
        out[name or "predictions"] = scored
    return out


def _score_named_set(
    name: str, rows: Sequence[Prediction], options: ScoringOptions
) -> ScoredSet | None:
    """The scores of one set, None if only a judge can score it."""
    base, title = set_name(Path(f"{name}.jsonl")), name or "predictions"
    kept = select_scored_rows(base, rows, options.mode)
    benchmark = SETS.get(base)
    if benchmark is not None and benchmark.metric == "none":
        logger.info("%s: only a judge can score it (`emojax judge`)", name)
        return None
    if not benchmark and not options.metric:
        logger.info(
            "%s: scored as %s, by the form of its truths (--metric overrides this)",
            title,
            guess_metric(kept),
        )
    metric = options.metric or (benchmark.metric if benchmark else guess_metric(kept))
    asked = options.labels or (benchmark.labels if benchmark and not options.metric else ())
    if benchmark is not None:
        kept = with_official_truth(base, kept)
    if options.labels and metric != "open_vocabulary":
        _check_labels(kept, metric, options.labels)
    try:
        scored = score_set(
            kept,
            metric,
            options.tables,
            asked=asked,
            resamples=options.resamples,
            seed=options.seed,
        )
    except ValueError as error:
        raise PredictionError(f"{title}: {error}") from error
    if benchmark is not None and (counts := _official_clip_counts(base, kept)):
        scored.result["official_clips"] = counts
        if counts["other_label"]:
            logger.warning(
                "%s: %d truths differ from the official file", name, counts["other_label"]
            )
    return scored


def _check_labels(rows: Sequence[Prediction], metric: str, labels: Sequence[str]) -> None:
    known = {concept(label) for label in labels}
    for row in rows:
        for label in label_set(row.answer) if metric == "multi_label" else [row.answer]:
            if concept(label) not in known:
                raise PredictionError(
                    f"the truth '{label}' is not among --labels {', '.join(labels)}"
                )


def with_official_truth(name: str, rows: Sequence[Prediction]) -> list[Prediction]:
    """Replaces missing truths (`unknown` in the original OV-MERD+ files) by the official ones.

    Args:
      name: the set.
      rows: its rows; they are returned unchanged if all have a truth.

    Raises:
      PredictionError: the official truth is absent or does not contain a clip.
    """
    if not any(r.answer.strip().lower() in ("", "unknown") for r in rows):
        return list(rows)
    known = official_files.truth(name)
    if known is None:
        hint = (
            "`emojax fetch mer-unibench`, or give --truth"
            if name in official_files.TRUTHS
            else "give --truth"
        )
        raise PredictionError(f"{name}: rows have no truth in 'answer': {hint}")
    if missing := next((r.clip for r in rows if r.clip not in known), None):
        raise PredictionError(f"{name}: the official truth does not contain clip '{missing}'")
    return [dataclasses.replace(r, answer=known[r.clip]) for r in rows]


def _official_clip_counts(name: str, rows: Sequence[Prediction]) -> dict[str, int] | None:
    """How many rows agree with the official truth; None if it is absent."""
    known = official_files.truth(name)
    if known is None:
        return None
    official = [r for r in rows if r.clip in known]
    other = sum(known[r.clip].strip().lower() != r.answer.strip().lower() for r in official)
    return {
        "all": len(known),
        "scored": len(official),
        "not_in_it": len(rows) - len(official),
        "other_label": other,
    }


def suite_figure(
    suite: Suite, scored: Mapping[str, ScoredSet], options: ScoringOptions
) -> dict[str, Any]:
    """The suite's figure: the unweighted mean of its sets' primary scores.

    Its interval resamples all sets; sets of the same clips share their random draws.

    Args:
      suite: the suite.
      scored: scores by set.
      options: how the sets were scored.

    Returns:
      value, what (the suite's description of it), sets ({set: score}), note, and interval if every
      set has one.
    """
    values: dict[str, float] = {}
    draws: list[np.ndarray] = []
    seeds = {m.benchmark.dataset: n for n, m in enumerate(suite.members)}
    for member in suite.members:
        if member.name not in scored:
            continue
        mode, score = member.primary_score
        one = scored[member.name]
        value = one.result[score] if mode == "strict" else one.result["released"][score]
        values[member.name] = value
        sums = one.strict if mode == "strict" else one.official
        groups = resampling_groups(one.rows).keys
        if options.resamples and sums is not None and value is not None and len(groups) > 1:
            seed = options.seed + seeds[member.benchmark.dataset]
            drawn = statistics.resampled_scores(
                sums, groups, resamples=options.resamples, seed=seed
            )[score]
            draws.append(value + (drawn - value) * statistics.interval_widening(groups))
    undefined = [name for name, v in values.items() if v is None or not np.isfinite(v)]
    mean = float("nan") if undefined or not values else float(np.mean(list(values.values())))
    warning = f"not a number in {', '.join(undefined)}" if undefined else ""
    note = "; ".join(filter(None, [suite.note, warning]))
    out: dict[str, Any] = {"value": mean, "what": suite.figure, "sets": values, "note": note}
    if draws and len(draws) == len(values) and not undefined and np.isfinite(draws).all():
        low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
        out["interval"] = [max(0.0, float(low)), min(1.0, float(high))]
        if high - low < statistics.EQUAL:  # the sets' own intervals are not from equal resamples
            out["interval"] = statistics.interval_of_mean(
                list(values.values()), [_interval(suite, scored, name) for name in values]
            )
    return out


def _interval(suite: Suite, scored: Mapping[str, ScoredSet], name: str) -> list[float]:
    """The interval of a set's primary score."""
    mode, score = next(m.primary_score for m in suite.members if m.name == name)
    result = scored[name].result
    own = result if mode == "strict" else result["released"]
    return list(own["intervals"].get(score, [0.0, 1.0]))


def score_predictions(
    suite: Suite | None,
    by_set: Mapping[str, Sequence[Prediction]],
    options: ScoringOptions,
    *,
    progress: Progress = no_progress,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[dict[str, Any], dict[str, ScoredSet]]:
    """Scores predictions, and the figure of a suite.

    Args:
      suite: the suite whose sets are scored; None scores all.
      by_set: rows by set.
      options: how to score.
      progress: reports the rows that are scored.
      facts: for each set, further entries of its results.

    Returns:
      The contents of evaluation.json, and the scores by set.

    Raises:
      PredictionError: there are no predictions of the suite, or a set cannot be scored.
    """
    if suite is not None:
        names = {m.name for m in suite.members}
        if not names & set(by_set):
            raise PredictionError(
                f"there are no predictions of {suite.title}: name files, or the `set` of each "
                f"row, {', '.join(sorted(names))}"
            )
        if others := sorted(set(by_set) - names):
            logger.info(
                "not part of %s, left out: %s",
                suite.title,
                ", ".join(n or "rows without a set" for n in others),
            )
            by_set = {n: rows for n, rows in by_set.items() if n in names}
    scored = score_sets(by_set, options, progress=progress)
    for name, one in scored.items():
        one.result.update((facts or {}).get(name, {}))
    words = {"word_tables": options.tables.name}
    if suite is None and len(scored) == 1:
        return {**next(iter(scored.values())).result, **words}, scored
    results: dict[str, Any] = dict(words)
    if suite is not None:
        results |= {
            "suite": suite.name,
            "missing_sets": [m.name for m in suite.members if m.name not in by_set],
        }
        if scored:
            results["figure"] = suite_figure(suite, scored, options)
    return {**results, "sets": {n: s.result for n, s in scored.items()}}, scored

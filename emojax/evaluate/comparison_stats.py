"""Compares runs on the same clips: differences with intervals and paired tests, Holm-corrected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.progress import Progress, no_progress
from emojax.evaluate.emotion_wheels import WordTables
from emojax.evaluate.metric_scorers import ScoredSet
from emojax.evaluate.predictions import Prediction, PredictionError
from emojax.evaluate.results_folder import load_results, sets_of
from emojax.evaluate.score_files import select_scored_rows, set_name, with_official_truth
from emojax.evaluate.scorer import score_set
from emojax.evaluate.statistics import holm, mcnemar, paired_test
from emojax.evaluate.subgroups import resampling_groups


def compare_runs(
    folders: Sequence[Path],
    tables: WordTables,
    *,
    score: str = "",
    sets: Sequence[str] = (),
    permutations: int = 10_000,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Compares every run with the first, set by set.

    Args:
      folders: folders that `emojax evaluate` wrote.
      tables: clusters of emotion words.
      score: the score to compare; "" takes the strict score that represents each set.
      sets: the sets to compare; () takes all but `train`.
      permutations: random swaps of each paired test.
      progress: reports the tests that are done.

    Returns:
      runs, tests (their number), without_the_score and left_out (sets that were skipped), and
      comparisons: set,
      run, n (clips that both answered), score, mode, values, and the paired test, whose p_holm is
      corrected for all tests of the comparison.

    Raises:
      PredictionError: a folder contains no evaluation, or two do not have the sets in common.
    """
    runs = [load_results(f) for f in folders]
    first_results, first_rows = runs[0]
    first_sets = sets_of(first_results)
    comparisons: list[dict[str, Any]] = []
    without_score: list[str] = []
    left_out: set[str] = set()
    total, done = sum(len(set(rows) & set(first_rows)) for _, rows in runs[1:]), 0
    for folder, (results, rows) in zip(folders[1:], runs[1:], strict=True):
        scored = sets_of(results)
        common = [n for n in first_rows if n in rows and n in first_sets and n in scored]
        compared = _choose_sets(common, sets, runs=f"{folders[0]} and {folder}")
        left_out.update(set(common) - set(compared))
        for name in compared:
            first = first_sets[name], first_rows[name]
            pair = _score_pair(name, first, (scored[name], rows[name]), tables)
            if score and not _has_score(pair[0], score):
                without_score.append(name)
            else:
                test = _compare_set(*pair, score=score, permutations=permutations)
                comparisons.append({"set": name, "run": str(folder), **test})
            done += 1
            progress("compare", done, total)
    if not comparisons:
        raise PredictionError(f"no set has a score '{score}'")
    _add_corrected(comparisons)
    return {
        "runs": [str(f) for f in folders],
        "tests": len(comparisons),
        "without_the_score": without_score,
        "left_out": sorted(left_out),
        "comparisons": comparisons,
    }


def _choose_sets(common: Sequence[str], sets: Sequence[str], *, runs: str) -> list[str]:
    if not common:
        raise PredictionError(f"{runs} have no set in common")
    if unknown := sorted(set(sets) - set(common)):
        raise PredictionError(
            f"{runs} have no set '{unknown[0]}' in common; they have {', '.join(common)}"
        )
    chosen = list(sets) or [name for name in common if name != "train"]
    if not chosen:
        raise PredictionError(
            f"{runs} have only train in common, clips that models are trained on; compare other "
            "clips, or these with --sets train"
        )
    return chosen


def _add_corrected(comparisons: list[dict[str, Any]]) -> None:
    """Adds p_holm to the tests, corrected for their number."""
    p_values = holm([c["test"]["p_value"] for c in comparisons])
    for comparison, p in zip(comparisons, p_values, strict=True):
        comparison["test"]["p_holm"] = p


_SetRows = tuple[dict[str, Any], list[Prediction]]  # scores and rows of a set


def _score_pair(
    name: str, first: _SetRows, second: _SetRows, tables: WordTables
) -> tuple[ScoredSet, ScoredSet]:
    """Scores of both runs on the clips of a set that both answered."""
    modes = [scores.get("scored_mode", "") for scores, _ in (first, second)]
    a, b = _common_clips(name, first[1], second[1], modes)
    metric, asked = first[0]["metric"], first[0].get("labels", ())
    return (
        score_set(a, metric, tables, asked=asked, resamples=0),
        score_set(b, metric, tables, asked=asked, resamples=0),
    )


def _has_score(scored: ScoredSet, score: str) -> bool:
    return score in scored.strict.scores() or score in (scored.official or scored.strict).scores()


def _common_clips(
    name: str, a: Sequence[Prediction], b: Sequence[Prediction], modes: Sequence[str]
) -> tuple[list[Prediction], list[Prediction]]:
    """The scored rows of the clips that both runs answered, in the same order."""
    base = set_name(Path(f"{name}.jsonl"))
    first, second = (
        {
            (r.mode, r.clip): r
            for r in with_official_truth(base, select_scored_rows(base, rows, mode, quiet=True))
        }
        for rows, mode in zip((a, b), modes, strict=True)
    )
    both = [k for k in first if k in second]
    if not both:
        raise PredictionError(f"{name}: the runs have no clip in common")
    if other := next((k for k in both if first[k].answer != second[k].answer), None):
        raise PredictionError(
            f"{name}: clip '{other[1]}' is '{first[other].answer}' in one run and "
            f"'{second[other].answer}' in the other"
        )
    return [first[k] for k in both], [second[k] for k in both]


def _compare_set(a: ScoredSet, b: ScoredSet, *, score: str, permutations: int) -> dict[str, Any]:
    groups = resampling_groups(a.rows).keys
    score = score or a.strict.primary
    official = bool(a.official and score in a.result["released"] and score not in a.result)
    first, second = (a.official, b.official) if official else (a.strict, b.strict)
    assert first is not None
    assert second is not None
    out: dict[str, Any] = {
        "n": len(groups),
        "score": score,
        "mode": "released" if official else "strict",
        "values": [first.scores()[score], second.scores()[score]],
        "test": paired_test(first, second, groups, score=score, permutations=permutations),
    }
    if "confusion" in a.result:
        out["mcnemar"] = mcnemar(
            [bool(x >= 1) for x in a.correctness], [bool(x >= 1) for x in b.correctness]
        )
    return out

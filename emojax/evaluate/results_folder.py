"""Predictions files of any system -> a folder of results: `emojax evaluate --predictions`.

The folder holds evaluation.json, evaluation.md, report.html, clips.csv (one row a clip: truth, response, what was read) and
predictions/ (the scored rows, in the layout and keys that the official scripts read).
"""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.datasets.labels import concept
from emojax.evaluate import official_files, statistics
from emojax.evaluate.emotion_wheels import WordTables
from emojax.evaluate.official_scripts import label_set
from emojax.evaluate.predictions import (
    Prediction,
    PredictionError,
    read_predictions,
    read_truth,
    split_by_set,
    write_predictions,
)
from emojax.evaluate.scorer import Scored, groups_of, guess_metric, score_set
from emojax.evaluate.suites import SETS, Member, Suite

Say = Callable[[str], None]
Tick = Callable[[int, int], None]
SUFFIXES = (".jsonl", ".json", ".npz", ".csv")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How predictions are scored.

    Attributes:
      tables: emotion words.  resamples: of the bootstrap; 0 leaves intervals out.  seed: of it.
      metric: of sets that are none of SETS; "" guesses it from the truths.
      labels: asked for in such sets; () takes those of the truth.
      mode: keep rows of this mode alone; "" keeps those that the set scores.
    """

    tables: WordTables
    resamples: int = statistics.RESAMPLES
    seed: int = 0
    metric: str = ""
    labels: tuple[str, ...] = ()
    mode: str = ""


def set_name(path: Path) -> str:
    """The set that a file's name says it is of, "" where it names none."""
    stem = path.stem
    return (
        stem
        if stem in SETS
        else next(
            (n for n in SETS if stem.startswith(f"{n}_") and stem[len(n) + 1 :].isdigit()), ""
        )
    )


def read_files(
    path: Path, *, name: str = "", truth: Path | None = None
) -> dict[str, list[Prediction]]:
    """{set: rows} of a file, or of every predictions file below a folder that is named after a set.

    Args:
      name: the set of a file whose name does not say it.  truth: labels by clip, for files that hold none.

    Raises:
      PredictionError: nothing there, or a file that can not be used.
    """
    known = read_truth(truth) if truth else None
    if not path.is_dir():
        rows = read_predictions(path, truth=known)
        by_set = split_by_set(rows)
        return (
            by_set
            if len(by_set) > 1
            else {name or rows[0].set or (path.stem if set_name(path) else ""): rows}
        )
    found: dict[str, list[Prediction]] = {}
    files = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES and set_name(p)]
    for file in files:
        if file.name.endswith(".run.json") or ".partial" in file.name:
            continue
        if file.suffix == ".npz" and file.with_suffix(".jsonl") in files:
            continue  # the official scorer leaves what it has read beside the predictions
        if file.stem in found:
            raise PredictionError(f"{path} holds two files of {file.stem}")
        found[file.stem] = read_predictions(file, truth=known)
    if not found:
        raise PredictionError(
            f"{path} holds no predictions file named after a set, such as mer2023.jsonl"
        )
    return found


def scored_rows(name: str, rows: Sequence[Prediction], mode: str, say: Say) -> list[Prediction]:
    """The rows that count: of `mode`, or of the modes that the set scores.

    Raises:
      PredictionError: none is left.
    """
    modes = Counter(r.mode for r in rows)
    # the official multi-label script looks at no mode
    every = name not in SETS or SETS[name].metric == "multi_label"
    wanted = {mode} if mode else set(modes) if every else set(SETS[name].scored_modes)
    if not mode and not wanted & set(modes) and set(modes) == {""}:
        wanted = {""}  # files without modes
    kept = [r for r in rows if r.mode in wanted]
    if not kept:
        raise PredictionError(
            f"{name or 'the file'}: no row of mode {' or '.join(sorted(wanted))}; there are {', '.join(map(repr, modes))}"
        )
    if len(kept) < len(rows):
        say(
            f"{name or 'predictions'}: {len(kept)} of {len(rows)} rows count, those of mode {', '.join(sorted(wanted))}"
        )
    return kept


def score_sets(
    by_set: Mapping[str, Sequence[Prediction]],
    options: Options,
    say: Say,
    *,
    tick: Tick | None = None,
) -> dict[str, Scored]:
    """Scores every set; sets are named as in SETS, with `_FOLD` behind where they have folds."""
    out: dict[str, Scored] = {}
    total, done = sum(map(len, by_set.values())), 0
    for name, rows in by_set.items():
        base = set_name(Path(f"{name}.jsonl"))
        kept = scored_rows(base, rows, options.mode, say)
        benchmark = SETS.get(base)
        if benchmark is not None and benchmark.metric == "none":
            say(f"{name}: is scored by a judge alone (`emojax judge`)")
            continue
        if not benchmark and not options.metric:
            say(
                f"{name or 'predictions'}: scored as {guess_metric(kept)}, by what its truths look like (--metric decides)"
            )
        metric = options.metric or (benchmark.metric if benchmark else guess_metric(kept))
        asked = options.labels or (benchmark.labels if benchmark and not options.metric else ())
        if benchmark is not None:
            kept = with_official_truth(base, kept)
        if options.labels and metric != "open_vocabulary":
            known = {concept(label) for label in options.labels}
            if strange := next(
                (x for r in kept for x in parts_of(r.answer, metric) if concept(x) not in known),
                None,
            ):
                raise PredictionError(
                    f"the truth '{strange}' is none of --labels {', '.join(options.labels)}"
                )
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
            raise PredictionError(f"{name or 'predictions'}: {error}") from error
        if benchmark is not None and (extra := _official_clips(base, kept)):
            scored.result["official_clips"] = extra
            if extra["other_label"]:
                say(f"{name}: {extra['other_label']} truths are not those of the official file")
        if name:
            scored.result["set"] = name
        if options.mode:
            scored.result["scored_mode"] = options.mode
        out[name or "predictions"] = scored
        done += len(rows)
        if tick:
            tick(done, total)
    return out


def parts_of(answer: str, metric: str) -> list[str]:
    """The labels of a truth."""
    return label_set(answer) if metric == "multi_label" else [answer]


def with_official_truth(name: str, rows: Sequence[Prediction]) -> list[Prediction]:
    """Rows without a truth (`unknown` in the original's OV-MERD+ files) with that of the official file.

    Raises:
      PredictionError: it is not here, or does not know a clip.
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
    if lost := next((r.clip for r in rows if r.clip not in known), None):
        raise PredictionError(f"{name}: the official truth does not know clip '{lost}'")
    return [dataclasses.replace(r, answer=known[r.clip]) for r in rows]


def _official_clips(name: str, rows: Sequence[Prediction]) -> dict[str, int] | None:
    known = official_files.truth(name)
    if known is None:
        return None
    here = [r for r in rows if r.clip in known]
    other = sum(known[r.clip].strip().lower() != r.answer.strip().lower() for r in here)
    return {
        "all": len(known),
        "scored": len(here),
        "not_in_it": len(rows) - len(here),
        "other_label": other,
    }


def figure(
    suite: Suite,
    scored: Mapping[str, Scored],
    rows: Mapping[str, Sequence[Prediction]],
    options: Options,
) -> dict[str, Any]:
    """The suite's number: the unweighted mean of its sets' primary scores, with its interval where every set has one.

    Sets of the same clips are drawn together.
    """
    values: dict[str, float] = {}
    draws: list[np.ndarray] = []
    seeds = {m.benchmark.dataset: n for n, m in enumerate(suite.members)}
    for member in suite.members:
        if member.name not in scored:
            continue
        mode, score = member.chosen
        own = scored[member.name]
        value = own.result[score] if mode == "strict" else own.result["released"][score]
        values[member.name] = value
        tally = own.strict if mode == "strict" else own.official
        groups, _ = groups_of(rows[member.name])
        if options.resamples and tally is not None and value is not None and len(groups) > 1:
            seed = options.seed + seeds[member.benchmark.dataset]
            drawn = statistics.resampled(tally, groups, resamples=options.resamples, seed=seed)[
                score
            ]
            draws.append(value + (drawn - value) * statistics.spread_of(groups))
    undefined = [name for name, v in values.items() if v is None or not np.isfinite(v)]
    mean = float("nan") if undefined or not values else float(np.mean(list(values.values())))
    told = f"not a number in {', '.join(undefined)}" if undefined else ""
    note = "; ".join(filter(None, [suite.note, told]))
    out: dict[str, Any] = {"value": mean, "what": suite.figure, "sets": values, "note": note}
    if draws and len(draws) == len(values) and not undefined and np.isfinite(draws).all():
        low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
        out["interval"] = [max(0.0, float(low)), min(1.0, float(high))]
    return out


def results_of(
    suite: Suite | None,
    by_set: Mapping[str, Sequence[Prediction]],
    options: Options,
    say: Say,
    *,
    tick: Tick | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[dict[str, Any], dict[str, Scored], dict[str, list[Prediction]]]:
    """(what evaluation.json holds, scored sets, the rows that counted); `facts`: told of each set beside its scores."""
    if suite is not None:
        wanted = {m.name for m in suite.members}
        if not wanted & set(by_set):
            raise PredictionError(
                f"there are no predictions of {suite.title}: files, or a `set` of each row, are named {', '.join(sorted(wanted))}"
            )
        if others := sorted(set(by_set) - wanted):
            say(
                f"not of {suite.title}, left out: {', '.join(n or 'rows without a set' for n in others)}"
            )
            by_set = {n: rows for n, rows in by_set.items() if n in wanted}
    scored = score_sets(by_set, options, say, tick=tick)
    for name, own in scored.items():
        own.result.update((facts or {}).get(name, {}))
    kept = {name: own.rows for name, own in scored.items()}
    words = {"word_tables": options.tables.name}
    if suite is None and len(scored) == 1:
        return {**next(iter(scored.values())).result, **words}, scored, kept
    results: dict[str, Any] = dict(words)
    if suite is not None:
        results |= {
            "suite": suite.name,
            "missing_sets": [m.name for m in suite.members if m.name not in by_set],
        }
        if scored:
            results["figure"] = figure(suite, scored, kept, options)
    return {**results, "sets": {n: s.result for n, s in scored.items()}}, scored, kept


def write_clips(
    out: Path, kept: Mapping[str, Sequence[Prediction]], scored: Mapping[str, Scored]
) -> None:
    """clips.csv: one row a scored clip."""
    with (out / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "set",
                "clip",
                "mode",
                "truth",
                "response",
                "read",
                "right",
                "probability",
                "speaker",
                "duration",
            ]
        )
        for name, own in scored.items():
            for row, read, right in zip(kept[name], own.read, own.right, strict=True):
                best = max((row.probabilities or {}).values(), default="")
                writer.writerow(
                    [
                        name,
                        row.clip,
                        row.mode,
                        row.answer,
                        row.said,
                        "; ".join(read),
                        f"{right:g}",
                        best,
                        row.speaker,
                    ]
                    + ["" if row.duration is None else row.duration]
                )


def write_rows(out: Path, by_set: Mapping[str, Sequence[Prediction]]) -> None:
    """predictions/: every row, scored or not, in the layout that the official scripts read."""
    for name, rows in by_set.items():
        base = set_name(Path(f"{name}.jsonl"))
        folder = Member(SETS[base]).folder if base else ""
        write_predictions(out / "predictions" / folder / f"{name or 'predictions'}.jsonl", rows)

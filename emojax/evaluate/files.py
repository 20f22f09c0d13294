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

from emojax.evaluate import official, statistics
from emojax.evaluate.predictions import (
    Prediction,
    PredictionError,
    read_predictions,
    read_truth,
    split_by_set,
    write_predictions,
)
from emojax.evaluate.score import Scored, guess_metric, score_set
from emojax.evaluate.suites import SETS, Member, Suite
from emojax.evaluate.wheels import WordTables

Say = Callable[[str], None]
Tick = Callable[[int, int], None]
SUFFIXES = (".jsonl", ".json", ".npz", ".csv")


@dataclasses.dataclass(frozen=True)
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
        else next((n for n in SETS if stem.startswith(f"{n}_") and stem[len(n) + 1 :].isdigit()), "")
    )


def read_files(path: Path, name: str = "", truth: Path | None = None) -> dict[str, list[Prediction]]:
    """{set: rows} of a file, or of every predictions file below a folder that is named after a set.

    Args:
      name: the set of a file whose name does not say it.  truth: labels by clip, for files that hold none.

    Raises:
      PredictionError: nothing there, or a file that can not be used.
    """
    known = read_truth(truth) if truth else None
    if not path.is_dir():
        rows = read_predictions(path, known)
        by_set = split_by_set(rows)
        return by_set if len(by_set) > 1 else {name or rows[0].set or (path.stem if set_name(path) else ""): rows}
    found: dict[str, list[Prediction]] = {}
    for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and set_name(p)):
        if file.stem in found:
            raise PredictionError(f"{path} holds two files of {file.stem}")
        found[file.stem] = read_predictions(file, known)
    if not found:
        raise PredictionError(f"{path} holds no predictions file named after a set, such as mer2023.jsonl")
    return found


def scored_rows(name: str, rows: Sequence[Prediction], mode: str, say: Say) -> list[Prediction]:
    """The rows that count: of `mode`, or of the modes that the set scores.

    Raises:
      PredictionError: none is left.
    """
    modes = Counter(r.mode for r in rows)
    wanted = {mode} if mode else set(SETS[name].scored) if name in SETS else set(modes)
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
    by_set: Mapping[str, Sequence[Prediction]], options: Options, say: Say, tick: Tick | None = None
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
        metric = options.metric or (benchmark.metric if benchmark else guess_metric(kept))
        asked = options.labels or (benchmark.asked if benchmark and not options.metric else ())
        try:
            scored = score_set(kept, metric, options.tables, asked, options.resamples, options.seed)
        except ValueError as error:
            raise PredictionError(f"{name or 'predictions'}: {error}") from error
        if benchmark is not None and (extra := _official_clips(base, kept)):
            scored.result["official_clips"] = extra
            if extra["other_label"]:
                say(f"{name}: {extra['other_label']} truths are not those of the official file")
        if name:
            scored.result["set"] = name
        out[name or "predictions"] = scored
        done += len(rows)
        if tick:
            tick(done, total)
    return out


def _official_clips(name: str, rows: Sequence[Prediction]) -> dict[str, int] | None:
    known = official.truth(name)
    if known is None:
        return None
    here = [r for r in rows if r.clip in known]
    other = sum(known[r.clip].strip().lower() != r.answer.strip().lower() for r in here)
    return {"all": len(known), "scored": len(here), "not_in_it": len(rows) - len(here), "other_label": other}


def figure(
    suite: Suite, scored: Mapping[str, Scored], rows: Mapping[str, Sequence[Prediction]], options: Options
) -> dict[str, Any]:
    """The suite's number: the unweighted mean of its sets' primary scores, with its interval."""
    values: dict[str, float] = {}
    draws: list[np.ndarray] = []
    for number, member in enumerate(suite.members):
        if member.name not in scored:
            continue
        mode, score = member.chosen
        own = scored[member.name]
        values[member.name] = own.result[score] if mode == "strict" else own.result["released"][score]
        tally = own.strict if mode == "strict" else own.official
        if options.resamples and tally is not None:
            groups = [r.group for r in rows[member.name]]
            draws.append(statistics.resampled(tally, groups, options.resamples, options.seed + number)[score])
    undefined = [name for name, v in values.items() if v is None or not np.isfinite(v)]
    mean = float("nan") if undefined or not values else float(np.mean(list(values.values())))
    told = f"not a number in {', '.join(undefined)}" if undefined else ""
    note = "; ".join(filter(None, [suite.note, told]))
    out: dict[str, Any] = {"value": mean, "what": suite.figure, "sets": values, "note": note}
    if draws and len(draws) == len(values) and not undefined:
        low, high = np.nanquantile(np.mean(draws, axis=0), [0.025, 0.975])
        out["interval"] = [float(low), float(high)]
    return out


def results_of(
    suite: Suite | None,
    by_set: Mapping[str, Sequence[Prediction]],
    options: Options,
    say: Say,
    tick: Tick | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[dict[str, Any], dict[str, Scored], dict[str, list[Prediction]]]:
    """(what evaluation.json holds, scored sets, the rows that counted); `facts`: told of each set beside its scores."""
    scored = score_sets(by_set, options, say, tick)
    for name, own in scored.items():
        own.result.update((facts or {}).get(name, {}))
    kept = {
        n or "predictions": scored_rows(set_name(Path(f"{n}.jsonl")), rows, options.mode, lambda text: None)
        for n, rows in by_set.items()
    }
    words = {"word_tables": options.tables.name}
    if suite is None and len(scored) == 1:
        return {**next(iter(scored.values())).result, **words}, scored, kept
    results: dict[str, Any] = dict(words)
    if suite is not None:
        wanted = [m.name for m in suite.members]
        results |= {"suite": suite.name, "missing_sets": [n for n in wanted if n not in by_set]}
        if scored:
            results["figure"] = figure(suite, scored, kept, options)
    return {**results, "sets": {n: s.result for n, s in scored.items()}}, scored, kept


def write_clips(out: Path, kept: Mapping[str, Sequence[Prediction]], scored: Mapping[str, Scored]) -> None:
    """clips.csv: one row a scored clip."""
    with (out / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["set", "clip", "mode", "truth", "response", "read", "right", "probability", "speaker", "duration"]
        )
        for name, own in scored.items():
            for row, read, right in zip(kept[name], own.read, own.right, strict=True):
                best = max((row.probabilities or {}).values(), default="")
                writer.writerow(
                    [name, row.clip, row.mode, row.answer, row.said, "; ".join(read), f"{right:g}", best, row.speaker]
                    + ["" if row.duration is None else row.duration]
                )


def write_rows(out: Path, by_set: Mapping[str, Sequence[Prediction]]) -> None:
    """predictions/: every row, scored or not, in the layout that the official scripts read."""
    for name, rows in by_set.items():
        base = set_name(Path(f"{name}.jsonl"))
        folder = Member(SETS[base]).folder if base else ""
        write_predictions(out / "predictions" / folder / f"{name or 'predictions'}.jsonl", rows)

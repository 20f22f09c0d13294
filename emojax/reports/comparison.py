"""Runs over the same clips side by side: differences with intervals and paired tests, corrected for their number."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from emojax.evaluate.emotion_wheels import WordTables
from emojax.evaluate.predictions import Prediction, PredictionError
from emojax.evaluate.results_folder import read_files, scored_rows, set_name, with_official_truth
from emojax.evaluate.scorer import Scored, groups_of, score_set
from emojax.evaluate.statistics import holm, mcnemar, paired_test
from emojax.reports.evaluation_tables import NAMES, number, plain_numbers, sets_of

Tick = Callable[[int, int], None]


def load_run(folder: Path) -> tuple[dict[str, Any], dict[str, list[Prediction]]]:
    """(evaluation.json, rows by set) of a folder of `emojax evaluate`.

    Raises:
      PredictionError: it is none.
    """
    try:
        results = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PredictionError(
            f"{folder} holds no evaluation (evaluation.json): run `emojax evaluate` first"
        ) from error
    rows: dict[str, list[Prediction]] = {}
    for path in sorted((folder / "predictions").rglob("*.jsonl")):
        if not path.name.endswith(".partial.jsonl"):
            rows[path.stem] = next(iter(read_files(path, name=path.stem).values()))
    return results, rows


def compare_runs(
    folders: Sequence[Path],
    score: str,
    permutations: int,
    tables: WordTables,
    *,
    tick: Tick | None = None,
) -> dict[str, Any]:
    """Every run against the first, set by set.

    Args:
      score: to compare; "" takes what stands for each set in the strict mode.

    Returns:
      runs, and comparisons: set, run, n (clips that both answered), values, and the paired test; p_holm is corrected for all
      tests of the comparison.

    Raises:
      PredictionError: a folder is no evaluation, or two have no set in common.
    """
    loaded = [load_run(f) for f in folders]
    first_results, first_rows = loaded[0]
    found: list[dict[str, Any]] = []
    skipped: list[str] = []
    total, done = sum(len(set(rows) & set(first_rows)) for _, rows in loaded[1:]), 0
    for folder, (results, rows) in zip(folders[1:], loaded[1:], strict=True):
        common = [
            name
            for name in first_rows
            if name in rows and name in _scored(first_results) and name in _scored(results)
        ]
        if not common:
            raise PredictionError(f"{folders[0]} and {folder} have no set in common")
        for name in common:
            own = _scored(first_results)[name]
            modes = [r.get("scored_mode", "") for r in (own, _scored(results)[name])]
            a, b = _same_clips(name, first_rows[name], rows[name], modes)
            scored = [
                score_set(r, own["metric"], tables, asked=own.get("labels", ()), resamples=0)
                for r in (a, b)
            ]
            if (
                score
                and score not in scored[0].strict.scores()
                and score not in (scored[0].official or scored[0].strict).scores()
            ):
                skipped.append(name)
                continue
            found.append(
                _one(
                    name,
                    str(folder),
                    scored,
                    groups=groups_of(a)[0],
                    score=score,
                    permutations=permutations,
                )
            )
            done += 1
            if tick:
                tick(done, total)
    if not found:
        raise PredictionError(f"no set has a score '{score}'")
    for entry, p in zip(found, holm([e["test"]["p_value"] for e in found]), strict=True):
        entry["test"]["p_holm"] = p
    return {
        "runs": [str(f) for f in folders],
        "tests": len(found),
        "without_the_score": skipped,
        "comparisons": found,
    }


def _scored(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return sets_of(dict(results))


def _same_clips(
    name: str, a: Sequence[Prediction], b: Sequence[Prediction], modes: Sequence[str]
) -> tuple[list[Prediction], list[Prediction]]:
    base = set_name(Path(f"{name}.jsonl"))
    quiet: Callable[[str], None] = lambda text: None  # noqa: E731
    first = {
        (r.mode, r.clip): r
        for r in with_official_truth(base, scored_rows(base, a, modes[0], quiet))
    }
    second = {
        (r.mode, r.clip): r
        for r in with_official_truth(base, scored_rows(base, b, modes[1], quiet))
    }
    both = [k for k in first if k in second]
    if not both:
        raise PredictionError(f"{name}: the runs have no clip in common")
    if other := next((k for k in both if first[k].answer != second[k].answer), None):
        raise PredictionError(
            f"{name}: clip '{other[1]}' is '{first[other].answer}' in one run and '{second[other].answer}' in the other"
        )
    return [first[k] for k in both], [second[k] for k in both]


def _one(
    name: str,
    run: str,
    scored: Sequence[Scored],
    *,
    groups: Sequence[str],
    score: str,
    permutations: int,
) -> dict[str, Any]:
    a, b = scored
    score = score or a.strict.primary
    official = bool(a.official and score in a.result["released"] and score not in a.result)
    first, second = (a.official, b.official) if official else (a.strict, b.strict)
    assert first is not None and second is not None
    test = paired_test(first, second, groups, score=score, permutations=permutations)
    out: dict[str, Any] = {
        "set": name,
        "run": run,
        "n": len(groups),
        "score": score,
        "mode": "released" if official else "strict",
        "values": [first.scores()[score], second.scores()[score]],
        "test": test,
    }
    if "confusion" in a.result:
        out["mcnemar"] = mcnemar([bool(x >= 1) for x in a.right], [bool(x >= 1) for x in b.right])
    return out


_HEADER = ["set", "run", "clips", "score", "first", "this", "difference", "p", "p (Holm)"]


def _rows(result: dict[str, Any]) -> list[list[str]]:
    out = []
    for c in result["comparisons"]:
        t = c["test"]
        out.append(
            [
                c["set"],
                c["run"],
                str(c["n"]),
                NAMES.get(c["score"], c["score"])
                + ("" if c["mode"] == "strict" else " (official)"),
                *(number(v) for v in c["values"]),
                f"{t['difference']:+.3f}"
                + (f" [{t['interval'][0]:+.3f}, {t['interval'][1]:+.3f}]" if t["interval"] else ""),
                f"{t['p_value']:.4f}",
                f"{t['p_holm']:.4f}" + _stars(t["p_holm"]),
            ]
        )
    return out


def _stars(p: float) -> str:
    return next(
        (" " + mark for bound, mark in ((0.001, "***"), (0.01, "**"), (0.05, "*")) if p < bound), ""
    )


def _legend(result: dict[str, Any]) -> str:
    """What p-values and stars are of; they never stand without it."""
    tests = {c["test"]["test"] for c in result["comparisons"]}
    count = {c["test"]["permutations"] for c in result["comparisons"]}
    return (
        f"p: {', '.join(sorted(tests))}, {', '.join(map(str, sorted(count)))} permutations; corrected by Holm's method for "
        f"{result['tests']} tests. * p < 0.05, ** p < 0.01, *** p < 0.001, after correction. Brackets: 95 %, joint bootstrap of groups."
    )


def write(result: dict[str, Any], out: Path) -> None:
    """comparison.json, comparison.md and comparison.html."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "comparison.json").write_text(
        json.dumps(plain_numbers(result), indent=1, ensure_ascii=False)
    )
    rows = _rows(result)
    lines = ["| " + " | ".join(_HEADER) + " |", "|" + "---|" * len(_HEADER)]
    lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
    first = f"First: {result['runs'][0]}"
    (out / "comparison.md").write_text("\n".join([first, "", *lines, "", _legend(result)]) + "\n")
    head = "".join(f"<th>{html.escape(h)}</th>" for h in _HEADER)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows
    )
    (out / "comparison.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>comparison</title><style>body{font:15px/1.5 system-ui,sans-serif;'
        "margin:2em auto;max-width:76em}td,th{border-bottom:1px solid #ddd;padding:.2em .7em;text-align:left}</style>"
        f"<h1>Comparison</h1><p>{html.escape(first)}</p><table><tr>{head}</tr>{body}</table><p>{html.escape(_legend(result))}</p></html>\n"
    )


def show(result: dict[str, Any], console: Console) -> None:
    """The comparison as a table."""
    several = len(result["runs"]) > 2
    keep = [i for i in range(len(_HEADER)) if i != 1 or several]
    table = Table(title=f"compared with {result['runs'][0]}")
    for i in keep:
        table.add_column(_HEADER[i], justify="left" if i < 2 or i == 3 else "right")
    for row in _rows(result):
        table.add_row(*(row[i] for i in keep))
    console.print(table)
    console.print(_legend(result), soft_wrap=True)
    if result["without_the_score"]:
        console.print(
            f"without that score: {', '.join(result['without_the_score'])}", soft_wrap=True
        )

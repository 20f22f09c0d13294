"""A comparison of runs as a terminal table, Markdown and an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from data_pipeline.io import write_text
from data_pipeline.media.notes import counted
from emojax.evaluate.results_folder import write_results_json
from emojax.reports.evaluation_tables import SCORE_NAMES, format_score, markdown_table
from emojax.reports.html_page import render_page

_HEADER = ["set", "run", "clips", "score", "first", "this", "difference", "p", "p (Holm)"]


def comparison_table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(header, rows): one row per set and run."""
    out = []
    for c in result["comparisons"]:
        test, official = c["test"], "" if c["mode"] == "strict" else " (official)"
        low_high = test["interval"]
        interval = f" [{low_high[0]:+.3f}, {low_high[1]:+.3f}]" if low_high else ""
        out.append(
            [
                c["set"],
                c["run"],
                str(c["n"]),
                SCORE_NAMES.get(c["score"], c["score"]) + official,
                *(format_score(v) for v in c["values"]),
                f"{test['difference']:+.3f}{interval}",
                f"{test['p_value']:.4f}",
                f"{test['p_holm']:.4f}{_stars(test['p_holm'])}",
            ]
        )
    return _HEADER, out


def _stars(p: float) -> str:
    for bound, stars in ((0.001, " ***"), (0.01, " **"), (0.05, " *")):
        if p < bound:
            return stars
    return ""


def legend(result: dict[str, Any]) -> str:
    """Explains p-values and stars; they are never shown without it."""
    tests = ", ".join(sorted({c["test"]["test"] for c in result["comparisons"]}))
    counts = sorted({c["test"]["permutations"] for c in result["comparisons"]})
    return (
        f"p: {tests}, {', '.join(map(str, counts))} permutations; corrected by Holm's method for "
        f"{counted(result['tests'], 'test')}. * p < 0.05, ** p < 0.01, *** p < 0.001, after "
        "correction. Brackets: 95 %, joint bootstrap of groups."
    )


def write_comparison(result: dict[str, Any], out: Path) -> None:
    """Writes comparison.json, comparison.md and comparison.html.

    Args:
      result: of `comparison_stats.compare_runs`.
      out: the folder.
    """
    write_results_json(result, out / "comparison.json")
    rows, note = comparison_table(result)[1], legend(result)
    first = f"First: {result['runs'][0]}"
    lines = [first, "", *markdown_table(_HEADER, rows), "", note]
    write_text(out / "comparison.md", "\n".join(lines) + "\n")
    page = render_page(
        "comparison.html", title="comparison", first=first, header=_HEADER, rows=rows, legend=note
    )
    write_text(out / "comparison.html", page)


def terminal_table(result: dict[str, Any]) -> list[Table | str]:
    """The comparison for the terminal: a table and lines of text."""
    several = len(result["runs"]) > 2
    columns = [i for i in range(len(_HEADER)) if i != 1 or several]
    table = Table(title=f"compared with {result['runs'][0]}")
    for i in columns:
        table.add_column(_HEADER[i], justify="left" if i < 2 or i == 3 else "right")
    for row in comparison_table(result)[1]:
        table.add_row(*(row[i] for i in columns))
    parts: list[Table | str] = [table, legend(result)]
    if result["left_out"]:
        parts.append(f"not compared: {', '.join(result['left_out'])} (--sets names the sets)")
    if result["without_the_score"]:
        parts.append(f"without that score: {', '.join(result['without_the_score'])}")
    return parts

"""Evaluation results as terminal tables, Markdown and pictures; evaluation_page.py makes the HTML.

`evaluate.results_folder` describes evaluation.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from data_pipeline.io import write_text
from data_pipeline.media.notes import counted
from emojax.evaluate.emotion_wheels import BUILTIN_NAME
from emojax.evaluate.paper_results import SIZES, published_figures
from emojax.evaluate.reader_differences import FILE
from emojax.evaluate.results_folder import sets_of, write_results_json
from emojax.evaluate.suites import PRIMARY
from emojax.reports.confusion_plot import save_confusion
from emojax.reports.reliability_plot import save_reliability

SCORES = ("uar", "accuracy", "weighted_f1", "macro_f1")
SCORE_NAMES = {
    "uar": "UAR",
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "hit_rate": "hit rate",
    "f_s": "F_s",
    "f1_micro": "micro F1",
    "f1_samples": "sample F1",
    "example_accuracy": "example accuracy",
    "map": "mAP",
}
# Prediction.error_type -> why a clip that is scored has no answer; `no_row` has a note of its own
_UNANSWERED = {
    "refused": "could not be decoded",
    "no_answer": "got no usable reply",
    "other": "without an answer, which has an error instead",
}
_SHOWN = 10  # differences of two readers in evaluation.md


def write_evaluation(
    results: dict[str, Any],
    out: Path,
    *,
    differences: Mapping[str, Sequence[Sequence[str]]] | None = None,
) -> None:
    """Writes evaluation.json, evaluation.md and the plots of each set as PNG.

    Args:
      results: the scores, as in evaluation.json.
      out: folder of the results.
      differences: {set: rows of reader_differences.csv}.
    """
    write_results_json(results, out / "evaluation.json")
    text = markdown(results) + "".join(_reader_tables(results, differences or {}))
    write_text(out / "evaluation.md", text)
    write_plots(results, out)


def write_plots(results: dict[str, Any], out: Path, *, kind: str = "png") -> list[Path]:
    """Writes the confusion matrix of each set, and its reliability where probabilities are known.

    Args:
      results: the contents of evaluation.json.
      out: the folder.
      kind: png, svg or pdf.

    Returns:
      The files.
    """
    written = []
    for name, s in sets_of(results).items():
        if "confusion" in s:
            path = out / f"confusion_{name}.{kind}"
            written.append(save_confusion(s["confusion"], s["labels"], path, name))
        if s.get("calibration", {}).get("bins"):
            path = out / f"reliability_{name}.{kind}"
            written.append(save_reliability(s["calibration"], path, name))
    return written


def format_score(value: float | None, interval: Sequence[float] | None = None) -> str:
    """`0.731 [0.702, 0.760]`; "-" for an undefined score."""
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def score_cell(scores: Mapping[str, Any], name: str) -> str:
    """A score of a set with its interval."""
    return format_score(scores.get(name), scores.get("intervals", {}).get(name))


def clips_cell(scores: Mapping[str, Any]) -> str:
    """The number of scored clips of a set, and how many of them have no answer."""
    unanswered = sum(scores.get("unanswered", {}).values())
    return f"{scores['n']} ({unanswered} unanswered)" if unanswered else str(scores["n"])


def unanswered_lines(name: str, scores: Mapping[str, Any]) -> list[str]:
    """Why clips of a set have no answer, and what that means for the scores."""
    counts = scores.get("unanswered", {})
    lines = [
        f"{name}: {counted(counts[key], 'clip')} {text}: counted as wrong"
        for key, text in _UNANSWERED.items()
        if key in counts
    ]
    if number := scores.get("clips", {}).get("missing_media"):
        lines.append(f"{name}: the files of {counted(number, 'clip')} are missing; not scored")
    return lines


def official_score(scores: Mapping[str, Any]) -> str:
    """The name of the official score that represents a set, "" if none."""
    return PRIMARY.get(scores.get("released", {}).get("metric", ""), "")


def main_table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(header, rows): one row per set, with strict and official scores."""
    header = [
        "set",
        "clips",
        "strict",
        "UAR",
        "accuracy",
        "weighted F1",
        "macro F1",
        "official script",
        "unparsable",
    ]
    rows = []
    for name, s in sets_of(results).items():
        primary = s.get("primary", "uar")
        official = official_score(s)
        rows.append(
            [
                name,
                clips_cell(s),
                f"{SCORE_NAMES.get(primary, primary)} {score_cell(s, primary)}",
                *(format_score(s.get(k)) for k in SCORES),
                f"{SCORE_NAMES[official]} {score_cell(s['released'], official)}"
                if official
                else "-",
                str(s["answers"]["unparsable"]) if "answers" in s else "-",
            ]
        )
    return header, rows


def published_rows(results: dict[str, Any]) -> list[list[str]]:
    """Our scores, each followed by the published ones of the same set.

    Returns:
      Rows (set, score, system, value in percent, source, what differs).
    """
    rows = []
    for benchmark, score, value, interval in _comparable_scores(results):
        others = published_figures(benchmark, score=score)
        if others and value is not None and np.isfinite(value):
            span = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
            notes = [_missing_clips(results, benchmark), _builtin_words(results, score)]
            rows.append(
                [
                    benchmark,
                    SCORE_NAMES.get(score, score),
                    "this run",
                    f"{100 * value:.2f}{span}",
                    "",
                    "; ".join(filter(None, notes)),
                ]
            )
            rows += [
                [benchmark, "", f.system, f"{f.value:.2f}", f.source, "; ".join(f.differences)]
                for f in others
            ]
    return rows


def _comparable_scores(
    results: dict[str, Any],
) -> list[tuple[str, str, float | None, Sequence[float] | None]]:
    """(suite or set, score, value, interval) of the scores that papers publish."""
    out: list[tuple[str, str, float | None, Sequence[float] | None]] = []
    if "figure" in results and not results.get("missing_sets"):
        figure = results["figure"]
        out.append((results["suite"], "figure", figure["value"], figure.get("interval")))
    for name, s in sets_of(results).items():
        official = official_score(s)
        if official:
            released = s["released"]
            interval = released.get("intervals", {}).get(official)
            out.append((name, official, released.get(official), interval))
        out += [
            (name, k, s[k], s.get("intervals", {}).get(k))
            for k in ("uar", "accuracy")
            if k in s and k != official
        ]
    return out


def _builtin_words(results: dict[str, Any], score: str) -> str:
    """A note if words were grouped by the built-in lexicon, which papers do not use."""
    word_scores = ("hit_rate", "f_s")
    by_words = score in word_scores or (
        score == "figure"
        and any(official_score(s) in word_scores for s in sets_of(results).values())
    )
    builtin = results.get("word_tables") == BUILTIN_NAME
    return f"words: {BUILTIN_NAME}" if by_words and builtin else ""


def _missing_clips(results: dict[str, Any], benchmark: str) -> str:
    """A note if our score and the published one are over different numbers of clips."""
    s = sets_of(results).get(benchmark, {})
    ours, published = s.get("n"), SIZES.get(benchmark)
    # two-class figures leave neutral clips out
    if not ours or not published or s["metric"] == "two_class":
        return ""
    differs = abs(ours - published) > 0.02 * published
    return f"{ours} clips, published over {published}" if differs else ""


def reader_line(name: str, scores: Mapping[str, Any]) -> str:
    """How often our reader and the official one differ in a set, "" if they never do."""
    readers = scores.get("readers", {})
    if not readers.get("differ"):
        return ""
    counts = [
        f"{readers[key]} {words}"
        for key, words in (
            ("ours_better", "more correct by ours"),
            ("released_better", "by the released one"),
            ("not_scored", "not scored by the official script"),
        )
        if readers[key]
    ]
    score = readers["official_score"]
    values = [format_score(score[k]) for k in ("released_reader", "our_reader")]
    return (
        f"{name}: our reader and that of the official script differ on {readers['differ']} of "
        f"{scores['n']} answers"
        + (f" ({', '.join(counts)})" if counts else "")
        + f"; {SCORE_NAMES[score['name']]} of the script {values[0]}, with our reader {values[1]}"
    )


def _reader_tables(
    results: dict[str, Any], differences: Mapping[str, Sequence[Sequence[str]]]
) -> list[str]:
    """The first differences of each set, as Markdown; reader_differences.csv has all of them."""
    out = []
    for name, scores in sets_of(results).items():
        rows = differences.get(name, ())
        if line := reader_line(name, scores):
            cells = [[" ".join(c.split())[:80] for c in row[1:]] for row in rows[:_SHOWN]]
            header = ["clip", "truth", "response", "read as", "ours", "right"]
            table = markdown_table([*header, "released", "right"], cells)
            out.append("\n".join(["", f"**readers**: {line}; all in {FILE}", "", *table, ""]))
    return out


def headline(results: dict[str, Any]) -> str:
    """The suite's figure, and the number of sets in it if some are missing."""
    figure, missing = results["figure"], results.get("missing_sets", [])
    scored = len(figure["sets"])
    part = f", over {scored} of its {scored + len(missing)} sets" if missing else ""
    return f"{results['suite']}{part}: {format_score(figure['value'], figure.get('interval'))}"


def markdown(results: dict[str, Any]) -> str:
    """The scores, published figures, per-class tables and confusion matrices as Markdown."""
    header, rows = main_table(results)
    lines = [*markdown_table(header, rows)]
    for name, s in sets_of(results).items():
        lines += [part for line in unanswered_lines(name, s) for part in ("", line)]
    if "figure" in results:
        lines = [f"**{headline(results)}** ({results['figure']['what']})", "", *lines]
    if any("released" in s for s in sets_of(results).values()):
        lines += [
            "",
            "Strict: neutral counts, answers are parsed, answers that cannot be parsed are wrong. "
            "Official script: as released.",
        ]
    if published := published_rows(results):
        lines += ["", "**published figures** (percent)", ""]
        lines += markdown_table(
            ["set", "score", "system", "value", "source", "what differs"], published
        )
    for key in ("ablations", "conflict", "clues", "best_possible"):
        if key in results:
            lines += ["", f"**{key}**", "", "```json", json.dumps(results[key], indent=1), "```"]
    for name, s in sets_of(results).items():
        if "per_class" in s:
            lines += ["", f"**classes, {name}**", ""]
            lines += markdown_table(*class_table(s))
        if "confusion" in s:
            lines += ["", f"**confusion, {name}** (rows: truth)", ""]
            lines += markdown_table(
                ["", *s["labels"]],
                [[x, *map(str, row)] for x, row in zip(s["labels"], s["confusion"], strict=True)],
            )
    return "\n".join(lines) + "\n"


def class_table(scores: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(header, rows): recall, precision and F1 of each class, with their intervals."""
    rows = [
        [
            c["label"],
            str(c["n"]),
            *(score_cell(c, k) for k in ("recall", "precision", "f1")),
        ]
        for c in scores["per_class"]
    ]
    return ["class", "clips", "recall", "precision", "F1"], rows


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

    return [line(header), "|" + "---|" * len(header), *map(line, rows)]


def terminal_tables(results: dict[str, Any]) -> list[Table | str]:
    """The scores for the terminal: tables of at most 80 columns, and lines of text.

    With published figures, ablations and bounds, if there are any.
    """
    parts: list[Table | str] = []
    plain = [
        [
            name,
            clips_cell(s),
            *(format_score(s.get(k)) for k in SCORES),
            str(s.get("answers", {}).get("unparsable", "-")),
        ]
        for name, s in sets_of(results).items()
        if "uar" in s
    ]
    if plain:
        header = ["set", "clips", "UAR", "accuracy", "w. F1", "m. F1", "unparsed"]
        title = "strict scores: neutral counts, answers that cannot be parsed are wrong"
        parts.append(_table(title, header, plain, 1))
    _, rows = main_table(results)
    if any(r[7] != "-" for r in rows):
        title = "primary score of each set, 95 % intervals"
        both = [[r[0], r[2], r[7]] for r in rows]
        parts.append(_table(title, ["set", "strict", "official script"], both, 3))
    for name, s in sets_of(results).items():
        parts += unanswered_lines(name, s)
    if "figure" in results:
        parts.append(f"{headline(results)}   {results['figure']['what']}")
    for name, s in sets_of(results).items():
        if note := s.get("released", {}).get("note"):
            parts.append(f"{name}: {note}")
        if line := reader_line(name, s):
            parts.append(line)
    if published := published_rows(results):
        title = "published figures (percent; all of them in report.html)"
        parts.append(_table(title, ["set", "score", "system", "value"], _main_rows(published), 3))
    if "ablations" in results:
        parts.append(_ablation_table(results))
    return parts


def _ablation_table(results: dict[str, Any]) -> Table:
    bounds = results.get("best_possible_by_modality", {})
    rows = [
        [name, f"{value:.3f}", f"{bounds[name]:.3f}" if name in bounds else ""]
        for name, value in results["ablations"].items()
    ]
    title = "UAR by modality (test split)"
    return _table(title, ["used", "measured", "best possible"], rows, 1)


def _main_rows(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Of the published rows: this run, the best other system, and the models rebuilt here."""
    out: list[list[str]] = []
    best = True
    for row in rows:
        if row[2] == "this run" or best or row[2].startswith("Emotion-LLaMA"):
            out.append(list(row[:4]))
        best = row[2] == "this run"
    return out


def _table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], first_number: int
) -> Table:
    table = Table(title=title)
    for i, column in enumerate(header):
        table.add_column(column, justify="left" if i < first_number else "right")
    for row in rows:
        table.add_row(*row)
    return table

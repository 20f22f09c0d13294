"""Evaluation results where people look: console tables, Markdown, the confusion matrix as a picture; page.py makes HTML.

evaluation.json holds the strict scores of a set at its top (those of several sets below `sets`, those of a manifest by
split), the official ones under `released`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from emojax.evaluate.emotion_wheels import BUILTIN_NAME
from emojax.evaluate.paper_results import SIZES, figures_for
from emojax.evaluate.suites import PRIMARY

SCORES = ("uar", "accuracy", "weighted_f1", "macro_f1")
NAMES = {
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


def is_set(value: Any) -> bool:
    """True for the objects of evaluation.json that hold the scores of a set or a split."""
    return isinstance(value, dict) and "n" in value and ("confusion" in value or "primary" in value)


def sets_of(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Scored sets or splits of an evaluation, by name."""
    if is_set(results):
        return {str(results.get("set") or "predictions"): results}
    return {name: value for name, value in results.get("sets", results).items() if is_set(value)}


def write(results: dict[str, Any], out: Path) -> None:
    """evaluation.json, evaluation.md and one confusion PNG a set."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(
        json.dumps(plain_numbers(results), indent=1, ensure_ascii=False)
    )
    (out / "evaluation.md").write_text(markdown(results))
    for name, scores in sets_of(results).items():
        if "confusion" in scores:
            confusion_png(
                scores["confusion"], scores["labels"], out / f"confusion_{name}.png", name
            )


def plain_numbers(value: Any) -> Any:
    """The same with None for what is not a number, which JSON has no word for."""
    if isinstance(value, dict):
        return {k: plain_numbers(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_numbers(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def number(value: float | None, interval: Sequence[float] | None = None) -> str:
    """`0.731 [0.702, 0.760]`."""
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def score_cell(scores: dict[str, Any], name: str) -> str:
    """A score of a set with its interval."""
    return number(scores.get(name), scores.get("intervals", {}).get(name))


def official_name(scores: dict[str, Any]) -> str:
    """The score of the official script that stands for a set."""
    return PRIMARY.get(scores.get("released", {}).get("metric", ""), "")


def main_table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(header, rows): one row a set, strict and official scores side by side."""
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
        own = s.get("primary", "uar")
        official = official_name(s)
        rows.append(
            [
                name,
                str(s["n"]),
                f"{NAMES.get(own, own)} {score_cell(s, own)}",
                *(number(s.get(k)) for k in SCORES),
                f"{NAMES[official]} {score_cell(s['released'], official)}" if official else "-",
                str(s["answers"]["unparsable"]) if "answers" in s else "-",
            ]
        )
    return header, rows


def published_rows(results: dict[str, Any]) -> list[list[str]]:
    """Rows (set, score, system, value in percent, source, what differs): the run's own, then published ones."""
    rows = []
    found: list[tuple[str, str, float | None, Sequence[float] | None]] = []
    if "figure" in results and not results.get("missing_sets"):
        figure = results["figure"]
        found.append((results["suite"], "figure", figure["value"], figure.get("interval")))
    for name, s in sets_of(results).items():
        official = official_name(s)
        if official:
            own = s["released"]
            found.append(
                (name, official, own.get(official), own.get("intervals", {}).get(official))
            )
        found += [
            (name, k, s[k], s.get("intervals", {}).get(k))
            for k in ("uar", "accuracy")
            if k in s and k != official
        ]
    for where, score, value, interval in found:
        others = figures_for(where, score=score)
        if others and value is not None and np.isfinite(value):
            span = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
            note = "; ".join(filter(None, [_partial(results, where), _own_words(results, score)]))
            rows.append(
                [where, NAMES.get(score, score), "this run", f"{100 * value:.2f}{span}", "", note]
            )
            rows += [
                [where, "", f.system, f"{f.value:.2f}", f.source, "; ".join(f.differs)]
                for f in others
            ]
    return rows


def _own_words(results: dict[str, Any], score: str) -> str:
    """Said where words were grouped by our own lexicon, which papers do not use."""
    by_words = score in ("hit_rate", "f_s") or (
        score == "figure"
        and any(official_name(s) in ("hit_rate", "f_s") for s in sets_of(results).values())
    )
    return (
        f"words: {BUILTIN_NAME}" if by_words and results.get("word_tables") == BUILTIN_NAME else ""
    )


def _partial(results: dict[str, Any], where: str) -> str:
    """What is missing of the clips that a published figure is over."""
    s = sets_of(results).get(where, {})
    here, whole = s.get("n"), SIZES.get(where)
    # two-class figures leave neutral clips out
    return (
        f"{here} clips, published over {whole}"
        if here and whole and abs(here - whole) > 0.02 * whole and s["metric"] != "two_class"
        else ""
    )


def headline(results: dict[str, Any]) -> str:
    """The suite's figure, and over how many of its sets it is."""
    figure, lost = results["figure"], results.get("missing_sets", [])
    part = (
        f", over {len(figure['sets'])} of its {len(figure['sets']) + len(lost)} sets"
        if lost
        else ""
    )
    return f"{results['suite']}{part}: {number(figure['value'], figure.get('interval'))}"


def markdown(results: dict[str, Any]) -> str:
    """The scores, published figures, per-class tables and confusion matrices as Markdown."""
    header, rows = main_table(results)
    lines = [*_md(header, rows)]
    if "figure" in results:
        lines = [f"**{headline(results)}** ({results['figure']['what']})", "", *lines]
    if any("released" in s for s in sets_of(results).values()):
        lines += [
            "",
            "Strict: neutral counted, answers read, what can not be read is wrong. Official script: as released.",
        ]
    if published := published_rows(results):
        lines += ["", "**beside published figures** (percent)", ""]
        lines += _md(["set", "score", "system", "value", "source", "what differs"], published)
    for key in ("ablations", "conflict", "clues", "best_possible"):
        if key in results:
            lines += ["", f"**{key}**", "", "```json", json.dumps(results[key], indent=1), "```"]
    for name, s in sets_of(results).items():
        if "per_class" in s:
            lines += ["", f"**classes, {name}**", ""]
            cells = [
                [c["label"], str(c["n"]), *(f"{c[k]:.3f}" for k in ("recall", "precision", "f1"))]
                for c in s["per_class"]
            ]
            lines += _md(["class", "clips", "recall", "precision", "F1"], cells)
        if "confusion" in s:
            lines += ["", f"**confusion, {name}** (rows: truth)", ""]
            lines += _md(
                ["", *s["labels"]],
                [[x, *map(str, row)] for x, row in zip(s["labels"], s["confusion"], strict=True)],
            )
    return "\n".join(lines) + "\n"


def _md(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

    return [line(header), "|" + "---|" * len(header), *map(line, rows)]


def show(results: dict[str, Any], console: Console) -> None:
    """The scores as tables, with published figures, ablations and bounds where there are any."""
    # two tables of at most 80 columns: all plain scores, then what stands for each set with its interval
    own = sets_of(results)
    plain = [
        [
            name,
            str(s["n"]),
            *(number(s.get(k)) for k in SCORES),
            str(s.get("answers", {}).get("unparsable", "-")),
        ]
        for name, s in own.items()
        if "uar" in s
    ]
    if plain:
        header = ["set", "clips", "UAR", "accuracy", "w. F1", "m. F1", "unread"]
        console.print(
            _table("strict scores: neutral counts, what can not be read is wrong", header, plain, 1)
        )
    _, rows = main_table(results)
    if any(r[7] != "-" for r in rows):
        beside = [[r[0], r[2], r[7]] for r in rows]
        console.print(
            _table(
                "what stands for each set, 95 % intervals",
                ["set", "strict", "official script"],
                beside,
                3,
            )
        )
    if "figure" in results:
        console.print(f"{headline(results)}   {results['figure']['what']}", soft_wrap=True)
    for name, s in sets_of(results).items():
        if note := s.get("released", {}).get("note"):
            console.print(f"{name}: {note}", soft_wrap=True)
    if published := published_rows(results):
        header = ["set", "score", "system", "value"]
        console.print(
            _table(
                "beside published figures (percent; all of them in report.html)",
                header,
                _few(published),
                3,
            )
        )
    if "ablations" in results:
        bounds = results.get("best_possible_by_modality", {})
        cells = [
            [name, f"{value:.3f}", f"{bounds[name]:.3f}" if name in bounds else ""]
            for name, value in results["ablations"].items()
        ]
        console.print(
            _table(
                "what each modality carries (UAR on the test split)",
                ["used", "measured", "best possible"],
                cells,
                1,
            )
        )


def _few(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Of published rows the run's own, the best other one and those of the models that are rebuilt here."""
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


def tick_names(labels: Sequence[str], *, longest: int = 24) -> list[str]:
    """Labels as the picture shows them: long ones cut, those that its font can not draw as their number in the table."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    names = []
    for number, label in enumerate(labels, 1):
        cut = label if len(label) <= longest else label[: longest - 1] + "…"
        drawable = all(font.get_char_index(ord(c)) for c in cut)
        names.append(cut if drawable else f"label {number}")
    return names


def confusion_png(
    confusion: Sequence[Sequence[int]], labels: Sequence[str], path: Path, title: str
) -> None:
    """Writes the confusion matrix as a picture: share of each true class, with counts."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    counts = np.asarray(confusion)
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    size = 2.2 + 0.55 * len(labels)
    figure, axes = plt.subplots(figsize=(size, size), layout="constrained")
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [name.replace("$", r"\$") for name in tick_names(labels)]
    axes.set_xticks(range(len(labels)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{title} (n = {counts.sum()})")
    for i, j in np.ndindex(*counts.shape):
        if counts[i, j]:
            colour = "white" if share[i, j] > 0.55 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)

"""Evaluation results where people look: a console table, Markdown, the confusion matrix as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

SCORES = ("uar", "accuracy", "weighted_f1", "macro_f1")


def is_split(value: Any) -> bool:
    """True for the objects of evaluation.json that belong to a split."""
    return isinstance(value, dict) and "confusion" in value


def write(results: dict[str, Any], out: Path) -> None:
    """evaluation.json, evaluation.md and one confusion PNG a split."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(results, indent=1))
    (out / "evaluation.md").write_text(markdown(results))
    for name, scores in results.items():
        if is_split(scores):
            confusion_png(scores["confusion"], scores["labels"], out / f"confusion_{name}.png", name)


def markdown(results: dict[str, Any]) -> str:
    """The scores and confusion matrices as Markdown."""
    lines = ["| split | n | " + " | ".join(SCORES) + " |", "|" + "---|" * (2 + len(SCORES))]
    for name, s in results.items():
        if is_split(s):
            lines.append(f"| {name} | {s['n']} | " + " | ".join(f"{s[k]:.3f}" for k in SCORES) + " |")
    for key in ("ablations", "conflict", "clues", "best_possible"):
        if key in results:
            lines += ["", f"**{key}**", "", "```json", json.dumps(results[key], indent=1), "```"]
    for name, s in results.items():
        if is_split(s):
            names = [label.replace("|", "\\|") for label in s["labels"]]
            lines += ["", f"**confusion, {name}** (rows: truth)", "", "| | " + " | ".join(names) + " |"]
            lines.append("|" + "---|" * (1 + len(names)))
            for label, row in zip(names, s["confusion"], strict=True):
                lines.append(f"| {label} | " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines) + "\n"


def show(results: dict[str, Any], console: Console) -> None:
    """The scores as a table, with ablations and bounds where there are any."""
    table = Table(title="scores")
    for column in ("split", "n", *SCORES):
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, s in results.items():
        if is_split(s):
            table.add_row(name, str(s["n"]), *(f"{s[k]:.3f}" for k in SCORES))
    console.print(table)
    if "ablations" in results:
        bounds = results.get("best_possible_by_modality", {})
        second = Table(title="what each modality carries (UAR on the test split)")
        for column in ("used", "measured", "best possible"):
            second.add_column(column, justify="left" if column == "used" else "right")
        for name, value in results["ablations"].items():
            second.add_row(name, f"{value:.3f}", f"{bounds[name]:.3f}" if name in bounds else "")
        console.print(second)


def tick_names(labels: Sequence[str], longest: int = 24) -> list[str]:
    """Labels as the picture shows them: long ones cut, those that its font can not draw as their number in the table."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    names = []
    for number, label in enumerate(labels, 1):
        cut = label if len(label) <= longest else label[: longest - 1] + "…"
        drawable = all(font.get_char_index(ord(c)) for c in cut)
        names.append(cut if drawable else f"label {number}")
    return names


def confusion_png(confusion: Sequence[Sequence[int]], labels: Sequence[str], path: Path, title: str) -> None:
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

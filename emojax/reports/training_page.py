"""A training run as one HTML page (`emojax report`)."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emojax.reports.html_page import render_page
from emojax.reports.palette import CURVES
from emojax.reports.plot_files import plot_bytes
from emojax.reports.training_state import read_rows, read_run
from emojax.train.train_log import SPEED, STEPS, VALIDATION

_MARK = b'class="training"'  # in the first lines of the page
_MAX_SAMPLES = 12  # validations whose answers are shown
Rows = list[dict[str, Any]]


PAGE = "training.html"  # in the run's folder, beside report.html of the evaluation


def write_html(folder: str, *, out: Path | None = None, overwrite: bool = False) -> str:
    """Writes the page of a run.

    Args:
      folder: the run.
      out: the file, None for PAGE in the run's folder.
      overwrite: whether to replace a file that is not the page of a training run.

    Returns:
      The path of the page, which needs no other file and no network.

    Raises:
      ValueError: the folder contains no run, or the file exists and is something else.
    """
    run = epath.Path(folder)
    path = epath.Path(out) if out else run / PAGE
    if path.exists() and not overwrite and _MARK not in path.read_bytes()[:200]:
        raise ValueError(
            f"{path} exists and is not a page of `emojax report`: give another file with --out, or "
            "--overwrite"
        )
    facts = read_run(run)
    scores = read_rows(run, VALIDATION)
    page = render_page(
        "training.html",
        title=run.name,
        facts=_fact_rows(facts),
        plots=[(caption, _to_base64(figure)) for caption, figure in _plots(run)],
        samples=_samples(scores) if scores else None,
        config=json.dumps(facts["config"], indent=1),
    )
    path.write_text(page)
    return str(path)


def save_plots(folder: str, page: str, *, kinds: Sequence[str]) -> list[str]:
    """Writes the plots of a run next to its page.

    Args:
      folder: the run.
      page: path of the page; the plots are named after it, such as training_loss.svg.
      kinds: of files: png, svg, pdf.

    Returns:
      The paths.
    """
    written = []
    for caption, figure in _plots(epath.Path(folder)) if kinds else ():
        name = re.sub(r"[^a-z]+", "_", caption.lower())
        for kind in kinds:
            path = epath.Path(page).with_name(f"{epath.Path(page).stem}_{name}.{kind}")
            path.write_bytes(plot_bytes(figure, kind))
            written.append(str(path))
    return written


def _plots(run: epath.Path) -> list[tuple[str, Figure]]:
    """(caption, figure) of everything that was logged."""
    steps, speed, scores = (read_rows(run, name) for name in (STEPS, SPEED, VALIDATION))
    plots = [
        ("Loss", _curves(steps, "loss", smooth=True)),
        ("Learning rate", _curves(steps, "lr")),
        ("Gradient norm", _curves(steps, "grad_norm", log=True)),
        ("Validation score", _curves(scores, "score")),
        ("Clips per second", _curves(speed, "clips_per_s")),
        ("Memory, GiB", _curves(speed, "memory_bytes", scale=2.0**-30)),
        ("Proportion of padding", _curves(steps, "padding", smooth=True)),
        ("Proportions of data sets", _dataset_proportions(speed)),
    ]
    return [(caption, figure) for caption, figure in plots if figure is not None]


def _fact_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    start = facts["starts"][-1] if facts["starts"] else {}
    devices = f"{start.get('devices', '?')} x {start.get('device', '?')}"
    return [
        ("state", "finished" if facts["finished"] else "not finished"),
        ("starts", str(len(facts["starts"]))),
        ("devices", f"{devices}, {start.get('processes', '?')} processes"),
        ("code", start.get("commit", "?")),
        ("packages", ", ".join(f"{k} {v}" for k, v in start.get("packages", {}).items())),
        ("stages", ", ".join(f"{name} ({total} steps)" for name, total in facts["stages"])),
    ]


def _new_plot() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 2.7), layout="constrained")
    return figure, figure.subplots()


def _to_base64(figure: Figure) -> str:
    """The figure as a base64 PNG."""
    return base64.b64encode(plot_bytes(figure, "png", dpi=110)).decode()


def _curves(
    rows: Rows, field: str, *, smooth: bool = False, log: bool = False, scale: float = 1.0
) -> Figure | None:
    """A plot of one field over all steps, with a curve for each stage; None without values."""
    by_stage: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if field in row:
            by_stage[row["stage"]].append((row["step"], row[field] * scale))
    if not by_stage:
        return None
    figure, axis = _new_plot()
    offset = 0
    for colour, (stage, points) in zip(itertools.cycle(CURVES), by_stage.items(), strict=False):
        x, y = [offset + s for s, _ in points], [v for _, v in points]
        window = max(1, len(y) // 50)
        if smooth and window > 1:
            axis.plot(x, y, color=colour, alpha=0.2, linewidth=0.7)
            y = _moving_average(y, window)
        axis.plot(x, y, color=colour, label=stage, marker="." if len(x) < 20 else None)
        offset = x[-1]
    if log:
        axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.legend(frameon=False, fontsize=8)
    return figure


def _moving_average(values: list[float], window: int) -> list[float]:
    parts = (values[max(0, i - window) : i + 1] for i in range(len(values)))
    return [sum(part) / len(part) for part in parts]


def _dataset_proportions(speed: Rows) -> Figure | None:
    """A plot of the proportions of data sets in each stage; None without values."""
    if not speed or not speed[-1]["shares"]:
        return None
    figure, axis = _new_plot()
    latest = {r["stage"]: r["shares"] for r in speed}
    names = sorted({n for proportions in latest.values() for n in proportions})
    height = 0.8 / len(latest)
    for number, (colour, (stage, proportions)) in enumerate(
        zip(itertools.cycle(CURVES), latest.items(), strict=False)
    ):
        y = [i + 0.8 * number / len(latest) for i in range(len(names))]
        widths = [proportions.get(n, 0) for n in names]
        axis.barh(y, widths, height=height, color=colour, label=stage)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.legend(frameon=False, fontsize=8)
    return figure


def _samples(scores: Rows) -> dict[str, Any]:
    """Answers to the same clips at several validations."""
    shown, last = scores, _MAX_SAMPLES - 1
    if len(scores) > _MAX_SAMPLES:
        shown = [scores[round(i * (len(scores) - 1) / last)] for i in range(_MAX_SAMPLES)]
    rows = []
    for clip in dict.fromkeys(s["clip"] for row in scores for s in row["samples"]):
        cells: list[dict[str, Any] | None] = []
        truth = ""
        for row in shown:
            sample = next((s for s in row["samples"] if s["clip"] == clip), None)
            if sample is None:
                cells.append(None)
                continue
            truth = sample["true"]
            cells.append(
                {
                    "answer": sample["answer"],
                    "probability": sample["probability"],
                    "correct": sample["answer"] == truth,
                }
            )
        rows.append({"clip": clip, "truth": truth, "cells": cells})
    return {"header": [f"{r['stage']} {r['step']}" for r in shown], "rows": rows}

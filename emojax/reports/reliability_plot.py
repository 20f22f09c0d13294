"""Accuracy against confidence as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emojax.reports.palette import CURVES, ZERO_LINE
from emojax.reports.plot_files import save_plot


def save_reliability(calibration: Mapping[str, Any], path: Path, title: str) -> Path:
    """Writes the reliability diagram of a set; circles grow with the number of clips.

    Args:
      calibration: of `confidence_scores.calibration`.
      path: the file, .png, .svg or .pdf.
      title: of the set.

    Returns:
      The path.
    """
    from matplotlib.figure import Figure

    bins = calibration["bins"]
    most = max(b["n"] for b in bins)
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=ZERO_LINE, linewidth=0.8)
    axes.scatter(
        [b["confidence"] for b in bins],
        [b["accuracy"] for b in bins],
        s=[10 + 190 * b["n"] / most for b in bins],
        color=CURVES[0],
        alpha=0.7,
    )
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_aspect("equal")
    axes.set_xlabel("probability of the answer")
    axes.set_ylabel("accuracy")
    axes.set_title(f"{title}: ECE {calibration['ece']:.3f}".replace("$", r"\$"))
    return save_plot(figure, path)

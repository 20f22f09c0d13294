"""The scores of a sweep as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from emojax.reports.palette import BAR, CURVES
from emojax.reports.plot_files import save_plot


def save_sweep(scores: Mapping[str, Sequence[float]], path: Path) -> None:
    """Writes a plot: a bar for the mean of each variant, a dot per seed.

    Args:
      scores: variant -> fused UAR of each seed.
      path: the file, .png, .svg or .pdf.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.8 + 0.32 * len(scores)), layout="constrained")
    axes = figure.subplots()
    for y, values in enumerate(scores.values()):
        axes.barh(y, statistics.fmean(values), color=BAR, height=0.6)
        axes.plot(values, [y] * len(values), "o", color=CURVES[0], markersize=4)
    axes.set_yticks(range(len(scores)), list(scores))
    axes.invert_yaxis()
    axes.set_xlabel("UAR, all modalities")
    save_plot(figure, path)

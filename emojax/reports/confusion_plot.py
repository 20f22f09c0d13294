"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emojax.reports.palette import CONFUSION
from emojax.reports.plot_files import save_plot


def tick_names(labels: Sequence[str], *, longest: int = 24) -> list[str]:
    """Labels as the picture shows them.

    Long labels are cut. A label that the font cannot draw is shown as its number in the table.
    """
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    names = []
    for number, label in enumerate(labels, 1):
        cut = label if len(label) <= longest else label[: longest - 1] + "…"
        drawable = all(font.get_char_index(ord(c)) for c in cut)
        names.append(cut if drawable else f"label {number}")
    return names


def save_confusion(
    confusion: Sequence[Sequence[float]], labels: Sequence[str], path: Path, title: str
) -> Path:
    """Writes a confusion matrix; colours show the proportion of each true class.

    Args:
      confusion: counts, rows are true classes.
      labels: the classes.
      path: the file, .png, .svg or .pdf.
      title: shown with the number of clips.

    Returns:
      The path.
    """
    from matplotlib.figure import Figure

    counts = np.asarray(confusion)
    proportion = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    size = 2.2 + 0.55 * len(labels)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(proportion, cmap=CONFUSION, vmin=0, vmax=1)
    names = [name.replace("$", r"\$") for name in tick_names(labels)]
    axes.set_xticks(range(len(labels)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{title} (n = {counts.sum():g})".replace("$", r"\$"))
    for i, j in np.ndindex(*counts.shape):
        if counts[i, j]:
            colour = "white" if proportion[i, j] > 0.55 else "black"
            axes.text(j, i, f"{counts[i, j]:g}", ha="center", va="center", color=colour, fontsize=8)
    return save_plot(figure, path)

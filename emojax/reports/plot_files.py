"""Plots as PNG, SVG or PDF; the same figure gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.io import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("png", "svg", "pdf")
_SETTINGS: Any = {
    "svg.hashsalt": "emojax",  # of the names of clip paths, which would be random
    "svg.fonttype": "none",  # text stays text, for editors of drawings
    "pdf.fonttype": 42,  # TrueType, which journals ask for
}
_METADATA: Mapping[str, Mapping[str, str | None]] = {
    "png": {"Software": "emojax"},
    "svg": {"Creator": "emojax", "Date": None},
    "pdf": {"Creator": "emojax", "CreationDate": None},
}


def plot_bytes(figure: Figure, kind: str, *, dpi: int = 130, description: str = "") -> bytes:
    """The file of a figure.

    Args:
      figure: the figure.
      kind: one of KINDS.
      dpi: pixels per inch of a PNG.
      description: stored in the file's metadata.
    """
    import matplotlib

    metadata = dict(_METADATA[kind])
    if description:
        metadata["Subject" if kind == "pdf" else "Description"] = description
    out = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(out, format=kind, dpi=dpi, metadata=metadata)
    return out.getvalue()


def save_plot(figure: Figure, path: Path, *, dpi: int = 130) -> Path:
    """Writes a figure, atomically, as the kind that the suffix names.

    Args:
      figure: the figure.
      path: the file; its suffix is one of KINDS.
      dpi: pixels per inch of a PNG.

    Returns:
      The path.
    """
    write_bytes(path, plot_bytes(figure, path.suffix.lower().lstrip("."), dpi=dpi))
    return path

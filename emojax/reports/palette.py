"""The colours of plots and labels. The colours of pages are in templates/style.css."""

from __future__ import annotations

from collections.abc import Sequence

CURVES = ("#27476e", "#b5651d", "#3a7d44", "#8e4585", "#6b6b6b")  # one per training stage
BAR = "#b7c9e2"
PUBLISHED_BARS, OWN_BAR = ("#c8ccd4", "#9aa3b2", "#6b7588"), "#1f77b4"
CONFUSION = "Blues"  # matplotlib colour map
AXIS, ZERO_LINE = "#333", "#bbb"


def label_colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label, the same in all outputs of a recording."""
    import matplotlib
    from matplotlib.colors import to_hex

    colours = matplotlib.colormaps["tab10" if len(labels) <= 10 else "tab20"]
    return {label: to_hex(colours(i % colours.N)) for i, label in enumerate(labels)}

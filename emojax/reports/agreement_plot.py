"""Bar chart of how far annotators agree with annotations, next to the published rates."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipeline.annotate.verify import ASPECTS
from emojax.reports.palette import OWN_BAR, PUBLISHED_BARS

# Agreement rates of the papers' bar chart, read by eye.
PUBLISHED = {
    "MERR-coarse": (0.68, 0.42, 0.18, 0.21, 0.67),
    "MERR-fine": (0.75, 0.72, 0.51, 0.47, 0.75),
    "MMEVerse": (0.94, 0.91, 0.89, 0.92, 0.93),
}


def agreement_chart(result: Mapping[str, Any], name: str) -> bytes:
    """Draws the agreement rates next to the published ones, like the papers' bar chart.

    Args:
      result: what `verify.agreement` returned, and `lapsed`, the clips whose marks no longer count.
      name: of the set, for the legend.

    Returns:
      A PNG file.
    """
    from matplotlib.figure import Figure

    rates = tuple(result["aspects"][a]["agreed"] for a in ASPECTS)
    lapsed = len(result.get("lapsed", ()))
    changed = f" ({lapsed} more have changed since)" if lapsed else ""
    groups: dict[str, tuple[float | None, ...]] = {
        **PUBLISHED,
        f"{name}, {result['clips']} clips{changed}": rates,
    }
    figure = Figure(figsize=(9, 4), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(groups)
    colours = (*PUBLISHED_BARS, OWN_BAR)
    for i, (group, values) in enumerate(groups.items()):
        at = np.arange(len(ASPECTS)) + (i - (len(groups) - 1) / 2) * width
        label = f"{group} (published)" if group in PUBLISHED else group
        bars = axis.bar(at, [v or 0 for v in values], width, label=label, color=colours[i])
        axis.bar_label(bars, ["" if v is None else f"{v:.2f}" for v in values], fontsize=7)
    axis.set_xticks(range(len(ASPECTS)), ASPECTS)
    axis.set_ylim(0, 1.08)
    axis.set_ylabel("share of marks that agree")
    axis.legend(
        frameon=False, ncols=len(groups), loc="upper center", bbox_to_anchor=(0.5, 1.14), fontsize=8
    )
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": "emojax"})
    return out.getvalue()

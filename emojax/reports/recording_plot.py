"""A timeline as one picture: probabilities over time, the label track, valence and arousal."""

from __future__ import annotations

import io

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from emojax.infer.timeline import Timeline


def palette(labels: tuple[str, ...]) -> dict[str, str]:
    """A colour for each label, the same everywhere in the outputs of a recording."""
    colours = plt.get_cmap("tab10" if len(labels) <= 10 else "tab20")
    return {label: to_hex(colours(i % colours.N)) for i, label in enumerate(labels)}


def to_png(timeline: Timeline) -> bytes:
    """PNG, 1400 px wide; one group of panels for each person."""
    persons, colour = timeline.persons, palette(timeline.labels)
    figure, axes = plt.subplots(
        3 * len(persons), 1, figsize=(14, 5.2 * len(persons)), height_ratios=[4, 0.6, 2] * len(persons),
        sharex=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for row, person in enumerate(persons):
        top, strip, low = (axes[3 * row + i, 0] for i in range(3))
        spans = [s for s in timeline.of(person) if s.answer.probabilities]
        for label in timeline.labels if spans else ():
            top.plot(
                *_steps([(s.start, s.end, s.smoothed.get(label, 0.0)) for s in spans]),
                color=colour[label],
                label=label,
            )
        for s in spans:
            strip.axvspan(s.start, s.end, color=colour[s.track], linewidth=0)
        top.set_ylim(0, 1)
        top.set_ylabel("probability\n(smoothed)")
        if spans:
            top.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        strip.set_yticks([])
        strip.set_ylabel("track", rotation=0, ha="right", va="center")
        known = [s for s in spans if s.valence is not None]
        for name, style in (("valence", "-"), ("arousal", "--")):
            values = [(s.start, s.end, getattr(s, name)) for s in known]
            low.plot(*_steps(values), style, color="#333", label=name, linewidth=1.2)
        low.axhline(0, color="#bbb", linewidth=0.8)
        low.set_ylim(-1, 1)
        low.set_ylabel("of the labels")
        low.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        top.set_title(person or timeline.people, loc="left", fontsize=10)
        for axis in (top, strip, low):
            axis.set_xlim(0, max(timeline.seconds, 0.1))
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
    axes[-1, 0].set_xlabel("seconds")
    out = io.BytesIO()
    figure.savefig(
        out,
        format="png",
        dpi=100,
        metadata={
            "Software": "emojax",
            **({"Description": f"purpose: {timeline.purpose}"} if timeline.purpose else {}),
        },
    )
    plt.close(figure)
    return out.getvalue()


def _steps(values: list[tuple[float, float, float]]) -> tuple[list[float], list[float]]:
    """(start, end, height) -> a line of steps, broken where time is left out."""
    x: list[float] = []
    y: list[float] = []
    for start, end, height in values:
        if x and start - x[-1] > 0.05:
            x.append(np.nan)
            y.append(np.nan)
        x += [start, end]
        y += [height, height]
    return x, y

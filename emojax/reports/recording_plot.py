"""A timeline as one picture: probabilities over time, the label track, valence and arousal."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emojax.infer.timeline_records import Span, Timeline
from emojax.reports.palette import AXIS, ZERO_LINE, label_colours
from emojax.reports.plot_files import plot_bytes

_LEGEND = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "frameon": False}


def to_plot(timeline: Timeline, kind: str = "png") -> bytes:
    """A picture of three panels per person.

    Args:
      timeline: the recording.
      kind: png (1400 pixels wide), svg or pdf.
    """
    persons = timeline.persons
    figure = Figure(figsize=(14, 5.2 * len(persons)), layout="constrained")
    axes = figure.subplots(
        3 * len(persons), 1, height_ratios=[4, 0.6, 2] * len(persons), sharex=True, squeeze=False
    )
    for row, person in enumerate(persons):
        panels = [axes[3 * row + i, 0] for i in range(3)]
        spans = [s for s in timeline.spans_of(person) if s.smoothed]
        _draw_probabilities(panels[0], timeline.labels, spans)
        panels[0].set_title(person or timeline.people, loc="left", fontsize=10)
        _draw_track(panels[1], timeline.labels, spans)
        _draw_valence(panels[2], spans)
        for panel in panels:
            panel.set_xlim(0, max(timeline.seconds, 0.1))
            panel.tick_params(labelbottom=panel is panels[-1])
            for side in ("top", "right"):
                panel.spines[side].set_visible(False)
    axes[-1, 0].set_xlabel("seconds")
    facts = [f"purpose: {timeline.purpose}" if timeline.purpose else "", timeline.fingerprint]
    return plot_bytes(figure, kind, dpi=100, description="; ".join(filter(None, facts)))


def _draw_probabilities(panel: Axes, labels: tuple[str, ...], spans: list[Span]) -> None:
    colours = label_colours(labels)
    for label in labels if spans else ():
        x, y = _steps([(s.start, s.end, s.smoothed.get(label, 0.0)) for s in spans])
        panel.plot(x, y, color=colours[label], label=label)
    panel.set_ylim(0, 1)
    panel.set_ylabel("probability\n(smoothed)")
    if spans:
        panel.legend(**_LEGEND)


def _draw_track(panel: Axes, labels: tuple[str, ...], spans: list[Span]) -> None:
    colours = label_colours(labels)
    for s in spans:
        panel.axvspan(s.start, s.end, color=colours[s.track], linewidth=0)
    panel.set_yticks([])
    panel.set_ylabel("track", rotation=0, ha="right", va="center")


def _draw_valence(panel: Axes, spans: list[Span]) -> None:
    known = [s for s in spans if s.valence is not None]
    for name, style in (("valence", "-"), ("arousal", "--")):
        x, y = _steps([(s.start, s.end, getattr(s, name)) for s in known])
        panel.plot(x, y, style, color=AXIS, label=name, linewidth=1.2)
    panel.axhline(0, color=ZERO_LINE, linewidth=0.8)
    panel.set_ylim(-1, 1)
    panel.set_ylabel("of the labels")
    panel.legend(**_LEGEND)


def _steps(values: list[tuple[float, float, float]]) -> tuple[list[float], list[float]]:
    """A step line from (start, end, height), interrupted where time is left out."""
    x: list[float] = []
    y: list[float] = []
    for start, end, height in values:
        if x and start - x[-1] > 0.05:
            x.append(np.nan)
            y.append(np.nan)
        x += [start, end]
        y += [height, height]
    return x, y

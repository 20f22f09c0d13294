"""Groups of clips: speakers or videos that intervals resample, and subgroups that are scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emojax.evaluate import statistics
from emojax.evaluate.predictions import Prediction
from emojax.evaluate.sufficient_statistics import SufficientStatistics

MIN_GROUPS = 10  # with fewer speakers, intervals over them mean nothing
_DURATIONS = ((0, 2), (2, 5), (5, 10), (10, 30), (30, float("inf")))  # seconds


@dataclasses.dataclass(frozen=True)
class Groups:
    """The groups that intervals resample.

    Attributes:
      keys: the group of each clip; "" for a clip that is a group of its own.
      kind: what the groups are: speaker, video or clip.
    """

    keys: list[str]
    kind: str

    @property
    def alone(self) -> int:
        """Number of clips that are a group of their own."""
        return self.keys.count("")

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(set(self.keys) - {""}) + self.alone


def resampling_groups(rows: Sequence[Prediction]) -> Groups:
    """The groups that intervals resample: speakers or videos, with fewer than MIN_GROUPS the clips.

    Intervals over a handful of speakers mean nothing. Intervals over clips are too narrow, but they
    describe these clips.
    """
    for name, keys in (
        ("speaker", [r.speaker or r.video for r in rows]),
        ("video", [r.video for r in rows]),
    ):
        groups = Groups(keys, name if any(getattr(r, name) for r in rows) else "video")
        if any(keys) and groups.count >= MIN_GROUPS:
            return groups
    return Groups([""] * len(rows), "clip")


def interval_method(rows: Sequence[Prediction], resamples: int) -> str:
    """How the intervals of these rows are made, in words."""
    groups = resampling_groups(rows)
    text = f"bootstrap over {groups.count} {groups.kind}s"
    if groups.kind != "clip" and groups.alone:
        text += f" ({groups.alone} of them are clips whose {groups.kind} is not known)"
    text += f", 95 %, {resamples} resamples, percentiles widened for few groups"
    text += "; Wilson's where all resamples are equal"
    people = {r.speaker for r in rows} - {""}
    if people and groups.kind == "clip":
        text += f"; only {len(people)} people, so nothing follows for other people"
    return text


def subgroup_scores(
    strict: SufficientStatistics, rows: Sequence[Prediction], *, resamples: int, seed: int
) -> dict[str, Any]:
    """Scores by modalities present, duration and language, as far as the rows know them.

    Args:
      strict: sufficient statistics of the rows.
      rows: the predictions.
      resamples: of the bootstrap; 0 leaves the intervals out.
      seed: of the bootstrap.

    Returns:
      {property: {value: {n, scores, intervals}}}.
    """
    keys: Mapping[str, Callable[[Prediction], str | None]] = {
        "modalities": lambda r: (
            None if r.modalities is None else "+".join(sorted(r.modalities)) or "none"
        ),
        "duration": lambda r: None if r.duration is None else _duration(r.duration),
        "language": lambda r: r.language or None,
    }
    out: dict[str, Any] = {}
    groups = resampling_groups(rows).keys
    for name, key in keys.items():
        values = [key(r) for r in rows]
        scores: dict[str, Any] = {}
        for value in sorted({v for v in values if v is not None}):
            mask = np.array([v == value for v in values])
            part = strict.subset(mask)
            scores[value] = {"n": int(mask.sum()), **part.json_scores()}
            if resamples:
                scores[value]["intervals"] = statistics.intervals(
                    part,
                    [g for g, inside in zip(groups, mask, strict=True) if inside],
                    resamples=resamples,
                    seed=seed,
                )
        if scores:
            out[name] = scores
    return out


def _duration(seconds: float) -> str:
    low, high = next((low, high) for low, high in _DURATIONS if seconds < high)
    return f"{low} to {high} s" if high < float("inf") else f"over {low} s"

"""Valence and arousal of label probabilities: the mean of published coordinates of the labels, weighted by probability.

It says where the *named labels* lie, it is not measured from the clip. Coordinates: Russell & Mehrabian, Evidence for a three-factor
theory of emotions, J. Res. Personality 11 (1977), pleasure and arousal of the words given in brackets, from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_pipeline.datasets.labels import concept

SOURCE = "Russell & Mehrabian 1977 (pleasure, arousal); neutral is the origin by definition"
COORDINATES: dict[str, tuple[float, float]] = {
    "anger": (-0.51, 0.59),  # angry
    "disgust": (-0.60, 0.35),  # disgusted
    "fear": (-0.64, 0.60),  # fearful
    "happiness": (0.81, 0.51),  # happy
    "joy": (0.76, 0.48),  # joyful
    "sadness": (-0.63, -0.27),  # sad
    "surprise": (0.40, 0.67),  # surprised
    "anxiety": (0.01, 0.59),  # anxious
    "worry": (0.01, 0.59),  # anxious
    "excitement": (0.62, 0.75),  # excited
    "boredom": (-0.65, -0.62),  # bored
    "neutral": (0.0, 0.0),
}


def valence_arousal(probabilities: Mapping[str, float]) -> tuple[float | None, float | None, float]:
    """(valence, arousal, share): the weighted mean over labels with coordinates, and how much probability these hold.

    Below half of the probability both are None: the rest would speak for what is not known.
    """
    known = [
        (p, COORDINATES[c])
        for label, p in probabilities.items()
        if (c := concept(label)) in COORDINATES
    ]
    share = sum(p for p, _ in known)
    if share < 0.5:
        return None, None, round(share, 4)
    valence, arousal = (sum(p * c[i] for p, c in known) / share for i in range(2))
    return round(valence, 4), round(arousal, 4), round(share, 4)

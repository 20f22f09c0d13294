"""Valence and arousal of label probabilities: the weighted mean of the labels' coordinates.

They describe the predicted labels; they are not measured from the clip. The coordinates, from -1 to
1, are pleasure and arousal of the words given as comments, from Russell & Mehrabian, Evidence for a
three-factor theory of emotions, J. Res. Personality 11 (1977).
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
    """Mean coordinates of the labels, weighted by their probabilities.

    Returns:
      Valence, arousal, and the total probability of the labels that have coordinates. If it is
      below 0.5, valence and arousal are None: too much of the answer has no coordinates.
    """
    known = [
        (p, COORDINATES[c])
        for label, p in probabilities.items()
        if (c := concept(label)) in COORDINATES
    ]
    covered = sum(p for p, _ in known)
    if covered < 0.5:
        return None, None, round(covered, 4)
    valence, arousal = (sum(p * c[i] for p, c in known) / covered for i in range(2))
    return round(valence, 4), round(arousal, 4), round(covered, 4)

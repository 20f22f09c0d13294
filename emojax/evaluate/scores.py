"""What modalities carry, and how true the clues are that reasons name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn import metrics

from emojax.types import MODALITIES

# Modality ablations: name -> what may be used. `video` is everything that is seen.
ABLATIONS: dict[str, tuple[str, ...]] = {
    "fused": MODALITIES,
    **{f"without_{m}": tuple(o for o in MODALITIES if o != m) for m in MODALITIES},
    **{f"only_{m}": (m,) for m in MODALITIES},
}


def uar(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Unweighted average recall over the classes that occur in the truth."""
    classes = sorted(set(truth))
    return float(metrics.recall_score(truth, predicted, labels=classes, average="macro", zero_division=0))


def clue_scores(named: Sequence[dict[str, Sequence[str]]], true: Sequence[dict[str, Sequence[str]]]) -> dict[str, Any]:
    """How true the clues are that reasons name, over all clips and modalities.

    Args:
      named, true: for each clip, clue phrases by modality.

    Returns:
      precision, recall, and absent_named: how many clips name evidence of a modality that is not there.
    """
    hits = said = there = absent = 0
    for names, truths in zip(named, true, strict=True):
        lost = False
        for modality in MODALITIES:
            a, b = set(names.get(modality, ())), set(truths.get(modality, ()))
            hits, said, there = hits + len(a & b), said + len(a), there + len(b)
            lost |= bool(a) and not b
        absent += lost
    return {
        "precision": hits / said if said else 0.0,
        "recall": hits / there if there else 0.0,
        "named": said,
        "true": there,
        "absent_named": absent,
    }

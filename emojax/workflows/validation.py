"""Validation while training: a score of the `val` split, never of the test split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.loader.samples import read_element
from data_pipeline.media.speaker_norm import normalize_items
from emojax.bundle.model_folder import Bundle
from emojax.evaluate.model_answers import Items
from emojax.evaluate.single_label_scores import uar
from emojax.infer.answer import label_probabilities

SAMPLES = 8  # clips whose answers are logged


class Validation:
    """Scores a model on the same clips of the validation split each time.

    Args:
      source: random-access source of the clips.
      labels: labels to choose from.
      clips: at most this many clips are used, evenly spaced.
    """

    def __init__(self, source: Sequence[Any], labels: tuple[str, ...], *, clips: int) -> None:
        self._source, self._labels = source, labels
        chosen = np.linspace(0, len(source) - 1, min(len(source), clips)).round().astype(int)
        self._chosen: list[int] = list(dict.fromkeys(chosen.tolist()))
        self._items: Items = []

    def score(self, bundle: Bundle) -> tuple[float, list[dict[str, Any]]]:
        """UAR of a model, and its answers for the first clips."""
        if not self._items:
            views = bundle.settings.views
            clips = (read_element(self._source[i], views) for i in self._chosen)
            self._items = normalize_items(clips, bundle.average_speaker)
        probs = label_probabilities(bundle, self._items, self._labels)
        truth = [record.label for record, _ in self._items]
        best = [self._labels[i] for i in probs.argmax(axis=1)]
        samples = [
            {"clip": r.id, "true": r.label, "answer": b, "probability": round(float(row.max()), 4)}
            for (r, _), b, row in zip(self._items[:SAMPLES], best, probs, strict=False)
        ]
        return uar(truth, best), samples

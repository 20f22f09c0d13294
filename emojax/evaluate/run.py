"""Scores a model on clips with known labels; on the embedded corpus also against its truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_pipeline.embedded.clues import find_clues
from data_pipeline.embedded.truth import CorpusConfig, best_possible
from data_pipeline.schema import ClipRecord
from emojax.bundle import Bundle
from emojax.evaluate.scores import ABLATIONS, closed_set, clue_scores, uar
from emojax.infer.answer import label_probabilities, reasons
from emojax.types import Views

Items = Sequence[tuple[ClipRecord, Views]]


def predict_labels(
    bundle: Bundle, items: Items, modalities: Sequence[str], tick: Callable[[int], None] | None
) -> list[str]:
    """The most probable label of each clip."""
    probabilities = label_probabilities(bundle, items, bundle.labels, modalities, tick=tick)
    return [bundle.labels[i] for i in probabilities.argmax(axis=1)]


def evaluate(bundle: Bundle, splits: Mapping[str, Items], tick: Callable[[int], None] | None = None) -> dict[str, Any]:
    """{split: scores} as `evaluation.json` holds them (see scores.closed_set)."""
    results: dict[str, Any] = {}
    for split, items in splits.items():
        truth = [record.label for record, _ in items]
        results[split] = closed_set(truth, predict_labels(bundle, items, ABLATIONS["fused"], tick), bundle.labels)
    return results


def evaluate_embedded(
    bundle: Bundle,
    items: Items,
    config: CorpusConfig,
    ablations: Sequence[str] = tuple(ABLATIONS),
    with_clues: bool = True,
    tick: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Scores on embedded clips: test, ablations, conflict, clues and the bounds of the corpus.

    Args:
      items: clips of one split, with truth.
      config: settings of the corpus, for the best possible scores.
      ablations: names of scores.ABLATIONS, `fused` among them.
      with_clues: also write the reasons and check their clues.
    """
    truth = [record.label for record, _ in items]
    predicted = {name: predict_labels(bundle, items, ABLATIONS[name], tick) for name in ablations}
    fused = predicted["fused"]
    odd = [i for i, (r, _) in enumerate(items) if r.truth is not None and r.truth["conflict"]]
    results: dict[str, Any] = {
        "test": closed_set(truth, fused, bundle.labels),
        "ablations": {name: uar(truth, labels) for name, labels in predicted.items()},
        "conflict": uar([truth[i] for i in odd], [fused[i] for i in odd]) if odd else None,
        "conflict_n": len(odd),
        "best_possible": best_possible(config),
        "best_possible_by_modality": {name: best_possible(config, ABLATIONS[name]) for name in ablations},
    }
    if with_clues and bundle.can_reason:
        written = reasons(bundle, items, tick=tick)
        named: list[dict[str, Sequence[str]]] = [{**find_clues(text)} for text in written]
        true = [r.truth["clues"] if r.truth is not None else {} for r, _ in items]
        results["clues"] = clue_scores(named, true)
    return results

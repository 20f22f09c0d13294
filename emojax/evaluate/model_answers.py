"""Answers and scores of a model on labelled clips, and on the embedded corpus with its truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline.embedded.clues import find_clues
from data_pipeline.embedded.truth import CorpusConfig, best_possible
from data_pipeline.media.views import Views
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import Bundle
from emojax.evaluate.clue_scores import ABLATIONS, clue_scores
from emojax.evaluate.emotion_wheels import builtin_tables
from emojax.evaluate.metric_scorers import ScoredSet
from emojax.evaluate.predictions import Prediction
from emojax.evaluate.scorer import score_set
from emojax.evaluate.single_label_scores import uar
from emojax.infer.answer import label_probabilities, reasons

Items = Sequence[tuple[ClipRecord, Views]]
_TASK = "evaluate"


def predict_labels(
    bundle: Bundle,
    items: Items,
    modalities: Sequence[str],
    *,
    progress: Progress = no_progress,
) -> list[str]:
    """The most probable label of each clip.

    Args:
      bundle: the model.
      items: the clips.
      modalities: those that the model may use.
      progress: reports finished clips.
    """
    probabilities = label_probabilities(
        bundle, items, bundle.labels, modalities=modalities, progress=progress
    )
    return [bundle.labels[i] for i in probabilities.argmax(axis=1)]


def label_rows(
    bundle: Bundle, items: Items, *, progress: Progress = no_progress
) -> list[Prediction]:
    """Answers every clip with its most probable label, in one forward pass per clip."""
    probabilities = label_probabilities(bundle, items, bundle.labels, progress=progress)
    return [
        dataclasses.replace(
            prediction_for(
                record,
                [m for m, has in (("video", views.has_video), ("audio", views.has_audio)) if has],
            ),
            response=bundle.labels[int(p.argmax())],
            probabilities={
                label: round(float(x), 6) for label, x in zip(bundle.labels, p, strict=True)
            },
        )
        for (record, views), p in zip(items, probabilities, strict=True)
    ]


def prediction_for(
    record: ClipRecord, modalities: Sequence[str], *, answer: str = "", mode: str = ""
) -> Prediction:
    """A prediction without an answer: what is known about a clip.

    Args:
      record: the clip.
      modalities: those present; a subtitle adds `text`.
      answer: the truth, "" for the record's label.
      mode: the part of the set, "" for the record's split.
    """
    present = [m for m in ("video", "audio") if m in modalities]
    return Prediction(
        clip=record.id,
        answer=answer or record.label,
        mode=mode or record.split,
        speaker=record.speaker,
        modalities=(*present, *(["text"] if record.subtitle else [])),
        duration=round(record.end - (record.start or 0.0), 3) if record.end is not None else None,
        path=record.path,
        start=record.start,
        end=record.end,
        subtitle=record.subtitle,
    )


def evaluate(
    bundle: Bundle, splits: Mapping[str, Items], *, progress: Progress = no_progress
) -> dict[str, ScoredSet]:
    """Scores by split of answers from label probabilities."""
    out = {}
    done, total = 0, sum(map(len, splits.values()))
    progress(_TASK, 0, total)
    for split, items in splits.items():
        rows = label_rows(bundle, items, progress=_part(progress, done, total))
        done += len(items)
        out[split] = score_set(rows, "single", builtin_tables(), asked=bundle.labels)
    return out


def evaluate_embedded(
    bundle: Bundle,
    items: Items,
    config: CorpusConfig,
    *,
    ablations: Sequence[str] = tuple(ABLATIONS),
    with_clues: bool = True,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Scores on embedded clips: test, ablations, conflict, clues and the bounds of the corpus.

    Args:
      bundle: the model.
      items: clips of one split, with truth.
      config: settings of the corpus, for the best possible scores.
      ablations: names of `clue_scores.ABLATIONS`, including `fused`.
      with_clues: whether reasons are generated and their clues checked.
      progress: reports the task "evaluate" in clips, over all forward passes.
    """
    truth = [record.label for record, _ in items]
    with_clues = with_clues and bundle.can_reason
    hidden = [name for name in ablations if name != "fused"]
    n, total = len(items), len(items) * (1 + len(hidden) + with_clues)
    progress(_TASK, 0, total)
    rows = label_rows(bundle, items, progress=_part(progress, 0, total))
    fused = [r.response for r in rows]
    predicted = {"fused": fused} | {
        name: predict_labels(
            bundle, items, ABLATIONS[name], progress=_part(progress, number * n, total)
        )
        for number, name in enumerate(hidden, 1)
    }
    conflicting = [
        i for i, (r, _) in enumerate(items) if r.truth is not None and r.truth["conflict"]
    ]
    results: dict[str, Any] = {
        "test": score_set(rows, "single", builtin_tables(), asked=bundle.labels).result,
        "ablations": {name: uar(truth, labels) for name, labels in predicted.items()},
        "conflict": (
            uar([truth[i] for i in conflicting], [fused[i] for i in conflicting])
            if conflicting
            else None
        ),
        "conflict_n": len(conflicting),
        "best_possible": best_possible(config),
        "best_possible_by_modality": {
            name: best_possible(config, modalities=ABLATIONS[name]) for name in ablations
        },
    }
    if with_clues:
        texts = reasons(bundle, items, progress=_part(progress, total - n, total))
        named = [find_clues(text) for text in texts]
        true = [r.truth["clues"] if r.truth is not None else {} for r, _ in items]
        results["clues"] = clue_scores(named, true)
    return results


def _part(progress: Progress, before: int, total: int) -> Progress:
    """Reports one pass over clips as a part of the whole task; `before` clips are done already."""
    return lambda _task, done, _total: progress(_TASK, before + done, total)

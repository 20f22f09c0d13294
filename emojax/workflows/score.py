"""Calibrates a model folder and scores it on clips with known labels."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.io import keep_earlier
from data_pipeline.loader.open_sources import DataSources, Sources, open_views, read_records
from data_pipeline.loader.samples import read_element
from data_pipeline.media.notes import counted
from data_pipeline.media.speaker_norm import normalize_items
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import ClipRecord
from emojax.bundle.calibration import FILE as CALIBRATION_FILE
from emojax.bundle.calibration import (
    FOLDS,
    Calibration,
    fit_temperature,
    held_out_probs,
    load_calibration,
)
from emojax.bundle.model_folder import Bundle, load_bundle, read_facts
from emojax.bundle.training_clips import clip_key, load_training_clips, seen_notes
from emojax.evaluate import results_folder
from emojax.evaluate.confidence_scores import calibration
from emojax.evaluate.model_answers import Items, evaluate
from emojax.infer.answer import label_probabilities
from emojax.workflows.evaluation_files import write_evaluation_files

FEW_CLIPS = 20  # a temperature fitted on fewer clips is noise

logger = logging.getLogger(__name__)


def items_of(source: Sequence[Any], bundle: Bundle) -> Items:
    """All clips of a split in memory, normalised per speaker if the model was trained so."""
    items = (read_element(source[i], bundle.settings.views) for i in range(len(source)))
    return normalize_items(items, bundle.average_speaker)


def calibrate(
    folder: Path,
    source: Sequence[Any],
    *,
    name: str = "",
    keep: bool = False,
    progress: Progress = no_progress,
) -> Calibration | None:
    """Fits the temperature of a model's probabilities on clips and saves it in its folder.

    Args:
      folder: the model folder.
      source: clips with known labels.
      name: what the clips are, for the record.
      keep: whether an earlier calibration that differs is kept under another name.
      progress: gets the task "calibrate".

    Returns:
      The calibration; None, with nothing saved, for fewer than FEW_CLIPS clips.
    """
    if len(source) < FEW_CLIPS:
        logger.warning(
            "note: probabilities are not calibrated: that needs at least %d clips, not %d",
            FEW_CLIPS,
            len(source),
        )
        return None
    bundle = dataclasses.replace(load_bundle(folder), calibration=None)
    items = [(r, v) for r, v in items_of(source, bundle) if r.label in bundle.labels]
    progress("calibrate", 0, len(items))
    probs = label_probabilities(
        bundle,
        items,
        bundle.labels,
        progress=lambda _, done, total: progress("calibrate", done, total),
    )
    targets = np.array([bundle.labels.index(r.label) for r, _ in items])
    fitted = fit_temperature(probs, targets, source=name, labels=bundle.labels)
    if keep and load_calibration(folder) not in (None, fitted):
        logger.info(
            "the earlier calibration is kept as %s; to have it back, rename it to %s",
            keep_earlier(folder / CALIBRATION_FILE),
            CALIBRATION_FILE,
        )
    fitted.save(folder)
    _log_calibration(fitted, probs, targets)
    return fitted


def _log_calibration(fitted: Calibration, probs: np.ndarray, targets: np.ndarray) -> None:
    """Logs what a calibration does for clips that it was not fitted on."""
    held_out = held_out_probs(probs, targets)
    before, after = (calibration(p, targets)["ece"] for p in (probs, held_out))
    logger.info(
        f"probabilities calibrated on {fitted.n:,} clips: temperature {fitted.temperature:.2f}; "
        f"ECE {before:.3f} before and {after:.3f} after, by {FOLDS}-fold cross-validation"
    )
    if fitted.is_at_bound and fitted.temperature > 1:
        logger.warning(
            "note: temperature %.2f is the highest that is tried: these probabilities say almost "
            "nothing about the labels of these clips, and are nearly equal now. Check the labels, "
            "calibrate on more clips, or train on clips of this kind",
            fitted.temperature,
        )
    elif fitted.is_at_bound:
        logger.warning(
            "note: temperature %.2f is the lowest that is tried: the model is right on all of "
            "these clips, or nearly. Calibrate on clips that it was not trained on",
            fitted.temperature,
        )


def score_splits(
    folder: Path,
    sources: Sources,
    out: Path,
    *,
    labels: tuple[str, ...] | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Scores a model folder on splits and writes the files of an evaluation.

    Args:
      folder: the model folder.
      sources: {split: clips}; all of them are scored.
      out: folder for evaluation.json, evaluation.md, report.html, clips.csv, predictions/ and
        confusion plots.
      labels: label space in place of the model's.
      progress: gets the task "evaluate".

    Returns:
      {split: scores}, as in evaluation.json.
    """
    bundle = load_bundle(folder)
    bundle = dataclasses.replace(bundle, labels=labels or bundle.labels)
    items = {split: items_of(sources[split], bundle) for split in sorted(sources)}
    nameless = sum(v.has_audio and not r.speaker for part in items.values() for r, v in part)
    if bundle.average_speaker is not None and nameless:
        logger.warning(
            "note: %s without a speaker: their audio is not normalised per speaker, as the model "
            "expects",
            counted(nameless, "clip"),
        )
    scored = evaluate(bundle, items, progress=progress)
    results = {split: one.result for split, one in scored.items()}
    results_folder.write_prediction_files(out, {split: s.rows for split, s in scored.items()})
    write_evaluation_files(results, scored, out=out, title=folder.name)
    return results


def score_data(
    folder: Path,
    records: Sequence[ClipRecord],
    sources: DataSources,
    out: Path,
    *,
    progress: Progress = no_progress,
) -> dict[Path, dict[str, Any]]:
    """Scores the held-out splits of built data sets that ask for one emotion per clip.

    Args:
      folder: the model folder.
      records: the clips of all data sets.
      sources: {data set: {split: clips}}.
      out: folder of the results; with several data sets each has a folder in it.
      progress: see `score_splits`.

    Returns:
      {folder of the results: {split: scores}}; each data set is scored in its own label space.
    """
    results = {}
    for name, splits in sources.items():
        first = next(r for r in records if r.dataset == name)
        held_out = {split: source for split, source in splits.items() if split != "train"}
        if first.task == "emotion" and first.labels and held_out:
            place = out / name if len(sources) > 1 else out
            results[place] = score_splits(
                folder, held_out, place, labels=first.labels, progress=progress
            )
    return results


def read_labelled_clips(
    folder: Path,
    manifest: str,
    *,
    labels: Sequence[str],
    splits: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
) -> list[ClipRecord]:
    """Reads the clips of a manifest to score or calibrate a model on.

    Where the manifest has no splits, clips of the data that the model was trained on keep their
    split of the training, and the others are `test`.

    Args:
      folder: the model folder.
      manifest: see `read_records`.
      labels: the model's.
      splits: only clips of the first of these splits that the manifest has; () for all clips.
      columns: see `read_records`.

    Returns:
      The clips; those that the model was trained on are noted, and left in.

    Raises:
      ManifestError: the manifest has faults.
      ValueError: the manifest has no clip of these splits.
    """
    trained = load_training_clips(folder)
    known: Counter[str] = Counter()

    def split_of(record: ClipRecord) -> str:
        before = trained.get(clip_key(record) or "")
        known.update([before] if before else [])
        return before or "test"

    records = read_records(manifest, labels=labels, split_of=split_of, columns=columns)
    if known:
        logger.info(
            "note: %s: the splits of %s are those of the model's training (%s)",
            manifest,
            counted(known.total(), "clip"),
            ", ".join(f"{name} {n:,}" for name, n in sorted(known.items())),
        )
    if splits:
        present = {r.split for r in records}
        chosen = next((name for name in splits if name in present), None)
        if chosen is None:
            raise ValueError(
                f"{manifest} has no row of split {' or '.join(splits)}, only of "
                f"{', '.join(sorted(present))} (without a column 'split', rows are test unless "
                "they are of the model's training data)"
            )
        records = [r for r in records if r.split == chosen]
    for note in seen_notes(records, trained):
        logger.warning("note: %s: %s", manifest, note)
    return records


def score_manifest(
    model: Path,
    manifest: str,
    out: Path,
    *,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Scores a model folder on the clips of a manifest.

    Args:
      model: the model folder.
      manifest: see `read_records`.
      out: folder of the results.
      split: score this split only.
      labels: label space in place of the model's.
      columns: see `read_records`.
      progress: gets the tasks "decode clips" and "evaluate".

    Returns:
      {split: scores}.

    Raises:
      ManifestError: the manifest has faults.
      ValueError: the manifest has no clip of this split.
      FileNotFoundError: `model` is not a model folder.
    """
    facts, settings = read_facts(model)
    space = tuple(labels or facts["labels"])
    records = read_labelled_clips(
        model, manifest, labels=space, splits=(split,) if split else (), columns=columns
    )
    sources = open_views(records, settings.views, settings.sampling, progress=progress)
    return score_splits(model, sources, out, labels=space, progress=progress)

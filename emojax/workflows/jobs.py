"""Whole jobs behind the commands: records -> views -> training -> scores, with progress on the console."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from data_pipeline import schema
from data_pipeline.builders.decoded_clips import NOTES, build_views
from data_pipeline.builders.shards import open_built
from data_pipeline.datasets.manifest import ignored_columns, read_manifest
from data_pipeline.io import cache_root
from data_pipeline.loader.batches import BuiltSource, read_element
from data_pipeline.media.speaker_norm import normalize_items
from data_pipeline.schema import ClipRecord
from emojax.bundle.calibration import Calibration, fit_temperature
from emojax.bundle.model_folder import Bundle, load_bundle
from emojax.cli.progress_bars import bar
from emojax.config import Settings
from emojax.evaluate import results_folder
from emojax.evaluate.model_answers import Items, evaluate
from emojax.evaluate.statistics import calibration
from emojax.infer.answer import label_probabilities
from emojax.reports import evaluation_tables
from emojax.reports.evaluation_page import page
from emojax.train.run_folder import run_path

FEW_CLIPS = 20  # a temperature fitted on fewer says nothing
Sources = dict[str, Any]  # split -> random-access source
DataSources = Mapping[str, Mapping[str, Any]]  # data set -> split -> random-access source


def run_folder(path: str) -> Path:
    """The local folder of a job, made before anything slow starts; see folder.run_path."""
    return Path(run_path(path))


@contextmanager
def one_builder() -> Iterator[None]:
    """Held by one process of this machine at a time: those of a run make corpus and views once, not side by side."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with open(cache_root() / "building", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_records(
    manifest: str,
    console: Console,
    *,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    hold_out: float = 0.15,
) -> list[ClipRecord]:
    """Clips of a manifest (see `read_manifest`), or of records.jsonl as `emojax annotate` writes it; prints what is not read."""
    if manifest.endswith(".jsonl"):
        found = [
            r for r in schema.read_records(Path(manifest)) if labels is None or r.label in labels
        ]
        learned = [r for r in found if r.split != "unsplit"]
        if not learned:
            raise ValueError(
                f"{manifest}: no record has a split and a label"
                + (" of this model" if labels else "")
            )
        return learned
    records = read_manifest(manifest, labels=labels, seed=seed, hold_out=hold_out)
    if ignored := ignored_columns(manifest):
        console.print(
            f"note: columns {', '.join(ignored)} of {manifest} are not read", soft_wrap=True
        )
    return records


def open_views(records: Sequence[ClipRecord], settings: Settings, console: Console) -> Sources:
    """Decoded views by split, made once and kept; prints what had to be skipped, with the reason."""
    with one_builder(), bar(console, "decode clips") as tick:
        sources, skipped, folder = build_views(
            cache_root() / "views", records, settings.views, settings.sampling, progress=tick
        )
        tick(len(records), len(records))
    for entry in skipped[:10]:
        console.print(f"skipped {entry['path']}: {entry['reason']}", soft_wrap=True)
    if len(skipped) > 10:
        console.print(f"... {len(skipped) - 10} more skipped")
    if skipped:
        console.print(f"{len(skipped)} of {len(records)} clips skipped")
    if notes := json.loads((folder / NOTES).read_text()):
        console.print(
            f"{len(notes)} of {len(records)} clips have notes: {folder / NOTES}", soft_wrap=True
        )
        kinds = Counter(re.sub(r"\d+(\.\d+)?", "N", note["reason"]) for note in notes)
        for kind, number in kinds.most_common(3):
            console.print(f"  {number}: {kind}", soft_wrap=True)
    return sources


def open_data(
    folder: Path, settings: Settings, *, names: Sequence[str] | None = None
) -> tuple[list[ClipRecord], DataSources]:
    """Built data sets: (records of all, {set: {split: source}}).

    Raises:
      ValueError: nothing built there, or what was built can not serve these settings.
    """
    built = open_built(folder, names=names)
    for one in built.values():
        one.config.check(settings.views, settings.sampling(None))
    records = [r for one in built.values() for r in one.records()]
    sources = {
        n: {s: BuiltSource(one, s, settings.views, settings.sampling(None)) for s in one.sources}
        for n, one in built.items()
    }
    return records, sources


def score_data(
    folder: Path,
    records: Sequence[ClipRecord],
    sources: DataSources,
    out: Path,
    console: Console,
) -> None:
    """Scores every held-out split of built data sets that ask for one emotion a clip, each in its own label space."""
    for name, splits in sources.items():
        own = next(r for r in records if r.dataset == name)
        held = {s: source for s, source in splits.items() if s != "train"}
        if own.task != "emotion" or not own.labels or not held:
            continue
        score_splits(
            folder,
            held,
            sorted(held),
            out / name if len(sources) > 1 else out,
            console,
            labels=own.labels,
        )


def items_of(source: Sequence[Any], bundle: Bundle) -> Items:
    """All clips of a split, in memory, normalised by speaker where the model was trained so."""
    found = (read_element(source[i], bundle.settings.views) for i in range(len(source)))
    return normalize_items(found, bundle.average_speaker)


def calibrate(
    folder: Path, source: Sequence[Any], console: Console, *, name: str = ""
) -> Calibration | None:
    """Fits the temperature of a model folder on clips and keeps it there; with fewer than FEW_CLIPS nothing is fitted."""
    if len(source) < FEW_CLIPS:
        console.print(
            f"note: {len(source)} clips are too few to calibrate probabilities on (at least {FEW_CLIPS})"
        )
        return None
    bundle = dataclasses.replace(load_bundle(folder), calibration=None)
    items = [(r, v) for r, v in items_of(source, bundle) if r.label in bundle.labels]
    with bar(console, "calibrate") as tick:
        done = Counter[str]()

        def count(n: int) -> None:
            done["clips"] += n
            tick(done["clips"], len(items))

        chances = label_probabilities(bundle, items, bundle.labels, tick=count)
    right = np.array([bundle.labels.index(r.label) for r, _ in items])
    found = fit_temperature(chances, right, source=name, labels=bundle.labels)
    found.save(folder)
    before, after = (calibration(p, right)["ece"] for p in (chances, found.apply(chances)))
    console.print(
        f"probabilities calibrated on {found.n} clips: temperature {found.temperature:.2f}, ECE {before:.3f} before and {after:.3f} after",
        soft_wrap=True,
    )
    return found


def score_splits(
    folder: Path,
    sources: Sources,
    splits: Sequence[str],
    out: Path,
    console: Console,
    *,
    labels: tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """Scores a model folder on splits and writes evaluation.json, .md and pictures into `out`; `labels`: label space in
    place of the model's.
    """
    bundle = load_bundle(folder)
    bundle = dataclasses.replace(bundle, labels=labels or bundle.labels)
    items = {s: items_of(sources[s], bundle) for s in splits}
    nameless = sum(v.has_audio and not r.speaker for found in items.values() for r, v in found)
    if bundle.average_speaker is not None and nameless:
        console.print(
            f"note: {nameless} clips name no speaker; their sound is not normalised by speaker, as the model expects"
        )
    total = sum(map(len, items.values()))
    done = Counter[str]()
    with bar(console, "evaluate") as tick:

        def count(n: int) -> None:
            done["clips"] += n
            tick(done["clips"], total)

        found = evaluate(bundle, items, tick=count)
    results = {split: scored.result for split, (scored, _) in found.items()}
    scored, rows = (
        {s: pair[0] for s, pair in found.items()},
        {s: pair[1] for s, pair in found.items()},
    )
    evaluation_tables.write(results, out)
    results_folder.write_clips(out, rows, scored)
    results_folder.write_rows(out, rows)
    (out / "report.html").write_text(
        page(results, scored=scored, rows=rows, title=folder.name), encoding="utf-8"
    )
    evaluation_tables.show(results, console)
    console.print(
        f"written: {out}/evaluation.json, evaluation.md, report.html, clips.csv", soft_wrap=True
    )
    return results


def score_manifest(
    model: Path, manifest: str, split: str | None, out: Path, console: Console
) -> None:
    """Scores a model folder on the clips of a manifest.

    Raises:
      ManifestError, ValueError, FileNotFoundError: with what to change.
    """
    bundle = load_bundle(model)
    records = read_records(manifest, console, labels=bundle.labels, hold_out=0)
    if split:
        records = [r for r in records if r.split == split]
        if not records:
            raise ValueError(f"{manifest} has no row of split '{split}'")
    sources = open_views(records, bundle.settings, console)
    score_splits(model, sources, sorted(sources), out, console)

"""Opens what training and evaluation read: manifests, decoded views, built data sets.

A source is a random-access sequence of clips of one split.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline import schema
from data_pipeline.builders.decoded_clips import NOTES, build_views
from data_pipeline.builders.shards import open_built
from data_pipeline.datasets.manifest import read_manifest
from data_pipeline.io import cache_root, wait_for_lock
from data_pipeline.loader.batches import BuiltSource
from data_pipeline.media.clip import Sampling
from data_pipeline.media.notes import count_notes, counted
from data_pipeline.media.views import ViewConfig
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import ClipRecord

Sources = dict[str, Any]  # split -> random-access source
DataSources = Mapping[str, Mapping[str, Any]]  # data set -> split -> random-access source
SHOWN = 10  # skipped clips that are logged one by one

logger = logging.getLogger(f"emojax.{__name__}")


def read_records(
    manifest: str,
    *,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    split_of: Callable[[ClipRecord], str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[ClipRecord]:
    """Reads the clips of a manifest, or of records.jsonl as `emojax annotate` writes it.

    Args:
      manifest: a table (see `read_manifest`) or a .jsonl file of records.
      labels: the label space to stay in (a model's); by default the labels of the file.
      seed: of a manifest; see `read_manifest`.
      split_of: of a manifest; see `read_manifest`.
      columns: of a manifest; see `read_manifest`.

    Raises:
      ManifestError: the manifest has faults, each named with its row and column.
      ValueError: no record of a .jsonl file has a split and a label.
    """
    if schema.holds_records(Path(manifest)):
        records = schema.read_records(Path(manifest))
        usable = [
            r for r in records if (labels is None or r.label in labels) and r.split != "unsplit"
        ]
        if not usable:
            of_model = " of this model" if labels else ""
            raise ValueError(f"{manifest}: no record has a split and a label{of_model}")
        return usable
    return read_manifest(manifest, labels=labels, seed=seed, split_of=split_of, columns=columns)


def open_views(
    records: Sequence[ClipRecord],
    views: ViewConfig,
    sampling: Callable[[int | None], Sampling],
    *,
    progress: Progress = no_progress,
) -> Sources:
    """Decodes clips into views once, keeps them in the cache, and opens them.

    Clips that cannot be decoded are skipped and logged with the reason. One process per machine
    decodes at a time: the others wait and open its result.

    Args:
      records: the clips.
      views: sizes of the views.
      sampling: how a clip is decoded, given its peak frame or None.
      progress: gets the task "decode clips".

    Returns:
      {split: source} of the splits with at least one decoded clip.

    Raises:
      ValueError: no clip can be decoded.
    """
    with wait_for_lock(cache_root() / "building"):
        sources, skipped, folder = build_views(
            cache_root() / "views", records, views, sampling, progress=progress
        )
    for entry in skipped[:SHOWN]:
        logger.warning("skipped %s: %s", entry["path"], entry["reason"])
    if len(skipped) > SHOWN:
        logger.warning("... %d more skipped", len(skipped) - SHOWN)
    if skipped:
        logger.warning("%d of %s skipped", len(skipped), counted(len(records), "clip"))
    if notes := json.loads((folder / NOTES).read_text()):
        total = counted(len(records), "clip")
        logger.info("notes on %d of %s, listed in %s:", len(notes), total, folder / NOTES)
        for line in count_notes((note["reason"].split("; ") for note in notes), most=SHOWN):
            logger.info("  %s", line)
    return sources


def open_data(
    folder: Path,
    views: ViewConfig,
    sampling: Callable[[int | None], Sampling],
    *,
    names: Sequence[str] | None = None,
) -> tuple[list[ClipRecord], DataSources]:
    """Opens data sets that `emojax data build` wrote.

    Args:
      folder: the folder of the build.
      views: sizes of the views.
      sampling: how a clip is decoded, given its peak frame or None.
      names: data sets to open; by default all in the folder.

    Returns:
      (records of all data sets, {data set: {split: source}}).

    Raises:
      ValueError: nothing is built there, or the build does not fit these settings.
    """
    built = open_built(folder, names=names)
    for one in built.values():
        one.config.check(views, sampling(None))
    records = [r for one in built.values() for r in one.records()]
    sources = {
        name: {split: BuiltSource(one, split, views, sampling(None)) for split in one.sources}
        for name, one in built.items()
    }
    return records, sources

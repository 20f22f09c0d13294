"""Reads the clips to annotate: a folder, a manifest with or without labels, or records.jsonl."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.datasets.file_index import search_media
from data_pipeline.datasets.labels import SPLIT_WORDS
from data_pipeline.datasets.manifest import ManifestLine, read_manifest_lines
from data_pipeline.schema import ClipRecord, read_records

logger = logging.getLogger(f"emojax.{__name__}")

MAX_REPORTED_FAULTS = 10


def read_clip_list(path: Path, *, labels: Sequence[str] = ()) -> list[ClipRecord]:
    """Reads a list of clips.

    Args:
      path: a folder, which is searched recursively; a manifest CSV with the column `path` and
        optionally label, subtitle, split, speaker, start and end; or records.jsonl.
      labels: the label space, required if the clips have no labels.

    Raises:
      ValueError: the list is missing, empty or invalid; the message names rows and columns.
    """
    if path.is_dir():
        return _folder(path, tuple(labels))
    if path.suffix == ".jsonl":
        return [_relocated(r, path.parent / "clips") for r in read_records(path)]
    if not path.is_file():
        raise ValueError(f"{path}: no such file or folder")
    return _short_ids(_manifest(path, tuple(labels)))


def _folder(path: Path, labels: tuple[str, ...]) -> list[ClipRecord]:
    found = search_media([path])
    for line in found.notes():
        logger.info("note: %s", line)
    files = [Path(file) for file in found.files]
    if not files:
        raise ValueError(f"{path}: no media file in it")
    names = [os.path.relpath(p, path).rsplit(".", 1)[0].replace(os.sep, "/") for p in files]
    dataset = path.name or "clips"
    return [_record(n, dataset, p, labels) for n, p in zip(names, files, strict=True)]


def _relocated(record: ClipRecord, folder: Path) -> ClipRecord:
    """Looks for a missing file in another folder: the embedded corpus may have been moved."""
    other = folder / Path(record.path).name
    if Path(record.path).exists() or not other.exists():
        return record
    return dataclasses.replace(record, path=str(other))


def _manifest(path: Path, labels: tuple[str, ...]) -> list[ClipRecord]:
    lines, _ = read_manifest_lines(path, required=("path",))
    space = labels or tuple(sorted({line.cells["label"] for line in lines} - {""}))
    out, faults = [], []
    for line in lines:
        try:
            out.append(_clip(line, path, space))
        except ValueError as error:
            faults.append(f"{path}, row {line.number}{error}")
    if faults:
        more = len(faults) - MAX_REPORTED_FAULTS
        end = f"\n... and {more} more rows" if more > 0 else ""
        raise ValueError("\n".join(faults[:MAX_REPORTED_FAULTS]) + end)
    return out


def _clip(line: ManifestLine, manifest: Path, space: tuple[str, ...]) -> ClipRecord:
    """Makes the record of one row.

    Raises:
      ValueError: a cell is not valid; the caller puts file and row before the message.
    """
    cells = line.cells
    media = manifest.parent / cells["path"]  # keeps an absolute path
    if not cells["path"] or not media.is_file():
        raise ValueError(f", column 'path': there is no file '{media}'")
    label, split = cells["label"], cells["split"].lower()
    if label and label not in space:
        raise ValueError(f", column 'label': '{label}' is not one of {', '.join(space)}")
    if split and split not in SPLIT_WORDS:
        raise ValueError(f", column 'split': '{split}' is none of train, val, test")
    times: dict[str, float | None] = {"start": None, "end": None}
    for column in times:
        try:
            times[column] = float(cells[column]) if cells[column] else None
        except ValueError:
            raise ValueError(
                f", column '{column}': '{cells[column]}' is not a number of seconds"
            ) from None
    try:
        return dataclasses.replace(
            _record(f"{media.stem}#{line.number}", manifest.stem, media, space),
            label=label,
            split=SPLIT_WORDS.get(split, "unsplit"),
            subtitle=cells["subtitle"],
            speaker=cells["speaker"],
            start=times["start"],
            end=times["end"],
        )
    except ValueError as error:
        raise ValueError(f": {error}") from error


def _record(name: str, dataset: str, path: Path, labels: tuple[str, ...]) -> ClipRecord:
    return ClipRecord(
        id=name,
        dataset=dataset,
        split="unsplit",
        path=str(path.absolute()),
        label="",
        labels=labels,
    )


def _short_ids(records: list[ClipRecord]) -> list[ClipRecord]:
    """Names clips by their files' stems, as MERR and MMEVerse do.

    Several spans of one file get their times appended, so ids do not depend on the order of rows.
    Only identical rows and equal stems of different folders keep the number of their row.
    """
    stems = [Path(r.path).stem for r in records]
    spans = [f"{r.start or 0:g}-{'end' if r.end is None else f'{r.end:g}'}" for r in records]
    per_stem, per_span = Counter(stems), Counter(zip(stems, spans, strict=True))
    files: dict[str, set[str]] = defaultdict(set)
    for r, stem in zip(records, stems, strict=True):
        files[stem].add(r.path)
    out = []
    for r, stem, span in zip(records, stems, spans, strict=True):
        if per_stem[stem] == 1:
            out.append(dataclasses.replace(r, id=stem))
        elif len(files[stem]) == 1 and per_span[stem, span] == 1:
            out.append(dataclasses.replace(r, id=f"{stem}_{span}"))
        else:
            out.append(r)
    return out

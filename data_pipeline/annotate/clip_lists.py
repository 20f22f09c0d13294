"""Reads the clips to annotate: a folder, a manifest with or without labels, or records.jsonl."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_pipeline.datasets.file_index import search_media
from data_pipeline.datasets.labels import is_missing
from data_pipeline.datasets.manifest import (
    ManifestLine,
    ManifestTable,
    check_line,
    raise_faults,
    read_manifest_table,
)
from data_pipeline.datasets.manifest_labels import LabelReader
from data_pipeline.io import printable
from data_pipeline.schema import ClipRecord, holds_records, read_records

logger = logging.getLogger(f"emojax.{__name__}")


def read_clip_list(
    path: Path, *, labels: Sequence[str] = (), columns: Mapping[str, str] | None = None
) -> list[ClipRecord]:
    """Reads a list of clips.

    Args:
      path: a folder, which is searched recursively; a manifest with the column `path` and
        optionally label, subtitle, split, speaker, start and end; or records.jsonl.
      labels: the label space, required if the clips have no labels.
      columns: of a manifest; see `read_manifest`.

    Raises:
      ValueError: the list is missing, empty or invalid; the message names rows and columns.
    """
    if path.is_dir():
        return _folder(path, tuple(labels))
    if holds_records(path):
        return [_relocated(r, path.parent / "clips") for r in read_records(path)]
    if not path.is_file():
        raise ValueError(f"{path}: no such file or folder")
    table = read_manifest_table(path, required=("path",), columns=columns)
    return _short_ids(_manifest(table, labels))


def _folder(path: Path, labels: tuple[str, ...]) -> list[ClipRecord]:
    found = search_media([path])
    for line in found.notes():
        logger.info("note: %s", line)
    files = [Path(file) for file in found.files if os.path.isfile(file)]
    if other := [file for file in found.files if not os.path.isfile(file)]:
        logger.info("note: left out (not regular files): %s", ", ".join(map(printable, other)))
    if not files:
        raise ValueError(f"{path}: no media file in it")
    names = [
        printable(os.path.relpath(p, path)).rsplit(".", 1)[0].replace(os.sep, "/") for p in files
    ]
    dataset = path.name or "clips"
    return [_record(n, dataset, p, labels) for n, p in zip(names, files, strict=True)]


def _relocated(record: ClipRecord, folder: Path) -> ClipRecord:
    """Looks for a missing file in another folder: the embedded corpus may have been moved."""
    other = folder / Path(record.path).name
    if Path(record.path).exists() or not other.exists():
        return record
    return dataclasses.replace(record, path=str(other))


def _manifest(table: ManifestTable, labels: Sequence[str]) -> list[ClipRecord]:
    named = Counter(c for line in table.lines if not is_missing(c := line.cells["label"]))
    named |= Counter(c for line in table.lines if (c := line.cells["label"]) in labels)
    reader = LabelReader(named, tuple(labels) or None)
    out: list[ClipRecord] = []
    faults: list[str] = []
    for line in table.lines:
        record, found = _clip(table, line, reader)
        faults += [f"{table.place(line, column)}: {text}" for column, text in found]
        out.append(record)
    raise_faults(faults)
    return out


def _clip(
    table: ManifestTable, line: ManifestLine, reader: LabelReader
) -> tuple[ClipRecord, list[tuple[str, str]]]:
    """(the record of one row, [(column, fault)]); a row needs neither label nor split."""
    cells = line.cells
    checked, faults = check_line(table, line, needs_split=False)
    label = cells["label"]
    if is_missing(label) and label not in reader.space:
        label = ""
    elif fault := reader.fault(label):
        faults.append(("label", fault))
    if faults:
        return _record("?", table.path.stem, checked.media, ()), faults
    name = f"{checked.media.stem}#{line.number}"
    record = dataclasses.replace(
        _record(name, table.path.stem, checked.media, reader.space),
        label=reader.label(label) if label else "",
        split=checked.split or "unsplit",
        subtitle=cells["subtitle"],
        speaker=cells["speaker"],
        start=checked.start,
        end=checked.end,
    )
    return record, []


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

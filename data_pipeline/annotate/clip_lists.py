"""Reads the clips to annotate: a folder, a manifest with or without labels, or records.jsonl."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.datasets.mmeverse import SPLIT_WORDS
from data_pipeline.media.clip import MEDIA_SUFFIXES
from data_pipeline.schema import ClipRecord, read_records

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
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in MEDIA_SUFFIXES)
    if not files:
        raise ValueError(f"{path}: no media file in it ({', '.join(sorted(MEDIA_SUFFIXES))})")
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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text (byte {error.start}); save it as CSV UTF-8"
        ) from error
    # Lines end as CSV defines it: a subtitle may contain other separators.
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = [c.strip().lower() for c in reader.fieldnames or ()]
    if "path" not in columns:
        raise ValueError(f"{path}: needs a column 'path', and one 'label' if labels are known")
    rows = []
    for row in reader:
        cells = {
            str(k).strip().lower(): (v or "").strip()
            for k, v in row.items()
            if isinstance(k, str) and isinstance(v, str | type(None))
        }
        rows.append((reader.line_num, cells))
    if not rows:
        raise ValueError(f"{path}: there is no clip in it")
    space = labels or tuple(sorted({cells["label"] for _, cells in rows if cells.get("label")}))
    out, faults = [], []
    for number, cells in rows:
        try:
            out.append(_clip(cells, number, path, space))
        except ValueError as error:
            faults.append(f"{path}, row {number}{error}")
    if faults:
        more = len(faults) - MAX_REPORTED_FAULTS
        end = f"\nand {more} rows more" if more > 0 else ""
        raise ValueError("\n".join(faults[:MAX_REPORTED_FAULTS]) + end)
    return out


def _clip(cells: dict[str, str], number: int, manifest: Path, space: tuple[str, ...]) -> ClipRecord:
    """Reads one row.

    Raises:
      ValueError: a cell is invalid; the message continues ": row N".
    """
    media = manifest.parent / cells["path"]  # keeps an absolute path
    if not cells["path"] or not media.is_file():
        raise ValueError(f", column 'path': there is no file '{media}'")
    label, split = cells.get("label", ""), cells.get("split", "").lower()
    if label and label not in space:
        raise ValueError(f", column 'label': '{label}' is not one of {', '.join(space)}")
    if split and split not in SPLIT_WORDS:
        raise ValueError(f", column 'split': '{split}' is none of train, val, test")
    times: dict[str, float | None] = {"start": None, "end": None}
    for column in times:
        try:
            times[column] = float(cells[column]) if cells.get(column) else None
        except ValueError:
            raise ValueError(
                f", column '{column}': '{cells[column]}' is not a number of seconds"
            ) from None
    try:
        return dataclasses.replace(
            _record(f"{media.stem}#{number}", manifest.stem, media, space),
            label=label,
            split=SPLIT_WORDS.get(split, "unsplit"),
            subtitle=cells.get("subtitle", ""),
            speaker=cells.get("speaker", ""),
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

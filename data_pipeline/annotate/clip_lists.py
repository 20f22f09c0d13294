"""What is to be annotated: a manifest with or without labels, records of a data set, a folder of files."""

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

MOST_FAULTS = 10  # rows that are told of at once


def read_clip_list(path: Path, *, labels: Sequence[str] = ()) -> list[ClipRecord]:
    """Clips of a folder (searched), a manifest CSV (`path`, and what there is of label, subtitle, split, speaker, start, end), or
    records.jsonl. `labels`: the label space, needed where clips have none.

    Raises:
      ValueError: with what is wrong.
    """
    if path.is_dir():
        files = sorted(
            p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in MEDIA_SUFFIXES
        )
        if not files:
            raise ValueError(f"{path}: no media file in it ({', '.join(sorted(MEDIA_SUFFIXES))})")
        names = [os.path.relpath(p, path).rsplit(".", 1)[0].replace(os.sep, "/") for p in files]
        return [
            _bare(n, path.name or "clips", p, tuple(labels))
            for n, p in zip(names, files, strict=True)
        ]
    if path.suffix == ".jsonl":
        found = read_records(path)
        beside = path.parent / "clips"  # the embedded corpus may have been moved
        return [
            dataclasses.replace(r, path=str(beside / Path(r.path).name))
            if not Path(r.path).exists() and (beside / Path(r.path).name).exists()
            else r
            for r in found
        ]
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file or folder")
    return _short_ids(_manifest(path, tuple(labels)))


def _manifest(path: Path, labels: tuple[str, ...]) -> list[ClipRecord]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: no UTF-8 text (byte {error.start}); save it as CSV UTF-8"
        ) from error
    # Lines as CSV has them: a subtitle may hold other separators.
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = [c.strip().lower() for c in reader.fieldnames or ()]
    if "path" not in columns:
        raise ValueError(f"{path}: needs a column 'path', and one 'label' where labels are known")
    rows = []
    for row in reader:
        own = {
            str(k).strip().lower(): (v or "").strip()
            for k, v in row.items()
            if isinstance(k, str) and isinstance(v, (str, type(None)))
        }
        rows.append((reader.line_num, own))
    if not rows:
        raise ValueError(f"{path}: there is no clip in it")
    space = labels or tuple(sorted({own["label"] for _, own in rows if own.get("label")}))
    out, faults = [], []
    for number, own in rows:
        try:
            out.append(_clip(own, number, path, space))
        except ValueError as error:
            faults.append(f"{path}, row {number}{error}")
    if faults:
        more = f"\nand {len(faults) - MOST_FAULTS} rows more" if len(faults) > MOST_FAULTS else ""
        raise ValueError("\n".join(faults[:MOST_FAULTS]) + more)
    return out


def _clip(own: dict[str, str], number: int, manifest: Path, space: tuple[str, ...]) -> ClipRecord:
    """One row; raises ValueError with the column and what is wrong with it."""
    media = manifest.parent / own["path"]  # an absolute path stays
    if not own["path"] or not media.is_file():
        raise ValueError(f", column 'path': there is no file '{media}'")
    label, split = own.get("label", ""), own.get("split", "").lower()
    if label and label not in space:
        raise ValueError(f", column 'label': '{label}' is not one of {', '.join(space)}")
    if split and split not in SPLIT_WORDS:
        raise ValueError(f", column 'split': '{split}' is none of train, val, test")
    times: dict[str, float | None] = {"start": None, "end": None}
    for column in times:
        try:
            times[column] = float(own[column]) if own.get(column) else None
        except ValueError:
            raise ValueError(
                f", column '{column}': '{own[column]}' is no number of seconds"
            ) from None
    try:
        return dataclasses.replace(
            _bare(f"{media.stem}#{number}", manifest.stem, media, space), label=label,
            split=SPLIT_WORDS.get(split, "unsplit"), subtitle=own.get("subtitle", ""),
            speaker=own.get("speaker", ""), start=times["start"], end=times["end"],
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f": {error}") from error


def _bare(name: str, dataset: str, path: Path, labels: tuple[str, ...]) -> ClipRecord:
    return ClipRecord(
        id=name,
        dataset=dataset,
        split="unsplit",
        path=str(path.absolute()),
        label="",
        labels=labels,
    )


def _short_ids(records: list[ClipRecord]) -> list[ClipRecord]:
    """The files' stems as ids: MERR and MMEVerse name clips so. Several spans of one file have their times behind it, so ids do not
    hang on the order of rows; only what is still alike, or has one name in several folders, keeps the number of its row.
    """
    stems = [Path(r.path).stem for r in records]
    spans = [f"{r.start or 0:g}-{'end' if r.end is None else f'{r.end:g}'}" for r in records]
    often, alike = Counter(stems), Counter(zip(stems, spans, strict=True))
    of: dict[str, set[str]] = defaultdict(set)
    for r, stem in zip(records, stems, strict=True):
        of[stem].add(r.path)
    out = []
    for r, stem, span in zip(records, stems, spans, strict=True):
        if often[stem] == 1:
            out.append(dataclasses.replace(r, id=stem))
        elif len(of[stem]) == 1 and alike[stem, span] == 1:
            out.append(dataclasses.replace(r, id=f"{stem}_{span}"))
        else:
            out.append(r)
    return out

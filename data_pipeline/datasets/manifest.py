"""Bring your own data: a manifest CSV -> ClipRecords, with every fault named by row and column.

Columns: path, label, and optionally subtitle, split, speaker, start, end. Paths are absolute or relative to the
manifest. Without a split column 15 % are held out as `val`, by speaker where speakers are given.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipeline.loader.prompts import normalise_answer
from data_pipeline.loader.tokens import VIDEO_HERE
from data_pipeline.schema import ClipRecord

REQUIRED = ("path", "label")
OPTIONAL = ("subtitle", "split", "speaker", "start", "end")
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
           "test": "test"}  # fmt: skip
_MAX_SHOWN = 20


class ManifestError(ValueError):
    """str() lists the faults, one a line: file, row (as a spreadsheet counts), column, what to change."""


def read_manifest(
    path: str | Path, *, labels: Sequence[str] | None = None, seed: int = 0, hold_out: float = 0.15
) -> list[ClipRecord]:
    """Reads and checks a manifest.

    Args:
      path: the CSV file (UTF-8).
      labels: label space to stay in (a model's); None takes the labels of the file, sorted.
      seed, hold_out: of the validation split where the file names none; with hold_out 0 every row is then `test`.

    Raises:
      ManifestError: with every fault found.
    """
    path = Path(path)
    numbered, columns = _read_rows(path)
    rows = [row for _, row in numbered]
    faults: list[str] = []

    def fault(row: int, column: str, text: str) -> None:
        faults.append(f"{path}, row {row}, column '{column}': {text}")

    names = sorted({r["label"] for r in rows if r["label"]})
    space = tuple(labels) if labels is not None else tuple(names)
    if labels is None and len(names) == 1:
        faults.append(
            f"{path}, column 'label': every row says '{names[0]}'; training needs at least two labels"
        )
    same: dict[str, str] = {}
    for name in names:
        spoken = normalise_answer(name)
        if not spoken or VIDEO_HERE in name:
            faults.append(f"{path}, column 'label': '{name}' holds no word that the model can say")
        elif same.setdefault(spoken, name) != name:
            faults.append(
                f"{path}, column 'label': '{same[spoken]}' and '{name}' are the same answer, '{spoken}'"
            )
    parsed: list[dict[str, object]] = []
    seen: dict[tuple[str, str, str], int] = {}
    for number, row in numbered:
        media = Path(row["path"])
        media = media if media.is_absolute() else path.parent / media
        if not row["path"]:
            fault(number, "path", "is empty; give a media file")
        elif not media.is_file():
            fault(number, "path", f"there is no file '{media}'")
        if not row["label"]:
            fault(number, "label", "is empty; every row needs a label")
        elif row["label"] not in space:
            fault(number, "label", f"'{row['label']}' is not one of {', '.join(space)}")
        split = _SPLITS.get(row["split"].lower(), "") if "split" in columns else ""
        if "split" in columns and not split:
            fault(number, "split", f"'{row['split']}' is none of train, val, test")
        span = {}
        for column in ("start", "end"):
            try:
                span[column] = float(row[column]) if row[column] else None
                if span[column] is not None and not 0 <= span[column] < 1e7:  # type: ignore[operator]
                    raise ValueError
            except ValueError:
                span[column] = None
                fault(number, column, f"'{row[column]}' is no number of seconds")
        if span["start"] is not None and span["end"] is not None and span["end"] <= span["start"]:
            fault(number, "end", f"{row['end']} is not after start {row['start']}")
        key = (str(media), row["start"], row["end"])
        if row["path"] and key in seen:
            fault(number, "path", f"the same clip stands in row {seen[key]}")
        seen.setdefault(key, number)
        parsed.append({"media": media, "row": row, "split": split, **span})
    if faults:
        more = f"\n... and {len(faults) - _MAX_SHOWN} more" if len(faults) > _MAX_SHOWN else ""
        raise ManifestError("\n".join(faults[:_MAX_SHOWN]) + more)
    splits = [str(p["split"]) for p in parsed]
    if "split" not in columns:
        splits = (
            _hold_out([r["speaker"] for r in rows], seed, hold_out)
            if hold_out
            else ["test"] * len(rows)
        )
    return [
        ClipRecord(
            id=f"{p['media'].stem}#{number}",  # type: ignore[attr-defined]
            dataset=path.stem,
            split=split,
            path=str(p["media"].absolute()),  # type: ignore[attr-defined]
            label=row["label"],
            labels=space,
            subtitle=row["subtitle"],
            speaker=row["speaker"],
            start=p["start"],  # type: ignore[arg-type]
            end=p["end"],  # type: ignore[arg-type]
        )
        for p, (number, row), split in zip(parsed, numbered, splits, strict=True)
    ]


def _read_rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], set[str]]:
    if not path.is_file():
        raise ManifestError(f"there is no manifest '{path}'")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8"
        ) from error
    try:
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise ManifestError(f"{path} is no CSV that can be read ({error})") from error
    if not lines:
        raise ManifestError(
            f"{path} is empty; it needs a header with the columns {', '.join(REQUIRED)}"
        )
    header = [name.strip().lower() for name in lines[0]]
    known = (*REQUIRED, *OPTIONAL)
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        hint = (
            "; columns are separated by commas"
            if len(header) == 1 and any(c in text for c in ";\t")
            else ""
        )
        raise ManifestError(f"{path}, row 1: no column '{missing[0]}' among {header}{hint}")
    for name in header:
        if header.count(name) > 1 and name in known:
            raise ManifestError(f"{path}, row 1: column '{name}' stands there twice")
        close = difflib.get_close_matches(name, known, 1, 0.8)
        if name not in known and close and close[0] not in header:
            raise ManifestError(
                f"{path}, row 1: column '{name}' is not known; did you mean '{close[0]}'?"
            )
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if not any(cell.strip() for cell in line):
            continue  # spreadsheets leave such rows behind
        if len(line) != len(header):
            raise ManifestError(
                f"{path}, row {number}: {len(line)} cells under {len(header)} columns; quote cells with commas"
            )
        cells = {
            n: " ".join(c.split()) if n == "subtitle" else c.strip()
            for n, c in zip(header, line, strict=True)
        }
        rows.append(
            (number, dict.fromkeys(known, "") | {n: c for n, c in cells.items() if n in known})
        )
    if not rows:
        raise ManifestError(f"{path} has a header and no rows")
    return rows, set(header)


def ignored_columns(path: str | Path) -> list[str]:
    """Names of the manifest's columns that are not read."""
    return sorted(_read_rows(Path(path))[1] - {*REQUIRED, *OPTIONAL})


def _hold_out(speakers: list[str], seed: int, share: float) -> list[str]:
    rng = np.random.default_rng(seed)
    groups = (
        speakers
        if all(speakers) and len(set(speakers)) > 2
        else [str(i) for i in range(len(speakers))]
    )
    names = sorted(set(groups))
    rng.shuffle(names)
    held = set(names[: max(1, round(share * len(names)))])
    return ["val" if g in held else "train" for g in groups]


def speakers_in_common(records: Sequence[ClipRecord]) -> dict[str, list[str]]:
    """{held-out split: speakers that are in train too}; scores on them say little about new people."""
    train = {r.speaker for r in records if r.split == "train" and r.speaker}
    out = {}
    for split in ("val", "test"):
        both = sorted(train & {r.speaker for r in records if r.split == split})
        if both:
            out[split] = both
    return out

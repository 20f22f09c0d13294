"""Reads manifests: CSV files that list your own clips, with row and column of every fault.

Columns: path, label, and optionally subtitle, split, speaker, start, end. Paths are absolute or
relative to the manifest. Without a split column 15 % are held out as `val`, by speaker if speakers
are given.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipeline.datasets.labels import SPLIT_WORDS, normalize_answer
from data_pipeline.datasets.reading import long_csv_cells
from data_pipeline.schema import VIDEO_HERE, ClipRecord

REQUIRED = ("path", "label")
HOLD_OUT = 0.15  # share of clips, or of speakers, where a list has no splits
OPTIONAL = ("subtitle", "split", "speaker", "start", "end")
_MAX_SHOWN = 20
_MAX_SECONDS = 1e7


class ManifestError(ValueError):
    """str() lists the faults, one per line: file, row (as a spreadsheet counts), column, remedy."""


@dataclasses.dataclass(frozen=True)
class ManifestLine:
    """One row of a manifest.

    Attributes:
      number: of the row, as a spreadsheet counts.
      cells: the text of every known column, stripped; "" where the file lacks the column.
    """

    number: int
    cells: dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Clip:
    """The checked cells of a row."""

    media: Path
    split: str
    start: float | None
    end: float | None


def read_manifest(
    path: str | Path,
    *,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    hold_out: float = HOLD_OUT,
) -> list[ClipRecord]:
    """Reads and checks a manifest.

    Args:
      path: the CSV file (UTF-8).
      labels: label space that the rows must use, such as a model's; None uses the labels of the
        file, sorted.
      seed: of the validation split, when the file has no split column.
      hold_out: fraction of that split; with 0 every row is `test`.

    Raises:
      ManifestError: lists all faults.
    """
    path = Path(path)
    lines, columns = read_manifest_lines(path)
    names = sorted({line.cells["label"] for line in lines if line.cells["label"]})
    space = tuple(labels) if labels is not None else tuple(names)
    faults = _check_labels(path, names, from_file=labels is None)
    clips: list[_Clip] = []
    first_rows: dict[tuple[str, str, str], int] = {}
    for line in lines:
        clip, clip_faults = _check_line(path, line, space, has_split="split" in columns)
        key = (str(clip.media), line.cells["start"], line.cells["end"])
        if line.cells["path"] and key in first_rows:
            clip_faults.append(("path", f"the same clip is in row {first_rows[key]}"))
        first_rows.setdefault(key, line.number)
        faults += [f"{path}, row {line.number}, column '{c}': {text}" for c, text in clip_faults]
        clips.append(clip)
    if faults:
        more = f"\n... and {len(faults) - _MAX_SHOWN} more" if len(faults) > _MAX_SHOWN else ""
        raise ManifestError("\n".join(faults[:_MAX_SHOWN]) + more)
    splits = [clip.split for clip in clips]
    if "split" not in columns:
        speakers = [line.cells["speaker"] for line in lines]
        splits = _hold_out(speakers, seed, hold_out) if hold_out else ["test"] * len(lines)
    return [
        ClipRecord(
            id=f"{clip.media.stem}#{line.number}",
            dataset=path.stem,
            split=split,
            path=str(clip.media.absolute()),
            label=line.cells["label"],
            labels=space,
            subtitle=" ".join(line.cells["subtitle"].split()),
            speaker=line.cells["speaker"],
            start=clip.start,
            end=clip.end,
        )
        for clip, line, split in zip(clips, lines, splits, strict=True)
    ]


def _check_labels(path: Path, names: Sequence[str], *, from_file: bool) -> list[str]:
    """Faults of the labels that a manifest uses."""
    place = f"{path}, column 'label'"
    faults = []
    if from_file and len(names) == 1:
        faults.append(f"{place}: every row has '{names[0]}'; training needs at least two labels")
    by_answer: dict[str, str] = {}
    for name in names:
        answer = normalize_answer(name)
        if not answer or VIDEO_HERE in name:
            faults.append(f"{place}: '{name}' contains no word that the model can answer")
        elif by_answer.setdefault(answer, name) != name:
            faults.append(
                f"{place}: '{by_answer[answer]}' and '{name}' are the same answer, '{answer}'"
            )
    return faults


def _check_line(
    path: Path, line: ManifestLine, space: tuple[str, ...], *, has_split: bool
) -> tuple[_Clip, list[tuple[str, str]]]:
    """(the clip of a row, [(column, fault)])."""
    cells = line.cells
    faults: list[tuple[str, str]] = []
    media = Path(cells["path"])
    media = media if media.is_absolute() else path.parent / media
    if not cells["path"]:
        faults.append(("path", "is empty; give a media file"))
    elif not media.is_file():
        faults.append(("path", f"there is no file '{media}'"))
    if not cells["label"]:
        faults.append(("label", "is empty; every row needs a label"))
    elif cells["label"] not in space:
        faults.append(("label", f"'{cells['label']}' is not one of {', '.join(space)}"))
    split = SPLIT_WORDS.get(cells["split"].lower(), "") if has_split else ""
    if has_split and not split:
        faults.append(("split", f"'{cells['split']}' is none of train, val, test"))
    start, end = (_parse_seconds(cells[column]) for column in ("start", "end"))
    for column, seconds in (("start", start), ("end", end)):
        if cells[column] and seconds is None:
            faults.append((column, f"'{cells[column]}' is not a number of seconds"))
    if start is not None and end is not None and end <= start:
        faults.append(("end", f"{cells['end']} is not after start {cells['start']}"))
    return _Clip(media=media, split=split, start=start, end=end), faults


def _parse_seconds(text: str) -> float | None:
    """The number of seconds, None when the text is not a valid one."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < _MAX_SECONDS else None


def read_manifest_lines(
    path: Path, *, required: Sequence[str] = REQUIRED
) -> tuple[list[ManifestLine], set[str]]:
    """Reads the cells of a manifest, without checking them.

    Args:
      path: the CSV file (UTF-8).
      required: the columns that the file must have.

    Returns:
      (rows that are not blank, columns of the file in lower case).

    Raises:
      ManifestError: the file is not readable CSV, has no row, lacks a required column, or a row has
        more or fewer cells than the header.
    """
    if not path.is_file():
        raise ManifestError(f"there is no manifest '{path}'")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8"
        ) from error
    try:
        with long_csv_cells():
            rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise ManifestError(f"{path} is not readable CSV ({error})") from error
    if not rows:
        raise ManifestError(
            f"{path} is empty; it needs a header with the columns {', '.join(required)}"
        )
    header = [name.strip().lower() for name in rows[0]]
    _check_header(path, header, text, required)
    known = (*REQUIRED, *OPTIONAL)
    lines = []
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue  # spreadsheets leave such rows behind
        if len(row) != len(header):
            raise ManifestError(
                f"{path}, row {number}: {len(row)} cells under {len(header)} columns; "
                "quote cells with commas"
            )
        cells = dict.fromkeys(known, "")
        for name, cell in zip(header, row, strict=True):
            if name in known:
                cells[name] = cell.strip()
        lines.append(ManifestLine(number, cells))
    if not lines:
        raise ManifestError(f"{path} has a header and no rows")
    return lines, set(header)


def _check_header(path: Path, header: Sequence[str], text: str, required: Sequence[str]) -> None:
    known = (*REQUIRED, *OPTIONAL)
    if missing := [name for name in required if name not in header]:
        hint = ""
        if len(header) == 1 and any(c in text for c in ";\t"):
            hint = "; columns are separated by commas"
        raise ManifestError(f"{path}, row 1: no column '{missing[0]}' among {header}{hint}")
    for name in header:
        if header.count(name) > 1 and name in known:
            raise ManifestError(f"{path}, row 1: column '{name}' occurs twice")
        close = difflib.get_close_matches(name, known, 1, 0.8)
        if name not in known and close and close[0] not in header:
            raise ManifestError(
                f"{path}, row 1: column '{name}' is not known; did you mean '{close[0]}'?"
            )


def ignored_columns(path: str | Path) -> list[str]:
    """Columns of the manifest that are not read.

    Raises:
      ManifestError: see `read_manifest_lines`.
    """
    return sorted(read_manifest_lines(Path(path))[1] - {*REQUIRED, *OPTIONAL})


def _hold_out(speakers: list[str], seed: int, fraction: float) -> list[str]:
    """A split per row; holds out whole speakers if every row names one and there are over two."""
    rng = np.random.default_rng(seed)
    by_speaker = all(speakers) and len(set(speakers)) > 2
    groups = speakers if by_speaker else [str(i) for i in range(len(speakers))]
    names = sorted(set(groups))
    rng.shuffle(names)
    held_out = set(names[: max(1, round(fraction * len(names)))])
    return ["val" if group in held_out else "train" for group in groups]


def speakers_in_common(records: Sequence[ClipRecord]) -> dict[str, list[str]]:
    """Speakers that are in train and in a held-out split, by split.

    Scores on such a split say little about new speakers.
    """
    train = {r.speaker for r in records if r.split == "train" and r.speaker}
    out = {}
    for split in ("val", "test"):
        both = sorted(train & {r.speaker for r in records if r.split == split})
        if both:
            out[split] = both
    return out

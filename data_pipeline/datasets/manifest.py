"""Reads manifests: tables that list your own clips, with row and column of every fault.

Columns: path, label, and optionally subtitle, split, speaker, start, end; other names are mapped to
these. Paths are absolute or relative to the manifest. Without a split column 15 % are held out as
`val`, by speaker if speakers are given. `manifest_notes.py` finds what is no fault but worth a
note.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PureWindowsPath

import av
import numpy as np

from data_pipeline.datasets.labels import SPLIT_WORDS
from data_pipeline.datasets.manifest_labels import LabelReader
from data_pipeline.datasets.manifest_notes import copy_notes, label_notes, recordings
from data_pipeline.datasets.media_paths import locate_file, nearest_name
from data_pipeline.datasets.table_files import TableError, read_table
from data_pipeline.media.container import ClipError, open_media
from data_pipeline.media.stream import recording_seconds
from data_pipeline.schema import ClipRecord
from data_pipeline.suggestions import did_you_mean, nearest, no_such, not_one_of

REQUIRED = ("path", "label")
HOLD_OUT = 0.15  # share of clips, or of speakers, where a list has no splits
OPTIONAL = ("subtitle", "split", "speaker", "start", "end")
COLUMNS = (*REQUIRED, *OPTIONAL)
# Names that people give to these columns, for suggestions; nothing is read by them unasked.
_ALIASES = {
    "path": "file filename filepath file_path file_name video video_path clip clip_path media name",
    "label": "emotion class target category sentiment y annotation ground_truth gt truth",
    "subtitle": "text transcript utterance sentence transcription words subtitles caption",
    "split": "set subset partition fold phase usage",
    "speaker": "speaker_id subject actor person subject_id participant spk",
    "start": "start_time begin onset from starttime",
    "end": "end_time stop offset to endtime",
}
_MAX_SHOWN = 20
_MAX_SECONDS = 1e7
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:[.,]\d*)?)")

logger = logging.getLogger(f"emojax.{__name__}")


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
class ManifestTable:
    """The cells of a manifest, not checked.

    Attributes:
      path: the file.
      lines: the rows that are not blank.
      columns: which of COLUMNS the file has.
      names: what the file calls each of them, for messages.
      ignored: further columns of the file, which are not read.
    """

    path: Path
    lines: list[ManifestLine]
    columns: frozenset[str]
    names: dict[str, str]
    ignored: list[str]

    def place(self, line: ManifestLine, column: str) -> str:
        """Where a fault is: file, row and column."""
        return f"{self.path}, row {line.number}, column '{self.names.get(column, column)}'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineCells:
    """The checked cells of a row, other than its label.

    Attributes:
      media: the file.
      split: one of SPLITS; "" if the row has none.
      start: in seconds, None for the beginning.
      end: in seconds, None for the end.
    """

    media: Path
    split: str
    start: float | None
    end: float | None


def read_manifest(
    path: str | Path,
    *,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    split_of: Callable[[ClipRecord], str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[ClipRecord]:
    """Reads and checks a manifest, and logs notes on what it assumed and found.

    Args:
      path: the file; see `read_table`.
      labels: label space that the rows must use, such as a model's; None uses the labels of the
        file, sorted.
      seed: of the clips that are held out, when the file has no split column.
      split_of: gives the split of a clip, when the file has no split column; None holds out
        HOLD_OUT of the clips as `val`.
      columns: {one of COLUMNS: name of this column in the file}, where they differ.

    Raises:
      ManifestError: lists all faults.
    """
    table = read_manifest_table(Path(path), columns=columns)
    if table.ignored:
        logger.info("note: %s: columns that are not read: %s%s", path, *_ignored(table))
    counts = Counter(line.cells["label"] for line in table.lines)
    reader = LabelReader(counts, labels)
    faults = [f"{path}, column '{table.names['label']}': {text}" for text in reader.faults]
    cells: list[LineCells] = []
    first_rows: dict[tuple[str, str, str], int] = {}
    for line in table.lines:
        checked, line_faults = check_line(table, line, hint=len(faults) < _MAX_SHOWN)
        if fault := reader.fault(line.cells["label"]):
            line_faults.append(("label", fault))
        key = (str(checked.media), line.cells["start"], line.cells["end"])
        if line.cells["path"] and key in first_rows:
            line_faults.append(("path", f"the same clip is in row {first_rows[key]}"))
        first_rows.setdefault(key, line.number)
        faults += [f"{table.place(line, c)}: {text}" for c, text in line_faults]
        cells.append(checked)
    raise_faults(faults)
    records = _records(table, cells, reader)
    groups = recordings(records)
    rows = [line.number for line in table.lines]
    drawn = "split" not in table.columns
    if drawn and split_of:
        records = [dataclasses.replace(r, split=split_of(r)) for r in records]
    elif drawn:
        records = _with_splits(records, groups, seed=seed)
    for note in (*reader.notes(), *label_notes(records, drawn=drawn)):
        logger.info("note: %s: %s", path, note)
    for note in copy_notes(records, groups, rows):
        logger.warning("note: %s: %s", path, note)
    return records


def _ignored(table: ManifestTable) -> tuple[str, str]:
    """(columns that are not read, how to read those that are probably known under another name)."""
    likely = {c: _likely_column(c, table.ignored) for c in OPTIONAL if c not in table.columns}
    option = ",".join(f"{c}={own}" for c, own in likely.items() if own)
    return ", ".join(table.ignored), f" (to read: --columns {option})" if option else ""


def raise_faults(faults: Sequence[str]) -> None:
    """Raises ManifestError with the first faults, if there are any."""
    if faults:
        more = f"\n... and {len(faults) - _MAX_SHOWN} more" if len(faults) > _MAX_SHOWN else ""
        raise ManifestError("\n".join(faults[:_MAX_SHOWN]) + more)


def _records(
    table: ManifestTable, cells: Sequence[LineCells], reader: LabelReader
) -> list[ClipRecord]:
    return [
        ClipRecord(
            id=f"{clip.media.stem}#{line.number}",
            dataset=table.path.stem,
            split=clip.split or "test",
            path=str(clip.media.absolute()),
            label=reader.label(line.cells["label"]),
            labels=reader.space,
            subtitle=" ".join(line.cells["subtitle"].split()),
            speaker=line.cells["speaker"],
            start=clip.start,
            end=clip.end,
        )
        for clip, line in zip(cells, table.lines, strict=True)
    ]


def check_line(
    table: ManifestTable, line: ManifestLine, *, hint: bool = True, needs_split: bool = True
) -> tuple[LineCells, list[tuple[str, str]]]:
    """Checks the path, split and span of a row.

    Args:
      table: the manifest.
      line: the row.
      hint: whether to look for the name that a missing file may have.
      needs_split: whether an empty cell in a split column is a fault.

    Returns:
      (the checked cells, [(column, fault)]).
    """
    cells = line.cells
    faults: list[tuple[str, str]] = []
    media = locate_file(cells["path"], table.path.parent)
    if not cells["path"]:
        faults.append(("path", "is empty; give a media file"))
    elif not media.is_file():
        faults.append(("path", _missing_file(media, cells["path"], hint=hint)))
    has_split = "split" in table.columns
    split = SPLIT_WORDS.get(cells["split"].lower(), "") if has_split else ""
    if has_split and not split and (needs_split or cells["split"]):
        faults.append(("split", not_one_of(cells["split"], ("train", "val", "test"))))
    start, end = (_parse_seconds(cells[column]) for column in ("start", "end"))
    for column, seconds in (("start", start), ("end", end)):
        if cells[column] and seconds is None:
            faults.append((column, f"'{cells[column]}' is not a number of seconds"))
    if start is not None and end is not None and end <= start:
        faults.append(("end", f"{cells['end']} is not after start {cells['start']}"))
    elif start and media.is_file() and (seconds := _seconds_before(str(media), start)):
        text = f"{cells['start']} is not before the end of '{media.name}', which lasts"
        faults.append(("start", f"{text} {seconds:.2f} s"))
    return LineCells(media=media, split=split, start=start, end=end), faults


def _seconds_before(media: str, start: float) -> float | None:
    """The length of a file that ends before a span of it starts; None for other files."""
    try:
        if (stated := _stated_seconds(media)) is None or stated > start:
            return None
        seconds = recording_seconds(media)  # reads the whole file: headers only estimate
    except ClipError:
        return None  # decoding says what is wrong with the file
    return seconds if seconds <= start else None


@functools.lru_cache(maxsize=4096)  # many rows are spans of one file
def _stated_seconds(media: str) -> float | None:
    """The length that the header of a file states."""
    with open_media(media) as container:
        return float(container.duration / av.time_base) if container.duration else None


def _missing_file(media: Path, text: str, *, hint: bool) -> str:
    if media.is_dir():
        return f"'{media}' is a folder; give a media file"
    fault = f"there is no file '{media}'"
    if PureWindowsPath(text).drive:
        return f"there is no file '{text}', a path of Windows; write it relative to the manifest"
    near = nearest_name(media) if hint else None
    if near is not None:
        return f"{fault}; did you mean '{near}'?"
    if not media.parent.is_dir() and not Path(text).is_absolute():
        return f"{fault}; relative paths count from the folder of the manifest"
    return fault


def _parse_seconds(text: str) -> float | None:
    """Seconds of `12.5`, `12,5` or `h:mm:ss.s`; None when the text is not valid."""
    try:
        seconds = float(text)
    except ValueError:
        if not (clock := _CLOCK.fullmatch(text)):
            return None
        hours, minutes, rest = (float((g or "0").replace(",", ".")) for g in clock.groups())
        seconds = 3600 * hours + 60 * minutes + rest
    return seconds if 0 <= seconds < _MAX_SECONDS else None


def read_manifest_table(
    path: Path,
    *,
    required: Sequence[str] = REQUIRED,
    columns: Mapping[str, str] | None = None,
) -> ManifestTable:
    """Reads the cells of a manifest, without checking them.

    Args:
      path: the file; see `read_table`.
      required: which of COLUMNS the file must have.
      columns: {one of COLUMNS: name of this column in the file}, where they differ.

    Raises:
      ManifestError: the file is not a readable table, has no row, lacks a column, or a row has more
        or fewer cells than the header.
    """
    if not path.is_file():
        raise ManifestError(f"there is no manifest '{path}'")
    given = _check_column_names(columns or {})
    try:
        file = read_table(path, wanted=[given.get(c, c) for c in COLUMNS])
    except TableError as error:
        raise ManifestError(str(error)) from error
    for note in file.notes:
        logger.info("note: %s", note)
    if not file.header:
        raise ManifestError(
            f"{path} is empty; it needs a header with the columns {', '.join(required)}"
        )
    header = [name.lower() for name in file.header]
    place = f"{path}, row {file.header_row}"
    index = _find_columns(place, header, required=required, given=given)
    lines = []
    for number, row in file.rows:
        filled = len(row) - next((i for i, c in enumerate(reversed(row)) if c.strip()), len(row))
        if len(row) < len(header) or filled > len(header):
            raise ManifestError(
                f"{path}, row {number}: {len(row)} cells under {len(header)} columns; "
                "quote cells with commas"
            )
        cells = dict.fromkeys(COLUMNS, "") | {c: row[i].strip() for c, i in index.items()}
        lines.append(ManifestLine(number, cells))
    if not lines:
        raise ManifestError(f"{path} has a header and no rows")
    return ManifestTable(
        path=path,
        lines=lines,
        columns=frozenset(index),
        names={c: file.header[i].lower() for c, i in index.items()},
        ignored=sorted({n for i, n in enumerate(header) if n and i not in index.values()}),
    )


def _check_column_names(columns: Mapping[str, str]) -> dict[str, str]:
    """{one of COLUMNS: name in the file in lower case}.

    Raises:
      ManifestError: a key is not one of COLUMNS.
    """
    for name in columns:
        if name not in COLUMNS:
            raise ManifestError(f"--columns: {no_such('column of a manifest', name, COLUMNS)}")
    return {name: own.strip().lower() for name, own in columns.items()}


def _find_columns(
    place: str, header: Sequence[str], *, required: Sequence[str], given: Mapping[str, str]
) -> dict[str, int]:
    """{one of COLUMNS: its index in the header}."""
    names = {c: given.get(c, c) for c in COLUMNS if c in given or c not in given.values()}
    listed = ", ".join(name for name in header if name)
    for column, name in names.items():
        if header.count(name) > 1:
            raise ManifestError(f"{place}: column '{name}' occurs twice")
        if column in given and name not in header:
            near = did_you_mean(name, header)
            raise ManifestError(f"{place}: no column '{name}' among {listed}{near}")
    index = {c: header.index(name) for c, name in names.items() if name in header}
    unread = [name for i, name in enumerate(header) if i not in index.values()]
    for name in unread:
        close = nearest(name, COLUMNS, cutoff=0.8)
        if close and close not in index:
            raise ManifestError(
                f"{place}: column '{name}' is not known; did you mean '{close}'? "
                f"(--columns {close}={name} reads it so)"
            )
    if missing := [c for c in required if c not in index]:
        likely = {c: _likely_column(c, unread) for c in missing}
        rest = [name for name in unread if name and name not in likely.values()]
        only = rest[0] if len(rest) == 1 else "NAME"
        option = ",".join(f"{c}={own or only}" for c, own in likely.items())
        raise ManifestError(
            f"{place}: no column '{missing[0]}' among {listed}; rename the column, or name it "
            f"with --columns {option}"
        )
    return index


def _likely_column(column: str, header: Sequence[str]) -> str | None:
    """The name in a header that probably means a column; None if none does."""
    aliases = _ALIASES[column].split()
    exact = [name for alias in aliases for name in header if name.replace(" ", "_") == alias]
    parts = [name for alias in aliases for name in header if alias in re.split(r"[\W_]+", name)]
    return next(iter((*exact, *parts)), None)


def _with_splits(
    records: Sequence[ClipRecord], groups: Sequence[int], *, seed: int
) -> list[ClipRecord]:
    """Holds out whole speakers if every row names one and there are over two, else recordings."""
    rng = np.random.default_rng(seed)
    speakers = [r.speaker for r in records]
    by_speaker = all(speakers) and len(set(speakers)) > 2
    rows = groups if len(set(groups)) > 2 else range(len(records))
    keys = speakers if by_speaker else [str(group) for group in rows]
    names = sorted(set(keys))
    rng.shuffle(names)
    held_out = set(names[: max(1, round(HOLD_OUT * len(names)))])
    return [
        dataclasses.replace(r, split="val" if key in held_out else "train")
        for r, key in zip(records, keys, strict=True)
    ]


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

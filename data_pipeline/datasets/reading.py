"""Rows of annotation files, and what is wrong with them: file, row and column of every fault, a count of every loss."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.datasets.labels import spell
from data_pipeline.datasets.repair import repair_json
from data_pipeline.datasets.unpickle import load_object_npz, load_plain_pickle
from data_pipeline.media.clip import IMAGE_SUFFIXES, MEDIA_SUFFIXES
from data_pipeline.schema import SEPARATOR, ClipRecord, Target

ANNOTATION_SUFFIXES = frozenset(
    (".csv", ".tsv", ".txt", ".json", ".jsonl", ".npz", ".p", ".pkl", ".xlsx")
)
_MAX_SHOWN = 20
_LONGEST_CELL = 16 << 20  # reasons may be long; a file without line breaks is still told from one


class DataError(ValueError):
    """str() lists the faults of annotation files, one a line: file, row, column, what is wrong."""


class CellError(ValueError):
    """A cell that can not be used."""

    def __init__(self, column: str, text: str):
        self.column, self.text = column, text
        super().__init__(f"column '{column}': {text}" if column else text)


class Left(Exception):
    """Raised by a reader for a row that its set leaves out by rule; str() is the reason it is counted under."""


class Files:
    """Every file under a root, listed once: media are looked up here, not on the disk."""

    def __init__(self, root: Path):
        self.root = root
        self._names: dict[str, set[str]] = {}
        if root.is_file():
            self._names[str(root.parent)] = {root.name}
        self.unreadable: list[str] = []
        seen: set[tuple[int, int]] = set()  # links may lead in circles

        def note(error: OSError) -> None:
            self.unreadable.append(f"{error.filename} ({error.strerror})")

        for folder, inner, names in os.walk(root, onerror=note, followlinks=True):
            stat = os.stat(folder)
            if (stat.st_dev, stat.st_ino) in seen:
                inner.clear()
                continue
            seen.add((stat.st_dev, stat.st_ino))
            self._names[folder] = set(names)

    def folders(self) -> list[Path]:
        """Every folder."""
        return sorted(map(Path, self._names))

    def all(self) -> Iterator[Path]:
        """Every file, in order."""
        for folder in sorted(self._names):
            for name in sorted(self._names[folder]):
                yield Path(folder, name)

    def annotations(self) -> list[Path]:
        """Every file that may hold annotations, by its suffix."""
        return [path for path in self.all() if path.suffix.lower() in ANNOTATION_SUFFIXES]

    def has(self, path: Path) -> bool:
        """Whether the file is there, and is no link to nothing."""
        return path.name in self._names.get(str(path.parent), ()) and path.exists()

    def media(self, bases: Sequence[Path], candidates: Sequence[str]) -> str:
        """The first candidate (below one of `bases`; without a suffix: any media suffix) that is there, else where one
        would be: in a folder that is there, if any is.
        """
        for base, candidate in itertools.product(bases, candidates):
            path = Path(os.path.normpath(base / candidate))
            if self.has(path):
                return str(path)
            if (
                path.suffix.lower() not in MEDIA_SUFFIXES
                and path.suffix.lower() not in IMAGE_SUFFIXES
            ):
                names = self._names.get(str(path.parent), ())
                for suffix in (".mp4", *sorted(MEDIA_SUFFIXES)):
                    if path.name + suffix in names:
                        return str(path) + suffix
        places = [Path(os.path.normpath(bases[0] / c)) for c in candidates]
        first = next(
            (p for p in places if str(p.parent) in self._names and p.parent != bases[0]), places[0]
        )
        known = first.suffix.lower() in MEDIA_SUFFIXES or first.suffix.lower() in IMAGE_SUFFIXES
        return str(first) if known else f"{first}.mp4"


@dataclasses.dataclass(kw_only=True)
class Row:
    """One row of an annotation file.

    Attributes:
      number: as an editor or a spreadsheet counts.  key: the row's key where the file is an object, else "".
      cells: column -> value.  file: where it stands.  files: all files of the root.
      base: folder of the data set.  others: further ones, where its parts lie apart.
    """

    number: int
    cells: dict[str, Any]
    file: Path
    base: Path
    files: Files
    key: str = ""
    others: tuple[Path, ...] = ()

    def text(self, column: str) -> str:
        """The cell as one line of text, "" where it is empty or not a number (NaN)."""
        if column not in self.cells:
            raise CellError(column, "there is no such column")
        value = self.cells[column]
        text = "" if value is None or value != value else " ".join(str(value).split())
        if "\0" in text:
            raise CellError(column, "holds a NUL character")
        return "" if text.lower() == "nan" else text

    def need(self, column: str) -> str:
        """The cell's text, which must not be empty."""
        if not (text := self.text(column)):
            raise CellError(column, "is empty")
        return text

    def integer(self, column: str) -> int:
        """The cell as an integer."""
        text = self.need(column)
        try:
            return int(text)
        except ValueError as error:
            raise CellError(column, f"'{text}' is no whole number") from error

    def number_in(self, column: str, low: float, high: float) -> float:
        """The cell as a number between two bounds."""
        text = self.need(column)
        try:
            value = float(text)
        except ValueError as error:
            raise CellError(column, f"'{text}' is no number") from error
        if not low <= value <= high:
            raise CellError(column, f"{text} is not between {low:g} and {high:g}")
        return value

    def target(
        self,
        column: str,
        space: tuple[str, ...],
        codes: Sequence[str] | None = None,
        first: int = 0,
    ) -> Target:
        """A single label; `codes`: what the numbers from `first` on mean."""
        native = self.need(column)
        return Target(self._spell(column, native, space, codes=codes, first=first), space, native)

    def targets(self, column: str, space: tuple[str, ...], separators: str = ",;") -> Target:
        """Several labels in one cell."""
        native = self.need(column)
        plain = native
        for mark in separators:
            plain = plain.replace(mark, "\n")
        parts = [p.strip() for p in plain.split("\n") if p.strip()]
        return Target(
            SEPARATOR.join(dict.fromkeys(self._spell(column, p, space) for p in parts)),
            space,
            native,
        )

    def _spell(
        self,
        column: str,
        native: str,
        space: tuple[str, ...],
        *,
        codes: Sequence[str] | None = None,
        first: int = 0,
    ) -> str:
        word = native
        if codes is not None:
            if not native.isdigit() or not 0 <= int(native) - first < len(codes):
                raise CellError(
                    column,
                    f"'{native}' is no class number from {first} to {first + len(codes) - 1}",
                )
            word = codes[int(native) - first]
        try:
            return spell(word, space)
        except ValueError as error:
            raise CellError(column, str(error)) from error

    def media(self, *candidates: str) -> str:
        """Path of the clip; see Files.media."""
        return self.files.media((self.base, *self.others), candidates)


@dataclasses.dataclass(kw_only=True)
class Reading:
    """What came out of one annotation file.

    Attributes:
      faults: (row, column, text).  repaired: (row, what was done), with `lenient` alone.
      left: rows that the set leaves out by rule, counted by reason.
    """

    path: Path
    lenient: bool = False
    records: list[ClipRecord] = dataclasses.field(default_factory=list)
    faults: list[tuple[int, str, str]] = dataclasses.field(default_factory=list)
    repaired: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    left: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def refused(self) -> bool:
        """Whether the file is not to be used: it has faults and was not read leniently, or it can not be read at all."""
        return any(not self.lenient or row == 0 for row, _, _ in self.faults)

    def fault(self, row: int, column: str, text: str) -> None:
        """Notes a fault; row 0 is the file as a whole."""
        self.faults.append((row, column, text))

    def lines(self, limit: int = _MAX_SHOWN) -> list[str]:
        """The faults as sentences: file, row and column first."""
        out = []
        for row, column, text in self.faults[:limit]:
            place = (f", row {row}" if row else "") + (f", column '{column}'" if column else "")
            out.append(f"{self.path}{place}: {text}")
        if len(self.faults) > limit:
            out.append(f"... and {len(self.faults) - limit} more in {self.path}")
        return out


Rows = Callable[[Reading, Path, Files], Iterator[Row]]
RecordMaker = Callable[[Row], ClipRecord]


def read_file(
    path: Path,
    rows: Rows,
    make: RecordMaker,
    base: Path,
    files: Files,
    *,
    lenient: bool = False,
    others: tuple[Path, ...] = (),
) -> Reading:
    """Reads one annotation file; nothing is raised for what stands in it, everything is noted."""
    reading = Reading(path=path, lenient=lenient)
    seen: dict[tuple[str, str, str], int] = {}
    usual = csv.field_size_limit(_LONGEST_CELL)
    try:
        for row in rows(reading, base, files):
            row.others = others
            try:
                record = make(row)
            except Left as reason:
                reading.left[str(reason)] += 1
            except CellError as error:
                reading.fault(row.number, error.column, error.text)
            except ValueError as error:
                reading.fault(row.number, "", str(error))
            except (
                KeyError,
                TypeError,
                AttributeError,
                IndexError,
            ) as error:  # a value of a kind nobody thought of
                reading.fault(
                    row.number, "", f"can not be understood ({type(error).__name__}: {error})"
                )
            else:
                key = (record.id, record.fold, record.split)
                if key in seen:
                    reading.fault(row.number, "", f"'{record.id}' stands in row {seen[key]} too")
                    continue
                seen[key] = row.number
                reading.records.append(record)
    except (DataError, CellError) as error:
        reading.fault(0, getattr(error, "column", ""), getattr(error, "text", str(error)))
    except (OSError, UnicodeDecodeError, csv.Error, RecursionError) as error:
        reading.fault(0, "", f"can not be read ({error})")
    finally:
        csv.field_size_limit(usual)
    if not reading.records and not reading.faults and not reading.left:
        reading.fault(0, "", "holds no row")
    if reading.refused:
        reading.records = []
    return reading


def csv_rows(*columns: str, names: Sequence[str] = ()) -> Rows:
    """Rows of a CSV file with (at least) these columns; `names`: the columns of a file without a header."""

    def rows(reading: Reading, base: Path, files: Files) -> Iterator[Row]:
        text = reading.path.read_text(encoding="utf-8-sig")
        lines = csv.reader(io.StringIO(text, newline=""))
        header = list(names) or [name.strip() for name in next(lines, [])]
        if missing := [c for c in columns if c not in header]:
            hint = (
                "; columns are separated by commas"
                if len(header) == 1 and set(";\t") & set(text[:4096])
                else ""
            )
            raise DataError(
                f"row 1: no column '{missing[0]}' among {', '.join(header[:12]) or 'nothing'}{hint}"
            )
        if twice := [c for c in header if header.count(c) > 1 and c in columns]:
            raise DataError(f"row 1: column '{twice[0]}' stands there twice")
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                reading.fault(lines.line_num, "", f"{len(cells)} cells under {len(header)} columns")
                continue
            yield Row(
                number=lines.line_num,
                cells=dict(zip(header, cells, strict=True)),
                file=reading.path,
                base=base,
                files=files,
            )

    return rows


def line_rows(*columns: str, optional: str = "") -> Rows:
    """Rows of a text list: blank-separated columns, of which the first may hold blanks; with an `optional` last column
    it may not.
    """

    def rows(reading: Reading, base: Path, files: Files) -> Iterator[Row]:
        for number, line in enumerate(reading.path.read_text(encoding="utf-8-sig").splitlines(), 1):
            if not line.strip():
                continue
            cells = line.split() if optional else line.rsplit(None, len(columns) - 1)
            if optional and len(cells) > len(columns):
                yield Row(
                    number=number,
                    cells=dict(zip((*columns, optional), cells, strict=False)),
                    file=reading.path,
                    base=base,
                    files=files,
                )
                continue
            if len(cells) != len(columns):
                reading.fault(
                    number, "", f"{len(cells)} words, needs {len(columns)}: {', '.join(columns)}"
                )
                continue
            yield Row(
                number=number,
                cells=dict(zip(columns, cells, strict=True)),
                file=reading.path,
                base=base,
                files=files,
            )

    return rows


def words_of(
    dataset: str, name: str, column: str, *, split: str = "unsplit", author: str = "human"
) -> RecordMaker:
    """Rows of a transcript: clip and words, for every split or for one."""

    def make(row: Row) -> ClipRecord:
        clip = row.need(name)
        words = row.text(column)
        return ClipRecord(
            id=clip,
            dataset=dataset,
            split=split,
            path=row.media(clip),
            label="",
            labels=(),
            subtitle=words,
            provenance={"subtitle": author},
        )

    return make


def json_rows(*fields: str) -> Rows:
    """Rows of a JSON list, of an object keyed by id, or of JSON Lines."""

    def rows(reading: Reading, base: Path, files: Files) -> Iterator[Row]:
        text = reading.path.read_text(encoding="utf-8-sig")
        if reading.path.suffix == ".jsonl":
            data: Any = [
                parse_json(line, reading, line=i)
                for i, line in enumerate(text.split("\n"), 1)
                if line.strip()
            ]
        else:
            data = parse_json(text, reading)
        if not isinstance(data, (dict, list)):
            raise DataError(f"the file holds {str(data)[:40]!r}, needs a list or an object")
        pairs = data.items() if isinstance(data, dict) else (("", item) for item in data)
        for number, (key, item) in enumerate(pairs, 1):
            if not isinstance(item, dict):
                reading.fault(number, key, "is no object")
                continue
            if missing := [f for f in fields if f not in item]:
                reading.fault(number, missing[0], f"is missing{f' in {key}' if key else ''}")
                continue
            yield Row(number=number, cells=item, file=reading.path, base=base, files=files, key=key)

    return rows


def parse_json(text: str, reading: Reading, *, line: int = 0) -> Any:
    """JSON text -> value; a fault is noted with its line, with `lenient` it is repaired and counted."""
    found: list[tuple[int, str]] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            twice = next(k for k, n in Counter(k for k, _ in pairs).items() if n > 1)
            found.append(
                (line, f"the name '{twice}' stands twice in one object; the last one counts")
            )
        return out

    try:
        data = json.loads(text, object_pairs_hook=members)
    except json.JSONDecodeError as error:
        repaired, found = repair_json(text)
        found = [(line or row, what) for row, what in found]
        if not reading.lenient:
            for row, what in found or [(line or error.lineno, error.msg)]:
                reading.fault(row, "", f"invalid JSON: {what}")
            return []
        try:
            data = json.loads(repaired, object_pairs_hook=members)
        except json.JSONDecodeError as rest:
            reading.fault(
                line or rest.lineno, "", f"invalid JSON that can not be repaired: {rest.msg}"
            )
            return []
    if reading.lenient:
        reading.repaired += found
    else:
        for row, what in found:
            reading.fault(row, "", what)
    return data


def npz_rows(reading: Reading, base: Path, files: Files) -> Iterator[Row]:
    """Rows of an npz: members that hold {clip: {field: value}} as a pickled object, or one text array a clip."""
    try:
        members = load_object_npz(reading.path)
    except ValueError as error:
        raise DataError(str(error)) from error
    number = 0
    for member, value in members.items():
        entries = value.items() if isinstance(value, dict) else [(member, {"label": value})]
        for key, cells in entries:
            number += 1
            if not isinstance(cells, dict):
                cells = {"label": cells}
            yield Row(
                number=number,
                cells={**cells, "member": member},
                file=reading.path,
                base=base,
                files=files,
                key=str(key),
            )


def pickle_rows(reading: Reading, base: Path, files: Files) -> Iterator[Row]:
    """Rows of a pickled list of dicts of plain values."""
    try:
        data = load_plain_pickle(reading.path)
    except ValueError as error:
        raise DataError(str(error)) from error
    if not isinstance(data, list):
        raise DataError("the file holds no list")
    for number, item in enumerate(data, 1):
        yield Row(
            number=number,
            cells=item if isinstance(item, dict) else {},
            file=reading.path,
            base=base,
            files=files,
        )


def xlsx_rows(*columns: str) -> Rows:
    """Rows of the first sheet of an Excel file with (at least) these columns."""

    def rows(reading: Reading, base: Path, files: Files) -> Iterator[Row]:
        import openpyxl

        try:
            sheet = openpyxl.load_workbook(reading.path, read_only=True, data_only=True).worksheets[
                0
            ]
        except Exception as error:  # zip, XML and library errors alike
            raise DataError(
                f"is no Excel file that can be read ({type(error).__name__}: {error})"
            ) from error
        lines = sheet.iter_rows(values_only=True)
        header = [str(cell or "").strip() for cell in next(lines, ())]
        if missing := [c for c in columns if c not in header]:
            raise DataError(
                f"row 1: no column '{missing[0]}' among {', '.join(header[:12]) or 'nothing'}"
            )
        for number, cells in enumerate(lines, 2):
            if any(cell is not None for cell in cells):
                yield Row(
                    number=number,
                    cells=dict(zip(header, cells, strict=False)),
                    file=reading.path,
                    base=base,
                    files=files,
                )

    return rows

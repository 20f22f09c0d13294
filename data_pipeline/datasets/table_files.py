"""Tables as people save them: CSV with any separator and encoding, Excel, JSON Lines of objects."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.datasets.reading import long_csv_cells
from data_pipeline.io import refuse_device
from data_pipeline.media.text_encoding import decode_text

SEPARATORS = (",", ";", "\t", "|")  # the first one that fits best
_ZIP, _OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"


class TableError(ValueError):
    """A file that is not a table; str() begins with its name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableFile:
    """The cells of a table as text.

    Attributes:
      header: names of the columns as written, without blanks around them.
      header_row: the row of the header, as a spreadsheet counts.
      rows: (row as a spreadsheet counts, cells); rows without any text are left out.
      notes: what was assumed to read the file.
    """

    header: list[str]
    header_row: int
    rows: list[tuple[int, list[str]]]
    notes: list[str]


def read_table(path: Path, *, wanted: Sequence[str] = ()) -> TableFile:
    """Reads a table.

    Args:
      path: CSV (separated by commas, semicolons, tabs or bars; in any encoding
        that `decode_text` recognises), .xlsx, or .jsonl with one object per line.
      wanted: names of columns, in lower case, that help to recognise the separator.

    Raises:
      TableError: the file is not a readable table; an empty one has no header.
      OSError: the file cannot be read.
    """
    data = refuse_device(path).read_bytes()
    if data.startswith(_OLD_EXCEL):
        raise TableError(f"{path} is a file of Excel 97 to 2003; save it as .xlsx or as CSV")
    notes: list[str] = []
    if data.startswith(_ZIP):
        rows = _excel_rows(path, data, notes)
    else:
        try:
            text, encoding = decode_text(data)
        except ValueError as error:
            raise TableError(f"{path} {error}; save it as CSV in UTF-8") from error
        if encoding != "UTF-8":
            notes.append(f"{path} is not UTF-8 text, it is read as {encoding}")
        rows = _json_rows(path, text) if path.suffix == ".jsonl" else _csv_rows(path, text, wanted)
    filled = [(n, r) for n, r in enumerate(rows, 1) if any(cell.strip() for cell in r)]
    if filled and filled[0][1][0].lower().startswith("sep="):
        filled = filled[1:]  # Excel's own line that names the separator
    if not filled:
        return TableFile(header=[], header_row=1, rows=[], notes=notes)
    header = [name.strip() for name in filled[0][1]]
    return TableFile(header=header, header_row=filled[0][0], rows=filled[1:], notes=notes)


def find_separator(text: str, wanted: Iterable[str] = ()) -> str:
    """The separator of a CSV file: the one with most wanted columns, then most columns.

    Args:
      text: the file.
      wanted: names of columns in lower case.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first.lower().startswith("sep=") and len(first) == len("sep=") + 1:
        return first[-1]
    names = set(wanted)

    def fit(separator: str) -> tuple[int, int]:
        cells = next(csv.reader([first], delimiter=separator), [])
        return sum(c.strip().lower() in names for c in cells), len(cells)

    with long_csv_cells():
        return max(SEPARATORS, key=fit)


def _csv_rows(path: Path, text: str, wanted: Sequence[str]) -> Iterator[list[str]]:
    try:
        with long_csv_cells():
            separator = find_separator(text, wanted)
            yield from list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise TableError(f"{path} is not readable CSV ({error})") from error


def _json_rows(path: Path, text: str) -> Iterator[list[str]]:
    objects: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise TableError(f"{path}, line {number}: invalid JSON ({error})") from error
        if not isinstance(value, dict):
            raise TableError(f"{path}, line {number}: is not an object with the columns as names")
        objects.append((number, value))
    header = list(dict.fromkeys(name for _, value in objects for name in value))
    if header:
        yield header
    for _, value in objects:
        yield [_cell_text(value.get(name)) for name in header]


def _excel_rows(path: Path, data: bytes, notes: list[str]) -> Iterator[list[str]]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheets = book.worksheets
        rows = [[_cell_text(c) for c in row] for row in sheets[0].iter_rows(values_only=True)]
    except Exception as error:  # zip, XML and library errors alike
        raise TableError(
            f"{path} is not a readable Excel file ({type(error).__name__}: {error})"
        ) from error
    if len(sheets) > 1:
        notes.append(
            f"{path} has {len(sheets)} sheets, only the first one, '{sheets[0].title}', is read"
        )
    yield from rows


def _cell_text(value: Any) -> str:
    """The text of a cell of Excel or JSON."""
    if value is None or value != value:  # noqa: PLR0124
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.timedelta):
        return str(value.total_seconds())
    return str(value)

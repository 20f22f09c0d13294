"""Row readers: CSV, text lists, JSON, npz, pickle and Excel files as rows of named cells."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipeline.datasets.reading import AnnotationFile, RecordMaker, RowReader
from data_pipeline.datasets.repair import repair_json
from data_pipeline.datasets.rows import DataError, RawRow, Row
from data_pipeline.datasets.table_files import find_separator
from data_pipeline.datasets.unpickle import load_object_npz, load_plain_pickle
from data_pipeline.schema import ClipRecord


def csv_rows(*columns: str, names: Sequence[str] = ()) -> RowReader:
    """Rows of a CSV file that has at least these columns.

    Args:
      *columns: required columns.
      names: all columns of a file without a header.

    Raises:
      DataError: from the returned reader, if a column is missing or occurs twice.
    """

    def rows(annotation: AnnotationFile) -> Iterator[RawRow]:
        text = annotation.read_text()
        separator = "," if names else find_separator(text, [c.lower() for c in columns])
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = list(names) or [name.strip() for name in next(lines, [])]
        _check_columns(header, columns)
        if repeated := [c for c in header if header.count(c) > 1 and c in columns]:
            raise DataError(f"row 1: column '{repeated[0]}' occurs twice")
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                fault = f"{len(cells)} cells under {len(header)} columns"
                annotation.add_fault(lines.line_num, "", fault)
                continue
            yield RawRow(lines.line_num, dict(zip(header, cells, strict=True)))

    return rows


def _check_columns(header: Sequence[str], columns: Sequence[str]) -> None:
    if missing := [c for c in columns if c not in header]:
        listed = ", ".join(header[:12]) or "nothing"
        raise DataError(f"row 1: no column '{missing[0]}' among {listed}")


def line_rows(*columns: str, optional: str = "") -> RowReader:
    """Rows of a text file whose columns are separated by blanks.

    Args:
      *columns: names of the columns; the first may contain blanks, unless `optional` is given.
      optional: name of a further last column that a line may lack.
    """

    def rows(annotation: AnnotationFile) -> Iterator[RawRow]:
        text = annotation.read_text()
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            cells = line.split() if optional else line.rsplit(None, len(columns) - 1)
            if optional and len(cells) > len(columns):
                yield RawRow(number, dict(zip((*columns, optional), cells, strict=False)))
            elif len(cells) == len(columns):
                yield RawRow(number, dict(zip(columns, cells, strict=True)))
            else:
                fault = f"{len(cells)} words, needs {len(columns)}: {', '.join(columns)}"
                annotation.add_fault(number, "", fault)

    return rows


def transcript_record(
    dataset: str, name: str, column: str, *, split: str = "unsplit", author: str = "human"
) -> RecordMaker:
    """Makes records that carry only the subtitle of a clip.

    Args:
      dataset: name of the data set.
      name: column of the clip's id.
      column: column of its words.
      split: the split whose clips get these subtitles; `unsplit` for all.
      author: who wrote them.
    """

    def make(row: Row) -> ClipRecord:
        clip = row.required(name)
        return ClipRecord(
            id=clip,
            dataset=dataset,
            split=split,
            path=row.media(clip),
            label="",
            labels=(),
            subtitle=row.text(column),
            provenance={"subtitle": author},
        )

    return make


def json_rows(*fields: str) -> RowReader:
    """Rows of a JSON list, of a JSON object keyed by id, or of JSON Lines.

    Args:
      *fields: required fields.

    Raises:
      DataError: from the returned reader, if the file contains neither a list nor an object.
    """

    def rows(annotation: AnnotationFile) -> Iterator[RawRow]:
        data = _load_json(annotation)
        if not isinstance(data, (dict, list)):
            raise DataError(f"the file contains {str(data)[:40]!r}, needs a list or an object")
        items = data.items() if isinstance(data, dict) else (("", item) for item in data)
        for number, (key, item) in enumerate(items, 1):
            if not isinstance(item, dict):
                annotation.add_fault(number, key, "is not an object")
            elif missing := [f for f in fields if f not in item]:
                fault = f"is missing{f' in {key}' if key else ''}"
                annotation.add_fault(number, missing[0], fault)
            else:
                yield RawRow(number, item, key)

    return rows


def _load_json(annotation: AnnotationFile) -> Any:
    text = annotation.read_text()
    if annotation.path.suffix != ".jsonl":
        return parse_json(text, annotation)
    # Not splitlines: U+2028 and the like may occur inside a JSON string.
    lines = enumerate(text.split("\n"), 1)
    return [parse_json(line, annotation, line=i) for i, line in lines if line.strip()]


def parse_json(text: str, annotation: AnnotationFile, *, line: int = 0) -> Any:
    """Parses JSON; adds its faults to the file, or repairs and counts them if it is lenient.

    Args:
      text: the JSON text.
      annotation: the file that it is from.
      line: number of the line of JSON Lines, 0 for a whole file.

    Returns:
      The value; [] when the text cannot be parsed.
    """
    problems: list[tuple[int, str]] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            repeated = next(k for k, n in Counter(k for k, _ in pairs).items() if n > 1)
            what = f"the name '{repeated}' occurs twice in one object; the last one counts"
            problems.append((line, what))
        return out

    try:
        data = json.loads(text, object_pairs_hook=members)
    except json.JSONDecodeError as error:
        repaired, problems = repair_json(text)
        problems = [(line or row, what) for row, what in problems]
        if not annotation.lenient:
            for row, what in problems or [(line or error.lineno, error.msg)]:
                annotation.add_fault(row, "", f"invalid JSON: {what}")
            return []
        try:
            data = json.loads(repaired, object_pairs_hook=members)
        except json.JSONDecodeError as second:
            fault = f"invalid JSON that cannot be repaired: {second.msg}"
            annotation.add_fault(line or second.lineno, "", fault)
            return []
    if annotation.lenient:
        annotation.repaired += problems
    else:
        for row, what in problems:
            annotation.add_fault(row, "", what)
    return data


def npz_rows(annotation: AnnotationFile) -> Iterator[RawRow]:
    """Rows of an npz file.

    Its members are pickled objects {clip: {field: value}}, or one text array per clip.

    Raises:
      DataError: the file is not an npz file of plain values.
    """
    try:
        members = load_object_npz(annotation.path)
    except ValueError as error:
        raise DataError(str(error)) from error
    number = 0
    for member, value in members.items():
        entries = value.items() if isinstance(value, dict) else [(member, {"label": value})]
        for key, entry in entries:
            number += 1
            cells = entry if isinstance(entry, dict) else {"label": entry}
            yield RawRow(number, {**cells, "member": member}, str(key))


def pickle_rows(annotation: AnnotationFile) -> Iterator[RawRow]:
    """Rows of a pickled list of dicts of plain values.

    Raises:
      DataError: the file contains anything else.
    """
    try:
        data = load_plain_pickle(annotation.path)
    except ValueError as error:
        raise DataError(str(error)) from error
    if not isinstance(data, list):
        raise DataError("the file does not contain a list")
    for number, item in enumerate(data, 1):
        yield RawRow(number, item if isinstance(item, dict) else {})


def xlsx_rows(*columns: str) -> RowReader:
    """Rows of the first sheet of an Excel file that has at least these columns.

    Args:
      *columns: required columns.

    Raises:
      DataError: from the returned reader, if the file is not readable or lacks a column.
    """

    def rows(annotation: AnnotationFile) -> Iterator[RawRow]:
        import openpyxl

        try:
            book = openpyxl.load_workbook(annotation.path, read_only=True, data_only=True)
            sheet = book.worksheets[0]
        except Exception as error:  # zip, XML and library errors alike
            raise DataError(
                f"is not a readable Excel file ({type(error).__name__}: {error})"
            ) from error
        lines = sheet.iter_rows(values_only=True)
        header = [str(cell or "").strip() for cell in next(lines, ())]
        _check_columns(header, columns)
        for number, cells in enumerate(lines, 2):
            if any(cell is not None for cell in cells):
                yield RawRow(number, dict(zip(header, cells, strict=False)))

    return rows

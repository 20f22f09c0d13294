"""Reads one annotation file: its records, its faults with row and column, what it excludes."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from data_pipeline.datasets.file_index import FileIndex
from data_pipeline.datasets.rows import CellError, DataError, RawRow, Row, RowExcluded
from data_pipeline.io import refuse_device
from data_pipeline.media.text_encoding import CERTAIN, decode_text
from data_pipeline.schema import ClipRecord

_MAX_SHOWN = 20
_MAX_CELL = 16 << 20  # characters: explanations may be long, but a file without line breaks is not


@dataclasses.dataclass(kw_only=True)
class AnnotationFile:
    """What was read from one annotation file.

    Attributes:
      path: the file.
      lenient: whether rows with faults are skipped instead of the whole file.
      records: one per usable row.
      faults: (row, column, text); row 0 is the file as a whole.
      repaired: (row, what was repaired), only with `lenient`.
      excluded: number of rows that the data set excludes by rule, by reason.
    """

    path: Path
    lenient: bool = False
    records: list[ClipRecord] = dataclasses.field(default_factory=list)
    faults: list[tuple[int, str, str]] = dataclasses.field(default_factory=list)
    repaired: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    excluded: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def refused(self) -> bool:
        """Whether the file must not be used: it has faults and `lenient` cannot skip them."""
        return any(not self.lenient or row == 0 for row, _, _ in self.faults)

    def add_fault(self, row: int, column: str, text: str) -> None:
        """Adds a fault; row 0 is the file as a whole."""
        self.faults.append((row, column, text))

    def read_text(self) -> str:
        """The text of the file; one of a guessed encoding is read with `lenient` only.

        Raises:
          DataError: the file is not text, or its encoding is a guess that was not asked for.
        """
        try:
            text, encoding = decode_text(refuse_device(self.path).read_bytes())
        except ValueError as error:
            raise DataError(f"cannot be read, it {error}; save it as UTF-8") from error
        if encoding not in CERTAIN:
            what = f"is not UTF-8 text, but looks like {encoding}"
            if not self.lenient:
                raise DataError(f"the file {what}; save it as UTF-8, or read it with --lenient")
            self.repaired.append((1, f"the file {what}, and is read so"))
        return text

    def fault_lines(self, *, limit: int = _MAX_SHOWN) -> list[str]:
        """The first `limit` faults as sentences that start with file, row and column."""
        lines = []
        for row, column, text in self.faults[:limit]:
            place = (f", row {row}" if row else "") + (f", column '{column}'" if column else "")
            lines.append(f"{self.path}{place}: {text}")
        if len(self.faults) > limit:
            lines.append(f"... and {len(self.faults) - limit} more in {self.path}")
        return lines


@contextlib.contextmanager
def long_csv_cells() -> Iterator[None]:
    """Lets the csv module read cells of up to 16 million characters inside the block."""
    previous_limit = csv.field_size_limit(_MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(previous_limit)


RowReader = Callable[[AnnotationFile], Iterator[RawRow]]
RecordMaker = Callable[[Row], ClipRecord]


def read_file(
    path: Path,
    rows: RowReader,
    make: RecordMaker,
    *,
    base: Path,
    files: FileIndex,
    lenient: bool = False,
    other_bases: tuple[Path, ...] = (),
) -> AnnotationFile:
    """Reads one annotation file; its faults are collected, never raised.

    Args:
      path: the annotation file.
      rows: yields its rows.
      make: makes the record of a row.
      base: folder of the data set.
      files: all files of the root.
      lenient: skip rows with faults instead of the whole file.
      other_bases: further folders of the data set.
    """
    annotation = AnnotationFile(path=path, lenient=lenient)
    first_rows: dict[tuple[str, str, str], int] = {}
    try:
        with long_csv_cells():
            for raw in rows(annotation):
                row = Row(
                    number=raw.number,
                    cells=raw.cells,
                    key=raw.key,
                    file=path,
                    base=base,
                    files=files,
                    other_bases=other_bases,
                )
                if record := _make_record(row, make, annotation):
                    key = (record.id, record.fold, record.split)
                    if key in first_rows:
                        text = f"'{record.id}' is in row {first_rows[key]} too"
                        annotation.add_fault(row.number, "", text)
                        continue
                    first_rows[key] = row.number
                    annotation.records.append(record)
    except CellError as error:
        annotation.add_fault(0, error.column, error.text)
    except DataError as error:
        annotation.add_fault(0, "", str(error))
    except (OSError, UnicodeDecodeError, csv.Error, RecursionError) as error:
        annotation.add_fault(0, "", f"cannot be read ({error})")
    if not annotation.records and not annotation.faults and not annotation.excluded:
        annotation.add_fault(0, "", "contains no row")
    if annotation.refused:
        annotation.records = []
    return annotation


def _make_record(row: Row, make: RecordMaker, annotation: AnnotationFile) -> ClipRecord | None:
    """The record of a row, or None after its fault or exclusion was noted."""
    try:
        return make(row)
    except RowExcluded as reason:
        annotation.excluded[str(reason)] += 1
    except CellError as error:
        annotation.add_fault(row.number, error.column, error.text)
    except ValueError as error:
        annotation.add_fault(row.number, "", str(error))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        # A value of a type that no reader expects.
        text = f"cannot be understood ({type(error).__name__}: {error})"
        annotation.add_fault(row.number, "", text)
    return None

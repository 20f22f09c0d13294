"""One row of an annotation file, and how its cells become text, numbers and labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline.datasets.file_index import FileIndex
from data_pipeline.datasets.labels import match_label
from data_pipeline.schema import SEPARATOR, Target

# Cells of CSV files that pandas.read_csv reads as missing values by default.
PANDAS_MISSING = frozenset(
    (
        *("", "<NA>", "N/A", "n/a", "NA", "#N/A", "#N/A N/A", "#NA", "NULL", "null", "None"),
        *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    )
)


class DataError(ValueError):
    """An annotation file that cannot be used as a whole."""


class CellError(ValueError):
    """A cell that cannot be used.

    Attributes:
      column: its column, "" when the fault is not of one column.
      text: the fault.
    """

    def __init__(self, column: str, text: str):
        self.column, self.text = column, text
        super().__init__(f"column '{column}': {text}" if column else text)


class RowExcluded(Exception):
    """Raised for a row that the data set excludes by rule; str() is the reason that is counted."""


@dataclasses.dataclass(frozen=True)
class RawRow:
    """What a row reader yields.

    Attributes:
      number: the line or row in an editor or a spreadsheet; in JSON and pickles, the entry from 1.
      cells: column -> value.
      key: of the row where the file is an object keyed by id, else "".
    """

    number: int
    cells: dict[str, Any]
    key: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One row of an annotation file, with what is needed to find its media.

    Attributes:
      number: see RawRow.
      cells: column -> value.
      key: of the row where the file is an object keyed by id, else "".
      file: the annotation file.
      files: all files of the root.
      base: folder of the data set.
      other_bases: further folders of a data set that is spread over several.
    """

    number: int
    cells: dict[str, Any]
    file: Path
    base: Path
    files: FileIndex
    key: str = ""
    other_bases: tuple[Path, ...] = ()

    def text(self, column: str) -> str:
        """The cell as one line of text, "" when it is empty or NaN.

        Raises:
          CellError: there is no such column, or the cell contains a NUL character.
        """
        if column not in self.cells:
            raise CellError(column, "there is no such column")
        value = self.cells[column]
        is_nan = value != value  # noqa: PLR0124
        text = "" if value is None or is_nan else " ".join(str(value).split())
        if "\0" in text:
            raise CellError(column, "contains a NUL character")
        return "" if text.lower() == "nan" else text

    def verbatim(self, column: str) -> str:
        """The cell with its white space; "" for what pandas reads as a missing value.

        Released prompts contain subtitles like this.

        Raises:
          CellError: as `text`.
        """
        self.text(column)  # checks the cell
        value = self.cells[column]
        is_nan = value != value  # noqa: PLR0124
        return "" if value is None or is_nan or value in PANDAS_MISSING else str(value)

    def optional(self, column: str, *, default: str = "") -> str:
        """The cell as `text` returns it, or a default when there is no such column.

        Raises:
          CellError: the cell contains a NUL character.
        """
        return self.text(column) if column in self.cells else default

    def required(self, column: str) -> str:
        """The cell's text.

        Raises:
          CellError: the cell is empty, or see `text`.
        """
        if not (text := self.text(column)):
            raise CellError(column, "is empty")
        return text

    def integer(self, column: str) -> int:
        """The cell as an integer.

        Raises:
          CellError: the cell is not an integer.
        """
        text = self.required(column)
        try:
            return int(text)
        except ValueError as error:
            raise CellError(column, f"'{text}' is not a whole number") from error

    def number_in(self, column: str, low: float, high: float) -> float:
        """The cell as a number.

        Args:
          column: of the cell.
          low: the smallest valid number.
          high: the largest valid number.

        Raises:
          CellError: the cell is not a number, or not between the bounds.
        """
        text = self.required(column)
        try:
            value = float(text)
        except ValueError as error:
            raise CellError(column, f"'{text}' is not a number") from error
        if not low <= value <= high:
            raise CellError(column, f"{text} is not between {low:g} and {high:g}")
        return value

    def target(
        self,
        column: str,
        space: tuple[str, ...],
        *,
        codes: Sequence[str] | None = None,
        first: int = 0,
    ) -> Target:
        """The cell as a single label.

        Args:
          column: of the cell.
          space: the label space.
          codes: labels by class number, for cells that contain numbers.
          first: the class number of `codes[0]`.

        Raises:
          CellError: the cell is not a label of the space, or not a class number.
        """
        native = self.required(column)
        label = native
        if codes is not None:
            if not native.isdigit() or not 0 <= int(native) - first < len(codes):
                last = first + len(codes) - 1
                raise CellError(column, f"'{native}' is not a class number from {first} to {last}")
            label = codes[int(native) - first]
        return Target(_match(column, label, space), space, native)

    def targets(self, column: str, space: tuple[str, ...], *, separators: str = ",;") -> Target:
        """The cell as several labels.

        Args:
          column: of the cell.
          space: the label space.
          separators: characters that separate labels.

        Raises:
          CellError: one of them is not a label of the space.
        """
        native = self.required(column)
        separated = native
        for separator in separators:
            separated = separated.replace(separator, "\n")
        parts = [p.strip() for p in separated.split("\n") if p.strip()]
        labels = dict.fromkeys(_match(column, part, space) for part in parts)
        return Target(SEPARATOR.join(labels), space, native)

    def media(self, *candidates: str) -> str:
        """Path of the clip; see FileIndex.media."""
        return self.files.media((self.base, *self.other_bases), candidates)


def _match(column: str, native: str, space: tuple[str, ...]) -> str:
    try:
        return match_label(native, space)
    except ValueError as error:
        raise CellError(column, str(error)) from error

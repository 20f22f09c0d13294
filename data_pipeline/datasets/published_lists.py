"""Lists of train and test clips that other papers published: DFER-CLIP's files, HiCMAE's folds."""

from __future__ import annotations

import re

from data_pipeline.datasets.dataset import Source
from data_pipeline.datasets.reading import RecordMaker
from data_pipeline.datasets.row_readers import line_rows
from data_pipeline.datasets.rows import CellError, Row

_SPLITS = ("train", "test")


def dfer_clip_sources(prefix: str, make: RecordMaker) -> tuple[Source, ...]:
    """DFER-CLIP's files `<prefix>_train.txt` and `<prefix>_test.txt`.

    Args:
      prefix: start of the file names, a glob.
      make: makes the record of a row with the columns path (folder of faces), frames and label.
    """
    return tuple(
        Source(
            pattern=f"{prefix}_{split}.txt",
            rows=line_rows("path", "frames", "label"),
            make=make,
            anywhere=True,
        )
        for split in _SPLITS
    )


def dfer_clip_list(row: Row) -> tuple[str, str]:
    """(fold, split) of a row's file `<SET>_set_<fold>_<split>.txt`.

    Raises:
      CellError: the file has another name.
    """
    name = re.fullmatch(r"\w+_set_(\d)_(train|test)", row.file.stem, re.IGNORECASE)
    if not name:
        raise CellError("", f"the name {row.file.name} has no fold: needs a digit after `set_`")
    return name[1], name[2].lower()


def hicmae_sources(folder: str, make: RecordMaker) -> tuple[Source, ...]:
    """HiCMAE's files `<folder>/split<fold>/train.csv` and `test.csv`.

    Args:
      folder: path below the data set's folder.
      make: makes the record of a row with the columns frames, sound and label.
    """
    return tuple(
        Source(
            pattern=f"{folder}/split??/{split}.csv",
            rows=line_rows("frames", "sound", "label"),
            make=make,
        )
        for split in _SPLITS
    )


def hicmae_list(row: Row) -> tuple[str, str]:
    """(fold, split) of a row's file `split<fold>/<split>.csv`.

    Raises:
      CellError: the folder has another name.
    """
    number = row.file.parent.name.removeprefix("split")
    if not number.isdecimal():
        raise CellError("", f"the folder {row.file.parent.name} has no fold: needs split01, ...")
    return f"hicmae-{int(number)}", row.file.stem


def fold_sizes(*sizes: tuple[int, int]) -> dict[tuple[str, str], int]:
    """Number of clips by (fold, split), from the (train, test) clips of folds 1, 2, ..."""
    return {
        (str(fold), split): count
        for fold, pair in enumerate(sizes, 1)
        for split, count in zip(_SPLITS, pair, strict=True)
    }

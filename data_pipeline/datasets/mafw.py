"""MAFW: clips with one of eleven emotions; a part of them has several.

There are two orders of the classes: the data set's own (anger first, numbered from 0 in HiCMAE's
lists) and that of DFER-CLIP's lists (happiness first). Each is read by its own table.
"""

from __future__ import annotations

import re

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.published_lists import (
    dfer_clip_list,
    dfer_clip_sources,
    fold_sizes,
    hicmae_list,
    hicmae_sources,
)
from data_pipeline.datasets.row_readers import line_rows, xlsx_rows
from data_pipeline.datasets.rows import CellError, Row, RowExcluded
from data_pipeline.schema import SEPARATOR, ClipRecord, Target

EMOTIONS = ("anger", "anxiety", "contempt", "disappointment", "disgust", "fear", "happiness",
            "helplessness", "neutral", "sadness", "surprise")  # fmt: skip
NATIVE_ORDER = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise",
                "contempt", "anxiety", "helplessness", "disappointment")  # fmt: skip
DFER_CLIP_ORDER = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear",
                   "contempt", "anxiety", "helplessness", "disappointment")  # fmt: skip


def clip_id(text: str, *, column: str = "clip") -> str:
    """The five-digit id of `22`, `00022.mp4` or `.../faces/00022`; spreadsheets drop leading zeros.

    Raises:
      CellError: the text is not a clip number.
    """
    number = text.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".mp4").removesuffix(".0")
    if not number.isdigit() or len(number) > 5:
        raise CellError(column, f"'{text}' is not a clip number of up to five digits")
    return number.zfill(5)


def _record(row: Row, clip: str, *, fold: str, mode: str, task: str, label: Target) -> ClipRecord:
    return ClipRecord(
        id=clip,
        dataset="mafw",
        split=mode,
        path=row.media(f"video/{clip}", f"data/clips/{clip}.mp4", f"clips/{clip}.mp4"),
        label=label.label if task == "emotion" else "",
        labels=EMOTIONS,
        native=label.native if task == "emotion" else "",
        targets={} if task == "emotion" else {task: label},
        mode=mode,
        fold=fold,
        provenance={task: "human"},
    )


def _native(row: Row) -> ClipRecord:
    """A row `00151.mp4 anger`; compound lists join labels by `_`."""
    clip = clip_id(row.required("clip"))
    multiple = "compound" in [p.lower() for p in row.file.parts]
    if multiple:
        label = row.targets("label", EMOTIONS, separators="_")
    else:
        label = row.target("label", EMOTIONS)
    return _record(
        row,
        clip,
        fold=row.file.parent.name.removeprefix("set_"),
        mode=row.file.stem,
        task="multi-label" if multiple else "emotion",
        label=label,
    )


def _sheet(row: Row) -> ClipRecord:
    """A row of multi-set.xlsx: classes 1 to 11 in the data set's own order, without a split."""
    cell = row.text("multi_label").replace(" ", "")
    if not cell:
        raise RowExcluded("no multi-label")
    if not re.fullmatch(r"\d+(,\d+)*", cell):
        raise CellError("multi_label", f"'{cell}' is not a list of classes such as 1,2")
    numbers = [int(n) for n in cell.split(",")]
    if not all(1 <= n <= len(NATIVE_ORDER) for n in numbers):
        raise CellError(
            "multi_label", f"'{cell}' contains a class outside 1 to {len(NATIVE_ORDER)}"
        )
    label = Target(SEPARATOR.join(NATIVE_ORDER[n - 1] for n in numbers), EMOTIONS, cell)
    clip = clip_id(row.required("clip"))
    return _record(row, clip, fold="", mode="unsplit", task="multi-label", label=label)


def _dfer_clip(row: Row) -> ClipRecord:
    fold, mode = dfer_clip_list(row)
    clip = clip_id(row.required("path"), column="path")
    return _record(
        row,
        clip,
        fold=fold,
        mode=mode,
        task="emotion",
        label=row.target("label", EMOTIONS, codes=DFER_CLIP_ORDER),
    )


def _hicmae(row: Row) -> ClipRecord:
    fold, mode = hicmae_list(row)
    clip = clip_id(row.required("frames"), column="frames")
    label = row.target("label", EMOTIONS, codes=NATIVE_ORDER)
    return _record(row, clip, fold=fold, mode=mode, task="emotion", label=label)


TABLE = Table(
    dataset="mafw",
    folder="MAFW",
    text="text_whisper",
    labels={
        "emotion": Label("single_label", EMOTIONS),
        "multi-label": Label("multi_label", EMOTIONS, multiple=True),
    },
    reasons={"reason": "gpt-4o-mini_Single", "reason_multi": "gpt-4o-mini_Multi"},
    identify=lambda row: clip_id(row.required("video_id"), column="video_id"),
    native_media=lambda clip: (f"data/clips/{clip}.mp4",),
)
SET = DataSet(
    name="mafw",
    title="MAFW",
    folders=("MAFW",),
    sources=(
        *TABLE.sources(),
        *(
            Source(
                pattern=f"*/{kind}/no_caption/set_?/{mode}.txt",
                rows=line_rows("clip", "label"),
                make=_native,
            )
            for kind in ("single", "compound")
            for mode in ("train", "test")
        ),
        Source(pattern="*multi-set.xlsx", rows=xlsx_rows("clip", "multi_label"), make=_sheet),
        *dfer_clip_sources("MAFW_set_?", _dfer_clip),
        *hicmae_sources("audio_visual/single", _hicmae),
    ),
    request="https://mafw-database.github.io/MAFW/ (signed form of a university's staff)",
    terms="non-commercial research, no redistribution",
    expected=fold_sizes((7333, 1839), (7335, 1837), (7339, 1833), (7340, 1832), (7341, 1831)),
)

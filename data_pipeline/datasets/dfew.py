"""DFEW: film clips, seven emotions, five folds.

The training prompts say `anger`, the evaluation prompt says `angry`.
"""

from __future__ import annotations

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.published_lists import dfer_clip_list, dfer_clip_sources, fold_sizes
from data_pipeline.datasets.row_readers import csv_rows
from data_pipeline.datasets.rows import CellError, Row
from data_pipeline.schema import ClipRecord, Target

EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")
# Classes 1 to 7 of the data set, 0 to 6 of DFER-CLIP's lists.
CODES = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")


def _record(row: Row, clip: str, *, fold: str, mode: str, label: Target) -> ClipRecord:
    return ClipRecord(
        id=clip,
        dataset="dfew",
        split=mode,
        path=row.media(f"video/{clip}", f"Clip/original/{clip}.mp4", f"original/{clip}.mp4"),
        label=label.label,
        labels=EMOTIONS,
        native=label.native,
        mode=mode,
        fold=fold,
        provenance={"emotion": "human"},
    )


def _native(row: Row) -> ClipRecord:
    folder = row.file.parent.name.lower()
    mode = "train" if folder.startswith("train") else "test"
    number = row.integer("video_name")  # spreadsheets drop leading zeros
    fold = row.file.stem.removeprefix("set_")
    label = row.target("label", EMOTIONS, codes=CODES, first=1)
    return _record(row, f"{number:05d}", fold=fold, mode=mode, label=label)


def _list(row: Row) -> ClipRecord:
    """A line of DFER-CLIP's lists: face folder, frames, class from 0."""
    fold, mode = dfer_clip_list(row)
    clip = row.required("path").rsplit("/", 1)[-1]
    if not clip.isdigit():
        raise CellError("path", f"'{clip}' is not a clip number")
    label = row.target("label", EMOTIONS, codes=CODES)
    return _record(row, clip, fold=fold, mode=mode, label=label)


TABLE = Table(
    dataset="dfew",
    folder="DFEW",
    text="sentence",
    labels={"emotion": Label("label", EMOTIONS)},
    reasons={"reason": "gpt-4o-mini_Emotion"},
)
SET = DataSet(
    name="dfew",
    title="DFEW",
    folders=("DFEW",),
    sources=(
        *TABLE.sources(),
        *(
            Source(
                pattern=f"*{mode}*single*label*/set_?.csv",
                rows=csv_rows("video_name", "label"),
                make=_native,
            )
            for mode in ("train", "test")
        ),
        *dfer_clip_sources("DFEW_set_?", _list),
    ),
    request="https://dfew-dataset.github.io/download.html (signed agreement)",
    terms="non-commercial research and education",
    expected=fold_sizes((9356, 2341), (9356, 2341), (9357, 2340), (9358, 2339), (9361, 2336)),
)

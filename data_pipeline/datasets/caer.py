"""CAER: clips of 79 television shows, seven emotions; the label of a clip is its folder."""

from __future__ import annotations

from collections.abc import Iterator

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.labels import SPLIT_WORDS
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.reading import AnnotationFile
from data_pipeline.datasets.rows import RawRow, Row
from data_pipeline.schema import ClipRecord

EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def _media(clip: str) -> tuple[str, ...]:
    parts = clip.split("_")
    return (f"{parts[0]}/{parts[1]}/{parts[2]}.avi",) if len(parts) == 3 else ()


def _folder_row(annotation: AnnotationFile) -> Iterator[RawRow]:
    """The one row of a clip: the name of its folder."""
    yield RawRow(1, {"folder": annotation.path.parent.name})


def _native(row: Row) -> ClipRecord:
    folder = row.file.parents[1].name
    mode = folder.lower()
    emotion = row.target("folder", EMOTIONS)
    return ClipRecord(
        # Each folder numbers its clips from 1.
        id=f"{mode}_{row.file.parent.name}_{row.file.stem}",
        dataset="caer",
        split=SPLIT_WORDS[mode],
        path=str(row.file),
        label=emotion.label,
        labels=EMOTIONS,
        native=emotion.native,
        mode=mode,
        provenance={"emotion": "human"},
    )


TABLE = Table(
    dataset="caer",
    folder="CAER",
    text="text_whisper",
    labels={"emotion": Label("emotion_label", EMOTIONS)},
    reasons={"reason": "gpt-4o-mini_Emotion"},
    native_media=_media,
)
SET = DataSet(
    name="caer",
    title="CAER",
    folders=("CAER",),
    sources=(
        *TABLE.sources(),
        *(
            Source(pattern=f"{mode}/*/*.*", rows=_folder_row, make=_native, media=True)
            for mode in SPLIT_WORDS  # the names that the folder of a split may have
        ),
    ),
    request="https://caer-dataset.github.io (open download)",
    terms="non-commercial research",
)

"""CAER: clips of 79 television shows, seven emotions; the label is the folder that a clip lies in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import SPLIT_WORDS, Label, Table
from data_pipeline.datasets.reading import Files, Reading, Row
from data_pipeline.schema import ClipRecord

EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def _media(clip: str) -> tuple[str, ...]:
    parts = clip.split("_")
    return (f"{parts[0]}/{parts[1]}/{parts[2]}.avi",) if len(parts) == 3 else ()


def _file(reading: Reading, base: Path, files: Files) -> Iterator[Row]:
    yield Row(
        number=1,
        cells={"folder": reading.path.parent.name},
        file=reading.path,
        base=base,
        files=files,
    )


def _native(row: Row) -> ClipRecord:
    folder = row.file.parents[1].name
    mode = folder.lower()
    emotion = row.target("folder", EMOTIONS)
    return ClipRecord(
        # Numbers start anew in each folder.
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
            Source(pattern=f"{mode}/*/*.*", rows=_file, make=_native, media=True)
            for mode in SPLIT_WORDS
        ),
    ),
    request="https://caer-dataset.github.io (open download)",
    terms="non-commercial research",
)

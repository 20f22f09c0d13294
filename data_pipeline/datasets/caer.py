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
    yield Row(1, {"folder": reading.path.parent.name}, reading.path, base, files)


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
    "caer",
    "CAER",
    "text_whisper",
    {"emotion": Label("emotion_label", EMOTIONS)},
    {"reason": "gpt-4o-mini_Emotion"},
    native_media=_media,
)
SET = DataSet(
    "caer",
    "CAER",
    ("CAER",),
    (
        *TABLE.sources(),
        *(Source(f"{mode}/*/*.*", _file, _native, media=True) for mode in SPLIT_WORDS),
    ),
    request="https://caer-dataset.github.io (open download)",
    terms="non-commercial research",
)

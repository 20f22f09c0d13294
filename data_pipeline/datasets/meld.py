"""MELD: utterances of the series Friends, seven emotions and three sentiments.

Its splits share speakers.
"""

from __future__ import annotations

import re

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.labels import SENTIMENTS
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.row_readers import csv_rows, npz_rows
from data_pipeline.datasets.rows import CellError, Row
from data_pipeline.schema import ClipRecord, Target

EMOTIONS = ("joy", "sad", "anger", "surprise", "fear", "disgust", "neutral")
_MEDIA = {
    "train": ("train/train_splits", "train_splits"),
    "dev": ("dev/dev_splits_complete", "dev_splits_complete"),
    "test": ("test/output_repeated_splits_test", "output_repeated_splits_test"),
}


def _media(clip: str) -> tuple[str, ...]:
    split, _, utterance = clip.partition("_")
    return tuple(f"{folder}/{utterance}.mp4" for folder in _MEDIA.get(split, ()))


def _seconds(row: Row, column: str) -> float:
    match = re.fullmatch(r"(\d+):(\d+):(\d+)[,.](\d+)", row.required(column))
    if not match:
        raise CellError(column, f"'{row.text(column)}' is not a time such as 00:16:16,059")
    hours, minutes, seconds, fraction = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")


def _native(row: Row) -> ClipRecord:
    mode = row.file.name.partition("_")[0].lower()
    # Each split numbers its dialogues from 0: the split is part of the id, as in MMEVerse.
    clip = f"{mode}_dia{row.integer('Dialogue_ID')}_utt{row.integer('Utterance_ID')}"
    emotion = row.target("Emotion", EMOTIONS)
    # Times refer to the episode, not to the clip's own file, so that they are only checked.
    for column in ("StartTime", "EndTime"):
        _seconds(row, column)
    return ClipRecord(
        id=clip,
        dataset="meld",
        split={"dev": "val"}.get(mode, mode),
        path=row.media(f"video/{clip}", *_media(clip)),
        label=emotion.label,
        labels=emotion.labels,
        native=emotion.native,
        targets={"sentiment": row.target("Sentiment", SENTIMENTS)},
        subtitle=row.text("Utterance"),
        speaker=row.text("Speaker"),
        mode=mode,
        provenance={"emotion": "human", "sentiment": "human", "subtitle": "human"},
    )


def _truth(row: Row) -> ClipRecord:
    """A row of the official scorer's ground truth."""
    emotion: Target = row.target("label", EMOTIONS)
    return ClipRecord(
        id=row.key,
        dataset="meld",
        split="test",
        path=row.media(f"video/{row.key}", *_media(row.key)),
        label=emotion.label,
        labels=EMOTIONS,
        native=emotion.native,
        mode="test",
    )


TABLE = Table(
    dataset="meld",
    folder="MELD",
    text="text",
    labels={"emotion": Label("Emotion", EMOTIONS), "sentiment": Label("Sentiment", SENTIMENTS)},
    reasons={"reason": "gpt-4o-mini_Emotion", "reason_sentiment": "gpt-4o-mini_Sentiment"},
    native_media=_media,
)
_COLUMNS = (
    "Utterance",
    "Speaker",
    "Emotion",
    "Sentiment",
    "Dialogue_ID",
    "Utterance_ID",
    "StartTime",
    "EndTime",
)
SET = DataSet(
    name="meld",
    title="MELD",
    folders=("MELD", "MELD.Raw"),
    sources=(
        *TABLE.sources(),
        *(
            Source(
                pattern=f"{split}_sent_emo.csv",
                rows=csv_rows(*_COLUMNS),
                make=_native,
                anywhere=True,
            )
            for split in _MEDIA
        ),
        Source(pattern="gt_meld_emotion_test.npz", rows=npz_rows, make=_truth, anywhere=True),
    ),
    request="https://affective-meld.github.io (open download)",
    terms="annotations GPL-3.0; clips are television material, for research",
    expected={("", "train"): 9989, ("", "val"): 1109, ("", "test"): 2610},
)

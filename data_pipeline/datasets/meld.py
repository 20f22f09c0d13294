"""MELD: utterances of the series Friends, seven emotions and three sentiments. Splits share their speakers."""

from __future__ import annotations

import re

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.reading import CellError, Row, csv_rows, npz_rows
from data_pipeline.schema import ClipRecord, Target

EMOTIONS = ("joy", "sad", "anger", "surprise", "fear", "disgust", "neutral")
SENTIMENTS = ("Positive", "Neutral", "Negative")
_MEDIA = {
    "train": ("train/train_splits", "train_splits"),
    "dev": ("dev/dev_splits_complete", "dev_splits_complete"),
    "test": ("test/output_repeated_splits_test", "output_repeated_splits_test"),
}


def _media(clip: str) -> tuple[str, ...]:
    split, _, rest = clip.partition("_")
    return tuple(f"{folder}/{rest}.mp4" for folder in _MEDIA.get(split, ()))


def _seconds(row: Row, column: str) -> float:
    match = re.fullmatch(r"(\d+):(\d+):(\d+)[,.](\d+)", row.need(column))
    if not match:
        raise CellError(column, f"'{row.text(column)}' is no time such as 00:16:16,059")
    hours, minutes, seconds, rest = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{rest}")


def _native(row: Row) -> ClipRecord:
    mode = row.file.name.partition("_")[0].lower()
    # Dialogue numbers start anew in each split: the split is part of the id, as in MMEVerse.
    clip = f"{mode}_dia{row.integer('Dialogue_ID')}_utt{row.integer('Utterance_ID')}"
    emotion = row.target("Emotion", EMOTIONS)
    for column in (
        "StartTime",
        "EndTime",
    ):  # of the episode, not of the clip's own file: only checked
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
    """The official scorer's truth file."""
    emotion: Target = row.target("label", EMOTIONS)
    path = row.media(f"video/{row.key}", *_media(row.key))
    return ClipRecord(
        id=row.key,
        dataset="meld",
        split="test",
        path=path,
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

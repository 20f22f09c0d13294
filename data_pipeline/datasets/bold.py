"""BoLD: body language in film clips, 26 emotions at once.

It is scored on `val`, because the labels of its test part are hidden.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.row_readers import csv_rows
from data_pipeline.datasets.rows import CellError, Row, RowExcluded
from data_pipeline.schema import SEPARATOR, ClipRecord

# In the order of MMEVerse's prompt.
EMOTIONS = ("Affection", "Anger", "Annoyance", "Anticipation", "Aversion", "Confidence",
            "Disapproval", "Disconnection", "Disquietment", "Doubt/Confusion", "Embarrassment",
            "Engagement", "Esteem", "Excitement", "Fatigue", "Fear", "Happiness", "Pain", "Peace",
            "Pleasure", "Sadness", "Sensitivity", "Suffering", "Surprise", "Sympathy",
            "Yearning")  # fmt: skip
# In the order of the data set's own files.
COLUMNS = ("Peace", "Affection", "Esteem", "Anticipation", "Engagement", "Confidence", "Happiness",
           "Pleasure", "Excitement", "Surprise", "Sympathy", "Doubt/Confusion", "Disconnection",
           "Fatigue", "Embarrassment", "Yearning", "Disapproval", "Aversion", "Annoyance", "Anger",
           "Sensitivity", "Sadness", "Disquietment", "Fear", "Pain", "Suffering")  # fmt: skip
_ALL = ("video", "person_id", "min_frame", "max_frame", *COLUMNS, "valence", "arousal",
        "dominance", "gender", "age", "ethnicity", "confidence")  # fmt: skip
# Fraction of annotators above which an emotion counts as shown, as in the data set's baselines.
PRESENT = 0.5


def _video_of(clip: str) -> str:
    """`x-6CtPWVi6E_0208_1` is person 1 of clip 0208 of the film x-6CtPWVi6E."""
    return clip.rsplit("_", 2)[0]


def _native(row: Row) -> ClipRecord:
    video = row.required("video")
    parts = PurePosixPath(video).parts
    if len(parts) != 3:
        raise CellError("video", f"'{video}' is not of the form 003/<film>.mp4/<clip>.mp4")
    film, clip = parts[1].removesuffix(".mp4"), parts[2].removesuffix(".mp4")
    shown = [name for name in EMOTIONS if row.number_in(name, 0, 1) > PRESENT]
    if not shown:
        raise RowExcluded(f"no emotion above {PRESENT:g}")
    label = SEPARATOR.join(shown)
    mode = row.file.stem
    clip_id = f"{film}_{clip}_{row.integer('person_id')}"
    return ClipRecord(
        id=clip_id,
        dataset="bold",
        split=mode,
        path=row.media(f"video/{clip_id}", f"videos/{video}"),
        label=label,
        labels=EMOTIONS,
        native=label,
        task="multi-label",
        speaker=film,
        scores={k: row.number_in(k, 0, 10) for k in ("valence", "arousal", "dominance")},
        mode=mode,
        provenance={"multi-label": "human"},
    )


TABLE = Table(
    dataset="bold",
    folder="BOLD",
    text="text_whisper",
    labels={"multi-label": Label("Emotion_label", EMOTIONS, multiple=True)},
    reasons={"reason": "gpt-4o-mini_Emotion"},
    speaker=_video_of,
)
SET = DataSet(
    name="bold",
    title="BoLD",
    folders=("BOLD", "BOLD_public"),
    sources=(
        *TABLE.sources(),
        *(
            Source(pattern=f"annotations/{mode}.csv", rows=csv_rows(names=_ALL), make=_native)
            for mode in ("train", "val")
        ),
    ),
    request="https://cydar.ist.psu.edu/emotionchallenge/ (form)",
    terms="research only",
    disjoint="video",
)

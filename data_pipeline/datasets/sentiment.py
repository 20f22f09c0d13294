"""CMU-MOSI, CMU-MOSEI, CH-SIMS, CH-SIMS v2(s): a sentiment score per clip; its sign is the label.

Ids are always text: `0001`, `81406` and `-HwX2H8Z4hY` are names, not numbers.
"""

from __future__ import annotations

import dataclasses

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.labels import SENTIMENTS, SPLIT_WORDS, sentiment_label
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.reading import RecordMaker
from data_pipeline.datasets.row_readers import csv_rows, npz_rows, transcript_record
from data_pipeline.datasets.rows import CellError, Row, RowExcluded
from data_pipeline.schema import ClipRecord, Target

_COLUMNS = ("video_id", "clip_id", "text", "label", "annotation", "mode")
_MEMBERS = {"train_corpus": "train", "val_corpus": "val", "test_corpus": "test"}


def join_id(video: str, clip: str) -> str:
    """The id `<video>_<clip>` of MMEVerse and MERTools."""
    return f"{video}_{clip}"


def video_of(clip: str) -> str:
    """The video of a clip's id; both parts may contain further `_` and start with one."""
    return clip.replace("$_$", "_").rsplit("_", 1)[0]


def _record(
    row: Row, dataset: str, clip: str, *, split: str, label: Target, score: float, subtitle: str
) -> ClipRecord:
    video, _, number = clip.rpartition("_")
    return ClipRecord(
        id=clip,
        dataset=dataset,
        split=split,
        path=row.media(
            f"video/{clip}",
            f"Raw/{video}/{number}.mp4",
            f"Raw/Video/Segmented/{clip}.mp4",
            f"subvideo/{clip}",
        ),
        label=label.label,
        labels=SENTIMENTS,
        native=label.native,
        task="sentiment",
        subtitle=subtitle,
        speaker=video,
        scores={"sentiment": score},
        mode=row.optional("mode", default=split),
        provenance={"sentiment": "human", "subtitle": "human"},
    )


def _native(dataset: str, bound: float) -> RecordMaker:
    """Makes records of MMSA's label.csv and of CH-SIMS v2's meta.csv."""

    def make(row: Row) -> ClipRecord:
        mode = row.required("mode").lower()
        if mode not in SPLIT_WORDS:
            raise CellError("mode", f"'{mode}' is none of {', '.join(SPLIT_WORDS)}")
        if not row.text("label"):  # the unsupervised part of CH-SIMS v2
            raise RowExcluded("no label")
        clip = join_id(row.required("video_id"), row.required("clip_id"))
        score = row.number_in("label", -bound, bound)
        label = row.target("annotation", SENTIMENTS)
        return _record(
            row,
            dataset,
            clip,
            split=SPLIT_WORDS[mode],
            label=label,
            score=score,
            subtitle=row.text("text"),
        )

    return make


def _corpus(dataset: str, bound: float) -> RecordMaker:
    """Makes records of MERTools' label.npz; its `emo` is a dummy, the score is `val`."""

    def make(row: Row) -> ClipRecord:
        member = row.required("member")
        if member not in _MEMBERS:
            raise CellError("member", f"'{member}' is none of {', '.join(_MEMBERS)}")
        score = row.number_in("val", -bound, bound)
        label = Target(sentiment_label(score), SENTIMENTS, row.text("val"))
        return _record(
            row, dataset, row.key, split=_MEMBERS[member], label=label, score=score, subtitle=""
        )

    return make


def _native_sources(
    dataset: str, bound: float, *, file: str = "label.csv", language: str = "english"
) -> tuple[Source, ...]:
    """MMSA's table, MERTools' labels and its transcript."""
    return (
        Source(pattern=file, rows=csv_rows(*_COLUMNS), make=_native(dataset, bound)),
        Source(pattern="label*.npz", rows=npz_rows, make=_corpus(dataset, bound)),
        Source(
            pattern="*transcription-engchi-polish.csv",
            rows=csv_rows("name", language),
            make=transcript_record(dataset, "name", language),
            transcript=True,
        ),
    )


def _table(
    dataset: str, folder: str, column: str, *, text: str = "text", split_column: str = "mode"
) -> Table:
    return Table(
        dataset=dataset,
        folder=folder,
        text=text,
        labels={"sentiment": Label(column, SENTIMENTS)},
        reasons={"reason": "gpt-4o-mini_Sentiment"},
        split_column=split_column,
        speaker=video_of,
    )


def _mosei_id(row: Row) -> str:
    return join_id(row.required("video_id"), row.required("clip_id"))


_MOSEI = _table("cmu_mosei", "CMU-MOSEI", "sentiment_label")
# The evaluation file has video and clip in two columns, the training files have them in one.
_MOSEI_TEST = dataclasses.replace(_MOSEI, reasons={}, identify=_mosei_id)
_CMU = "http://multicomp.cs.cmu.edu/resources (open download); https://github.com/thuiar/MMSA"
MOSI = DataSet(
    name="cmu_mosi",
    title="CMU-MOSI",
    folders=("CMU-MOSI", "MOSI", "CMUMOSI", "cmumosi-process"),
    sources=(
        *_table("cmu_mosi", "CMU-MOSI", "sentiment_label").sources(),
        *_native_sources("cmu_mosi", 3),
    ),
    request=_CMU,
    terms="research use; clips are from YouTube",
    disjoint="video",
)
MOSEI = DataSet(
    name="cmu_mosei",
    title="CMU-MOSEI",
    folders=("CMU-MOSEI", "MOSEI", "CMUMOSEI", "cmumosei-process"),
    sources=(
        *_MOSEI.sources("merged", "AU_gpt"),
        *_MOSEI_TEST.sources("label"),
        *_native_sources("cmu_mosei", 3),
    ),
    request=_CMU,
    terms="research use; clips are from YouTube",
    disjoint="video",
)
SIMS = DataSet(
    name="sims",
    title="CH-SIMS",
    folders=("SIMS", "CH-SIMS", "sims-process"),
    sources=(
        *_table("sims", "SIMS", "val_label", text="english", split_column="").sources("label"),
        *_native_sources("sims", 1),
    ),
    request="https://github.com/thuiar/MMSA (open download)",
    terms="research use; no licence is named",
    family="sims",
)
SIMS_V2 = DataSet(
    name="ch_sims_v2_s",
    title="CH-SIMS v2(s)",
    folders=("CH-SIMS_v2_s", "CH-SIMS v2(s)", "ch-simsv2s", "simsv2-process", "simsv2"),
    sources=(
        *_table("ch_sims_v2_s", "CH-SIMS_v2_s", "annotation").sources(),
        *_native_sources("ch_sims_v2_s", 1, file="meta.csv", language="chinese"),
    ),
    request="https://github.com/thuiar/ch-sims-v2 (open download)",
    terms="research use; no licence is named; contains clips of CH-SIMS",
    family="sims",
)

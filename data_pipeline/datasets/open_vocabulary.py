"""Open vocabulary: EMER v1 and v2 (explanations), MER2024-OV, OV-MERD and OV-MERD+ (word lists)."""

from __future__ import annotations

import ast

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mer import EMOTIONS
from data_pipeline.datasets.mmeverse import Table
from data_pipeline.datasets.reading import RecordMaker
from data_pipeline.datasets.row_readers import csv_rows, transcript_record
from data_pipeline.datasets.rows import CellError, Row
from data_pipeline.schema import SEPARATOR, ClipRecord


def word_list(text: str, *, column: str = "openset") -> tuple[str, ...]:
    """The words of `['excited', 'happy']`; an empty list means neutral, as in MERTools.

    Raises:
      CellError: the text is not a list of words.
    """
    try:
        words = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise CellError(column, f"'{text}' is not a list of words") from error
    if not isinstance(words, (list, tuple)) or not all(isinstance(w, str) for w in words):
        raise CellError(column, f"'{text}' is not a list of words")
    return tuple(dict.fromkeys(w.strip().lower() for w in words if w.strip())) or ("neutral",)


def _words(dataset: str, split: str) -> RecordMaker:
    """Makes records of rows `name, openset`."""

    def make(row: Row) -> ClipRecord:
        clip, native = row.required("name"), row.required("openset")
        return ClipRecord(
            id=clip,
            dataset=dataset,
            split=split,
            path=row.media(f"video/{clip}", f"../MER2024/video/{clip}", f"../MER2023/video/{clip}"),
            label=SEPARATOR.join(word_list(native)),
            labels=(),
            task="open-vocabulary",
            native=native,
            mode=split,
            provenance={"open-vocabulary": "human"},
        )

    return make


def _reasons(
    dataset: str, split: str, *, name: str, column: str, author: str = "human"
) -> RecordMaker:
    """Makes records of explanations, with the emotion and the subtitle if the file has them."""

    def make(row: Row) -> ClipRecord:
        clip = row.required(name)
        emotion = row.target("emotions", EMOTIONS) if "emotions" in row.cells else None
        subtitle = row.optional("subtitles")
        return ClipRecord(
            id=clip,
            dataset=dataset,
            split=split,
            path=row.media(f"video/{clip}", f"../MER2023/video/{clip}"),
            label=emotion.label if emotion else "",
            labels=EMOTIONS,
            native=emotion.native if emotion else "",
            subtitle=subtitle,
            mode=split,
            texts={"reason": row.required(column)},
            provenance={"reason": author} | ({"emotion": "human"} if emotion else {}),
        )

    return make


_MER = "clips: MER2023 EULA, merchallenge.contact@gmail.com"
EMER_V1 = DataSet(
    name="emer_v1",
    title="EMER v1",
    folders=("EMER", "EmoReason", "EMER-v1"),
    sources=(
        Source(
            pattern="gt-eng.csv",
            rows=csv_rows("names", "emotions", "subtitles", "reasons"),
            make=_reasons("emer_v1", "test", name="names", column="reasons"),
            anywhere=True,
        ),
    ),
    request="https://github.com/zeroQiaoba/AffectGPT (annotations); " + _MER,
    terms="academic use",
    family="mer2023",
    expected={("", "test"): 100},
)
EMER_V2 = DataSet(
    name="emer_v2",
    title="EMER v2",
    folders=("EMER", "EMER-v2"),
    sources=(
        Source(
            pattern="final-EMER-reason.csv",
            rows=csv_rows("name", "chinese", "english"),
            make=_reasons("emer_v2", "test", name="name", column="english"),
            anywhere=True,
        ),
    ),
    request="https://github.com/zeroQiaoba/AffectGPT (annotations); " + _MER,
    terms="academic use",
    family="mer2023",
    expected={("", "test"): 332},
)
MER2024_OV = DataSet(
    name="mer2024_ov",
    title="MER2024-OV",
    folders=("MER2024-OV", "ov_store"),
    sources=(
        Source(
            pattern="check-openset.csv",
            rows=csv_rows("name", "openset"),
            make=_words("mer2024_ov", "test"),
            anywhere=True,
        ),
    ),
    request="https://github.com/zeroQiaoba/MERTools (annotations); " + _MER,
    terms="academic use",
    family="mer2023",
)
OV_MERD = DataSet(
    name="ov_merd",
    title="OV-MERD",
    folders=("mer2025-dataset", "MER2025", "OV-MERD"),
    sources=(
        Source(
            pattern="track2_train_ovmerd.csv",
            rows=csv_rows("name", "openset"),
            make=_words("ov_merd", "train"),
            anywhere=True,
        ),
        Source(
            pattern="track3_train_ovmerd.csv",
            rows=csv_rows("name", "reason"),
            make=_reasons(
                "ov_merd",
                "train",
                name="name",
                column="reason",
                author="people and models, MER2025",
            ),
            anywhere=True,
        ),
    ),
    request="https://huggingface.co/datasets/MERChallenge/MER2025 (gated)",
    terms="academic use, no redistribution; its clips are in OV-MERD+ too",
    family="ov_merd",
)
OV_MERD_PLUS = DataSet(
    name="ov_merd+",
    title="OV-MERD+",
    folders=("OV-MERD+", "ovmerdplus-process"),
    sources=(
        Source(
            pattern="check-result-openset-chi-translate.csv",
            rows=csv_rows("name", "openset"),
            make=_words("ov_merd+", "test"),
            anywhere=True,
        ),
        Source(
            pattern="ovlabel.csv", rows=csv_rows("name", "openset"), make=_words("ov_merd+", "test")
        ),
        *Table(
            dataset="ov_merd+",
            folder="OV-MERD+",
            text="sentence",
            labels={},
            reasons={},
            split_column="",
        ).sources("label"),
        Source(
            pattern="subtitle_eng.csv",
            rows=csv_rows("name", "sentence"),
            make=transcript_record("ov_merd+", "name", "sentence", author="machine translation"),
            transcript=True,
        ),
    ),
    request="https://github.com/zeroQiaoba/AffectGPT (annotations, MER-UniBench); " + _MER,
    terms="academic use, no redistribution",
    expected={("", "test"): 532},
    family="ov_merd",
)

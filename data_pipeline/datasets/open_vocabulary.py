"""Clips with words instead of classes: EMER v1 and v2 (reasons), MER2024-OV, OV-MERD and OV-MERD+ (lists of words)."""

from __future__ import annotations

import ast

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mer import EMOTIONS
from data_pipeline.datasets.mmeverse import Table
from data_pipeline.datasets.reading import CellError, RecordMaker, Row, csv_rows, words_of
from data_pipeline.schema import SEPARATOR, ClipRecord


def word_list(text: str, column: str = "openset") -> tuple[str, ...]:
    """`['excited', 'happy']` as words; an empty list means neutral, as in MERTools.

    Raises:
      CellError: it is no list of words.
    """
    try:
        words = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise CellError(column, f"'{text}' is no list of words") from error
    if not isinstance(words, (list, tuple)) or not all(isinstance(w, str) for w in words):
        raise CellError(column, f"'{text}' is no list of words")
    return tuple(dict.fromkeys(w.strip().lower() for w in words if w.strip())) or ("neutral",)


def _words(dataset: str, split: str) -> RecordMaker:
    def make(row: Row) -> ClipRecord:
        clip, native = row.need("name"), row.need("openset")
        return ClipRecord(
            clip, dataset, split, row.media(f"video/{clip}", f"../MER2024/video/{clip}", f"../MER2023/video/{clip}"),
            SEPARATOR.join(word_list(native)), (), task="open-vocabulary", native=native, mode=split,
            provenance={"open-vocabulary": "human"},
        )  # fmt: skip

    return make


def _reasons(dataset: str, split: str, name: str, column: str, author: str = "human") -> RecordMaker:
    """Rows of a reason, and of an emotion and a subtitle where the file has them."""

    def make(row: Row) -> ClipRecord:
        clip = row.need(name)
        emotion = row.target("emotions", EMOTIONS) if "emotions" in row.cells else None
        subtitle = row.text("subtitles") if "subtitles" in row.cells else ""
        return ClipRecord(
            clip, dataset, split, row.media(f"video/{clip}", f"../MER2023/video/{clip}"),
            emotion.label if emotion else "", EMOTIONS, subtitle, native=emotion.native if emotion else "", mode=split,
            texts={"reason": row.need(column)}, provenance={"reason": author} | ({"emotion": "human"} if emotion else {}),
        )  # fmt: skip

    return make


_MER = "clips: MER2023 EULA, merchallenge.contact@gmail.com"
EMER_V1 = DataSet(
    "emer_v1",
    "EMER v1",
    ("EMER", "EmoReason", "EMER-v1"),
    (
        Source(
            "gt-eng.csv",
            csv_rows("names", "emotions", "subtitles", "reasons"),
            _reasons("emer_v1", "test", "names", "reasons"),
            anywhere=True,
        ),
    ),
    request="https://github.com/zeroQiaoba/AffectGPT (annotations); " + _MER,
    terms="academic use",
    family="mer2023",
    expected={("", "test"): 100},
)
EMER_V2 = DataSet(
    "emer_v2",
    "EMER v2",
    ("EMER", "EMER-v2"),
    (
        Source(
            "final-EMER-reason.csv",
            csv_rows("name", "chinese", "english"),
            _reasons("emer_v2", "test", "name", "english"),
            anywhere=True,
        ),
    ),
    request="https://github.com/zeroQiaoba/AffectGPT (annotations); " + _MER,
    terms="academic use",
    family="mer2023",
    expected={("", "test"): 332},
)
MER2024_OV = DataSet(
    "mer2024_ov",
    "MER2024-OV",
    ("MER2024-OV", "ov_store"),
    (Source("check-openset.csv", csv_rows("name", "openset"), _words("mer2024_ov", "test"), anywhere=True),),
    request="https://github.com/zeroQiaoba/MERTools (annotations); " + _MER,
    terms="academic use",
    family="mer2023",
)
OV_MERD = DataSet(
    "ov_merd",
    "OV-MERD",
    ("mer2025-dataset", "MER2025", "OV-MERD"),
    (
        Source("track2_train_ovmerd.csv", csv_rows("name", "openset"), _words("ov_merd", "train"), anywhere=True),
        Source(
            "track3_train_ovmerd.csv",
            csv_rows("name", "reason"),
            _reasons("ov_merd", "train", "name", "reason", "people and models, MER2025"),
            anywhere=True,
        ),
    ),
    request="https://huggingface.co/datasets/MERChallenge/MER2025 (gated)",
    terms="academic use, no redistribution; its clips are in OV-MERD+ too",
    family="ov_merd",
)
OV_MERD_PLUS = DataSet(
    "ov_merd+",
    "OV-MERD+",
    ("OV-MERD+", "ovmerdplus-process"),
    (
        Source(
            "check-result-openset-chi-translate.csv",
            csv_rows("name", "openset"),
            _words("ov_merd+", "test"),
            anywhere=True,
        ),
        Source("ovlabel.csv", csv_rows("name", "openset"), _words("ov_merd+", "test")),
        *Table("ov_merd+", "OV-MERD+", "sentence", {}, {}, mode="").sources("label"),
        Source(
            "subtitle_eng.csv",
            csv_rows("name", "sentence"),
            words_of("ov_merd+", "name", "sentence", author="machine translation"),
            words=True,
        ),
    ),
    request="https://github.com/zeroQiaoba/AffectGPT (annotations, MER-UniBench); " + _MER,
    terms="academic use, no redistribution",
    expected={("", "test"): 532},
    family="ov_merd",
)

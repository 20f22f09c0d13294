"""Clips with words instead of classes: EMER v1 and v2 (reasons), MER2024-OV, OV-MERD and OV-MERD+ (lists of words)."""

from __future__ import annotations

import ast

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mer import EMOTIONS
from data_pipeline.datasets.mmeverse import Table
from data_pipeline.datasets.reading import CellError, RecordMaker, Row, csv_rows, words_of
from data_pipeline.schema import SEPARATOR, ClipRecord


def word_list(text: str, *, column: str = "openset") -> tuple[str, ...]:
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
            id=clip, dataset=dataset, split=split, path=row.media(f"video/{clip}", f"../MER2024/video/{clip}", f"../MER2023/video/{clip}"),
            label=SEPARATOR.join(word_list(native)), labels=(), task="open-vocabulary", native=native, mode=split,
            provenance={"open-vocabulary": "human"},
        )  # fmt: skip

    return make


def _reasons(
    dataset: str, split: str, name: str, column: str, *, author: str = "human"
) -> RecordMaker:
    """Rows of a reason, and of an emotion and a subtitle where the file has them."""

    def make(row: Row) -> ClipRecord:
        clip = row.need(name)
        emotion = row.target("emotions", EMOTIONS) if "emotions" in row.cells else None
        subtitle = row.text("subtitles") if "subtitles" in row.cells else ""
        return ClipRecord(
            id=clip, dataset=dataset, split=split, path=row.media(f"video/{clip}", f"../MER2023/video/{clip}"),
            label=emotion.label if emotion else "", labels=EMOTIONS, subtitle=subtitle, native=emotion.native if emotion else "", mode=split,
            texts={"reason": row.need(column)}, provenance={"reason": author} | ({"emotion": "human"} if emotion else {}),
        )  # fmt: skip

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
            make=_reasons("emer_v1", "test", "names", "reasons"),
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
            make=_reasons("emer_v2", "test", "name", "english"),
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
                "ov_merd", "train", "name", "reason", author="people and models, MER2025"
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
            dataset="ov_merd+", folder="OV-MERD+", text="sentence", labels={}, reasons={}, mode=""
        ).sources("label"),
        Source(
            pattern="subtitle_eng.csv",
            rows=csv_rows("name", "sentence"),
            make=words_of("ov_merd+", "name", "sentence", author="machine translation"),
            words=True,
        ),
    ),
    request="https://github.com/zeroQiaoba/AffectGPT (annotations, MER-UniBench); " + _MER,
    terms="academic use, no redistribution",
    expected={("", "test"): 532},
    family="ov_merd",
)

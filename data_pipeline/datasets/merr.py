"""MERR: clips of MER2023-SEMI with action units, descriptions and explanations.

The coarse part was written by templates, the fine part by LLaMA-3. There are nine labels; the
coarse part has no neutral clip, because its clips were selected by their action units.
"""

from __future__ import annotations

from typing import Any

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.reading import RecordMaker
from data_pipeline.datasets.row_readers import csv_rows, json_rows, line_rows, transcript_record
from data_pipeline.datasets.rows import CellError, Row, RowExcluded
from data_pipeline.schema import ClipRecord, Target

# In the order of its prompts.
EMOTIONS = ("happy", "sad", "neutral", "angry", "worried", "surprise", "fear", "contempt", "doubt")
# Published number of clips of the fine part.
FINE = {
    "neutral": 1352,
    "sad": 1091,
    "angry": 874,
    "happy": 475,
    "worried": 310,
    "surprise": 213,
    "fear": 86,
    "doubt": 45,
    "contempt": 41,
}
_SHARED = (
    "AU_list",
    "visual_prior_list",
    "audio_prior_list",
    "peak_index",
    "peak_AU_list",
    "pseu_emotion",
)


def _joined(row: Row, field: str, *, separator: str = ", ") -> str:
    value = row.cells[field]
    parts = value if isinstance(value, list) else [value]
    if wrong := next((p for p in parts if not isinstance(p, str)), None):
        raise CellError(field, f"contains {wrong!r}, needs text")
    return separator.join(p.strip() for p in parts if p.strip())


def _record(row: Row, dataset: str, clip: str, label: Target, **fields: Any) -> ClipRecord:
    return ClipRecord(
        id=clip,
        dataset=dataset,
        split="train",
        path=row.media(
            f"video/{clip}", f"test3/{clip}", f"../MER2023/test3/{clip}", f"../MER2023/video/{clip}"
        ),
        label=label.label,
        labels=EMOTIONS,
        native=label.native,
        mode="train",
        **fields,
    )


def _json(dataset: str, reason: str, author: str) -> RecordMaker:
    """Makes records of the JSON files; `reason` is the field of the explanation."""

    def make(row: Row) -> ClipRecord:
        texts = {
            "image": _joined(row, "visual_prior_list"),
            "audio": _joined(row, "audio_prior_list", separator="; "),
            "reason": row.text(reason),
            "reason_long": row.optional("reason_caption"),
            "action_units": _joined(row, "AU_list"),
            "peak_action_units": _joined(row, "peak_AU_list"),
        }
        peak = row.required("peak_index")
        if not peak.isdigit():
            raise CellError("peak_index", f"'{peak}' is not a frame number")
        texts = {k: v for k, v in texts.items() if v or k != "reason_long"}
        provenance = {
            "subtitle": "machine translation",
            "action_units": "OpenFace, MERR",
            "peak_action_units": "OpenFace, MERR",
            "emotion": "pseudo label of the MER2023 baseline and action units, MERR",
            "image": "phrases of action units (OpenFace), MERR",
            "audio": "Qwen-Audio, MERR",
            "reason": author,
        }
        subtitle = row.optional("text")
        return _record(
            row,
            dataset,
            row.key,
            row.target("pseu_emotion", EMOTIONS),
            subtitle=subtitle,
            peak_index=int(peak),
            texts=texts,
            provenance=provenance,
        )

    return make


def _list(dataset: str) -> RecordMaker:
    """Makes records of lines `name frames emotion [valence]`; a valence of -10 means none."""

    def make(row: Row) -> ClipRecord:
        valence = row.number_in("valence", -10, 10) if "valence" in row.cells else -10.0
        scores = {"valence": valence} if valence != -10 else {}
        if row.required("emotion") == "0":
            raise RowExcluded("no label")
        return _record(
            row, dataset, row.required("name"), row.target("emotion", EMOTIONS), scores=scores
        )

    return make


_LINES = line_rows("name", "frames", "emotion", optional="valence")
_REQUEST = (
    "https://github.com/ZebangCheng/Emotion-LLaMA (annotations); "
    "clips: MER2023, merchallenge.contact@gmail.com"
)
_TERMS = "research only, CC BY-NC 4.0; clips under the MER2023 EULA"


def _set(part: str, *, fields: tuple[str, ...], reason: str, author: str, clips: int) -> DataSet:
    name = f"merr_{part}"
    transcript = transcript_record(name, "name", "sentence", author="machine translation")
    return DataSet(
        name=name,
        title=f"MERR, {part}",
        folders=("MERR",),
        sources=(
            Source(
                pattern=f"{name}_grained*.json",
                rows=json_rows(*_SHARED, *fields),
                make=_json(name, reason, author),
                anywhere=True,
            ),
            Source(pattern=f"{name}_grained*.txt", rows=_LINES, make=_list(name), anywhere=True),
            Source(
                pattern="transcription_en_all.csv",
                rows=csv_rows("name", "sentence"),
                make=transcript,
                anywhere=True,
                transcript=True,
            ),
        ),
        request=_REQUEST,
        terms=_TERMS,
        family="mer2023",
        expected={("", "train"): clips},
    )


_TEMPLATE = "template of action units, Qwen-Audio and MiniGPT-v2, MERR"
COARSE = _set("coarse", fields=("caption",), reason="caption", author=_TEMPLATE, clips=28618)
FINE_SET = _set(
    "fine",
    fields=("text", "smp_reason_caption"),
    reason="smp_reason_caption",
    author="LLaMA-3-8B-Instruct under the given label, MERR",
    clips=sum(FINE.values()),
)

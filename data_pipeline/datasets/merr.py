"""MERR: clips of MER2023-SEMI with action units, descriptions and reasons, coarse (by template) and fine (by LLaMA-3).

Nine labels; the coarse part has no neutral clip, because clips were chosen by their action units.
"""

from __future__ import annotations

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.reading import (
    CellError,
    Left,
    RecordMaker,
    Row,
    csv_rows,
    json_rows,
    line_rows,
    words_of,
)
from data_pipeline.schema import ClipRecord, Target

EMOTIONS = (
    "happy",
    "sad",
    "neutral",
    "angry",
    "worried",
    "surprise",
    "fear",
    "contempt",
    "doubt",
)  # of its prompts
FINE = {"neutral": 1352, "sad": 1091, "angry": 874, "happy": 475, "worried": 310, "surprise": 213, "fear": 86,
        "doubt": 45, "contempt": 41}  # fmt: skip
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
        raise CellError(field, f"holds {wrong!r}, needs text")
    return separator.join(p.strip() for p in parts if p.strip())


def _record(row: Row, dataset: str, clip: str, label: Target, **fields: object) -> ClipRecord:
    path = row.media(
        f"video/{clip}", f"test3/{clip}", f"../MER2023/test3/{clip}", f"../MER2023/video/{clip}"
    )
    return ClipRecord(
        id=clip, dataset=dataset, split="train", path=path, label=label.label, labels=EMOTIONS, native=label.native, mode="train", **fields  # type: ignore[arg-type]
    )  # fmt: skip


def _json(dataset: str, reason: str, author: str) -> RecordMaker:
    def make(row: Row) -> ClipRecord:
        texts = {
            "image": _joined(row, "visual_prior_list"),
            "audio": _joined(row, "audio_prior_list", separator="; "),
            "reason": row.text(reason),
            "reason_long": row.text("reason_caption") if "reason_caption" in row.cells else "",
            "action_units": _joined(row, "AU_list"),
            "peak_action_units": _joined(row, "peak_AU_list"),
        }
        peak = row.need("peak_index")
        if not peak.isdigit():
            raise CellError("peak_index", f"'{peak}' is no frame number")
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
        subtitle = row.text("text") if "text" in row.cells else ""
        return _record(
            row, dataset, row.key, row.target("pseu_emotion", EMOTIONS), subtitle=subtitle, peak_index=int(peak),
            texts=texts, provenance=provenance,
        )  # fmt: skip

    return make


def _list(dataset: str) -> RecordMaker:
    """`name frames emotion [valence]`; the number of face frames and the valence (-10: none) served nothing."""

    def make(row: Row) -> ClipRecord:
        valence = row.number_in("valence", -10, 10) if "valence" in row.cells else -10.0
        scores = {"valence": valence} if valence != -10 else {}
        if row.need("emotion") == "0":
            raise Left("no label")
        return _record(
            row, dataset, row.need("name"), row.target("emotion", EMOTIONS), scores=scores
        )

    return make


_LINES = line_rows("name", "frames", "emotion", optional="valence")
_REQUEST = "https://github.com/ZebangCheng/Emotion-LLaMA (annotations); clips: MER2023, merchallenge.contact@gmail.com"
_TERMS = "research only, CC BY-NC 4.0; clips under the MER2023 EULA"


def _set(part: str, fields: tuple[str, ...], reason: str, author: str, clips: int) -> DataSet:
    name = f"merr_{part}"
    transcript = words_of(name, "name", "sentence", author="machine translation")
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
                words=True,
            ),
        ),
        request=_REQUEST,
        terms=_TERMS,
        family="mer2023",
        expected={("", "train"): clips},
    )


_TEMPLATE = "template of action units, Qwen-Audio and MiniGPT-v2, MERR"
COARSE = _set("coarse", ("caption",), "caption", _TEMPLATE, 28618)
_FINE_AUTHOR = "LLaMA-3-8B-Instruct under the given label, MERR"
FINE_SET = _set(
    "fine", ("text", "smp_reason_caption"), "smp_reason_caption", _FINE_AUTHOR, sum(FINE.values())
)

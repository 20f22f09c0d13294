"""MC-EIU: emotion and intent in dialogues of English and Mandarin series.

Its official split is not public. Of its own files, the training and validation lists of the MEIJU
challenge are read, or the English table, which has no split.
"""

from __future__ import annotations

import functools
from pathlib import Path

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.row_readers import csv_rows, line_rows
from data_pipeline.datasets.rows import CellError, Row, RowExcluded
from data_pipeline.schema import ClipRecord, Target

EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")
INTENTS = (
    "acknowledging",
    "agreeing",
    "consoling",
    "encouraging",
    "neutral",
    "questioning",
    "suggesting",
    "wishing",
)

_LANGUAGES = {"english": "en", "mandarin": "ch"}  # folder -> end of the clips' ids


def _labels(row: Row) -> tuple[Target, Target]:
    # The ninth intent, which the challenge and MMEVerse leave out.
    if row.text("intent").lower() == "sympathizing":
        raise RowExcluded("intent 'sympathizing'")
    return row.target("emotion", EMOTIONS), row.target("intent", INTENTS)


def _record(
    row: Row, clip: str, *, split: str, path: str, subtitle: str, speaker: str = ""
) -> ClipRecord:
    emotion, intent = _labels(row)
    return ClipRecord(
        id=clip,
        dataset="mc_eiu",
        split=split,
        path=path,
        label=emotion.label,
        labels=EMOTIONS,
        native=emotion.native,
        targets={"intent": intent},
        subtitle=subtitle,
        speaker=speaker,
        mode={"val": "validation"}.get(split, split),
        provenance={
            "emotion": "human",
            "intent": "human",
            **({"subtitle": "human"} if subtitle else {}),
        },
    )


def _dialogues(row: Row) -> ClipRecord:
    """A row of EnglishDialogues.csv, which has no split, so that nothing is trained on it."""
    name = f"dia_{row.integer('Dia_No')}_utt_{row.integer('Utt_No')}"
    path = row.media(
        f"video/{name}_en", f"English_Dialogues/{name}.mp4", f"{name}.mp4", f"{name}.mkv"
    )
    speaker = f"{row.text('video_name')} {row.text('speaker')}".strip()
    return _record(
        row,
        f"{name}_en",
        split="unsplit",
        path=path,
        subtitle=row.text("Subtitle"),
        speaker=speaker,
    )


@functools.lru_cache(maxsize=8)
def _transcript(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8-sig").splitlines()[1:]
    return {
        name: sentence.strip('"') for name, _, sentence in (line.partition(",") for line in lines)
    }


def _challenge(row: Row) -> ClipRecord:
    """A row `name.ext emotion intent` of MEIJU's Training_files.txt or Validation_files.txt."""
    part = row.file.stem.partition("_")[0]
    split = {"training": "train", "validation": "val"}.get(part.lower())
    if split is None:
        raise CellError("file", f"{row.file.name} is neither a training nor a validation list")
    folders = [p.lower() for p in row.file.parts]
    language = next((_LANGUAGES[f] for f in folders if f in _LANGUAGES), None)
    if language is None:
        raise CellError("file", f"{row.file} is in no folder named English or Mandarin")
    name = row.required("file")
    folder = row.file.parent
    path = row.files.media((folder,), (f"{part}/{name}", name, f"../{part}/{name}"))
    words = _transcript(folder / f"{part}_transcription.csv")
    subtitle = words.get(name, words.get(Path(name).stem, ""))
    clip = f"{Path(name).stem}_{language}"
    return _record(row, clip, split=split, path=path, subtitle=subtitle)


TABLE = Table(
    dataset="mc_eiu",
    folder="MC-EIU",
    text="Subtitle",
    labels={"emotion": Label("emotion", EMOTIONS), "intent": Label("intent", INTENTS)},
    reasons={"reason": "gpt-4o-mini_intent"},
)
_COLUMNS = ("Dia_No", "Utt_No", "speaker", "video_name", "emotion", "intent", "Subtitle")
SET = DataSet(
    name="mc_eiu",
    title="MC-EIU",
    folders=("MC-EIU", "MEIJU", "MEIJU2025"),
    sources=(
        *TABLE.sources(),
        Source(pattern="*_files.txt", rows=line_rows("file", "emotion", "intent"), make=_challenge),
        Source(
            pattern="EnglishDialogues.csv",
            rows=csv_rows(*_COLUMNS),
            make=_dialogues,
            anywhere=True,
        ),
    ),
    request=(
        "https://huggingface.co/datasets/YulangZhuo/MC-EIU (gated); "
        "https://ai-s2-lab.github.io/MEIJU2025-website"
    ),
    terms="CC BY-NC 4.0; clips are television material. Friends is in MELD too",
)

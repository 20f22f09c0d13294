"""MC-EIU: emotion and intent of dialogues of English and Mandarin series. Its official split is not public: what is read
natively is MEIJU's (the challenge's) training and validation lists, or the English table without a split.
"""

from __future__ import annotations

import functools
from pathlib import Path

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.reading import CellError, Left, Row, csv_rows, line_rows
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


def _labels(row: Row) -> tuple[Target, Target]:
    if (
        row.text("intent").lower() == "sympathizing"
    ):  # the ninth intent, which the challenge and MMEVerse leave out
        raise Left("intent 'sympathizing'")
    return row.target("emotion", EMOTIONS), row.target("intent", INTENTS)


def _record(
    row: Row, clip: str, split: str, path: str, subtitle: str, *, speaker: str = ""
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
        provenance={"emotion": "human", "intent": "human", "subtitle": "human"},
    )


def _dialogues(row: Row) -> ClipRecord:
    """A row of EnglishDialogues.csv; the file names no split: nothing may train on it before one is made."""
    name = f"dia_{row.integer('Dia_No')}_utt_{row.integer('Utt_No')}"
    path = row.media(
        f"video/{name}_en", f"English_Dialogues/{name}.mp4", f"{name}.mp4", f"{name}.mkv"
    )
    speaker = f"{row.text('video_name')} {row.text('speaker')}".strip()
    return _record(row, f"{name}_en", "unsplit", path, row.text("Subtitle"), speaker=speaker)


@functools.lru_cache(maxsize=8)
def _spoken(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8-sig").splitlines()[1:]
    return {
        name: sentence.strip('"') for name, _, sentence in (line.partition(",") for line in lines)
    }


def _challenge(row: Row) -> ClipRecord:
    """`name.ext emotion intent` of MEIJU's `Training_files.txt` and `Validation_files.txt`."""
    word = row.file.stem.partition("_")[0]
    split = {"training": "train", "validation": "val"}.get(word.lower())
    if split is None:
        raise CellError("file", f"{row.file.name} is neither of training nor of validation")
    language = next(
        (p[:2].lower() for p in row.file.parts if p.lower() in ("english", "mandarin")), "xx"
    )
    language = {"ma": "ch"}.get(language, language)
    name = row.need("file")
    folder = row.file.parent
    path = row.files.media((folder,), (f"{word}/{name}", name, f"../{word}/{name}"))
    words = _spoken(folder / f"{word}_transcription.csv")
    subtitle = words.get(name, words.get(Path(name).stem, ""))
    return _record(row, f"{Path(name).stem}_{language}", split, path, subtitle)


TABLE = Table(
    dataset="mc_eiu",
    folder="MC-EIU",
    text="Subtitle",
    labels={"emotion": Label("emotion", EMOTIONS), "intent": Label("intent", INTENTS)},
    reasons={"reason": "gpt-4o-mini_intent"},
)
SET = DataSet(
    name="mc_eiu",
    title="MC-EIU",
    folders=("MC-EIU", "MEIJU", "MEIJU2025"),
    sources=(
        *TABLE.sources(),
        Source(pattern="*_files.txt", rows=line_rows("file", "emotion", "intent"), make=_challenge),
        Source(
            pattern="EnglishDialogues.csv",
            rows=csv_rows(
                "Dia_No", "Utt_No", "speaker", "video_name", "emotion", "intent", "Subtitle"
            ),
            make=_dialogues,
            anywhere=True,
        ),
    ),
    request="https://huggingface.co/datasets/YulangZhuo/MC-EIU (gated); https://ai-s2-lab.github.io/MEIJU2025-website",
    terms="CC BY-NC 4.0; clips are television material. Friends is in MELD too",
)

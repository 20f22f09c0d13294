"""IEMOCAP: five sessions of two actors each; as in MMEVerse, session 5 is the test part."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.reading import AnnotationFile
from data_pipeline.datasets.row_readers import npz_rows
from data_pipeline.datasets.rows import CellError, RawRow, Row, RowExcluded
from data_pipeline.schema import ClipRecord

# Capitalised as in the prompts; files and ground truth may use lower case.
EMOTIONS = (
    "Anger",
    "Happiness",
    "Disgust",
    "Surprise",
    "Fear",
    "Sadness",
    "Excited",
    "Neutral",
    "Frustration",
)
_SPLITS = {f"Session{i}": "train" if i < 5 else "test" for i in range(1, 6)}
_LINE = re.compile(
    r"\[(\d+\.\d+) - (\d+\.\d+)\]\t(\S+)\t(\w+)\t\[([\d.]+), ([\d.]+), ([\d.]+)\]\s*"
)
_WORDS = re.compile(r"(Ses\S+) \[[\d.]+-[\d.]+\]:\s*(.*)")


def speaker_of(clip: str) -> str:
    """The speaker of a turn: `Ses01F_impro01_M000` is `01M` (the last letter counts)."""
    match = re.fullmatch(r"Ses(\d\d)[FM]_.*_([FM])[X\d]+", clip)
    return f"{match[1]}{match[2]}" if match else ""


def _turns(annotation: AnnotationFile) -> Iterator[RawRow]:
    """One row per turn of an EmoEvaluation file; lines of single annotators are skipped."""
    text = annotation.path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("["):
            continue
        match = _LINE.fullmatch(line)
        if not match:
            expected = "[start - end], name, emotion, [valence, activation, dominance]"
            annotation.add_fault(number, "", f"is not a turn: {expected}")
            continue
        names = ("start", "end", "turn", "emotion", "valence", "activation", "dominance")
        yield RawRow(number, dict(zip(names, match.groups(), strict=True)))


@functools.lru_cache(maxsize=8)
def _transcript(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {match[1]: match[2].strip() for match in map(_WORDS.fullmatch, lines) if match}


def _native(row: Row) -> ClipRecord:
    code, turn = row.required("emotion"), row.required("turn")
    if code in ("xxx", "oth"):
        raise RowExcluded("no majority of the annotators" if code == "xxx" else "emotion 'other'")
    session = next((p for p in row.file.parts if p in _SPLITS), "")
    if not session:
        raise CellError("turn", "the file is not in a folder Session1 to Session5")
    emotion = row.target("emotion", EMOTIONS)
    dialog = row.file.stem
    folder = f"{session}/dialog"
    words = row.file.parents[1] / "transcriptions" / f"{dialog}.txt"
    start, end = row.number_in("start", 0, 1e5), row.number_in("end", 0, 1e5)
    cut = row.media(f"video/{turn}")  # clips that are already cut have no span
    whole = row.media(f"{folder}/avi/DivX/{dialog}.avi")
    use_cut = row.files.has(Path(cut))
    subtitle = _transcript(words).get(turn, "")
    return ClipRecord(
        id=turn,
        dataset="iemocap",
        split=_SPLITS[session],
        path=cut if use_cut else whole,
        start=None if use_cut else start,
        end=None if use_cut else end,
        label=emotion.label,
        labels=EMOTIONS,
        native=emotion.native,
        subtitle=subtitle,
        speaker=speaker_of(turn),
        scores={k: row.number_in(k, 0, 5.5) for k in ("valence", "activation", "dominance")},
        mode=session,
        provenance={
            "emotion": "human",
            **({"subtitle": "human"} if subtitle else {}),
            "valence": "human",
        },
    )


def _truth(row: Row) -> ClipRecord:
    """A row of the official scorer's ground truth, which counts `excited` as happiness."""
    emotion = row.target("label", EMOTIONS)
    return ClipRecord(
        id=row.key,
        dataset="iemocap",
        split="test",
        path=row.media(f"video/{row.key}"),
        label=emotion.label,
        labels=EMOTIONS,
        native=emotion.native,
        speaker=speaker_of(row.key),
        mode="Session5",
    )


TABLE = Table(
    dataset="iemocap",
    folder="IEMOCAP",
    text="text",
    labels={"emotion": Label("official_label", EMOTIONS)},
    reasons={"reason": "gpt-4o-mini_Emotion"},
    split_column="session",
    splits=_SPLITS,
    speaker=speaker_of,
)
SET = DataSet(
    name="iemocap",
    title="IEMOCAP",
    folders=("IEMOCAP", "IEMOCAP_full_release"),
    sources=(
        *TABLE.sources(),
        Source(pattern="Session?/dialog/EmoEvaluation/Ses*.txt", rows=_turns, make=_native),
        Source(pattern="gt_iemocap_Session5.npz", rows=npz_rows, make=_truth, anywhere=True),
    ),
    request="https://sail.usc.edu/iemocap/iemocap_release.htm (signed form)",
    terms="licence of the University of Southern California, research only",
    disjoint="speaker",
    equivalent_labels=(("Excited", "Happiness"),),
)

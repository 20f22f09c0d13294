"""IEMOCAP: five sessions of two actors each. MMEVerse trains on sessions 1 to 4 and tests on session 5."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.mmeverse import Label, Table
from data_pipeline.datasets.reading import CellError, Files, Left, Reading, Row, npz_rows
from data_pipeline.schema import ClipRecord

# Capitalised in the prompts; files and truth tables may say them in lower case.
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
FOUR = ("Anger", "Sadness", "Neutral", "Happiness")
_SPLITS = {f"Session{i}": "train" if i < 5 else "test" for i in range(1, 6)}
_LINE = re.compile(
    r"\[(\d+\.\d+) - (\d+\.\d+)\]\t(\S+)\t(\w+)\t\[([\d.]+), ([\d.]+), ([\d.]+)\]\s*"
)
_WORDS = re.compile(r"(Ses\S+) \[[\d.]+-[\d.]+\]:\s*(.*)")


def speaker_of(clip: str) -> str:
    """`Ses01F_impro01_M000` is said by the man of session 1: the last letter counts, not the first."""
    match = re.fullmatch(r"Ses(\d\d)[FM]_.*_([FM])[X\d]+", clip)
    return f"{match[1]}{match[2]}" if match else ""


def _turns(reading: Reading, base: Path, files: Files) -> Iterator[Row]:
    """One row for each turn of an EmoEvaluation file; the annotators' own lines below it are not read."""
    for number, line in enumerate(
        reading.path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
    ):
        if not line.startswith("[") or line.startswith("% "):
            continue
        match = _LINE.fullmatch(line)
        if not match:
            reading.fault(
                number,
                "",
                "is no turn: [start - end], name, emotion, [valence, activation, dominance]",
            )
            continue
        names = ("start", "end", "turn", "emotion", "valence", "activation", "dominance")
        yield Row(
            number=number,
            cells=dict(zip(names, match.groups(), strict=True)),
            file=reading.path,
            base=base,
            files=files,
        )


@functools.lru_cache(maxsize=8)
def _transcript(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    found = map(_WORDS.fullmatch, path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {match[1]: match[2].strip() for match in found if match}


def _native(row: Row) -> ClipRecord:
    code, turn = row.need("emotion"), row.need("turn")
    if code in ("xxx", "oth"):
        raise Left("no majority of the annotators" if code == "xxx" else "emotion 'other'")
    session = next((p for p in row.file.parts if p in _SPLITS), "")
    if not session:
        raise CellError("turn", "the file lies in no folder Session1 to Session5")
    emotion = row.target("emotion", EMOTIONS)
    dialog = row.file.stem
    folder = f"{session}/dialog"
    words = row.file.parents[1] / "transcriptions" / f"{dialog}.txt"
    start, end = row.number_in("start", 0, 1e5), row.number_in("end", 0, 1e5)
    cut = row.media(f"video/{turn}")  # clips that somebody cut already have no span
    whole = row.media(f"{folder}/avi/DivX/{dialog}.avi")
    use_cut = row.files.has(Path(cut))
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
        subtitle=_transcript(words).get(turn, ""),
        speaker=speaker_of(turn),
        scores={k: row.number_in(k, 0, 5.5) for k in ("valence", "activation", "dominance")},
        mode=session,
        provenance={"emotion": "human", "subtitle": "human", "valence": "human"},
    )


def _truth(row: Row) -> ClipRecord:
    """The official scorer's truth file; `excited` stands there as happiness."""
    emotion = row.target("label", EMOTIONS)
    return ClipRecord(
        id=row.key, dataset="iemocap", split="test", path=row.media(f"video/{row.key}"), label=emotion.label, labels=EMOTIONS,
        speaker=speaker_of(row.key), native=emotion.native, mode="Session5",
    )  # fmt: skip


TABLE = Table(
    dataset="iemocap",
    folder="IEMOCAP",
    text="text",
    labels={"emotion": Label("official_label", EMOTIONS)},
    reasons={"reason": "gpt-4o-mini_Emotion"},
    mode="session",
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
    apart="speaker",
    same=(("Excited", "Happiness"),),
)

"""Further data sets for evaluation: CREMA-D, RAVDESS, FERV39k, Java-SED."""

from __future__ import annotations

import re

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.published_lists import (
    dfer_clip_sources,
    hicmae_list,
    hicmae_sources,
)
from data_pipeline.datasets.row_readers import csv_rows
from data_pipeline.datasets.rows import CellError, Row
from data_pipeline.schema import ClipRecord, Target

CREMA_D = ("anger", "disgust", "fear", "happy", "neutral", "sad")
_CREMA_CODES = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
JAVA_SED = ("angry", "fear", "happy", "neutral", "sad", "surprise")
FERV39K = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")


def _crema_name(row: Row, column: str, split: str, *, fold: str = "") -> ClipRecord:
    """The record of a name `1001_IEO_HAP_LO`: actor, sentence, acted emotion, intensity."""
    clip = row.required(column).rsplit("/", 1)[-1]
    match = re.fullmatch(r"(1\d{3})_[A-Z]{3}_([A-Z]{3})_(LO|MD|HI|XX|X)", clip)
    if not match or match[2] not in _CREMA_CODES:
        raise CellError(column, f"'{clip}' is not a clip name such as 1001_IEO_HAP_LO")
    return ClipRecord(
        id=clip,
        dataset="crema_d",
        split=split,
        path=row.media(f"VideoFlash/{clip}.flv", f"video/{clip}", f"AudioWAV/{clip}.wav"),
        label=_CREMA_CODES[match[2]],
        labels=CREMA_D,
        native=match[2],
        speaker=match[1],
        mode=split,
        fold=fold,
        provenance={"emotion": "acted"},
    )


def _crema_list(row: Row) -> ClipRecord:
    fold, split = hicmae_list(row)
    record = _crema_name(row, "frames", split, fold=fold)
    row.target("label", CREMA_D, codes=CREMA_D)  # checks that the class number is valid
    return record


def _ravdess(row: Row) -> ClipRecord:
    """A row of `02-01-03-...-12`: the third number is the emotion, the last one is the actor."""
    fold, split = hicmae_list(row)
    clip = row.required("frames").rsplit("/", 1)[-1]
    numbers = clip.split("-")
    if (
        len(numbers) != 7
        or not all(n.isdigit() for n in numbers)
        or not 1 <= int(numbers[2]) <= len(RAVDESS)
    ):
        raise CellError("frames", f"'{clip}' is not a clip name of seven numbers")
    label = Target(RAVDESS[int(numbers[2]) - 1], RAVDESS, numbers[2])
    if row.target("label", RAVDESS, codes=RAVDESS).label != label.label:
        native, named = row.text("label"), int(numbers[2]) - 1
        raise CellError("label", f"is {native}, by the name of the clip it is {named}")
    return ClipRecord(
        id=clip,
        dataset="ravdess",
        split=split,
        path=row.media(f"Actor_{numbers[6]}/{clip}.mp4", f"video/{clip}"),
        label=label.label,
        labels=RAVDESS,
        native=label.native,
        speaker=numbers[6],
        mode=split,
        fold=fold,
        provenance={"emotion": "acted"},
    )


def _ferv(row: Row) -> ClipRecord:
    """A row `.../<scene>/<emotion>/<number> frames class` of DFER-CLIP's lists; no sound."""
    parts = row.required("path").split("/")
    if len(parts) < 3:
        raise CellError("path", "needs scene, emotion and number")
    scene, native, number = parts[-3:]
    label = row.target("label", FERV39K, codes=FERV39K)
    if label.label != native.lower():
        text = f"is {row.text('label')} ({label.label}), by the path it is {native}"
        raise CellError("label", text)
    mode = row.file.stem.lower().rpartition("_")[2]
    clip = f"{scene}_{native}_{number}"  # each folder numbers its clips from 1
    return ClipRecord(
        id=clip,
        dataset="ferv39k",
        split=mode,
        path=row.media(f"video/{clip}", f"{scene}/{native}/{number}"),
        label=label.label,
        labels=FERV39K,
        native=native,
        mode=mode,
        provenance={"emotion": "human"},
    )


def _java_sed(row: Row) -> ClipRecord:
    """A row of `video/<actor>-<sentence>-...mp4`: acted Javanese speech without a transcript."""
    file, mode = row.required("file"), row.required("split")
    if mode not in ("train", "val", "test"):
        raise CellError("split", f"'{mode}' is none of train, val, test")
    emotion = row.target("emotion", JAVA_SED)
    return ClipRecord(
        id=file.rpartition(".")[0],
        dataset="java_sed",
        split=mode,
        path=row.media(file),
        label=emotion.label,
        labels=JAVA_SED,
        native=emotion.native,
        speaker=row.required("actor"),
        mode=mode,
        provenance={"emotion": "acted"},
    )


CREMA_D_SET = DataSet(
    name="crema_d",
    title="CREMA-D",
    folders=("CREMA-D", "crema_d"),
    sources=(
        Source(
            pattern="*SentenceFilenames.csv",
            rows=csv_rows("Filename"),
            make=lambda row: _crema_name(row, "Filename", "unsplit"),
        ),
        *hicmae_sources("audio_visual", _crema_list),
    ),
    request="https://github.com/CheyneyComputerScience/CREMA-D (open download)",
    terms="Open Database License",
    disjoint="speaker",
    expected={("", "unsplit"): 7442},
)
RAVDESS_SET = DataSet(
    name="ravdess",
    title="RAVDESS",
    folders=("RAVDESS",),
    sources=hicmae_sources("audio_visual", _ravdess),
    request="https://zenodo.org/record/1188976 (open download)",
    terms="CC BY-NC-SA 4.0",
    disjoint="speaker",
)
FERV39K_SET = DataSet(
    name="ferv39k",
    title="FERV39k",
    folders=("FERV39K", "FERV39k"),
    sources=dfer_clip_sources("FERV39K", _ferv),
    request="https://github.com/wangyanckxx/FERV39k (mail of a university's member)",
    terms="non-commercial research",
    expected={("", "train"): 31088, ("", "test"): 7847},
)

JAVA_SED_SET = DataSet(
    name="java_sed",
    title="Java-SED",
    folders=("java_sed", "Java-SED"),
    sources=(
        Source(
            pattern="manifest.csv",
            rows=csv_rows("file", "actor", "emotion", "split"),
            make=_java_sed,
        ),
    ),
    request="its author; see the licence next to the clips",
    terms="MIT",
    disjoint="speaker",
)

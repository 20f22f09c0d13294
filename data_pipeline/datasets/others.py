"""Further sets of clips that are scored or compared with: CREMA-D, RAVDESS, FERV39k, Java-SED."""

from __future__ import annotations

import re

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.reading import CellError, Row, csv_rows, line_rows
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
    """`1001_IEO_HAP_LO`: actor, sentence, the emotion that was acted, its level."""
    clip = row.need(column).rsplit("/", 1)[-1]
    match = re.fullmatch(r"(1\d{3})_[A-Z]{3}_([A-Z]{3})_(LO|MD|HI|XX|X)", clip)
    if not match or match[2] not in _CREMA_CODES:
        raise CellError(column, f"'{clip}' is no clip name such as 1001_IEO_HAP_LO")
    path = row.media(f"VideoFlash/{clip}.flv", f"video/{clip}", f"AudioWAV/{clip}.wav")
    return ClipRecord(
        id=clip, dataset="crema_d", split=split, path=path, label=_CREMA_CODES[match[2]], labels=CREMA_D, speaker=match[1], native=match[2], fold=fold,
        mode=split, provenance={"emotion": "acted"},
    )  # fmt: skip


def _hicmae(row: Row) -> tuple[str, str]:
    return row.file.stem, f"hicmae-{int(row.file.parent.name.removeprefix('split'))}"


def _crema_list(row: Row) -> ClipRecord:
    split, fold = _hicmae(row)
    record = _crema_name(row, "frames", split, fold=fold)
    row.target("label", CREMA_D, CREMA_D)  # the same order, counted from 0
    return record


def _ravdess(row: Row) -> ClipRecord:
    """`02-01-03-...-12`: the third number is the emotion, the last one the actor."""
    split, fold = _hicmae(row)
    clip = row.need("frames").rsplit("/", 1)[-1]
    numbers = clip.split("-")
    if (
        len(numbers) != 7
        or not all(n.isdigit() for n in numbers)
        or not 1 <= int(numbers[2]) <= len(RAVDESS)
    ):
        raise CellError("frames", f"'{clip}' is no clip name of seven numbers")
    label = Target(RAVDESS[int(numbers[2]) - 1], RAVDESS, numbers[2])
    if row.target("label", RAVDESS, RAVDESS).label != label.label:
        raise CellError(
            "label", f"is {row.text('label')}, the clip's name says {int(numbers[2]) - 1}"
        )
    path = row.media(f"Actor_{numbers[6]}/{clip}.mp4", f"video/{clip}")
    return ClipRecord(
        id=clip, dataset="ravdess", split=split, path=path, label=label.label, labels=RAVDESS, speaker=numbers[6], native=label.native, fold=fold,
        mode=split, provenance={"emotion": "acted"},
    )  # fmt: skip


def _ferv(row: Row) -> ClipRecord:
    """`.../<scene>/<emotion>/<number> frames class` of DFER-CLIP's lists; frames alone, no sound."""
    parts = row.need("path").split("/")
    if len(parts) < 3:
        raise CellError("path", "needs scene, emotion and number")
    scene, native, number = parts[-3:]
    label = row.target("label", FERV39K, FERV39K)
    if label.label != native.lower():
        raise CellError("label", f"is {row.text('label')} ({label.label}), the path says {native}")
    mode = row.file.stem.lower().rpartition("_")[2]
    clip = f"{scene}_{native}_{number}"  # numbers start anew in each folder
    path = row.media(f"video/{clip}", f"{scene}/{native}/{number}")
    return ClipRecord(
        id=clip,
        dataset="ferv39k",
        split=mode,
        path=path,
        label=label.label,
        labels=FERV39K,
        native=native,
        mode=mode,
        provenance={"emotion": "human"},
    )


def _java_sed(row: Row) -> ClipRecord:
    """`video/<actor>-<sentence>-...mp4`: acted Javanese speech, whose words are not known."""
    file, mode = row.need("file"), row.need("split")
    if mode not in ("train", "val", "test"):
        raise CellError("split", f"'{mode}' is none of train, val, test")
    emotion = row.target("emotion", JAVA_SED)
    return ClipRecord(
        id=file.rpartition(".")[0], dataset="java_sed", split=mode, path=row.media(file), label=emotion.label, labels=JAVA_SED, speaker=row.need("actor"),
        native=emotion.native, mode=mode, provenance={"emotion": "acted"},
    )  # fmt: skip


def _hicmae_sources(make) -> tuple[Source, ...]:  # type: ignore[no-untyped-def]
    return tuple(
        Source(
            pattern=f"audio_visual/split??/{mode}.csv",
            rows=line_rows("frames", "sound", "label"),
            make=make,
        )
        for mode in ("train", "test")
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
        *_hicmae_sources(_crema_list),
    ),
    request="https://github.com/CheyneyComputerScience/CREMA-D (open download)",
    terms="Open Database License",
    apart="speaker",
    expected={("", "unsplit"): 7442},
)
RAVDESS_SET = DataSet(
    name="ravdess",
    title="RAVDESS",
    folders=("RAVDESS",),
    sources=_hicmae_sources(_ravdess),
    request="https://zenodo.org/record/1188976 (open download)",
    terms="CC BY-NC-SA 4.0",
    apart="speaker",
)
FERV39K_SET = DataSet(
    name="ferv39k",
    title="FERV39k",
    folders=("FERV39K", "FERV39k"),
    sources=(
        Source(
            pattern="FERV39K_train.txt",
            rows=line_rows("path", "frames", "label"),
            make=_ferv,
            anywhere=True,
        ),
        Source(
            pattern="FERV39K_test.txt",
            rows=line_rows("path", "frames", "label"),
            make=_ferv,
            anywhere=True,
        ),
    ),
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
    request="its author; see the licence beside the clips",
    terms="MIT",
    apart="speaker",
)

"""Writes the embedded corpus: short talking-face mp4 files (h264 and aac) and their truth.

Layout of the folder: `clips/<id>.mp4`, `units/<id>.csv` (the true action units, as OpenFace 2 writes measured ones), `records.jsonl` (ClipRecord with truth), `manifest.csv` (the
bring-your-own-data form of the same), `config.json`. A corpus is cached by a hash of VERSION and settings.
"""

from __future__ import annotations

import concurrent.futures
import csv
import dataclasses
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from data_pipeline.embedded import clues as clues_lib
from data_pipeline.embedded.face import (
    DRAW_SCALE,
    Pose,
    draw_face,
    finish,
    make_background,
    make_person,
)
from data_pipeline.embedded.truth import EMOTIONS, MODALITIES, CorpusConfig, Truth, draw_truth
from data_pipeline.embedded.voice import make_speaker, speak
from data_pipeline.io import cache_root
from data_pipeline.media.clip import SAMPLE_RATE
from data_pipeline.schema import ClipRecord, read_records, write_records

VERSION = 9  # part of the cache key: raise it whenever what is drawn, spoken or written changes
NAME = "embedded"
# Seeds of people, voices and backgrounds: the splits never share one.
_SEEDS = {"train": range(0, 200), "val": range(200, 250), "test": range(250, 350)}


def corpus_key(config: CorpusConfig) -> str:
    """12 hex digits that name the corpus of these settings."""
    text = json.dumps([VERSION, dataclasses.asdict(config)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def split_labels(split: str, config: CorpusConfig) -> list[str]:
    """Labels of one split's clips: equally frequent, in a seeded order."""
    count = getattr(config, split)
    labels = [EMOTIONS[i % len(EMOTIONS)] for i in range(count)]
    np.random.default_rng([config.seed, _SEEDS[split].start, 5]).shuffle(labels)
    return labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    folder: str
    split: str
    index: int
    label: str
    config: CorpusConfig


def expression_curve(count: int, apex: int, strength: float) -> np.ndarray:
    """float[count]: onset, apex, offset of an expression; its only maximum is at frame `apex`."""
    t = np.arange(count)
    rise = np.clip((t + 1) / (apex + 1), 0, 1) ** 0.7
    fall = 1 - 0.6 * np.clip((t - apex) / max(1, count - 1 - apex), 0, 1)
    return strength * np.minimum(rise, fall)


def make_clip(job: _Job) -> ClipRecord:
    """Draws, speaks and writes one clip; everything follows from the job's seed."""
    config = job.config
    seeds = _SEEDS[job.split]
    rng = np.random.default_rng([config.seed, seeds.start, job.index])
    truth = draw_truth(job.label, config, rng)
    person, place, speaker = (int(rng.choice(seeds)) for _ in range(3))
    seconds = float(rng.uniform(1.6, 2.4))
    count = round(seconds * config.fps)
    found: dict[str, tuple[str, ...]] = dict.fromkeys(MODALITIES, ())

    subtitle, spoken = "", truth.shown["text"]
    if spoken is not None:
        subtitle = clues_lib.make_subtitle(spoken, job.split, rng)
        found["text"] = (clues_lib.WORD_PHRASES[spoken],)
    tone = clues_lib.EMOTION_TONES[truth.shown["audio"] or "neutral"]
    waveform, envelope = speak(tone, make_speaker(speaker), seconds, rng)
    if truth.shown["audio"] is not None:
        found["audio"] = clues_lib.tone_clues(tone)

    apex = int(rng.integers(round(0.35 * count), round(0.65 * count)))
    pictures: list[np.ndarray] | None = None
    moved: list[dict[int, float]] = []
    if truth.shown["video"] is not None:
        found["video"] = clues_lib.face_clues(truth.shown["video"])
        curve = expression_curve(count, apex, float(rng.uniform(0.8, 1.0)))
        units = clues_lib.EMOTION_AUS[truth.shown["video"]]
        pictures, moved = _draw(
            person, place, units, curve=curve, envelope=envelope, config=config, rng=rng
        )
    name = f"{job.split}_{job.index:05d}"
    if pictures is not None:
        write_units(Path(job.folder) / "units" / f"{name}.csv", moved, config.fps)
    path = Path(job.folder) / "clips" / f"{name}.mp4"
    write_mp4(path, pictures, waveform if truth.shown["audio"] is not None else None, config.fps)
    texts = {"reason": clues_lib.reason_text(truth, found)}
    if found["video"]:
        texts["image"] = clues_lib.visual_text(found["video"])
    if found["audio"]:
        texts["audio"] = clues_lib.audio_text(found["audio"])
    if found["text"]:
        texts["text"] = clues_lib.words_text(found["text"])
    return ClipRecord(
        id=name,
        dataset=NAME,
        split=job.split,
        path=str(path),
        label=job.label,
        labels=EMOTIONS,
        subtitle=subtitle,
        speaker=f"{person}",
        peak_index=apex if pictures is not None else None,
        texts=texts,
        truth={
            "shown": truth.shown,
            "conflict": truth.conflict,
            "clues": {m: list(found[m]) for m in MODALITIES},
            "person": person,
            "background": place,
            "voice": speaker,
        },
    )


def _draw(
    person: int,
    place: int,
    units: tuple[int, ...],
    *,
    curve: np.ndarray,
    envelope: np.ndarray,
    config: CorpusConfig,
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], list[dict[int, float]]]:
    """(pictures, strength of each unit in each of them)."""
    looks = make_person(person)
    background = make_background(place, config.size * DRAW_SCALE)
    x, y = 0.5 + rng.uniform(-0.06, 0.06), 0.5 + rng.uniform(-0.04, 0.03)
    height, tilt = rng.uniform(0.8, 0.96), rng.uniform(-0.08, 0.08)
    drift, sway = rng.uniform(-0.02, 0.02, 2), rng.uniform(0.0, 0.04)
    brightness, slope = rng.uniform(0.75, 1.15), rng.uniform(-0.4, 0.4)
    strengths = {u: float(rng.uniform(0.75, 1.0)) for u in units}
    blink_at = int(rng.integers(0, len(curve) * 2))
    pictures, moved = [], []
    for i, level in enumerate(curve):
        share = i / len(curve)
        pose = Pose(
            x=x + drift[0] * share,
            y=y + drift[1] * share,
            height=height,
            tilt=tilt + sway * np.sin(2 * np.pi * share),
        )
        at = min(len(envelope) - 1, round(i / config.fps * SAMPLE_RATE))
        moved.append({u: s * float(level) for u, s in strengths.items()})
        picture = draw_face(
            background,
            looks,
            pose,
            units=moved[-1],
            talk=float(envelope[at]),
            blink=float(i == blink_at and i > 0),
        )
        pictures.append(finish(picture, config.size, brightness, slope))
    return pictures, moved


def write_units(path: Path, moved: list[dict[int, float]], fps: int) -> None:
    """The truth of a clip's face in the columns of OpenFace 2: frames from 1, intensities from 0 to 5, presence from 1."""
    measured = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [f"AU{u:02d}" for u in measured]
        writer.writerow(
            [
                "frame",
                "face_id",
                "timestamp",
                "confidence",
                "success",
                *(f"{n}_r" for n in names),
                *(f"{n}_c" for n in names),
            ]
        )
        for i, strengths in enumerate(moved):
            # 102 is unit 2 on one side, which OpenFace does not tell apart
            own = [
                5 * max(strengths.get(u, 0.0), strengths.get(102, 0.0) if u == 2 else 0.0)
                for u in measured
            ]
            row = [
                i + 1,
                0,
                f"{i / fps:.3f}",
                "0.98",
                1,
                *(f"{x:.3f}" for x in own),
                *(int(x >= 1.0) for x in own),
            ]
            writer.writerow(row)


def write_mp4(
    path: Path, pictures: list[np.ndarray] | None, waveform: np.ndarray | None, fps: int
) -> None:
    """Writes uint8[H, W, 3] pictures as h264 and float32[n] 16 kHz sound as aac; None leaves a track out."""
    with av.open(str(path), "w") as container:
        if pictures is not None:
            video = container.add_stream(
                "libx264", rate=fps, options={"crf": "20", "preset": "veryfast", "threads": "1"}
            )
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt = "yuv420p"
        if waveform is not None:
            audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
            audio.bit_rate = 64_000
        if pictures is not None:
            for i, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, fps)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if waveform is not None:
            for start in range(0, len(waveform), 1024):
                piece = av.AudioFrame.from_ndarray(
                    waveform[None, start : start + 1024], format="fltp", layout="mono"
                )
                piece.sample_rate, piece.pts, piece.time_base = (
                    SAMPLE_RATE,
                    start,
                    Fraction(1, SAMPLE_RATE),
                )
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))


def _make_many(jobs: list[_Job]) -> list[ClipRecord]:
    return [make_clip(job) for job in jobs]


def make_corpus(
    *,
    config: CorpusConfig | None = None,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Path:
    """Makes the corpus, or finds it in the cache.

    Args:
      config: settings; the default is 600 + 150 + 300 clips.
      folder: where to write; the default is the cache folder of these settings.
      progress: called with (clips done, clips in all).
      workers: processes; the default is one a core.

    Returns:
      The folder; it is complete once `records.jsonl` is in it.
    """
    config = config or CorpusConfig()
    folder = (folder or cache_root() / "corpus" / corpus_key(config)).absolute()
    stamp = json.dumps({"version": VERSION, **dataclasses.asdict(config)}, indent=1)
    done = folder / "records.jsonl"
    if done.exists():
        if (folder / "config.json").read_text() != stamp:
            raise ValueError(
                f"{folder} holds a corpus of other settings; choose another folder or remove it"
            )
        return folder
    for kind in ("clips", "units"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    jobs = [
        _Job(folder=str(folder), split=split, index=i, label=label, config=config)
        for split in _SEEDS
        for i, label in enumerate(split_labels(split, config))
    ]
    workers = workers or len(os.sched_getaffinity(0))
    pieces = [jobs[i : i + 25] for i in range(0, len(jobs), 25)]
    records: list[ClipRecord] = []
    # spawn: the caller may have started jax threads, which do not survive a fork
    with concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn")
    ) as pool:
        for part in pool.map(_make_many, pieces):
            records += part
            if progress:
                progress(len(records), len(jobs))
    write_manifest(folder / "manifest.csv", records)
    (folder / "config.json").write_text(stamp)
    write_records(folder / "records.tmp", records)
    (folder / "records.tmp").rename(done)  # last, so that a killed run is made again
    return folder


def write_manifest(path: Path, records: list[ClipRecord]) -> None:
    """The records as a manifest CSV, paths relative to it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "subtitle", "split", "speaker"])
        for r in records:
            writer.writerow(
                [os.path.relpath(r.path, path.parent), r.label, r.subtitle, r.split, r.speaker]
            )


def load_corpus(folder: Path) -> list[ClipRecord]:
    """The records of a corpus folder, with paths set to where the folder is now."""
    records = read_records(folder / "records.jsonl")
    return [dataclasses.replace(r, path=str(folder / "clips" / Path(r.path).name)) for r in records]


def truth_of(record: ClipRecord) -> Truth:
    """The Truth of an embedded clip."""
    assert record.truth is not None, record.id
    return Truth(record.label, record.truth["shown"], record.truth["conflict"])

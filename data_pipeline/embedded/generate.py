"""Generates the embedded corpus: short talking-face clips (h264 and aac) with their ground truth.

The folder has `clips/<id>.mp4`, `units/<id>.csv` (the true action units, in the columns of
OpenFace 2), `records.jsonl` (ClipRecords with truth), `manifest.csv` (the same as a manifest for
your own data) and `config.json`. A corpus is cached under a hash of VERSION and its settings.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from data_pipeline.embedded import clues
from data_pipeline.embedded.face import (
    DRAW_SCALE,
    Pose,
    draw_face,
    finish,
    make_background,
    make_person,
)
from data_pipeline.embedded.truth import EMOTIONS, CorpusConfig, Truth, draw_truth
from data_pipeline.embedded.voice import make_speaker, speak
from data_pipeline.io import atomic_path, cache_root, write_text
from data_pipeline.media.clip import SAMPLE_RATE
from data_pipeline.media.worker_pool import spawn_pool
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import MODALITIES, ClipRecord, read_records, write_records

VERSION = 9  # part of the cache key: raise it when pictures, sound or texts change
NAME = "embedded"
# Seeds of people, voices and backgrounds; the splits share none.
_SEEDS = {"train": range(0, 200), "val": range(200, 250), "test": range(250, 350)}
_CLIPS_PER_JOB = 25
_TASK = "make the embedded corpus"
# Action units that OpenFace 2 measures.
_MEASURED = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28)


def corpus_key(config: CorpusConfig) -> str:
    """12 hex digits that identify the corpus of these settings."""
    text = json.dumps([VERSION, dataclasses.asdict(config)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def split_labels(split: str, config: CorpusConfig) -> list[str]:
    """The label of each clip of a split: equally frequent, in a seeded order."""
    count = getattr(config, split)
    labels = [EMOTIONS[i % len(EMOTIONS)] for i in range(count)]
    np.random.default_rng([config.seed, _SEEDS[split].start, 5]).shuffle(labels)
    return labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipJob:
    """One clip to generate.

    Attributes:
      folder: of the corpus.
      split: of the clip.
      index: number in its split.
      label: its emotion.
      config: settings of the corpus.
    """

    folder: str
    split: str
    index: int
    label: str
    config: CorpusConfig

    @property
    def name(self) -> str:
        """The id of the clip."""
        return f"{self.split}_{self.index:05d}"


def expression_curve(count: int, apex: int, strength: float) -> np.ndarray:
    """float[count]: onset, apex and offset of an expression, with its only maximum at `apex`."""
    t = np.arange(count)
    rise = np.clip((t + 1) / (apex + 1), 0, 1) ** 0.7
    fall = 1 - 0.6 * np.clip((t - apex) / max(1, count - 1 - apex), 0, 1)
    return strength * np.minimum(rise, fall)


def make_clip(job: ClipJob) -> ClipRecord:
    """Generates and writes one clip, from the seed of the corpus and the number of the clip."""
    config, seeds = job.config, _SEEDS[job.split]
    # The order of the draws is part of the corpus.
    rng = np.random.default_rng([config.seed, seeds.start, job.index])
    truth = draw_truth(job.label, config, rng)
    person, background, voice = (int(rng.choice(seeds)) for _ in range(3))
    seconds = float(rng.uniform(1.6, 2.4))
    count = round(seconds * config.fps)
    spoken = truth.shown["text"]
    subtitle = "" if spoken is None else clues.make_subtitle(spoken, job.split, rng)
    tone = clues.EMOTION_TONES[truth.shown["audio"] or "neutral"]
    waveform, envelope = speak(tone, make_speaker(voice), seconds, rng)
    apex = int(rng.integers(round(0.35 * count), round(0.65 * count)))
    pictures: list[np.ndarray] | None = None
    emotion = truth.shown["video"]
    if emotion is not None:
        curve = expression_curve(count, apex, float(rng.uniform(0.8, 1.0)))
        units = clues.EMOTION_AUS[emotion]
        pictures, intensities = _draw_frames(
            person, background, units, curve=curve, envelope=envelope, config=config, rng=rng
        )
        write_units(Path(job.folder) / "units" / f"{job.name}.csv", intensities, config.fps)
    path = Path(job.folder) / "clips" / f"{job.name}.mp4"
    write_mp4(path, pictures, waveform if truth.shown["audio"] is not None else None, config.fps)
    shown_clues = _shown_clues(truth)
    return ClipRecord(
        id=job.name,
        dataset=NAME,
        split=job.split,
        path=str(path),
        label=job.label,
        labels=EMOTIONS,
        subtitle=subtitle,
        speaker=f"{person}",
        peak_index=apex if pictures is not None else None,
        texts=_texts(truth, shown_clues),
        truth={
            "shown": truth.shown,
            "conflict": truth.conflict,
            "clues": {m: list(shown_clues[m]) for m in MODALITIES},
            "person": person,
            "background": background,
            "voice": voice,
        },
    )


def _shown_clues(truth: Truth) -> dict[str, tuple[str, ...]]:
    """The clue phrases of each modality, () if it is absent."""
    video, audio, text = (truth.shown[m] for m in ("video", "audio", "text"))
    return {
        "video": () if video is None else clues.face_clues(video),
        "audio": () if audio is None else clues.tone_clues(clues.EMOTION_TONES[audio]),
        "text": () if text is None else (clues.WORD_PHRASES[text],),
    }


def _texts(truth: Truth, shown_clues: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """`texts` of the record: the explanation, and a description of each modality that exists."""
    texts = {"reason": clues.reason_text(truth, shown_clues)}
    if shown_clues["video"]:
        texts["image"] = clues.visual_text(shown_clues["video"])
    if shown_clues["audio"]:
        texts["audio"] = clues.audio_text(shown_clues["audio"])
    if shown_clues["text"]:
        texts["text"] = clues.words_text(shown_clues["text"])
    return texts


def _draw_frames(
    person: int,
    background: int,
    units: tuple[int, ...],
    *,
    curve: np.ndarray,
    envelope: np.ndarray,
    config: CorpusConfig,
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], list[dict[int, float]]]:
    """(pictures, intensity by action unit of each picture)."""
    looks = make_person(person)
    canvas = make_background(background, config.size * DRAW_SCALE)
    x, y = 0.5 + rng.uniform(-0.06, 0.06), 0.5 + rng.uniform(-0.04, 0.03)
    height, tilt = rng.uniform(0.8, 0.96), rng.uniform(-0.08, 0.08)
    drift, sway = rng.uniform(-0.02, 0.02, 2), rng.uniform(0.0, 0.04)
    brightness, slope = rng.uniform(0.75, 1.15), rng.uniform(-0.4, 0.4)
    strengths = {u: float(rng.uniform(0.75, 1.0)) for u in units}
    blink_at = int(rng.integers(0, len(curve) * 2))
    pictures, intensities = [], []
    for i, level in enumerate(curve):
        phase = i / len(curve)
        pose = Pose(
            x=x + drift[0] * phase,
            y=y + drift[1] * phase,
            height=height,
            tilt=tilt + sway * np.sin(2 * np.pi * phase),
        )
        sample = min(len(envelope) - 1, round(i / config.fps * SAMPLE_RATE))
        intensities.append({u: s * float(level) for u, s in strengths.items()})
        picture = draw_face(
            canvas,
            looks,
            pose,
            units=intensities[-1],
            talk=float(envelope[sample]),
            blink=float(i == blink_at and i > 0),
        )
        pictures.append(finish(picture, config.size, brightness, slope))
    return pictures, intensities


def write_units(path: Path, intensities: list[dict[int, float]], fps: int) -> None:
    """Writes the true action units of a clip in the columns of OpenFace 2.

    Args:
      path: the CSV file.
      intensities: intensity in [0, 1] by action unit, per frame.
      fps: frames per second.
    """
    names = [f"AU{u:02d}" for u in _MEASURED]
    with atomic_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
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
        for i, frame in enumerate(intensities):
            # OpenFace does not distinguish unit 102 (one side) from unit 2. Its scale ends at 5.
            scores = [
                5 * max(frame.get(u, 0.0), frame.get(102, 0.0) if u == 2 else 0.0)
                for u in _MEASURED
            ]
            present = (int(x >= 1.0) for x in scores)
            numbers = (f"{x:.3f}" for x in scores)
            writer.writerow([i + 1, 0, f"{i / fps:.3f}", "0.98", 1, *numbers, *present])


def write_mp4(
    path: Path, pictures: list[np.ndarray] | None, waveform: np.ndarray | None, fps: int
) -> None:
    """Writes pictures as h264 and sound as aac.

    Args:
      path: the mp4 file.
      pictures: uint8[H, W, 3] each; None writes no video track.
      waveform: float32[n] at 16 kHz; None writes no audio track.
      fps: frames per second.
    """
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


def _make_clips(jobs: list[ClipJob]) -> list[ClipRecord]:
    return [make_clip(job) for job in jobs]


def make_corpus(
    *,
    config: CorpusConfig | None = None,
    folder: Path | None = None,
    progress: Progress = no_progress,
    workers: int | None = None,
) -> Path:
    """Generates the corpus, unless it exists.

    Args:
      config: settings; None generates 600 + 150 + 300 clips.
      folder: where to write; None uses the cache folder of these settings.
      progress: called for "make the embedded corpus".
      workers: number of processes; None uses one per core.

    Returns:
      The folder; it is complete when it has `records.jsonl`.

    Raises:
      ValueError: the folder has a corpus of other settings.
    """
    config = config or CorpusConfig()
    folder = (folder or cache_root() / "corpus" / corpus_key(config)).absolute()
    stamp = json.dumps({"version": VERSION, **dataclasses.asdict(config)}, indent=1)
    total = config.train + config.val + config.test
    if (folder / "records.jsonl").exists():
        if (folder / "config.json").read_text() != stamp:
            raise ValueError(
                f"{folder} contains a corpus of other settings; choose another folder or remove it"
            )
        progress(_TASK, total, total)
        return folder
    for subfolder in ("clips", "units"):
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
    records = _make_all(folder, config, progress, workers or len(os.sched_getaffinity(0)))
    write_manifest(folder / "manifest.csv", records)
    write_text(folder / "config.json", stamp)
    write_records(folder / "records.jsonl", records)  # last, so that an interrupted run is repeated
    return folder


def _make_all(
    folder: Path, config: CorpusConfig, progress: Progress, workers: int
) -> list[ClipRecord]:
    """Generates every clip, on all workers."""
    jobs = [
        ClipJob(folder=str(folder), split=split, index=i, label=label, config=config)
        for split in _SEEDS
        for i, label in enumerate(split_labels(split, config))
    ]
    chunks = [jobs[i : i + _CLIPS_PER_JOB] for i in range(0, len(jobs), _CLIPS_PER_JOB)]
    records: list[ClipRecord] = []
    progress(_TASK, 0, len(jobs))
    with spawn_pool(workers) as pool:
        for part in pool.map(_make_clips, chunks):
            records += part
            progress(_TASK, len(records), len(jobs))
    return records


def write_manifest(path: Path, records: list[ClipRecord]) -> None:
    """Writes records as a manifest CSV, with paths relative to it."""
    with atomic_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "subtitle", "split", "speaker"])
        for r in records:
            writer.writerow(
                [os.path.relpath(r.path, path.parent), r.label, r.subtitle, r.split, r.speaker]
            )


def load_corpus(folder: Path) -> list[ClipRecord]:
    """The records of a corpus, with the paths of its present folder.

    Raises:
      OSError: the corpus is missing or unfinished.
      ValueError: its list of records is damaged.
    """
    records = read_records(folder / "records.jsonl")
    return [dataclasses.replace(r, path=str(folder / "clips" / Path(r.path).name)) for r in records]

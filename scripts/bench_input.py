"""Measures the input pipeline in clips per second and core (part of `make bench`; bench extra).

Sources are mp4 (against OpenCV with one seek per frame, as the original code reads, and decord),
proxies, and cached features. Also prints how many host cores feed one chip, and the padding of
batches. `--clips FOLDER` measures real clips as well. Each job runs on one core, in turn with the
other libraries; medians are reported.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"
warnings.filterwarnings("ignore")

import av
import cv2
import decord
import ml_dtypes
import numpy as np
from absl import flags
from scipy.io import wavfile

from data_pipeline.builders.shards import pack_fields, write_chunk
from data_pipeline.loader.batches import train_iterator
from data_pipeline.loader.features import (
    RECORDS,
    CacheConfig,
    Features,
    FeatureSource,
    pack_features,
)
from data_pipeline.loader.samples import NAMES, RowConfig
from data_pipeline.loader.tasks import StageTasks
from data_pipeline.loader.tokens import SmallTokenizer
from data_pipeline.media.clip import SAMPLE_RATE, Sampling, read_clip, uniform_indices
from data_pipeline.media.storage import StoreConfig, pack_media, stored_views
from data_pipeline.media.views import ViewConfig, Views, make_views
from data_pipeline.schema import ClipRecord, write_records
from emojax.config import load_config, resolve
from emojax.model.variables import (
    abstract_variables,
    flatten,
    is_encoder_path,
    select_trainable,
    unbox,
)
from emojax.train.flops import step_flops

ROUNDS = 5
VIEWS = ViewConfig()  # of v2
# Published bfloat16 peaks in FLOP/s, and the assumed MFU of a training step.
CHIPS, ASSUMED_MFU = {"v5e": 197e12, "v6e": 918e12}, 0.4


def write_clips(
    folder: Path,
    width: int,
    height: int,
    *,
    count: int = 6,
    seconds: float = 4.0,
    rate: int = 25,
) -> list[Path]:
    """Clips of a moving ellipse on a textured background and a voice-like tone: H.264 and AAC."""
    rng = np.random.default_rng(0)
    files = []
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    background = (
        rng.integers(0, 60, (height // 8 + 1, width // 8 + 1, 3))
        .repeat(8, 0)
        .repeat(8, 1)[:height, :width]
    )
    for n in range(count):
        path = folder / f"{width}_{n}.mp4"
        with av.open(str(path), "w") as out:
            video = out.add_stream("libx264", rate=rate)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            audio = out.add_stream("aac", rate=44_100, layout="mono")
            for i in range(round(seconds * rate)):
                cx, cy = (
                    width * (0.5 + 0.2 * np.sin(i / 9 + n)),
                    height * (0.5 + 0.1 * np.cos(i / 7)),
                )
                face = ((x - cx) / (width * 0.15)) ** 2 + ((y - cy) / (height * 0.3)) ** 2 < 1
                picture = np.where(
                    face[:, :, None], 170 + 20 * np.sin(i / 3 + x / 40)[:, :, None], 60 + background
                )
                frame = av.VideoFrame.from_ndarray(
                    picture.clip(0, 255).astype(np.uint8), format="rgb24"
                )
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
            t = np.arange(round(seconds * 44_100)) / 44_100
            wave = (0.3 * np.sin(2 * np.pi * (140 + 30 * np.sin(3 * t)) * t)).astype(np.float32)
            sound = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            sound.rate = 44_100
            out.mux(audio.encode(sound))
            out.mux(audio.encode(None))
        files.append(path)
    return files


def ours(path: Path) -> object:
    return read_clip(path, sampling=Sampling(image="middle", temporal="uniform", num_frames=16))


def original(path: Path) -> object:
    """One seek per frame (16, and the image); the audio from a wav file made before."""
    capture = cv2.VideoCapture(str(path))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    for i in [*uniform_indices(total, 16), total // 2]:
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(i))
        ok, frame = capture.read()
        assert ok
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return frames, wavfile.read(path.with_suffix(".wav"))


def with_decord(path: Path) -> object:
    reader = decord.VideoReader(str(path), num_threads=1)
    total = len(reader)
    frames = reader.get_batch([*uniform_indices(total, 16), total // 2]).asnumpy()
    return frames, wavfile.read(path.with_suffix(".wav"))


def rates(jobs: dict[str, Callable[[Path], object]], files: list[Path]) -> dict[str, float]:
    """Clips per second of each job: medians of rounds in turn, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(ROUNDS + 1):
        for name, job in jobs.items():
            begin = time.perf_counter()
            for file in files:
                job(file)
            if number:
                times[name].append((time.perf_counter() - begin) / len(files))
    return {name: 1 / statistics.median(measured) for name, measured in times.items()}


def decode_table(sets: dict[str, list[Path]]) -> dict[str, float]:
    """Prints decode rates; returns those of mp4 and proxies of the last set."""
    print(
        "\n| one core, 16 uniform frames, image and audio | emojax | OpenCV, seek per frame "
        "| decord | emojax / OpenCV |"
    )
    print("|---|---|---|---|---|")
    for name, files in sets.items():
        for file in files:
            clip = ours(file)
            wavfile.write(
                file.with_suffix(".wav"), SAMPLE_RATE, (clip.waveform * 32767).astype(np.int16)
            )
        r = rates({"ours": ours, "original": original, "decord": with_decord}, files)
        print(
            f"| {name}, clips/s | {r['ours']:.1f} | {r['original']:.1f} | {r['decord']:.1f} "
            f"| {r['ours'] / r['original']:.2f} |",
            flush=True,
        )
    config = StoreConfig(image_choice="middle", temporal="uniform")
    records = {
        f: ClipRecord(id=f.stem, dataset="bench", split="train", path=str(f), label="", labels=())
        for f in files
    }
    packed = {f: pack_media(records[f], config)[0] for f in files}
    return rates(
        {
            "mp4 to views": lambda f: make_views(ours(f), VIEWS),
            "proxies to views": lambda f: stored_views(
                records[f], packed[f], config, VIEWS, config.sampling(None)
            ),
        },
        files,
    )


def write_features(folder: Path, config: CacheConfig, texts: dict[str, str], clips: int) -> None:
    """A feature cache of random arrays."""
    rng = np.random.default_rng(0)
    arrays = {
        k: rng.standard_normal(v).astype(ml_dtypes.bfloat16) for k, v in config.shapes.items()
    }
    records = []
    for chunk in range(clips // 32):
        items = []
        for i in range(32):
            record = ClipRecord(
                id=f"{chunk}_{i}",
                dataset="bench",
                split="train",
                path="/x.mp4",
                label="sad",
                labels=("happy", "sad"),
                subtitle="so it is " * 3,
                texts=texts,
            )
            records.append(record)
            items.append(
                pack_fields(
                    pack_features(record, f"{chunk}_{i}", config, Features(arrays, True, True))
                )
            )
        write_chunk(folder / f"{chunk:06d}.array_record", items)
    write_records(folder / RECORDS, records)


def cache_rate(folder: Path, cores: int, clips: int = 192) -> float:
    """Clips per second of the loader alone, from a warm cache of v2's features in bfloat16.

    The loader reads, draws tasks, tokenizes and batches.
    """
    shapes = {"image": (1025, 1408), "video": (64, 1408), "audio": (64, 1280)}
    config = CacheConfig(
        encoder="bench",
        views="bench",
        dtype="bfloat16",
        shapes=shapes,
        streams={k: k for k in shapes},
    )
    texts = {"audio": "a low and slow voice " * 4, "image": "the brows are drawn together " * 4}
    write_features(folder, config, texts, clips)
    blank = {k: np.zeros(v, ml_dtypes.bfloat16) for k, v in shapes.items()}
    tokenizer = SmallTokenizer.train(
        [*texts.values(), "so it is", "The person in video says:"], 400
    )
    rows = RowConfig(
        views=VIEWS,
        placeholders=(("<VideoHere>", 448),),
        buckets=((640, 32), (768, 128), (1024, 384)),
        max_answer=384,
        max_subtitle=200,
        blank=blank,
    )
    stage = StageTasks(style="perception", tasks=("emotion", "audio", "image"))
    source = FeatureSource(folder, config)
    os.sched_setaffinity(0, CORES[:cores])
    batches = train_iterator(
        {"bench": (source, 1.0)},
        stage,
        tokenizer,
        config=rows,
        batch=8,
        seed=0,
        threads=2 * cores,
        prefetch=16,
    )
    measured = []
    for number in range(8):
        begin = time.perf_counter()
        for _ in range(clips // 8):
            assert len(next(batches).pop(NAMES)) == 8
        if number:  # the first pass warms the page cache
            measured.append(clips / (time.perf_counter() - begin))
    return statistics.median(measured)


class ReasonLengths:
    """A source whose clips differ only in the length of their reasons: about 60 words."""

    def __init__(self, count: int):
        rng = np.random.default_rng(0)
        small = ViewConfig(image_size=4, frame_size=4, num_frames=1, mels=2, seconds=0.08)
        self.views = Views(
            image=np.zeros((4, 4, 3), np.uint8),
            frames=np.zeros((1, 4, 4, 3), np.uint8),
            sound=np.zeros(small.sound_shape, np.float32),
            audio_frames=0,
            has_video=True,
            has_audio=True,
        )
        lengths = np.clip(rng.lognormal(np.log(60), 0.5, count), 8, 180).astype(int)
        self.records = [
            ClipRecord(
                id=f"c{i}",
                dataset="d",
                split="train",
                path="/c.mp4",
                label="sad",
                labels=("sad", "happy"),
                subtitle="so it is",
                texts={"reason": "word " * n},
            )
            for i, n in enumerate(lengths)
        ]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[ClipRecord, Views]:
        return self.records[int(index)], self.views


def padding_table() -> None:
    """Prints the share of padding in batches of v2's cognition tasks, by sorting window."""
    buckets = tuple((length, length - 480) for length in range(512, 1025, 64))
    rows = RowConfig(
        views=ViewConfig(image_size=4, frame_size=4, num_frames=1, mels=2, seconds=0.08),
        placeholders=(("<VideoHere>", 448),),
        buckets=buckets,
        max_answer=512,
        max_subtitle=200,
    )
    tokenizer = SmallTokenizer.train(["word so it is The person in video says:"], 300)
    stage = StageTasks(style="cognition", tasks=("emotion", "think", "reason"), max_words=200)
    print(
        "\n| batches sorted together (config.data.window), of 8 rows, buckets every 64 tokens "
        "| padding |"
    )
    print("|---|---|")
    for window in (1, 4, 16, 64):
        batches = train_iterator(
            {"d": (ReasonLengths(2048), 1.0)},
            stage,
            tokenizer,
            config=rows,
            batch=8,
            seed=1,
            threads=1,
            prefetch=2,
            window=window,
        )
        drawn = [next(batches) for _ in range(128)]
        used = sum(b["row_tokens"].sum() for b in drawn) / sum(b["ids"].size for b in drawn)
        print(f"| {window} | {1 - used:.1%} |", flush=True)


def chip_rates() -> dict[str, float]:
    """Clips per second that one chip trains on, from cached features of 640 positions per clip."""
    settings = resolve(load_config("v2:stage1"))
    shapes = flatten(unbox(abstract_variables(settings.model)))
    is_trainable = select_trainable(list(shapes), settings.trainable)
    trainable, frozen = (
        {p: x for p, x in shapes.items() if is_trainable[p] == flag} for flag in (True, False)
    )
    per_token, per_clip = step_flops(
        settings.model, trainable, {p: x for p, x in frozen.items() if not is_encoder_path(p)}
    )
    flops = per_clip + 640 * per_token
    return {chip: ASSUMED_MFU * peak / flops for chip, peak in CHIPS.items()}


CORES = sorted(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, help="folder of real clips")
    args = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    cv2.setNumThreads(1)
    print(f"{platform.machine()}, {len(CORES)} cores, {ROUNDS} alternating rounds, medians")
    with tempfile.TemporaryDirectory() as folder:
        sets = {}
        if args.clips:
            real = Path(folder) / "real"
            real.mkdir()
            for file in sorted(args.clips.glob("*.mp4"))[:24]:
                shutil.copy(file, real)
            sets[f"{args.clips.name}, {len(list(real.glob('*.mp4')))} real clips"] = sorted(
                real.glob("*.mp4")
            )
        sets["synthetic clips, 1280x720, 4 s"] = write_clips(Path(folder), 1280, 720)
        sets["synthetic clips, 640x360, 4 s"] = write_clips(Path(folder), 640, 360)
        os.sched_setaffinity(0, CORES[:1])
        measured = decode_table(sets)
        cache = Path(folder) / "cache"
        cache.mkdir()
        measured["cached features to batches"] = cache_rate(cache, 1)
        os.sched_setaffinity(0, CORES)
        both = cache_rate(cache, min(2, len(CORES)))
    padding_table()
    chips = chip_rates()
    heads = " | ".join(f"cores for one {c} ({r:.1f} clips/s)" for c, r in chips.items())
    print(
        "\n| to the input of the model (v2's sizes; 640x360 clips) | clips/s on one core "
        f"| {heads} |"
    )
    print("|---|---|" + "---|" * len(chips))
    for name, rate in measured.items():
        print(
            f"| {name} | {rate:.1f} | "
            + " | ".join(f"{r / rate:.2f}" for r in chips.values())
            + " |"
        )
    cores = min(2, len(CORES))
    print(f"\nThe loader alone from a warm cache, {cores} cores: {both:.0f} clips/s (limit 200).")
    print(
        f"A chip's clips/s: {ASSUMED_MFU:.0%} of its published bfloat16 peak, training from cached "
        "features at 640 positions."
    )


if __name__ == "__main__":
    main()

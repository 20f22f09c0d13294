"""What a media file is: its hash, its length, and a fingerprint by which a re-encoded copy is found again."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_pipeline.datasets.reading import IMAGE_SUFFIXES
from data_pipeline.media.clip import ClipError, Sampling, read_clip

FRAMES = 4
_SOUND_PARTS = 64
# Of 256 bits of four pictures and 63 of the sound: copies at another size, rate or quality stay below, other clips of
# the same person and room above (tests/unit/test_check.py).
_MAX_PICTURE, _MAX_SOUND = 24, 8
_MAX_PICTURE_ALONE = (
    2  # of silent files: pictures of one person in one room differ by as little as 3
)
_BAND = 16  # bits that a candidate must share exactly


@dataclasses.dataclass(frozen=True, kw_only=True)
class Media:
    """One media file.

    Attributes:
      path, size, mtime: the file, its bytes and its time of change (ns).
      sha256: of its bytes.  seconds: its length, 0 for a still.
      pictures: a difference hash of 64 bits for each of FRAMES frames, () without a picture.
      sound: 63 bits of the loudness's course, None without sound.
      error: why it can not be read, "" when it can.
    """

    path: str
    size: int
    mtime: int
    sha256: str = ""
    seconds: float = 0.0
    pictures: tuple[int, ...] = ()
    sound: int | None = None
    error: str = ""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Media:
        """The inverse of `to_json`."""
        fields = json.loads(line)
        return cls(**{**fields, "pictures": tuple(fields["pictures"])})


def difference_hash(picture: np.ndarray) -> int:
    """uint8[H, W, 3] -> 64 bits: whether each of 8 x 8 cells is brighter than its right neighbour."""
    small = np.asarray(
        Image.fromarray(picture).convert("L").resize((9, 8), Image.Resampling.BOX), np.int16
    )
    return int("".join("1" if b else "0" for b in (small[:, 1:] > small[:, :-1]).ravel()), 2)


def loudness_hash(waveform: np.ndarray) -> int | None:
    """float[n] -> 63 bits: whether each of 64 equal parts is louder than the one before; None for silence."""
    if len(waveform) < _SOUND_PARTS or not np.any(np.abs(waveform) > 1e-4):
        return None
    parts = np.array_split(waveform.astype(np.float64), _SOUND_PARTS)
    power = np.array([np.mean(p**2) for p in parts])
    return int("".join("1" if b else "0" for b in power[1:] > power[:-1]), 2)


def inspect_media(path: str) -> Media:
    """Decodes a file, picture and sound; what goes wrong is told in `error`."""
    try:
        stat = os.stat(path)
        found = Media(path=path, size=stat.st_size, mtime=stat.st_mtime_ns)
        data = Path(path).read_bytes()
    except OSError as error:
        return Media(path=path, size=0, mtime=0, error=f"can not be read ({error.strerror})")
    found = dataclasses.replace(found, sha256=hashlib.sha256(data).hexdigest())
    if path.lower().endswith(IMAGE_SUFFIXES):
        try:
            with Image.open(path) as picture:
                return dataclasses.replace(
                    found, pictures=(difference_hash(np.asarray(picture.convert("RGB"))),) * FRAMES
                )
        except (UnidentifiedImageError, OSError, ValueError) as error:
            return dataclasses.replace(found, error=f"is no picture that can be read ({error})")
    try:
        clip = read_clip(
            data,
            sampling=Sampling(image="middle", temporal="uniform", num_frames=FRAMES),
            clip_id=path,
        )
    except ClipError as error:
        return dataclasses.replace(found, error=str(error))
    return dataclasses.replace(
        found,
        seconds=round(clip.duration, 3),
        pictures=tuple(difference_hash(f) for f in clip.frames) if clip.frames is not None else (),
        sound=loudness_hash(clip.waveform) if clip.waveform is not None else None,
    )


def inspect_all(
    paths: Sequence[str],
    *,
    store: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Media]:
    """Inspects files on all cores; what `store` (JSON Lines) knows of unchanged files is not decoded again."""
    known: dict[str, Media] = {}
    if store is not None and store.exists():
        for line in store.read_text(errors="replace").splitlines():
            try:
                media = Media.from_json(line)
            except (ValueError, TypeError, KeyError):
                continue  # the last line of a run that was cut off
            known[media.path] = media
    out = {}
    for path in paths:
        media_known = known.get(path)
        if media_known and _unchanged(media_known):
            out[path] = media_known
    todo = [p for p in dict.fromkeys(paths) if p not in out]
    total = len(todo) + len(out)
    if progress:
        progress(len(out), total)
    if not todo:
        return out
    workers = min(len(os.sched_getaffinity(0)), len(todo) // 16)
    log = None
    if store is not None:
        store.parent.mkdir(parents=True, exist_ok=True)
        log = store.open("a")
        log.write("\n")  # ends what a run that was cut off may have left
    try:
        with contextlib.ExitStack() as stack:
            found: Iterable[Media] = map(inspect_media, todo)
            if workers > 1:  # a few files are done before processes have started
                context = multiprocessing.get_context("spawn")
                pool = stack.enter_context(
                    concurrent.futures.ProcessPoolExecutor(workers, context, ignore_interrupts)
                )
                stack.callback(pool.shutdown, wait=True, cancel_futures=True)
                found = pool.map(inspect_media, todo, chunksize=4)
            for media in found:
                out[media.path] = media
                if log:
                    log.write(media.to_json() + "\n")
                if progress:
                    progress(len(out), total)
    finally:
        if log:
            log.close()
    return out


def _unchanged(media: Media) -> bool:
    try:
        stat = os.stat(media.path)
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (media.size, media.mtime)


def ignore_interrupts() -> None:
    """For worker processes: Ctrl-C is the parent's, which ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def alike(a: Media, b: Media) -> bool:
    """Whether two files show and sound the same, whatever their encoding."""
    if a.sha256 == b.sha256:
        return True
    if bool(a.pictures) != bool(b.pictures) or (a.sound is None) != (b.sound is None):
        return False
    if abs(a.seconds - b.seconds) > 0.1 + 0.03 * max(a.seconds, b.seconds):
        return False
    if not a.pictures and a.sound is None:
        return False
    pictures = sum((x ^ y).bit_count() for x, y in zip(a.pictures, b.pictures, strict=False))
    sound = (a.sound ^ b.sound).bit_count() if a.sound is not None and b.sound is not None else 0
    if a.sound is None:
        return pictures <= _MAX_PICTURE_ALONE
    return pictures <= _MAX_PICTURE and sound <= _MAX_SOUND


def find_alike(media: Iterable[Media]) -> list[tuple[Media, Media]]:
    """Pairs of files that are alike; candidates share 16 bits of a picture, or of the sound."""
    buckets: dict[tuple[object, ...], list[Media]] = defaultdict(list)
    for m in media:
        if m.error:
            continue
        buckets["sha", m.sha256].append(m)
        hashes = (
            [*enumerate(m.pictures)]
            if m.pictures
            else [(-1, m.sound)]
            if m.sound is not None
            else []
        )
        for index, value in hashes:
            for shift in range(0, 64, _BAND):
                buckets[index, shift, (value >> shift) & ((1 << _BAND) - 1)].append(m)
    pairs: dict[tuple[str, str], tuple[Media, Media]] = {}
    for group in buckets.values():
        group = sorted(group, key=lambda m: (m.seconds, m.path))
        for i, a in enumerate(group):
            for b in group[i + 1 :]:
                if b.seconds - a.seconds > 0.1 + 0.03 * b.seconds:
                    break  # sorted by length: all further ones are longer still
                key = (min(a.path, b.path), max(a.path, b.path))
                if a.path != b.path and key not in pairs and alike(a, b):
                    pairs[key] = (a, b) if a.path < b.path else (b, a)
    return [pairs[k] for k in sorted(pairs)]

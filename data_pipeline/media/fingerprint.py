"""Fingerprints of media files: hash, length, and perceptual hashes that find re-encoded copies.

The difference hash is not that of the imagehash package (which resizes with Lanczos): its bits are
stored by `emojax data check`, and the thresholds below were measured with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipeline.io import file_sha256
from data_pipeline.media.clip import Sampling, read_clip
from data_pipeline.media.container import ClipError, open_regular
from data_pipeline.media.file_kinds import is_picture
from data_pipeline.media.tracks import read_picture
from data_pipeline.media.worker_pool import spawn_pool
from data_pipeline.progress import Progress, no_progress

FRAMES = 4
_SOUND_PARTS = 64
# Most differing bits, of 256 of the four pictures and 63 of the sound. Copies with another size,
# frame rate or quality stay below, other clips of the same person and room above
# (tests/unit/test_check.py).
_MAX_PICTURE, _MAX_SOUND = 24, 8
# For silent files: pictures of one person in one room differ by as few as 3 bits.
_MAX_PICTURE_ALONE = 2
_PART = 1 << 20  # bytes at the start, middle and end of a file that identify a recording
_BAND = 16  # consecutive bits in which two candidates must agree exactly


@dataclasses.dataclass(frozen=True, kw_only=True)
class Media:
    """The fingerprint of one media file.

    Attributes:
      path: the file.
      size: bytes.
      mtime: modification time in ns.
      sha256: hash of the content.
      seconds: length, 0 for a still image.
      pictures: difference hash of 64 bits for each of FRAMES frames, () without a picture.
      sound: loudness hash of 63 bits, None without sound.
      error: why the file cannot be read, "" if it can.
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
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Media:
        """The inverse of `to_json`."""
        fields = json.loads(line)
        return cls(**{**fields, "pictures": tuple(fields["pictures"])})


def recording_fingerprint(path: str) -> str:
    """Identifies a recording of any size, wherever it is stored, without reading it all.

    Returns:
      16 hex digits of a SHA-256 of its size in bytes and of 1 MiB at its start, middle and end.

    Raises:
      ClipError: there is no such file, or it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        for place in (0, (size - _PART) // 2, size - _PART):
            file.seek(max(0, place))
            digest.update(file.read(_PART))
    return digest.hexdigest()[:16]


def difference_hash(picture: np.ndarray) -> int:
    """uint8[H, W, 3] -> 64 bits: whether each of 8 x 8 cells is darker than its right neighbor."""
    small = np.asarray(
        Image.fromarray(picture).convert("L").resize((9, 8), Image.Resampling.BOX), np.int16
    )
    return _to_int(small[:, 1:] > small[:, :-1])


def loudness_hash(waveform: np.ndarray) -> int | None:
    """float[n] -> 63 bits: whether each of 64 equal parts is louder than the previous one.

    Returns:
      The bits, None for silence or fewer than 64 samples.
    """
    if len(waveform) < _SOUND_PARTS or not np.any(np.abs(waveform) > 1e-4):
        return None
    parts = np.array_split(waveform.astype(np.float64), _SOUND_PARTS)
    power = np.array([np.mean(p**2) for p in parts])
    return _to_int(power[1:] > power[:-1])


def _to_int(bits: np.ndarray) -> int:
    """Converts a bool array to the integer with these bits, the first one highest."""
    return int("".join("1" if b else "0" for b in bits.ravel()), 2)


def inspect_media(path: str) -> Media:
    """Decodes a file and computes its fingerprint; problems are reported in its `error`."""
    try:
        stat = os.stat(path)
    except OSError as error:
        return Media(path=path, size=0, mtime=0, error=f"cannot be read ({error.strerror})")
    media = Media(path=path, size=stat.st_size, mtime=stat.st_mtime_ns)
    try:
        with open_regular(path):
            media = dataclasses.replace(media, sha256=file_sha256(Path(path)))
        if is_picture(path):
            bits = difference_hash(read_picture(path))
            return dataclasses.replace(media, pictures=(bits,) * FRAMES)
        clip = read_clip(
            path,
            sampling=Sampling(image="middle", temporal="uniform", num_frames=FRAMES),
            clip_id=path,
        )
    except ClipError as error:
        return dataclasses.replace(media, error=str(error))
    return dataclasses.replace(
        media,
        seconds=round(clip.duration, 3),
        pictures=tuple(difference_hash(f) for f in clip.frames) if clip.frames is not None else (),
        sound=loudness_hash(clip.waveform) if clip.waveform is not None else None,
    )


def inspect_all(
    paths: Sequence[str], *, store: Path | None = None, progress: Progress = no_progress
) -> dict[str, Media]:
    """Computes fingerprints on all CPU cores.

    Args:
      paths: the files.
      store: JSON Lines file of fingerprints; unchanged files in it are not decoded again, and new
        fingerprints are appended.
      progress: reports "decode clips".

    Returns:
      Fingerprints by path.
    """
    stored = _read_store(store) if store is not None else {}
    out = {p: stored[p] for p in paths if p in stored and _unchanged(stored[p])}
    todo = [p for p in dict.fromkeys(paths) if p not in out]
    total = len(todo) + len(out)
    progress("decode clips", len(out), total)
    if not todo:
        return out
    with contextlib.ExitStack() as stack:
        log = None
        if store is not None:
            store.parent.mkdir(parents=True, exist_ok=True)
            log = stack.enter_context(store.open("a"))
            log.write("\n")  # ends a line that an interrupted run may have left
        inspected: Iterable[Media] = map(inspect_media, todo)
        workers = min(len(os.sched_getaffinity(0)), len(todo) // 16)
        if workers > 1:  # a few files are done before processes have started
            pool = stack.enter_context(spawn_pool(workers))
            inspected = pool.map(inspect_media, todo, chunksize=4)
        for media in inspected:
            out[media.path] = media
            if log:
                log.write(media.to_json() + "\n")
            progress("decode clips", len(out), total)
    return out


def _read_store(store: Path) -> dict[str, Media]:
    stored: dict[str, Media] = {}
    if store.exists():
        for line in store.read_text(errors="replace").splitlines():
            try:
                media = Media.from_json(line)
            except (ValueError, TypeError, KeyError):
                continue  # the last line of an interrupted run
            stored[media.path] = media
    return stored


def _unchanged(media: Media) -> bool:
    try:
        stat = os.stat(media.path)
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (media.size, media.mtime)


def alike(a: Media, b: Media) -> bool:
    """Whether two files have the same picture and sound, in any encoding."""
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
    """Pairs of files that are alike, sorted by path.

    Only files that agree in 16 consecutive bits of a picture (or of the sound) are compared.
    """
    buckets: dict[tuple[object, ...], list[Media]] = defaultdict(list)
    for m in media:
        if m.error:
            continue
        buckets["sha", m.sha256].append(m)
        hashes = list(enumerate(m.pictures))
        if not hashes and m.sound is not None:
            hashes = [(-1, m.sound)]
        for index, value in hashes:
            for shift in range(0, 64, _BAND):
                buckets[index, shift, (value >> shift) & ((1 << _BAND) - 1)].append(m)
    pairs: dict[tuple[str, str], tuple[Media, Media]] = {}
    for bucket in buckets.values():
        candidates = sorted(bucket, key=lambda m: (m.seconds, m.path))
        for i, a in enumerate(candidates):
            for b in candidates[i + 1 :]:
                if b.seconds - a.seconds > 0.1 + 0.03 * b.seconds:
                    break  # sorted by length: all further ones are even longer
                key = (min(a.path, b.path), max(a.path, b.path))
                if a.path != b.path and key not in pairs and alike(a, b):
                    pairs[key] = (a, b) if a.path < b.path else (b, a)
    return [pairs[k] for k in sorted(pairs)]

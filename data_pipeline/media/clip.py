"""Decodes a media file to a Clip with PyAV, keeping only the requested frames.

Two ways of temporal sampling: `window` is the released behaviour of Emotion-LLaMAv2 (16 consecutive
frames at a random position), `uniform` spreads the frames over the whole clip.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import numpy as np

from data_pipeline.io import printable
from data_pipeline.media.container import (
    NO_PICTURE,
    NO_SOUND,
    SILENT_SOUND,
    ClipError,
    DecodeTimeout,
    check_size,
    nothing_decoded,
    one_file,
    open_media,
    open_regular,
)
from data_pipeline.media.file_faults import cut_off
from data_pipeline.media.file_times import TOLERANCE, FileTimes, read_times
from data_pipeline.media.notes import merge_notes
from data_pipeline.media.tracks import (
    AS_STORED,
    Matrix,
    decode_track,
    default_track,
    display_matrix,
    read_picture,
    to_rgb,
    unknown_tracks,
)
from data_pipeline.schema import Clip

SAMPLE_RATE = 16_000
IN_MEMORY = 256 << 20  # bytes up to which a file is read once, for all passes over it
_GAP = 0.05  # seconds by which sound may be off its time stamps before it is moved


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which frames of a file a Clip contains.

    Attributes:
      image: the single frame: `first`, `middle`, `peak` (the annotated apex) or `index`.
      index: frame number for `peak` and `index`; None (unknown) falls back to the middle.
      temporal: `uniform` over the whole clip, or a `window` of consecutive frames at a position
        drawn with the clip id as seed.
      num_frames: F, the number of temporally sampled frames.
    """

    image: Literal["first", "middle", "peak", "index"] = "peak"
    index: int | None = None
    temporal: Literal["uniform", "window"] = "uniform"
    num_frames: int = 16


def uniform_indices(total: int, count: int) -> np.ndarray:
    """int64[count]: the middles of `count` equal parts of `total` frames; repeats if short."""
    return ((np.arange(count) + 0.5) * total / count).astype(np.int64)


def window_indices(total: int, count: int, rng: np.random.RandomState) -> np.ndarray:
    """int64[count]: consecutive frames at a random position, or a truncated linspace if short.

    Source: the feature extractor of Emotion-LLaMAv2, which draws from NumPy's global RandomState.
    """
    if total > count:
        end = int(rng.randint(count, total))
        return np.arange(end - count, end)
    return np.linspace(0, total - 1, num=count).astype(np.int64)


def temporal_indices(total: int, sampling: Sampling, clip_id: str) -> np.ndarray:
    """int64[F]: frame numbers for one clip; `window` uses a generator seeded by the clip id."""
    if sampling.temporal == "uniform":
        return uniform_indices(total, sampling.num_frames)
    rng = np.random.RandomState(zlib.crc32(clip_id.encode()))
    return window_indices(total, sampling.num_frames, rng)


def image_index(total: int, sampling: Sampling) -> int:
    """Frame number of the image; falls back to the middle if out of range, as the originals do."""
    if sampling.image == "first":
        return 0
    if sampling.image == "middle" or sampling.index is None or not 0 <= sampling.index < total:
        return total // 2
    return sampling.index


@one_file()
def read_clip(
    source: str | os.PathLike[str] | bytes,
    *,
    sampling: Sampling | None = None,
    clip_id: str | None = None,
    subtitle: str = "",
    start: float | None = None,
    end: float | None = None,
    timeout: float = 60.0,
) -> Clip:
    """Decodes one clip.

    Args:
      source: a path, or the content of a file.
      sampling: which frames to keep.
      clip_id: id of the clip, by default the stem of the path.
      subtitle: the transcript, "" if unknown.
      start: start in seconds from the file's first shown frame; None is the beginning of the file.
      end: end in seconds from the file's first shown frame; None is the end of the file.
      timeout: seconds after which decoding is aborted.

    Returns:
      A Clip; `modalities` and `notes` say whether picture or sound is missing.

    Raises:
      ClipError: nothing can be decoded or decoding takes too long; the message gives the cause.
    """
    sampling = sampling or Sampling()
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    clip_id = clip_id if clip_id is not None else printable(Path(name).stem)
    data = source if isinstance(source, bytes) else _content(name)
    shown = "" if isinstance(source, bytes) else name
    reader = _Reader(data, shown, start=start, end=end, timeout=timeout)
    frames = reader.read_frames(sampling, clip_id)
    waveform = reader.read_waveform()
    notes = list(merge_notes((*reader.notes, *reader.times.notes(start, end))))
    if frames is None and (waveform is None or len(waveform) == 0):
        with reader.file() as file:
            raise nothing_decoded(file, notes)
    clip = Clip(
        id=clip_id,
        path=name,
        frames=frames.sampled if frames else None,
        times=frames.times if frames else None,
        image=frames.image if frames else None,
        image_index=frames.image_index if frames else None,
        waveform=waveform,
        subtitle=subtitle,
        duration=max(
            frames.duration if frames else 0.0,
            len(waveform) / SAMPLE_RATE if waveform is not None else 0.0,
        ),
        num_frames=frames.total if frames else 0,
        notes=tuple(notes),
    )
    if clip.silent:
        return dataclasses.replace(clip, notes=(*clip.notes, SILENT_SOUND))
    return clip


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Frames:
    """The frames of one file that a Clip contains; see Clip."""

    sampled: np.ndarray
    times: np.ndarray
    image: np.ndarray
    image_index: int
    total: int
    duration: float


def _content(path: str) -> str | bytes:
    """The content of a file; its path if it is large, so that it is never whole in memory."""
    with open_regular(path) as file:
        return path if os.fstat(file.fileno()).st_size > IN_MEMORY else file.read()


class _Reader:
    """Reads one file (a path, or its content), reopened for each pass, and collects notes."""

    def __init__(
        self,
        data: str | bytes,
        name: str,
        *,
        start: float | None,
        end: float | None,
        timeout: float,
    ):
        self.data, self.name, self.start, self.end = data, name, start, end
        self.deadline, self.timeout = time.monotonic() + timeout, timeout
        self.notes: list[str] = []
        with self.open() as container, self.file() as file:
            self.is_still = container.format.name.endswith("_pipe")  # of FFmpeg's picture formats
            if stream := default_track(container, "video"):
                check_size(stream)
            self.times: FileTimes = read_times(
                container, file, notes=self.notes, check=self.check_time
            )
            self.notes += [*unknown_tracks(container), *filter(None, [cut_off(file)])]

    def open(self) -> Any:
        return open_media(self.data, name=self.name)

    def file(self) -> BinaryIO:
        return open(self.data, "rb") if isinstance(self.data, str) else io.BytesIO(self.data)

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise DecodeTimeout(
                f"decoding took more than {self.timeout:g} s; cut the file, or allow more time"
            )

    def decode(self, kind: str) -> Iterator[tuple[float, Any, Matrix]]:
        """Yields (time by the file's clock, frame, how it is shown) from the start of the file."""
        with self.open() as container:
            stream = default_track(container, kind)
            if stream is None:
                return
            if kind == "video":
                stream.thread_type = "SLICE"  # frame threads would decode more than is needed
            clock, matrix = self.times.clock(kind), AS_STORED
            frames = decode_track(container, stream, self.notes, check=self.check_time)
            for number, frame in enumerate(frames):
                if kind == "video" and number == 0:
                    matrix = display_matrix(frame, stream)
                yield clock(frame.time, frame_seconds(frame, self.times)), frame, matrix

    def shown(self, times: np.ndarray) -> Iterator[tuple[float, Any, Matrix]]:
        """The decoded pictures of the span; `times`: those that FileTimes gives of them."""
        for seconds, frame, matrix in self.decode("video"):
            if self.end is not None and seconds >= self.end - TOLERANCE:
                return
            if self.start is None or seconds >= times[0] - TOLERANCE:
                yield seconds, frame, matrix

    def pixels(self, frame: Any, converter: Any, matrix: Matrix) -> np.ndarray:
        """uint8[H, W, 3], upright; a still picture is read as in built data sets."""
        if self.is_still:
            with contextlib.suppress(ClipError), self.file() as file:
                return read_picture(file)
        return to_rgb(frame, converter, matrix)

    def read_frames(self, sampling: Sampling, clip_id: str) -> _Frames | None:
        times = self.times.shown(self.start, self.end)
        total = len(times)
        if total == 0:
            self.notes.append(NO_PICTURE + self._span())
            return None
        end = self.times.picture_end if self.end is None else self.end
        duration = min(end, self.times.picture_end) - (self.start or 0.0)
        # One converter for all frames: creating it costs more than using it.
        converter = av.video.reformatter.VideoReformatter()
        for _ in range(3):  # if fewer frames than packets decode, sample again from their number
            indices = temporal_indices(total, sampling, clip_id)
            image_at = image_index(total, sampling)
            needed = set(indices.tolist()) | {image_at}
            frames: dict[int, tuple[np.ndarray, float]] = {}
            decoded = 0
            for seconds, frame, matrix in self.shown(times):
                if decoded in needed:
                    frames[decoded] = (self.pixels(frame, converter, matrix), seconds)
                decoded += 1
                if len(frames) == len(needed):
                    break
            if len(frames) == len(needed):
                requested = sampling.index if sampling.image in ("peak", "index") else None
                if requested is not None and requested != image_at:
                    self.notes.append(
                        f"there is no frame {requested}; the middle one, {image_at}, is used"
                    )
                return _stack_frames(
                    frames, indices, image_at=image_at, total=total, duration=duration
                )
            if decoded == 0:
                if not any("damaged" in note for note in self.notes):
                    self.notes.append("the video track contains no frame that can be decoded")
                return None
            self.notes.append(f"the file announces {total} frames, {decoded} can be decoded")
            total = decoded
        self.notes.append("each pass decodes a different number of frames")
        return None

    def read_waveform(self) -> np.ndarray | None:
        frames = ((seconds, frame) for seconds, frame, _ in self.decode("audio"))
        placed = place_sound(frames, self.notes)
        pieces = list(cut_sound(placed, self.start, self.end))
        if not pieces:
            self.notes.append(NO_SOUND + self._span())
            return None
        begin = self.times.sound_start
        if begin is not None and begin > (self.start or 0.0) + 0.05:
            self.notes.append(f"the sound starts at {begin:.2f} s")
        samples = np.concatenate(pieces)
        if not np.all(np.isfinite(samples)):
            self.notes.append(
                "the audio track contains samples that are not finite; they are 0 here"
            )
        return clean_samples(samples)

    def _span(self) -> str:
        if self.start is None and self.end is None:
            return ""
        end = "the end" if self.end is None else f"{self.end:g} s"
        return f" between {self.start or 0:g} s and {end}"


def frame_seconds(frame: Any, times: FileTimes) -> float:
    """How long a decoded picture or piece of sound lasts, s."""
    if isinstance(frame, av.AudioFrame):
        return frame.samples / (frame.sample_rate or SAMPLE_RATE)
    return min(times.step, 0.1)


def place_sound(
    frames: Iterable[tuple[float, Any]], notes: list[str]
) -> Iterator[tuple[int, np.ndarray]]:
    """Puts decoded sound where its time stamps say, so that it never drifts from the picture.

    Silence is filled in where sound is missing, and what overlaps the sound before is dropped.

    Args:
      frames: (time in seconds by the file's clock, decoded frame).
      notes: receives what is irregular about the channels.

    Yields:
      (number of the first sample by the file's clock, float[n] mono at 16 kHz), without gaps, from
      time 0, or earlier if the sound starts earlier.
    """
    resampler: Any = None
    setup: tuple[Any, ...] = ()
    at: int | None = None
    cancelled = 0
    for seconds, frame in frames:
        if setup != (setup := (frame.format.name, frame.layout.name, frame.sample_rate)):
            resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
        place = round(seconds * SAMPLE_RATE)
        at = min(place, 0) if at is None else at
        if place - at > _GAP * SAMPLE_RATE:
            for begin in range(at, place, SAMPLE_RATE):
                yield begin, np.zeros(min(SAMPLE_RATE, place - begin), np.float32)
            at = place
        overlap = at - place if at - place > _GAP * SAMPLE_RATE else 0
        frame.pts = None  # the resampler would reject gaps between time stamps
        for out in resampler.resample(frame):
            piece, opposite = mix_channels(out.to_ndarray()[:, overlap:])
            overlap = max(0, overlap - out.samples)
            cancelled += len(piece) if opposite else 0
            yield at, piece
            at += len(piece)
    if at is None:
        return
    for out in resampler.resample(None):
        yield at, mix_channels(out.to_ndarray())[0]
        at += out.samples
    if cancelled > _GAP * SAMPLE_RATE:
        notes.append(
            f"the channels of the sound cancel each other (opposite phase) for"
            f" {cancelled / SAMPLE_RATE:.1f} s; the louder channel is used there"
        )


def mix_channels(channels: np.ndarray) -> tuple[np.ndarray, bool]:
    """The mean of the channels, as in the originals; the loudest one where they cancel each other.

    Args:
      channels: float[C, n].

    Returns:
      (float[n], whether they cancel).
    """
    mean: np.ndarray = channels.mean(axis=0)
    if len(channels) == 1 or not mean.size:
        return mean, False
    powers = (channels.astype(np.float64) ** 2).mean(axis=1)
    # Channels that have nothing in common give a mean of this power.
    independent = powers.sum() / len(channels) ** 2
    if not independent > 1e-9 or (mean.astype(np.float64) ** 2).mean() > 0.01 * independent:
        return mean, False
    return channels[int(powers.argmax())], True


def cut_sound(
    placed: Iterable[tuple[int, np.ndarray]], start: float | None, end: float | None
) -> Iterator[np.ndarray]:
    """The part of a sound from `place_sound` between two times in seconds; None: no limit."""
    first = None if start is None else round(start * SAMPLE_RATE)
    last = None if end is None else round(end * SAMPLE_RATE)
    for at, piece in placed:
        if last is not None and at >= last:
            return
        low = 0 if first is None else max(0, first - at)
        high = len(piece) if last is None else min(len(piece), last - at)
        if low < high:
            yield piece[low:high]


def clean_samples(samples: np.ndarray) -> np.ndarray:
    """float[n] -> float32[n] in [-1, 1]; samples that are not finite become 0."""
    finite = np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(finite, -1.0, 1.0)


def _stack_frames(
    decoded: dict[int, tuple[np.ndarray, float]],
    indices: np.ndarray,
    *,
    image_at: int,
    total: int,
    duration: float,
) -> _Frames:
    image = decoded[image_at][0]
    frames = [decoded[i] for i in indices.tolist()]
    if len(decoded) == 1:  # a still picture of many megapixels is not copied
        sampled = np.broadcast_to(image, (len(frames), *image.shape))
    else:  # A stream may change its size half-way; the frames take the size of the image.
        sampled = np.stack([resize_to(pixels, image.shape) for pixels, _ in frames])
    return _Frames(
        sampled=sampled,
        times=np.array([time for _, time in frames]),
        image=image,
        image_index=image_at,
        total=total,
        duration=duration,
    )


def resize_to(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """uint8[H, W, 3] -> uint8 of `shape` by PIL bilinear; unchanged if it has this shape."""
    if picture.shape == shape:
        return picture
    from PIL import Image

    return np.asarray(
        Image.fromarray(picture).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    )

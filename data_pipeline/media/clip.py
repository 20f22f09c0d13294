"""Decodes a media file to a Clip with PyAV, keeping only the requested frames.

Two ways of temporal sampling: `window` is the released behaviour of Emotion-LLaMAv2 (16 consecutive
frames at a random position), `uniform` spreads the frames over the whole clip.
"""

from __future__ import annotations

import dataclasses
import io
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from data_pipeline.media.container import (
    ClipError,
    cause_of,
    check_size,
    is_cover,
    one_file,
    open_media,
    read_bytes,
)
from data_pipeline.media.file_faults import structure_fault
from data_pipeline.schema import Clip

SAMPLE_RATE = 16_000


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
      start: start in seconds of the file's own clock; None is the beginning of the file.
      end: end in seconds of the file's own clock; None is the end of the file.
      timeout: seconds after which decoding is aborted.

    Returns:
      A Clip; `modalities` and `notes` say whether picture or sound is missing.

    Raises:
      ClipError: nothing can be decoded or decoding takes too long; the message gives the cause.
    """
    sampling = sampling or Sampling()
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    clip_id = clip_id if clip_id is not None else Path(name).stem
    data = source if isinstance(source, bytes) else read_bytes(name)
    shown = "" if isinstance(source, bytes) else name
    reader = _Reader(data, shown, start=start, end=end, timeout=timeout)
    frames = reader.read_frames(sampling, clip_id)
    waveform = reader.read_waveform()
    notes = list(reader.notes)
    if frames is None and (waveform is None or len(waveform) == 0):
        faults = [structure_fault(io.BytesIO(data), opened=True), *notes]
        raise ClipError("; ".join(filter(None, faults)) or "neither picture nor sound was decoded")
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
        return dataclasses.replace(clip, notes=(*clip.notes, "the sound track is digital silence"))
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


class _Reader:
    """Reads the content of one file, reopened for each pass, and collects notes."""

    def __init__(
        self, data: bytes, name: str, *, start: float | None, end: float | None, timeout: float
    ):
        self.data, self.name, self.start, self.end = data, name, start, end
        self.deadline, self.timeout = time.monotonic() + timeout, timeout
        self.notes: list[str] = []

    def open(self) -> Any:
        return open_media(io.BytesIO(self.data), name=self.name)

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise ClipError(
                f"decoding took more than {self.timeout:g} s; cut the file, or allow more time"
            )

    def in_span(self, seconds: float | None) -> bool:
        if seconds is None:
            return True
        return (self.start is None or seconds >= self.start) and (
            self.end is None or seconds < self.end
        )

    def decode(self, kind: str) -> Iterator[Any]:
        """Yields the frames of a stream inside the span; a damaged tail ends it with a note."""
        with self.open() as container:
            streams = [s for s in getattr(container.streams, kind) if not is_cover(s)]
            if not streams:
                return
            stream = streams[0]
            if kind == "video":
                check_size(stream)
                stream.thread_type = "SLICE"  # frame threads would decode more than is needed
            last = 0.0
            try:
                for packet in container.demux(stream):
                    self.check_time()
                    for frame in packet.decode():
                        if frame.time is not None:
                            last = frame.time
                            if self.end is not None and last >= self.end:
                                return
                        if self.in_span(frame.time):
                            yield frame
            except ClipError:
                raise  # a timeout: the frames so far are not the whole clip
            except (av.error.FFmpegError, ValueError, MemoryError) as error:
                self.notes.append(
                    f"the {kind} track is damaged after {last:.2f} s ({cause_of(error)})"
                )

    def count_packets(self) -> int:
        """Counts video packets inside the span; the frame counts of headers are often wrong."""
        with self.open() as container:
            streams = [s for s in container.streams.video if not is_cover(s)]
            if not streams:
                return 0
            count = 0
            try:
                for packet in container.demux(streams[0]):
                    self.check_time()
                    seconds = None if packet.pts is None else float(packet.pts * packet.time_base)
                    if packet.size and not packet.is_discard and self.in_span(seconds):
                        count += 1
            except ClipError:
                raise
            except (av.error.FFmpegError, ValueError) as error:
                self.notes.append(f"the file ends early ({cause_of(error)})")
            return count

    def read_frames(self, sampling: Sampling, clip_id: str) -> _Frames | None:
        total = self.count_packets()
        if total == 0:
            self.notes.append("there is no picture" + self._span())
            return None
        # One converter for all frames: creating it costs more than using it.
        converter = av.video.reformatter.VideoReformatter()
        for _ in range(3):  # if fewer frames than packets decode, sample again from their number
            indices = temporal_indices(total, sampling, clip_id)
            image_at = image_index(total, sampling)
            needed = set(indices.tolist()) | {image_at}
            frames: dict[int, tuple[np.ndarray, float]] = {}
            decoded, last_time = 0, 0.0
            for frame in self.decode("video"):
                last_time = frame.time if frame.time is not None else last_time
                if decoded in needed:
                    frames[decoded] = (to_rgb(frame, converter), last_time)
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
                    frames, indices, image_at=image_at, total=total, duration=last_time
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
        resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
        pieces: list[np.ndarray] = []
        first = True
        try:
            for frame in self.decode("audio"):
                if first and frame.time and frame.time > 0.05:
                    self.notes.append(f"the sound starts at {frame.time:.2f} s")
                first = False
                frame.pts = None  # the resampler would reject gaps between time stamps
                # The mean of the channels, as in the originals.
                pieces += [out.to_ndarray().mean(axis=0) for out in resampler.resample(frame)]
            if not first:
                pieces += [out.to_ndarray().mean(axis=0) for out in resampler.resample(None)]
        except ClipError:
            raise
        except (av.error.FFmpegError, ValueError, MemoryError) as error:
            self.notes.append(
                f"the audio track changes its format and is cut there ({cause_of(error)})"
            )
        if not pieces:
            self.notes.append("there is no sound" + self._span())
            return None
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
    return _Frames(
        # A stream may change its size half-way; the frames take the size of the image.
        sampled=np.stack([resize_to(pixels, image.shape) for pixels, _ in frames]),
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


def to_rgb(frame: Any, converter: Any) -> np.ndarray:
    """A decoded frame -> uint8[H, W, 3], upright."""
    return upright(converter.reformat(frame, format="rgb24", threads=1), frame.rotation)


def upright(frame: Any, rotation: float) -> np.ndarray:
    """An RGB frame and its rotation in degrees -> uint8[H, W, 3], upright."""
    picture: np.ndarray = frame.to_ndarray()
    turns = round(rotation / 90) % 4  # phones store portrait as rotated landscape
    return np.rot90(picture, turns).copy() if turns else picture

"""One recording of any length, read once: small pictures with their times, and sound, a piece at a time.

Picture and sound are read by two readers of the same file, each a single pass, so that a file whose sound lies far behind its
picture needs no more memory than another.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from data_pipeline.media.clip import (
    SAMPLE_RATE,
    ClipError,
    cause_of,
    check_size,
    is_cover,
    open_media,
    to_rgb,
)

THUMBNAIL = (64, 36)  # pixels, grey: what changes of shot are measured on
LONGEST_SIDE = 640  # of pictures that are kept; above the 448 of the image stream
BACK, FORTH = 1.0, 3600.0  # seconds by which a clock that goes back or leaps ahead is not believed
_GAP = 0.1  # seconds by which the clock of the sound may be off before silence is filled in


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """What the header tells. seconds: 0 where it does not say."""

    path: str
    seconds: float
    has_video: bool
    has_audio: bool
    width: int = 0
    height: int = 0
    rate: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """One decoded frame.

    Attributes:
      time: seconds from the recording's start.
      change: mean absolute difference (0 to 255) of a small grey copy to that of the frame before; 0 for the first.
      pixels: uint8[h, w, 3] of at most LONGEST_SIDE, or None for frames that are not kept.
      lasts: seconds until the next frame of an even recording, at most 0.1.
    """

    time: float
    change: float
    pixels: np.ndarray | None
    lasts: float = 0.04


def _open(path: str) -> Any:
    return open_media(path, "file")


def _streams(container: Any, kind: str) -> list[Any]:
    return [s for s in getattr(container.streams, kind) if not is_cover(s)]


def _origin(container: Any) -> float:
    """Seconds of the file's clock at which players start to count."""
    return (container.start_time or 0) / av.time_base


def length_of(path: str) -> float:
    """Seconds of a recording by its header, or where that does not tell, by its packets, without decoding.

    Raises:
      ClipError: not a media file, or neither picture nor sound in it.
    """
    if told := open_recording(path).seconds:
        return told
    with _open(path) as container:
        origin, last = _origin(container), 0.0
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            for packet in container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    last = max(
                        last,
                        float((packet.pts + (packet.duration or 0)) * packet.time_base) - origin,
                    )
        return last


def open_recording(path: str) -> Recording:
    """The header of a recording.

    Raises:
      ClipError: not a media file, or neither picture nor sound in it.
    """
    with _open(path) as container:
        video, audio = _streams(container, "video"), _streams(container, "audio")
        if not video and not audio:
            raise ClipError("there is neither picture nor sound in it")
        width, height, rate = 0, 0, 0.0
        if video:
            check_size(video[0])
            width, height = video[0].codec_context.width, video[0].codec_context.height
            rate = float(video[0].average_rate or 0)
        return Recording(
            path=path,
            seconds=(container.duration or 0) / av.time_base,
            has_video=bool(video),
            has_audio=bool(audio),
            width=width,
            height=height,
            rate=rate,
        )


class _Clock:
    """The recording's own time, which only goes on: a file's clock may start anew, or leap, where parts were joined."""

    def __init__(self, kind: str, notes: list[str]):
        self.kind, self.notes, self.offset, self.last = kind, notes, 0.0, 0.0

    def __call__(self, time: float | None, step: float) -> float:
        """Seconds of a frame by the file's clock (None: not told; `step` behind the one before) -> by the recording's."""
        now = self.last + step if time is None else time + self.offset
        if now < self.last - BACK or now > self.last + FORTH:
            self.notes.append(
                f"the clock of the {self.kind} leaps at {self.last:.2f} s; it is taken to go on"
            )
            self.offset += self.last + step - now
            now = self.last + step
        self.last = max(self.last, now)
        return now


def _frames(container: Any, stream: Any, kind: str, notes: list[str]) -> Iterator[Any]:
    """Decoded frames; packets that can not be decoded are counted, and left out."""
    lost = 0
    last = 0.0
    try:
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    last = frame.time if frame.time is not None else last
                    yield frame
            except (av.error.InvalidDataError, ValueError):
                lost += 1
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        notes.append(f"the {kind} track is damaged after {last:.2f} s ({cause_of(error)})")
    if lost:
        notes.append(f"{lost} packets of the {kind} track could not be decoded")


def pictures(path: str, rate: float, notes: list[str]) -> Iterator[Picture]:
    """Every frame of the picture; of `rate` frames a second the pixels are kept."""
    with _open(path) as container:
        found = _streams(container, "video")
        if not found:
            return
        stream, origin = found[0], _origin(container)
        stream.thread_type = "SLICE"
        small, large = (
            av.video.reformatter.VideoReformatter(),
            av.video.reformatter.VideoReformatter(),
        )
        before: np.ndarray | None = None
        clock, due = _Clock("video", notes), 0.0
        step = min(0.1, 1 / float(stream.average_rate or 25))
        for frame in _frames(container, stream, "video", notes):
            time = max(0.0, clock(None if frame.time is None else frame.time - origin, step))
            grey = (
                small.reformat(frame, *THUMBNAIL, format="gray", threads=1)
                .to_ndarray()
                .astype(np.int16)
            )
            change = 0.0 if before is None else float(np.abs(grey - before).mean())
            before = grey
            pixels = None
            if time >= due - 1e-3:
                pixels = _reduced(frame, large)
                due = max(due, time - 1 / rate) + 1 / rate
            yield Picture(time=time, change=change, pixels=pixels, lasts=step)


def _reduced(frame: Any, converter: Any) -> np.ndarray:
    scale = LONGEST_SIDE / max(frame.width, frame.height)
    if scale >= 1:
        return to_rgb(frame, converter)
    size = round(frame.width * scale), round(frame.height * scale)
    picture = converter.reformat(frame, *size, format="rgb24", threads=1).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.rot90(picture, turns).copy() if turns else picture


def sound(path: str, notes: list[str]) -> Iterator[np.ndarray]:
    """float32[n] at 16 kHz, mono, pieces without a gap from the recording's start: where sound is missing, silence fills in."""
    with _open(path) as container:
        found = _streams(container, "audio")
        if not found:
            return
        stream, origin = found[0], _origin(container)
        resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
        clock = _Clock("audio", notes)
        given = 0  # samples
        try:
            for frame in _frames(container, stream, "audio", notes):
                length = frame.samples / (frame.sample_rate or SAMPLE_RATE)
                time = clock(None if frame.time is None else frame.time - origin, length)
                missing = round(time * SAMPLE_RATE) - given
                if missing > _GAP * SAMPLE_RATE:
                    for size in _pieces(missing):
                        yield np.zeros(size, np.float32)
                    given += missing
                frame.pts = None  # gaps in the clock would make the resampler refuse
                for out in resampler.resample(frame):
                    piece = _clean(out.to_ndarray().mean(axis=0))
                    given += len(piece)
                    yield piece
            for out in resampler.resample(None):
                yield _clean(out.to_ndarray().mean(axis=0))
        except (av.error.FFmpegError, ValueError, MemoryError) as error:
            notes.append(
                f"the sound changes its format and is cut at {given / SAMPLE_RATE:.2f} s ({cause_of(error)})"
            )


def _pieces(total: int) -> Iterator[int]:
    while total > 0:
        yield min(total, SAMPLE_RATE)
        total -= SAMPLE_RATE


def _clean(samples: np.ndarray) -> np.ndarray:
    return np.clip(
        np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0
    )

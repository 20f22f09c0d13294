"""Reads a recording of any length in one pass: frames with their times, and sound in pieces.

Picture and sound are read by two readers of the same file, so memory does not grow when the two
tracks are stored far apart in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from data_pipeline.media.clip import SAMPLE_RATE, clean_samples, to_rgb, upright
from data_pipeline.media.container import ClipError, cause_of, check_size, is_cover, open_media

THUMBNAIL = (64, 36)  # pixels, grey: shot changes are measured on these
LONGEST_SIDE = 640  # pixels of frames that are kept; more than the 448 of the image stream
BACK, FORTH = 1.0, 3600.0  # seconds; time stamps that jump further back or ahead are corrected
_GAP = 0.1  # seconds without sound from which silence is filled in


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """The header of a recording.

    Attributes:
      path: the file.
      seconds: length, 0 if the header does not contain it.
      has_video: whether there is a video track.
      has_audio: whether there is an audio track.
      width: pixels, 0 without video.
      height: pixels, 0 without video.
      rate: frames per second, 0 if unknown.
    """

    path: str
    seconds: float
    has_video: bool
    has_audio: bool
    width: int = 0
    height: int = 0
    rate: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoFrame:
    """One decoded frame.

    Attributes:
      time: seconds from the start of the recording.
      change: mean absolute difference (0 to 255) between the thumbnails of this frame and the
        previous one; 0 for the first frame.
      pixels: uint8[h, w, 3], the longest side at most LONGEST_SIDE; None for frames not kept.
      duration: seconds to the next frame at the nominal frame rate, at most 0.1.
    """

    time: float
    change: float
    pixels: np.ndarray | None
    duration: float = 0.04


def _streams(container: Any, kind: str) -> list[Any]:
    return [s for s in getattr(container.streams, kind) if not is_cover(s)]


def _origin(container: Any) -> float:
    """Time in seconds, by the file's clock, that players show as 0."""
    return (container.start_time or 0) / av.time_base


def recording_seconds(path: str) -> float:
    """Length of a recording in seconds, from the header or else from the packets, without decoding.

    Raises:
      ClipError: not a media file, or it contains neither picture nor sound.
    """
    if seconds := open_recording(path).seconds:
        return seconds
    with open_media(path) as container:
        origin, last = _origin(container), 0.0
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            for packet in container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    last = max(last, float(end) - origin)
        return last


def open_recording(path: str) -> Recording:
    """Reads the header of a recording.

    Raises:
      ClipError: not a media file, or it contains neither picture nor sound.
    """
    with open_media(path) as container:
        video, audio = _streams(container, "video"), _streams(container, "audio")
        if not video and not audio:
            raise ClipError("the file contains neither picture nor sound")
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
    """The recording's own time, which never jumps, unlike time stamps where parts were joined."""

    def __init__(self, kind: str, notes: list[str]):
        self.kind, self.notes, self.offset, self.last = kind, notes, 0.0, 0.0

    def __call__(self, time: float | None, step: float) -> float:
        """Converts the time stamp of a frame to the recording's own time.

        Args:
          time: the time stamp in seconds, None if missing.
          step: expected seconds since the previous frame.

        Returns:
          Seconds by the recording's own time.
        """
        now = self.last + step if time is None else time + self.offset
        if now < self.last - BACK or now > self.last + FORTH:
            self.notes.append(
                f"the time stamps of the {self.kind} track jump at {self.last:.2f} s; "
                "the jump is ignored"
            )
            self.offset += self.last + step - now
            now = self.last + step
        self.last = max(self.last, now)
        return now


def _decode(container: Any, stream: Any, kind: str, notes: list[str]) -> Iterator[Any]:
    """Yields decoded frames; packets that cannot be decoded are skipped and counted in a note."""
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


def read_frames(path: str, rate: float, notes: list[str]) -> Iterator[VideoFrame]:
    """Yields every frame of a recording.

    Args:
      path: the file.
      rate: the pixels of this many frames per second are kept.
      notes: receives irregularities of the file.

    Raises:
      ClipError: the file is not a media file.
    """
    with open_media(path) as container:
        streams = _streams(container, "video")
        if not streams:
            return
        stream, origin = streams[0], _origin(container)
        stream.thread_type = "SLICE"
        to_thumbnail = av.video.reformatter.VideoReformatter()
        to_kept = av.video.reformatter.VideoReformatter()
        previous: np.ndarray | None = None
        clock, due = _Clock("video", notes), 0.0
        step = min(0.1, 1 / float(stream.average_rate or 25))
        for frame in _decode(container, stream, "video", notes):
            time = max(0.0, clock(None if frame.time is None else frame.time - origin, step))
            grey = to_thumbnail.reformat(frame, *THUMBNAIL, format="gray", threads=1)
            thumbnail = grey.to_ndarray().astype(np.int16)
            change = 0.0 if previous is None else float(np.abs(thumbnail - previous).mean())
            previous = thumbnail
            pixels = None
            if time >= due - 1e-3:
                pixels = _reduce(frame, to_kept)
                due = max(due, time - 1 / rate) + 1 / rate
            yield VideoFrame(time=time, change=change, pixels=pixels, duration=step)


def _reduce(frame: Any, converter: Any) -> np.ndarray:
    """uint8[h, w, 3], upright, the longest side at most LONGEST_SIDE."""
    scale = LONGEST_SIDE / max(frame.width, frame.height)
    if scale >= 1:
        return to_rgb(frame, converter)
    size = round(frame.width * scale), round(frame.height * scale)
    return upright(converter.reformat(frame, *size, format="rgb24", threads=1), frame.rotation)


def read_sound(path: str, notes: list[str]) -> Iterator[np.ndarray]:
    """Yields the sound of a recording without gaps; missing sound is filled in with silence.

    Args:
      path: the file.
      notes: receives irregularities of the file.

    Yields:
      float32[n], consecutive pieces, mono at 16 kHz, from the start of the recording.

    Raises:
      ClipError: the file is not a media file.
    """
    with open_media(path) as container:
        streams = _streams(container, "audio")
        if not streams:
            return
        stream, origin = streams[0], _origin(container)
        resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
        clock = _Clock("audio", notes)
        count = 0  # samples so far
        try:
            for frame in _decode(container, stream, "audio", notes):
                length = frame.samples / (frame.sample_rate or SAMPLE_RATE)
                time = clock(None if frame.time is None else frame.time - origin, length)
                missing = round(time * SAMPLE_RATE) - count
                if missing > _GAP * SAMPLE_RATE:
                    for size in _piece_sizes(missing):
                        yield np.zeros(size, np.float32)
                    count += missing
                frame.pts = None  # the resampler would reject gaps between time stamps
                for out in resampler.resample(frame):
                    piece = clean_samples(out.to_ndarray().mean(axis=0))
                    count += len(piece)
                    yield piece
            for out in resampler.resample(None):
                yield clean_samples(out.to_ndarray().mean(axis=0))
        except (av.error.FFmpegError, ValueError, MemoryError) as error:
            notes.append(
                f"the audio track changes its format and is cut at {count / SAMPLE_RATE:.2f} s "
                f"({cause_of(error)})"
            )


def _piece_sizes(total: int) -> Iterator[int]:
    """Splits a number of samples into pieces of at most one second."""
    while total > 0:
        yield min(total, SAMPLE_RATE)
        total -= SAMPLE_RATE

"""Reads a recording of any length in one pass: frames with their times, and sound in pieces.

Picture and sound are read by two readers of the same file, so memory does not grow when the two
tracks are stored far apart in it. A pass over the packets comes first, see file_times.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from data_pipeline.media.clip import clean_samples, cut_sound, frame_seconds, place_sound
from data_pipeline.media.container import check_size, nothing_decoded, one_file, open_media
from data_pipeline.media.file_faults import cut_off
from data_pipeline.media.file_times import FileTimes, read_times
from data_pipeline.media.tracks import (
    AS_STORED,
    Matrix,
    decode_track,
    default_track,
    display_matrix,
    unknown_tracks,
    upright,
)

THUMBNAIL = (64, 36)  # pixels, grey: shot changes are measured on these
LONGEST_SIDE = 640  # pixels of frames that are kept; more than the 448 of the image stream
_COMPACT = ("yuv420p", "yuvj420p")  # formats of pixels that a smaller frame keeps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """The header of a recording.

    Attributes:
      path: the file.
      times: when its tracks are shown.
      has_video: whether there is a video track.
      has_audio: whether there is an audio track.
      width: pixels, 0 without video.
      height: pixels, 0 without video.
      rate: frames per second, 0 if unknown.
    """

    path: str
    times: FileTimes
    has_video: bool
    has_audio: bool
    width: int = 0
    height: int = 0
    rate: float = 0.0

    @property
    def seconds(self) -> float:
        """Length in seconds, as far as the file has packets."""
        return self.times.seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoFrame:
    """One decoded frame.

    Attributes:
      time: seconds from the first shown frame of the file.
      change: mean absolute difference (0 to 255) between the thumbnails of this frame and the
        previous one; 0 for the first frame.
      kept: the frame as PyAV decoded it, the longest side at most LONGEST_SIDE; None if it is not
        kept.
      matrix: how it is shown, see `display_matrix`.
    """

    time: float
    change: float
    kept: Any | None
    matrix: Matrix = AS_STORED

    @property
    def pixels(self) -> np.ndarray:
        """uint8[h, w, 3], as a player shows it."""
        assert self.kept is not None
        return upright(self.kept.to_ndarray(format="rgb24"), self.matrix)


def recording_seconds(path: str) -> float:
    """Length of a recording in seconds, from its packets, without decoding them.

    Raises:
      ClipError: not a media file, or it contains neither picture nor sound.
    """
    return open_recording(path).seconds


@one_file()
def open_recording(path: str, notes: list[str] | None = None) -> Recording:
    """Reads the header of a recording and the times of its packets.

    Args:
      path: the file.
      notes: receives irregularities of the file.

    Raises:
      ClipError: not a media file, or it contains neither picture nor sound.
    """
    with open_media(path) as container, open(path, "rb") as file:
        video, audio = (default_track(container, kind) for kind in ("video", "audio"))
        if not video and not audio:
            raise nothing_decoded(file, unknown_tracks(container))
        width, height, rate = 0, 0, 0.0
        if video:
            check_size(video)
            width, height = video.codec_context.width, video.codec_context.height
            rate = float(video.average_rate or 0)
        times = read_times(container, file, notes=notes)
        if notes is not None:
            notes += [*times.notes(), *unknown_tracks(container)]
            notes += filter(None, [cut_off(file)])
        return Recording(
            path=path,
            times=times,
            has_video=bool(video),
            has_audio=bool(audio),
            width=width,
            height=height,
            rate=rate,
        )


def _decode(
    path: str, kind: str, notes: list[str], times: FileTimes | None
) -> Iterator[tuple[float, Any, Matrix]]:
    """Yields (time by the file's clock, decoded frame, how it is shown)."""
    times = open_recording(path).times if times is None else times
    with open_media(path) as container:
        stream = default_track(container, kind)
        if stream is None:
            return
        if kind == "video":
            stream.thread_type = "SLICE"
        clock, matrix = times.clock(kind), AS_STORED
        for number, frame in enumerate(decode_track(container, stream, notes)):
            if kind == "video" and number == 0:
                matrix = display_matrix(frame, stream)
            yield clock(frame.time, frame_seconds(frame, times)), frame, matrix


def read_frames(
    path: str, notes: list[str], *, times: FileTimes | None = None, keep: bool = True
) -> Iterator[VideoFrame]:
    """Yields every frame of a recording.

    Args:
      path: the file.
      notes: receives irregularities of the file.
      times: those of the file, read if not given.
      keep: whether the frames have pixels.

    Raises:
      ClipError: the file is not a media file.
    """
    to_thumbnail = av.video.reformatter.VideoReformatter()
    to_kept = av.video.reformatter.VideoReformatter()
    previous: np.ndarray | None = None
    with one_file():
        for seconds, frame, matrix in _decode(path, "video", notes, times):
            grey = to_thumbnail.reformat(frame, *THUMBNAIL, format="gray", threads=1)
            thumbnail = grey.to_ndarray().astype(np.int16)
            change = 0.0 if previous is None else float(np.abs(thumbnail - previous).mean())
            previous = thumbnail
            yield VideoFrame(
                time=max(0.0, seconds),
                change=change,
                kept=_reduced(frame, to_kept) if keep else None,
                matrix=matrix,
            )


def _reduced(frame: Any, converter: Any) -> Any:
    """The frame itself, or a smaller copy whose longest side is LONGEST_SIDE."""
    scale = LONGEST_SIDE / max(frame.width, frame.height)
    if scale >= 1:
        return frame
    size = round(frame.width * scale), round(frame.height * scale)
    name = frame.format.name if frame.format.name in _COMPACT else "rgb24"
    return converter.reformat(frame, *size, format=name, threads=1)


def read_sound(
    path: str, notes: list[str], *, times: FileTimes | None = None
) -> Iterator[np.ndarray]:
    """Yields the sound of a recording without gaps; missing sound is filled in with silence.

    Args:
      path: the file.
      notes: receives irregularities of the file.
      times: those of the file, read if not given.

    Yields:
      float32[n], consecutive pieces, mono at 16 kHz, from the first shown frame of the file.

    Raises:
      ClipError: the file is not a media file.
    """
    frames = ((t, frame) for t, frame, _ in _decode(path, "audio", notes, times))
    placed = place_sound(frames, notes)
    with one_file():
        yield from map(clean_samples, cut_sound(placed, 0.0, None))

"""The tracks of a file: which one is played, its decoded frames, its pictures upright."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from PIL import Image, ImageOps

from data_pipeline.media.container import ClipError, cause_of, open_regular
from data_pipeline.media.file_faults import HEAD, content_fault, structure_fault
from data_pipeline.media.notes import counted

Matrix = tuple[int, int, int, int]  # see display_matrix
AS_STORED: Matrix = (1, 0, 0, 1)
# Pictures that are not the film: cover art and the thumbnails of chapters.
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails
# Tracks beside the main one, for those who ask for them.
_EXTRA = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.karaoke
    | Disposition.clean_effects
    | Disposition.dependent
)


def default_track(container: Any, kind: str) -> Any | None:
    """The track that a player shows: the one marked as default, otherwise the first.

    Args:
      container: an open PyAV container.
      kind: `video` or `audio`.

    Returns:
      The stream; None if there is none, or none that can be decoded. Cover art is never returned.
    """
    found = [
        s
        for s in getattr(container.streams, kind)
        if s.codec_context is not None and not s.disposition & _STILLS
    ]

    def rank(stream: Any) -> tuple[bool, bool]:
        return bool(stream.disposition & Disposition.default), not stream.disposition & _EXTRA

    return max(found, key=rank, default=None)  # the first one of equal rank


def unknown_tracks(container: Any) -> list[str]:
    """Notes on the kinds of tracks that a file has, all in formats that cannot be decoded."""
    notes = []
    for kind in ("video", "audio"):
        streams = getattr(container.streams, kind)
        if streams and all(s.codec_context is None for s in streams):
            notes.append(f"the {kind} track is in a format that cannot be decoded")
    return notes


def decode_track(
    container: Any, stream: Any, notes: list[str], *, check: Callable[[], None] = lambda: None
) -> Iterator[Any]:
    """Yields the frames of a track; packets that cannot be decoded are skipped.

    Args:
      container: an open PyAV container.
      stream: one of its streams.
      notes: receives the number of packets that could not be decoded, and a damaged end.
      check: called for each packet; may raise.
    """
    lost, last = 0, 0.0
    try:
        for packet in container.demux(stream):
            check()
            try:
                for frame in packet.decode():
                    last = frame.time if frame.time is not None else last
                    yield frame
            except (av.error.InvalidDataError, ValueError):
                lost += 1
    except (av.error.FFmpegError, MemoryError) as error:
        notes.append(f"the {stream.type} track is damaged after {last:.2f} s ({cause_of(error)})")
    if lost:
        notes.append(f"{counted(lost, 'packet')} of the {stream.type} track could not be decoded")


def to_rgb(frame: Any, converter: Any, matrix: Matrix) -> np.ndarray:
    """A decoded frame -> uint8[H, W, 3], as a player shows it.

    Args:
      frame: a frame of PyAV.
      converter: a VideoReformatter of PyAV; creating one costs more than using it.
      matrix: how it is shown, see `display_matrix`.
    """
    rgb = converter.reformat(frame, format="rgb24", threads=1)
    return upright(rgb.to_ndarray(), matrix)


def read_picture(file: str | BinaryIO) -> np.ndarray:
    """A still picture -> uint8[H, W, 3], turned and mirrored as its Exif data say.

    Raises:
      ClipError: it cannot be read.
    """
    if isinstance(file, str):
        with open_regular(file) as opened:
            return _read_picture(opened, file)
    return _read_picture(file, "")


def _read_picture(file: BinaryIO, name: str) -> np.ndarray:
    if fault := content_fault(file.read(HEAD), name):
        raise ClipError(fault)
    file.seek(0)
    try:
        with Image.open(file) as picture:
            upright_picture = ImageOps.exif_transpose(picture)
            return np.asarray(upright_picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        cause = f"not an image that can be read ({cause_of(error)})"
        raise ClipError(structure_fault(file, name) or cause) from error


def display_matrix(frame: Any, stream: Any) -> Matrix:
    """How a stored picture is shown: x' = a x + c y, y' = b x + d y (ISO 14496-12), y downwards.

    It is that of the frame, or else made of the `rotate` tag of the track (degrees clockwise),
    which files of older programs have. Call this once per track: PyAV keeps a frame whose side
    data were read in a cycle of references, hence in memory.

    Args:
      frame: a frame of PyAV.
      stream: its stream.

    Returns:
      (a, b, c, d); only signs and which ones are largest matter.
    """
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    degrees = tags.get("rotate", "0")
    try:
        data = frame.side_data.get(SideData.DISPLAYMATRIX)
    except ValueError:  # PyAV refuses all side data where it does not know one kind of them
        data, degrees = None, str(-frame.rotation or degrees)
    if data is not None:
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
        return a, b, c, d
    try:
        turns = round(float(degrees) / 90) % 4
    except (ValueError, OverflowError):
        turns = 0
    return (AS_STORED, (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))[turns]


def upright(picture: np.ndarray, matrix: Matrix) -> np.ndarray:
    """Turns (by multiples of 90 degrees) and mirrors a stored picture.

    Args:
      picture: uint8[H, W, 3].
      matrix: see `display_matrix`.
    """
    a, b, c, d = matrix
    right, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture, right, down = picture.swapaxes(0, 1), c, b
    rows = slice(None, None, -1 if down < 0 else 1)
    columns = slice(None, None, -1 if right < 0 else 1)
    return np.ascontiguousarray(picture[rows, columns])

"""Opens media files; refuses other files and those that cannot be read, with one sentence."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import av

from data_pipeline.media.file_faults import (
    HEAD,
    check_regular,
    content_fault,
    empty_file,
    missing_file,
    structure_fault,
)
from data_pipeline.media.file_kinds import is_picture

logger = logging.getLogger(f"emojax.{__name__}")

# Demuxers that follow references to other files or render text are never meant by a user's clip.
REFUSED_FORMATS = frozenset(
    {"hls", "concat", "dash", "tty", "image2", "lavfi", "txt", "webvtt", "srt"}
)
# Notes.
NO_PICTURE, NO_SOUND = "there is no picture", "there is no sound"
SILENT_SOUND = "the sound track is digital silence"
_MAX_PIXELS = 50_000_000


class ClipError(ValueError):
    """A media file cannot be used; the message is one sentence that says why."""


class DecodeTimeout(ClipError):
    """Decoding took longer than it may."""


@contextlib.contextmanager
def one_file() -> Iterator[None]:
    """Turns any error in the body into ClipError, so that a damaged file refuses itself alone.

    Raises:
      ClipError: the body raised an exception.
    """
    try:
        yield
    except ClipError:
        raise
    except Exception as error:
        logger.debug("a file cannot be decoded", exc_info=True)
        raise ClipError(
            f"the file cannot be decoded ({type(error).__name__}: {cause_of(error)})"
        ) from error


@contextlib.contextmanager
def open_regular(path: str) -> Iterator[BinaryIO]:
    """Opens a file that is not empty and neither a folder nor a pipe.

    Raises:
      ClipError: it is something else, or cannot be read.
    """
    try:
        if check_regular(path) == 0:
            raise ClipError(empty_file())
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise ClipError(missing_file(path)) from error
    except OSError as error:
        raise ClipError(f"the file cannot be read ({error.strerror})") from error
    except ClipError:
        raise
    except ValueError as error:  # of check_regular; or a name that no file can have
        raise ClipError(str(error)) from error


def media_fault(path: str) -> str:
    """Why a file cannot be media, by its first bytes; "" if it may be."""
    try:
        with open_regular(path) as file:
            return content_fault(file.read(HEAD), path)
    except ClipError as error:
        return str(error)


def open_media(source: str | bytes, *, name: str = "") -> Any:
    """Opens a PyAV container that may not refer to other files or addresses.

    Args:
      source: a path, or the content of a file.
      name: of the file whose content is given, "" if unknown.

    Returns:
      The container; the caller closes it.

    Raises:
      ClipError: the source is not a media file.
    """
    if isinstance(source, bytes):
        return _open_checked(_NamedBytes(source, name), name)
    with open_regular(source) as file:
        if is_picture(source):  # by its path it would be one of a numbered sequence
            return _open_checked(_NamedBytes(file.read(), source), source)
        return _open_checked(file, source, path=os.path.abspath(source))


class _NamedBytes(io.BytesIO):
    """Bytes with the name of their file, whose suffix helps to find the format.

    Not of a picture: FFmpeg would take some suffixes, such as .jpg, for a sequence of files.
    """

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = "picture" if is_picture(name) else name


def _open_checked(file: BinaryIO, name: str, *, path: str = "") -> Any:
    """Opens a file; by its path, if given: absolute, as "12:30.mp4" would be an address."""
    fault = content_fault(file.read(HEAD), name)
    file.seek(0)
    if fault:
        raise ClipError(fault)
    options = {"protocol_whitelist": "file" if path else "pipe"}
    try:
        container = av.open(path or file, options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError, OSError) as error:
        cause = f"not a media file that can be read ({cause_of(error)})"
        raise ClipError(structure_fault(file, name) or cause) from error
    if set(container.format.name.split(",")) & REFUSED_FORMATS:
        cause = f"not a video or audio file (its content is of type '{container.format.name}')"
        container.close()
        raise ClipError(structure_fault(file, name) or cause)
    return container


def nothing_decoded(file: BinaryIO, notes: Iterable[str]) -> ClipError:
    """The error for a file of a known format of which nothing can be decoded.

    Args:
      file: the open file.
      notes: its irregularities.
    """
    if fault := structure_fault(file, opened=True):
        return ClipError(fault)
    causes = [n for n in dict.fromkeys(notes) if n not in (NO_PICTURE, NO_SOUND)]
    because = f" ({'; '.join(causes)})" if causes else ""
    return ClipError(f"neither picture nor sound could be decoded{because}")


def check_size(stream: Any) -> None:
    """Refuses a picture size that no clip has, only a damaged header.

    Raises:
      ClipError: the picture is too large.
    """
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > _MAX_PIXELS:
        raise ClipError(
            f"the picture size {width}x{height} is larger than {_MAX_PIXELS / 1e6:g} megapixels:"
            " make it smaller, or get the file again, as its header may be damaged"
        )


def cause_of(error: BaseException) -> str:
    """The first line of an error's message."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]

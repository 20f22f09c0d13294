"""Opens media files, and refuses what is none, or cannot be read, with one sentence."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
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


def read_bytes(path: str) -> bytes:
    """The content of a media file.

    Raises:
      ClipError: it cannot be read, is empty or not a regular file.
    """
    with open_regular(path) as file:
        return file.read()


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


def open_media(source: str | BinaryIO, *, name: str = "") -> Any:
    """Opens a PyAV container that may not refer to other files or addresses.

    Args:
      source: a path, or an open binary file.
      name: of an open file, "" if unknown.

    Returns:
      The container; the caller closes it.

    Raises:
      ClipError: the source is not a media file.
    """
    if isinstance(source, str):
        with open_regular(source) as file:
            if fault := content_fault(file.read(HEAD), source):
                raise ClipError(fault)
            if is_picture(source):  # by its path it would be one of a numbered sequence
                file.seek(0)
                return _open_checked(io.BytesIO(file.read()), "pipe", file, source)
            # An absolute path: "12:30.mp4" would be read as an address.
            return _open_checked(os.path.abspath(source), "file", file, source)
    source.seek(0)
    fault = content_fault(source.read(HEAD), name)
    source.seek(0)
    if fault:
        raise ClipError(fault)
    return _open_checked(source, "pipe", source, name)


def _open_checked(source: str | BinaryIO, protocol: str, file: BinaryIO, name: str) -> Any:
    try:
        container = av.open(
            source, options={"protocol_whitelist": protocol}, metadata_errors="replace"
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        fault = structure_fault(file, name)
        raise ClipError(
            fault or f"not a media file that can be read ({cause_of(error)})"
        ) from error
    if set(container.format.name.split(",")) & REFUSED_FORMATS:
        kind = container.format.name
        container.close()
        fault = structure_fault(file, name)
        raise ClipError(fault or f"not a video or audio file (its content is of type '{kind}')")
    return container


def check_size(stream: Any) -> None:
    """Raises ClipError for a picture size that only a damaged header can contain."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > _MAX_PIXELS:
        raise ClipError(
            f"the picture size {width}x{height} is too large for a clip; the header is damaged"
        )


def cause_of(error: BaseException) -> str:
    """The first line of an error's message."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]

"""Says what a file is that cannot be decoded: a pointer, a web page, a film that was cut off, ...

Each message is one sentence that names the fault and the remedy, the same wherever a file is read.
"""

from __future__ import annotations

import contextlib
import html
import os
import re
import stat
import struct
from collections import Counter
from collections.abc import Iterator
from typing import IO

import numpy as np

from data_pipeline.io import printable
from data_pipeline.media.file_kinds import UNFINISHED_SUFFIXES, is_media, suffix_of

HEAD = 4096  # bytes that are looked at
EBML = b"\x1a\x45\xdf\xa3"  # the first bytes of a Matroska file
_MAX_BOXES = 10_000
_STREAMED = 0x7FFF_0000  # from this size on, the size of a RIFF file was not known to its writer
_ARCHIVE = "unpack it and give the files in it"

# (place in the file, bytes there, what the file is and what to do)
_SIGNATURES = (
    (0, b"\x00\x05\x16\x07", "what a Mac stores beside a file ('._' file): give the file itself"),
    (0, b"\x00\x05\x16\x00", "a file packed by a Mac (AppleSingle): " + _ARCHIVE),
    (0, b"Rar!\x1a\x07", "a RAR archive: " + _ARCHIVE),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive: " + _ARCHIVE),
    (0, b"\x1f\x8b\x08", "a gzip archive: " + _ARCHIVE),
    (0, b"BZh", "a bzip2 archive: " + _ARCHIVE),
    (0, b"\xfd7zXZ\x00", "an xz archive: " + _ARCHIVE),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive: " + _ARCHIVE),
    (257, b"ustar", "a tar archive: " + _ARCHIVE),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document, or Thumbs.db of Windows"),
    (0, b"{\\rtf", "a text document (RTF)"),
    (0, b"Salted__", "encrypted (openssl): decrypt it"),
    (0, b"age-encryption.org/", "encrypted (age): decrypt it"),
    (0, b"-----BEGIN PGP MESSAGE", "encrypted (PGP): decrypt it"),
    (0, b"bplist00", "a property list of a Mac, not the file itself: download it from iCloud"),
    (0, b"L\x00\x00\x00\x01\x14\x02\x00", "a Windows shortcut: give the file that it points to"),
    (0, b"SQLite format 3\x00", "a database (SQLite)"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file of numbers"),
    (0, b"\x93NUMPY", "a NumPy file of numbers"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"\x7fELF", "a program"),
)
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def check_regular(path: str) -> int:
    """The size in bytes of a file, which is neither a folder nor a pipe nor a device.

    Raises:
      OSError: there is no such file, or it may not be looked at.
      ValueError: it is something else; the message is a sentence.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise ValueError("this is a folder, not a media file")
    if stat.S_ISFIFO(status.st_mode):
        raise ValueError(
            "this is a pipe, not a regular file, and decoding needs to read a file more than once:"
            " write it to a file first"
        )
    if not stat.S_ISREG(status.st_mode):  # a device may never end
        raise ValueError("this is not a regular file, but a device or a socket")
    return status.st_size


def missing_file(path: str) -> str:
    """The sentence for a file that is not there."""
    if os.path.islink(path):
        target = printable(os.readlink(path))
        annex = ": run `git annex get`" if ".git/annex/" in target else ""
        return f"there is no such file: the link points to '{target}', which is missing{annex}"
    if path == "-":
        return "there is no such file: standard input is not read; give the name of a file"
    return "there is no such file"


def empty_file() -> str:
    """The sentence for a file without content."""
    return "the file is empty (0 bytes): the recording, the copy or the download failed"


def content_fault(head: bytes, name: str = "") -> str:
    """What a file is whose first bytes are those of another kind of file.

    Args:
      head: its first HEAD bytes.
      name: its name, "" if unknown.

    Returns:
      A sentence; "" if the file may be media.
    """
    for place, mark, what in _SIGNATURES:
        if head[place : place + len(mark)] == mark:
            return f"not a media file: it is {what}"
    if head[:4] == b"PK\x03\x04":
        locked = " that is encrypted" if int.from_bytes(head[6:7]) & 1 else ""
        office = any(n in head for n in (b"[Content_Types].xml", b"mimetypeapplication/"))
        what = "an Office document" if office else f"a zip archive{locked}: {_ARCHIVE}"
        return f"not a media file: it is {what}"
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and int.from_bytes(head[20:21]) & 2:
        return (
            "an animated WebP picture is not supported by the decoder: convert it to GIF or to MP4"
        )
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return "a HEIC picture is not supported by the decoder: convert it to JPEG"
    return _text_fault(head, name)


def _text_fault(head: bytes, name: str) -> str:
    """What a text file is; "" if the bytes are not text."""
    text = _as_text(head)
    if text is None:
        return ""
    begin = re.sub(r"^(\s|<!--.*?-->)+", "", text, flags=re.DOTALL)
    small = begin[:200].lower()
    if begin.startswith("version https://git-lfs.github.com/spec/"):
        size = re.search(r"^size (\d+)", begin, re.MULTILINE)
        of = f" of {megabytes(int(size[1]))}" if size else ""
        return f"not a media file: it is a pointer of git-lfs to one{of}: run `git lfs pull`"
    if re.match(r"(\.\./)*(\.git)?/annex/objects/", small):
        return "not a media file: it is a pointer of git-annex to one: run `git annex get`"
    if small.startswith(("<!doctype html", "<html", "<head", "<body", "<script")) or (
        small.startswith("<?xml") and "<html" in small
    ):
        title = re.search(r"<title[^>]*>(.*?)</title>", begin, re.IGNORECASE | re.DOTALL)
        named = f" with the title '{_shown(html.unescape(title[1]))}'" if title else ""
        return (
            f"not a media file: it is a web page (HTML){named}, with which the site answered the"
            " download: download the file again"
        )
    if "<svg" in small:
        return "not a media file: it is a drawing (SVG)"
    if small.startswith(("<?xml", "<")) and ">" in begin:
        return f"not a media file: it is an XML document{_quoted(begin, name)}"
    if small.startswith(("{", "[")) and re.match(r'[\[{]\s*(["{\[\d\]}-]|true|null)', begin):
        return f"not a media file: it is JSON text{_quoted(begin, name)}"
    if small.startswith("#extm3u"):
        return "not a media file: it is a playlist, which refers to other files: give those"
    return ""


def _as_text(head: bytes) -> str | None:
    """The bytes as text, None if they are not text."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = head[: len(head) // 2 * 2].decode("utf-16", "replace")
        return text if sum(c.isprintable() or c.isspace() for c in text) > 0.9 * len(text) else None
    if any(byte < 9 or 13 < byte < 27 for byte in head):
        return None
    for encoding in ("utf-8-sig", "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            # A character may be cut at the end of the head.
            text = head[: len(head) - 3 if len(head) == HEAD else None].decode(encoding)
            letters = sum(c.isascii() for c in text)
            return text if encoding != "cp1252" or letters > 0.8 * len(text) else None
    return None


def _quoted(text: str, name: str) -> str:
    """The beginning of a text; "" for files such as `.env`, which a server must not show."""
    return f" ('{_shown(text)}')" if not name or is_media(name) else ""


def _shown(text: str, length: int = 80) -> str:
    words = " ".join(text.split())
    return words if len(words) <= length else words[: length - 3] + "..."


def structure_fault(file: IO[bytes], name: str = "", *, opened: bool = False) -> str:
    """Why a file of unknown or incomplete content cannot be decoded, as far as its bytes tell.

    Args:
      file: the open file.
      name: its name, "" if unknown.
      opened: whether the decoder knows its format, and could decode nothing of it.

    Returns:
      A sentence; "" if its bytes show no fault.
    """
    file.seek(0)
    head = file.read(65_536)
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return empty_file()
    boxes = [box for box, _, _ in _boxes(file, size)]
    if boxes and "moov" not in boxes and "moof" not in boxes:
        return (
            "not a media file that can be read: its index (the part 'moov') is missing, so the"
            f" recording, the copy or the download was cut off ({megabytes(size)} are there): get"
            " the file again, or repair it with its camera's software"
        )
    if boxes and any(mark in head or mark in _tail(file, size) for mark in (b"encv", b"enca")):
        return "the file is protected (DRM) and can be decoded by its seller's players only"
    if missing := cut_off(file):
        return missing
    if not any(head):
        return (
            "not a media file that can be read: it contains nothing but zeros, so its space was"
            " reserved, and the copy or the download did not finish"
        )
    if opened:
        return ""
    if text := _as_text(head[:HEAD]):
        return f"not a media file that can be read: it is a text{_quoted(text, name)}"
    if suffix_of(name) in UNFINISHED_SUFFIXES:
        return (
            f"not a media file that can be read: '{suffix_of(name)}' marks a download that has not"
            " finished: finish it first"
        )
    if len(head) >= 4096 and _bits_per_byte(head) > 7.9:
        return (
            "not a media file that can be read: its bytes look random, as those of encrypted or"
            " damaged files do"
        )
    return ""


def cut_off(file: IO[bytes]) -> str:
    """A sentence if a file announces more bytes than it has (MP4, WAV, AVI, Matroska), else ""."""
    size = file.seek(0, os.SEEK_END)
    announced = max((end for _, _, end in _boxes(file, size)), default=0)
    file.seek(0)
    head = file.read(HEAD)
    if head[:4] == b"RIFF":
        stated = int.from_bytes(head[4:8], "little")
        announced = 0 if stated >= _STREAMED else stated + 8
    elif head[:4] == EBML:
        announced = _matroska_end(head)
    if announced <= size + 1:  # a pad byte at the end is often left out
        return ""
    return (
        f"the file is cut off: it announces {megabytes(announced)} and has {megabytes(size)}, so"
        " the copy, the download or the recording did not finish"
    )


def _boxes(file: IO[bytes], size: int) -> Iterator[tuple[str, int, int]]:
    """(type, start, announced end) of the top-level boxes of an ISO media file; none of others."""
    start = 0
    for _ in range(_MAX_BOXES):
        file.seek(start)
        head = file.read(16)
        if len(head) < 8 or not head[4:8].isascii() or not head[4:8].strip().isalnum():
            return
        kind, length = head[4:8].decode("ascii"), int(struct.unpack(">I", head[:4])[0])
        known = ("ftyp", "moov", "mdat", "free", "wide", "skip", "pnot", "moof", "styp", "sidx")
        if start == 0 and kind not in known:
            return
        if length == 1 and len(head) == 16:
            length = int(struct.unpack(">Q", head[8:])[0])
        elif length == 0:  # up to the end of the file
            length = size - start
        if length < 8:
            return
        yield kind, start, start + length
        start += length
        if start >= size:
            return


def is_whole_matroska(file: IO[bytes]) -> bool:
    """Whether a Matroska file has all the bytes that its header gives; False if it gives none."""
    file.seek(0)
    head = file.read(HEAD)
    return head[:4] == EBML and 0 < _matroska_end(head) <= file.seek(0, os.SEEK_END)


def _matroska_end(head: bytes) -> int:
    """Where the segment of a Matroska file ends, 0 if it does not say."""

    def number(place: int) -> tuple[int, int]:  # (value, place after it); EBML's variable length
        first = head[place]
        length = 9 - first.bit_length()
        value = int.from_bytes(head[place : place + length]) & ((1 << 7 * length) - 1)
        return (-1 if value == (1 << 7 * length) - 1 else value), place + length

    try:
        header, place = number(4)
        place += header
        if head[place : place + 4] != b"\x18\x53\x80\x67":
            return 0
        segment, begin = number(place + 4)
    except IndexError:
        return 0
    return 0 if segment < 0 else begin + segment


def _tail(file: IO[bytes], size: int) -> bytes:
    file.seek(max(0, size - 65_536))
    return file.read(65_536)


def _bits_per_byte(data: bytes) -> float:
    shares = np.array(list(Counter(data).values())) / len(data)
    return float(-(shares * np.log2(shares)).sum())


def megabytes(size: int) -> str:
    """A number of bytes for messages: `512 bytes`, `1.2 MB`."""
    if size < 1000:
        return "1 byte" if size == 1 else f"{size} bytes"
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"

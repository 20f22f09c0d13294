"""Decodes text files of unknown encoding: subtitles, tables, annotation files.

charset-normalizer distinguishes the encodings of one byte per letter. East Asian encodings accept
each other's bytes, and a line or two is too little for its statistics. These are therefore chosen
by how many letters are in the range that an encoding keeps for frequent ones.
"""

from __future__ import annotations

import codecs
import dataclasses
import re

import charset_normalizer

# Byte order marks; that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
CERTAIN = ("UTF-8", "UTF-16", "UTF-32")  # encodings that are never a guess
_KANA = re.compile("[\u3041-\u30fc]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _EastAsian:
    """An encoding of two bytes per letter.

    Attributes:
      name: in messages.
      usual: (first, last) of the leading bytes of the usual letters.
      kana: whether a text without kana is not of this encoding.
    """

    name: str
    usual: tuple[tuple[int, int], ...]
    kana: bool = False


# In order of preference: Korean syllables lie where GB18030 has a part of its usual letters.
_EAST_ASIAN = {
    "cp949": _EastAsian(name="EUC-KR", usual=((0xB0, 0xC8),)),
    "gb18030": _EastAsian(name="GB18030", usual=((0xB0, 0xD7),)),
    "big5": _EastAsian(name="Big5", usual=((0xA4, 0xC6),)),
    "cp932": _EastAsian(name="Shift-JIS", usual=((0x82, 0x83), (0x88, 0x97)), kana=True),
    "euc_jp": _EastAsian(name="EUC-JP", usual=((0xA4, 0xA5), (0xB0, 0xCF)), kana=True),
}
_FULL_TRAIL = ("cp949", "gb18030", "euc_jp")  # their usual letters end with 0xA1 or more
_ONE_BYTE = {
    "cp1251": "Windows-1251",
    "koi8_r": "KOI8-R",
    "cp1253": "Windows-1253",
    "cp1255": "Windows-1255",
    "cp1256": "Windows-1256",
}


def decode_text(data: bytes, *, replace: bool = False) -> tuple[str, str]:
    """Decodes the content of a text file.

    Args:
      data: the content. In text that is mostly UTF-8 (joined rows of two programs), the other bytes
        are read as Windows-1252.
      replace: whether bytes without a letter become U+FFFD; they are refused otherwise.

    Returns:
      (text, name of the encoding). Names that are not CERTAIN are a guess; the last resort is
      Windows-1252.

    Raises:
      ValueError: the content is not text; the message continues "FILE ...".
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(name), name
            except UnicodeDecodeError:
                raise ValueError(f"begins like {name} text but is not valid") from None
    if b"\0" in data:
        if text := _utf16_without_mark(data):
            return text, "UTF-16"
        raise ValueError(f"is not text (byte {data.index(0)} is NUL)")
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        return _guess(data, replace=replace)


def _utf16_without_mark(data: bytes) -> str:
    """The text of UTF-16 data without a byte order mark, "" if this is not text."""
    # The upper byte of a Latin letter is zero.
    is_little = data[1::2].count(0) > data[::2].count(0)
    text = data.decode("utf-16-le" if is_little else "utf-16-be", "ignore")
    is_latin = len(data) % 2 == 0 and data.count(0) >= len(data) / 4
    is_text = is_latin and all(c.isprintable() or c.isspace() for c in text)
    return text if "-->" in text or is_text else ""


def _guess(data: bytes, *, replace: bool) -> tuple[str, str]:
    utf8 = data.decode("utf-8", "ignore").encode()
    is_mostly_utf8 = sum(byte >= 0x80 for byte in utf8) > 3 * (len(data) - len(utf8))
    # In Latin scripts letters outside of ASCII are rare and single.
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", data)]
    if not is_mostly_utf8 and sum(r for r in runs if r > 1) > sum(runs) / 2:
        shares = {codec: _usual_share(data, codec) for codec in _EAST_ASIAN}
        codec = max(shares, key=lambda c: shares[c])
        if shares[codec] > 0.8:
            return data.decode(codec), _EAST_ASIAN[codec].name
        best = charset_normalizer.from_bytes(data, cp_isolation=[*_ONE_BYTE, *_EAST_ASIAN]).best()
        if best is not None:
            names = _ONE_BYTE | {c: e.name for c, e in _EAST_ASIAN.items()}
            return str(best), names.get(best.encoding, best.encoding)
    try:
        text = data.decode("utf-8", _BYTES_OF_CP1252)
    except UnicodeDecodeError as error:
        if not replace:
            raise ValueError(f"is not Windows-1252 text (byte {error.start})") from None
        text = data.decode("cp1252", "replace")
    return text, "Windows-1252"


def _decode_cp1252(error: UnicodeError) -> tuple[str, int]:
    """Decodes bytes that are not UTF-8 as Windows-1252; an error handler of codecs."""
    assert isinstance(error, UnicodeDecodeError)
    try:
        return error.object[error.start : error.end].decode("cp1252"), error.end
    except UnicodeDecodeError:
        raise error from None


_BYTES_OF_CP1252 = "emojax.cp1252"
codecs.register_error(_BYTES_OF_CP1252, _decode_cp1252)


def _usual_share(data: bytes, codec: str) -> float:
    """The share of the letters outside of ASCII that are usual ones of an encoding."""
    encoding = _EAST_ASIAN[codec]
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        return 0.0
    letters = [c.encode(codec) for c in text if c.isalpha() and not c.isascii()]
    if not letters or (encoding.kana and not _KANA.search(text)):
        return 0.0
    lowest = 0xA1 if codec in _FULL_TRAIL else 0x40
    usual = sum(
        len(c) == 2 and c[1] >= lowest and any(a <= c[0] <= b for a, b in encoding.usual)
        for c in letters
    )
    return usual / len(letters)

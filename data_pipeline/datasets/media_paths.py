"""Finds the file that a path of a table means, as other systems and programs write it."""

from __future__ import annotations

import difflib
import os
import unicodedata
import urllib.parse
from pathlib import Path

_QUOTES = "\"'`\u201c\u201d\u2018\u2019"


def locate_file(text: str, folder: Path) -> Path:
    """The file that a cell names.

    Args:
      text: the cell: a path with the separators of any system, maybe in quotation marks, a `file:`
        address, a path that begins with `~`, or a name in another Unicode normal form than on disk.
      folder: of the table; relative paths count from it, or else from the working folder.

    Returns:
      The file; where there is none, the path in its plain reading.
    """
    plain = _from(folder, text)
    if plain.is_file():
        return plain
    readings = [text, text.strip(_QUOTES + " ")]
    if readings[-1].lower().startswith("file:"):
        readings.append(urllib.parse.unquote(urllib.parse.urlsplit(readings[-1]).path))
    readings += [reading.replace("\\", "/") for reading in readings if "\\" in reading]
    readings = [os.path.expanduser(reading) for reading in readings]
    for base in (folder, Path()):
        for reading in readings:
            path = _from(base, reading)
            if path.is_file():
                return path
            if (same := _in_other_form(path)) is not None:
                return same
    return plain


def nearest_name(path: Path) -> str | None:
    """The name in the folder of a missing file that is most like its own.

    Args:
      path: of the missing file.

    Returns:
      The name; None if the folder is missing too or has none that is alike.
    """
    try:
        names = os.listdir(path.parent)
    except (OSError, ValueError):
        return None
    own = path.name.lower()
    lowered = {name.lower(): name for name in names}
    stems = {name.lower().rpartition(".")[0]: name for name in names}
    if found := lowered.get(own) or stems.get(own) or stems.get(own.rpartition(".")[0]):
        return found
    close = difflib.get_close_matches(own, lowered, 1, 0.85)
    return lowered[close[0]] if close else None


def _from(folder: Path, text: str) -> Path:
    return folder / text.replace("\0", "\ufffd")


def _in_other_form(path: Path) -> Path | None:
    """The file whose name has the same letters in other code points; None if there is none."""
    if str(path).isascii():
        return None
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if (found / part).exists():
            found /= part
            continue
        form = unicodedata.normalize("NFC", part)
        try:
            names = os.listdir(found)
        except OSError:
            return None
        same = next((n for n in names if unicodedata.normalize("NFC", n) == form), None)
        if same is None:
            return None
        found /= same
    return found if found.is_file() else None

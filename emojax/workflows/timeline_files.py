"""Where the outputs of recordings go; only outputs of the same recording are replaced.

The JSON output lists the others: one that was edited since is not replaced. A file that is not
listed is known to be of a recording if it contains the recording's fingerprint.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from data_pipeline.io import printable
from data_pipeline.media.container import ClipError
from data_pipeline.media.fingerprint import recording_fingerprint
from emojax.reports.recording import listed_hashes, output_paths

MAX_STEM = 190  # bytes of a name without suffixes
logger = logging.getLogger(__name__)


def state_file(stem: Path) -> Path:
    """The file of answered segments until the outputs of a recording are written."""
    return stem.with_name(f"{stem.name}.unfinished.jsonl")


def output_stems(
    paths: Sequence[str],
    *,
    out: str | None = None,
    page: str | None = None,
    formats: Sequence[str] = (),
    answered: Collection[str] = (),
) -> list[Path]:
    """Where the outputs of each recording go, without suffix; no two have the same name.

    A name whose files exist gets a number, unless they are outputs of the same recording.

    Args:
      paths: the recordings.
      out: the folder of the outputs; by default a folder NAME-emotions per recording.
      page: the page of the one recording; the outputs get its name.
      formats: formats of the outputs.
      answered: recordings whose outputs are not written again.

    Returns:
      One path per recording.

    Raises:
      ValueError: `page` exists, and is not the page of the recording.
    """
    used: set[Path] = set()
    stems = []
    for path in paths:
        first = _first_stem(path, out=out, page=page)
        stem = first
        for stem in _numbered(first):
            if stem.absolute() in used:
                continue
            if path in answered or not (other := _first_other(path, stem, formats, page)):
                break
            logger.warning(
                "%s exists and is not known to be an output of %s: the outputs get another name",
                printable(other),
                printable(path),
            )
        used.add(stem.absolute())
        stems.append(stem)
    return stems


def _first_stem(path: str, *, out: str | None, page: str | None) -> Path:
    name = _shortened(Path(path).stem)
    if page:
        stem = Path(page).with_suffix("")
    else:
        stem = (Path(out) if out else Path(f"{name}-emotions")) / name
    if stem.absolute() == Path(path).absolute().with_suffix(""):
        # `talk.srt` beside `talk.mp4` would be its transcript
        stem = stem.with_name(f"{stem.name}.emotions")
    return stem


def _numbered(stem: Path) -> Iterator[Path]:
    yield stem
    yield from (stem.with_name(f"{stem.name}-{number}") for number in itertools.count(2))


def _shortened(name: str) -> str:
    """A name that leaves room for the suffixes of outputs, in file systems that take 255 bytes."""
    data = os.fsencode(name)
    if len(data) <= MAX_STEM:
        return name
    return data[:MAX_STEM].decode("utf-8", "ignore").rstrip()


def _first_other(path: str, stem: Path, formats: Sequence[str], page: str | None) -> Path | None:
    """The first file in the way of a recording's outputs; None if they can be written.

    Raises:
      ValueError: it is the page, whose name cannot be changed.
    """
    outputs = output_paths(stem, formats, page=Path(page) if page else None)
    existing = [file for file in outputs.values() if os.path.lexists(file)]
    state = state_file(stem)
    if not existing and not os.path.lexists(state):
        return None
    try:
        fingerprint = recording_fingerprint(path)
    except ClipError:  # it is refused later, and nothing is written
        return None
    hashes = listed_hashes(stem.with_name(f"{stem.name}.json"), fingerprint)
    others = [file for file in existing if not _is_own(file, fingerprint, hashes)]
    if page and Path(page) in others:
        raise ValueError(
            f"--report {page}: this file exists, and is not known to be the page of {path};"
            " choose another name, or remove it"
        )
    if os.path.lexists(state) and not _is_own_state(state, fingerprint):
        others.append(state)
    return others[0] if others else None


def _is_own(file: Path, fingerprint: str, hashes: dict[str, str]) -> bool:
    try:
        data = file.read_bytes()
    except OSError:
        return False
    if file.name in hashes:
        return hashes[file.name] == hashlib.sha256(data).hexdigest()
    return fingerprint.encode() in data


def _is_own_state(state: Path, fingerprint: str) -> bool:
    """Whether kept answers are of this recording; those of older versions have no fingerprint."""
    try:
        header = json.loads(state.read_bytes().partition(b"\n")[0])
        return "key" in header and header.get("fingerprint", fingerprint) == fingerprint
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False

"""Writes a timeline in several formats: `stem.json`, `stem.csv`, ..."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from data_pipeline.io import write_bytes
from emojax.infer.timeline_records import Timeline
from emojax.reports.captions import to_srt, to_vtt
from emojax.reports.elan import to_eaf
from emojax.reports.recording_page import to_html
from emojax.reports.recording_plot import to_plot
from emojax.reports.recording_tables import json_bytes, to_csv, to_json, to_parquet

FORMATS: dict[str, Callable[[Timeline], bytes]] = {
    "json": to_json,
    "csv": to_csv,
    "parquet": to_parquet,
    "srt": to_srt,
    "vtt": to_vtt,
    "eaf": to_eaf,
    "png": to_plot,
    "html": to_html,
}
# written only where they are named
FURTHER_FORMATS: dict[str, Callable[[Timeline], bytes]] = {
    "svg": lambda timeline: to_plot(timeline, "svg"),
    "pdf": lambda timeline: to_plot(timeline, "pdf"),
}


def write_all(
    timeline: Timeline,
    stem: Path,
    *,
    formats: Sequence[str] = tuple(FORMATS),
    embed: str = "auto",
    media: Path | None = None,
    page: Path | None = None,
) -> list[Path]:
    """Writes `stem` with the suffix of each format, each file atomically.

    The JSON file lists the SHA-256 of the others, so that a later run recognises its own files
    and those that were edited since.

    Args:
      timeline: the recording.
      stem: path without suffix.
      formats: names of FORMATS and FURTHER_FORMATS.
      embed: whether the page contains the recording: auto (up to recording_page.EMBED_LIMIT
        bytes), always or never.
      media: where the recording is, if `timeline.path` is only a name.
      page: where the page is, if it does not have the name of the other files; it is always
        written.

    Returns:
      The files, in the order of `formats`.
    """
    paths = output_paths(stem, formats, page=page)
    json_file = stem.with_name(f"{stem.name}.json")
    hashes = listed_hashes(json_file, timeline.fingerprint)
    for name in sorted(paths, key=lambda name: name == "json"):
        path = paths[name]
        if name == "html":
            data = to_html(timeline, embed=embed, folder=path.parent, media=media)
        elif name == "eaf":
            data = to_eaf(timeline, path.parent)
        elif name == "json":
            data = to_json(timeline, hashes)
        else:
            data = (FORMATS | FURTHER_FORMATS)[name](timeline)
        write_bytes(path, data)
        if name != "json":
            hashes[path.name] = hashlib.sha256(data).hexdigest()
    if "json" not in paths and listed_hashes(json_file, timeline.fingerprint):
        fields = json.loads(json_file.read_bytes()) | {"files": hashes}
        write_bytes(json_file, json_bytes(fields))
    return list(paths.values())


def listed_hashes(json_file: Path, fingerprint: str) -> dict[str, str]:
    """{name: SHA-256} of the files that were written with a JSON output.

    Args:
      json_file: the JSON output.
      fingerprint: of the recording.

    Returns:
      The hashes; {} if there is no such file, or it is not of this recording.
    """
    try:
        fields = json.loads(json_file.read_bytes())
        return dict(fields["files"]) if fields["fingerprint"] == fingerprint else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def output_paths(
    stem: Path, formats: Sequence[str], *, page: Path | None = None
) -> dict[str, Path]:
    """The file of each format, see `write_all`."""
    paths = {name: stem.with_name(f"{stem.name}.{name}") for name in formats}
    return paths | ({"html": page} if page else {})

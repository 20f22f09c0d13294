"""Writes a timeline in every format beside each other: `stem.json`, `stem.csv`, ..."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from emojax.infer.timeline import Timeline
from emojax.reports.captions import to_eaf, to_srt, to_vtt
from emojax.reports.recording_page import to_html
from emojax.reports.recording_plot import to_png
from emojax.reports.recording_tables import to_csv, to_json, to_parquet

FORMATS: dict[str, Callable[[Timeline], bytes]] = {
    "json": to_json,
    "csv": to_csv,
    "parquet": to_parquet,
    "srt": to_srt,
    "vtt": to_vtt,
    "eaf": to_eaf,
    "png": to_png,
    "html": to_html,
}


def write_all(
    timeline: Timeline,
    stem: Path,
    *,
    formats: Sequence[str] = tuple(FORMATS),
    embed: str = "auto",
    media: Path | None = None,
) -> list[Path]:
    """Writes `stem` with each format's suffix; a file is whole or not there.

    Args:
      media: where the recording lies, if not at `timeline.path`, which is then a name alone.
      embed: whether the page holds the recording itself: auto (up to page.EMBED_LIMIT), always or never.

    Returns:
      The files.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for name in formats:
        path = stem.with_name(f"{stem.name}.{name}")
        if name == "html":
            data = to_html(timeline, embed, path.parent, media)
        else:
            data = to_eaf(timeline, path.parent) if name == "eaf" else FORMATS[name](timeline)
        put(path, data)
        written.append(path)
    return written


def put(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    half = path.with_name(path.name + ".part")
    half.write_bytes(data)
    os.replace(half, path)

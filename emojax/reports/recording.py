"""Writes a timeline in several formats: `stem.json`, `stem.csv`, ..."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from data_pipeline.io import write_bytes
from emojax.infer.timeline_records import Timeline
from emojax.reports.captions import to_srt, to_vtt
from emojax.reports.elan import to_eaf
from emojax.reports.recording_page import to_html
from emojax.reports.recording_plot import to_plot
from emojax.reports.recording_tables import to_csv, to_json, to_parquet

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
) -> list[Path]:
    """Writes `stem` with the suffix of each format, each file atomically.

    Args:
      timeline: the recording.
      stem: path without suffix.
      formats: names of FORMATS and FURTHER_FORMATS.
      embed: whether the page contains the recording: auto (up to recording_page.EMBED_LIMIT
        bytes), always or never.
      media: where the recording is, if `timeline.path` is only a name.

    Returns:
      The files.
    """
    written = []
    for name in formats:
        path = stem.with_name(f"{stem.name}.{name}")
        if name == "html":
            data = to_html(timeline, embed=embed, folder=path.parent, media=media)
        elif name == "eaf":
            data = to_eaf(timeline, path.parent)
        else:
            data = (FORMATS | FURTHER_FORMATS)[name](timeline)
        write_bytes(path, data)
        written.append(path)
    return written

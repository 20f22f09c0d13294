"""Fetches the released files of a model, and the official word tables of MER-UniBench."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data_pipeline.progress import Progress, no_progress
from emojax.evaluate import official_files
from emojax.weights.catalogue import MODELS, SOURCES
from emojax.weights.fetch import fetch
from emojax.weights.locations import downloads_folder


def fetch_tables(*, progress: Progress = no_progress) -> None:
    """Fetches the word tables and truths of MER-UniBench into the cache."""
    official_files.fetch(progress=progress)


def fetch_source(name: str, *, mirror: bool = False, progress: Progress = no_progress) -> Path:
    """Fetches one source of the catalogue.

    Args:
      name: key of SOURCES.
      mirror: use the mirror of a gated repository.
      progress: gets the task "fetch NAME", in bytes.

    Returns:
      The file or folder.
    """
    return fetch(
        SOURCES[name],
        downloads_folder() / name,
        mirror=mirror,
        progress=progress,
    )


def fetch_sources(
    model: str,
    files: Mapping[str, Path],
    *,
    mirror: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Path]:
    """Fetches the sources of a model that are not here.

    Args:
      model: key of MODELS.
      files: {key of SOURCES: file or folder} that are here, and any in place of others.
      mirror: use mirrors of gated repositories.
      progress: gets one task per source, in bytes.

    Returns:
      `files`, and the fetched ones.

    Raises:
      ValueError: a source has no address; the message says how to get it.
    """
    replaced = {SOURCES[key].instead_of for key in files}
    needed = [k for k in MODELS[model].sources if k not in files and k not in replaced]
    if manual := [k for k in needed if not SOURCES[k].repo and not SOURCES[k].url]:
        lines = [f"  --file {key}=PATH   {SOURCES[key].by_hand}" for key in manual]
        raise ValueError(
            "these files cannot be downloaded by a program; give them:\n" + "\n".join(lines)
        )
    fetched = {key: fetch_source(key, mirror=mirror, progress=progress) for key in needed}
    return {**files, **fetched}

"""Fetches the released files of a model, and the official word tables of MER-UniBench."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from data_pipeline.progress import Progress, no_progress
from emojax.config.part_fields import HUB, known_release
from emojax.evaluate import official_files
from emojax.weights import official_prompts
from emojax.weights.catalogue import MODELS, SOURCES, Model
from emojax.weights.fetch import fetch
from emojax.weights.locations import downloads_folder

logger = logging.getLogger(__name__)


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


def is_part(name: str, *, mirror: bool) -> bool:
    """Whether `emojax fetch` takes a name as a part rather than as a model or source.

    Args:
      name: what is to be fetched.
      mirror: whether mirrors are asked for; some sources have one in another repository.
    """
    if name in MODELS:
        return False
    known = known_release(name)
    if known is None:
        return name.startswith(HUB)
    release = known[1]
    elsewhere = mirror and release.mirror is None and name in SOURCES and SOURCES[name].mirror
    return bool(release.repo or release.mirror) and not elsewhere


def choose_questions(model: Model, given: str | None, *, download: bool) -> dict[str, list[str]]:
    """Chooses the questions that an imported model is asked, and logs where they come from.

    Args:
      model: an entry of MODELS.
      given: a file, "builtin", or None for the official questions.
      download: whether the official file may be downloaded; else it is used if it is here.

    Returns:
      {key: wordings} for `config.data.questions`; empty for this project's own.

    Raises:
      ValueError: the file has no questions.
      OSError: it cannot be read.
    """
    if given == "builtin" or (given is None and not model.fields):  # training draws its own
        return {}
    family = "v1" if model.preset.startswith("v1") else "v2"
    path = Path(given) if given else official_prompts.official_file(family)
    if given is None and download:
        path = official_prompts.fetch_official(family) or path
    if given is None and not path.exists():
        logger.info(
            "questions: this project's own; scores of released weights depend on their wording "
            "(`emojax fetch` reads the official one)"
        )
        return {}
    questions = _read_json(path) if path.suffix == ".json" else official_prompts.read_official(path)
    logger.info("questions: %d of %s", len(questions), path)
    return questions


def _read_json(path: Path) -> dict[str, list[str]]:
    try:
        questions = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(questions, dict) or not all(
        isinstance(wordings, list) and wordings for wordings in questions.values()
    ):
        raise ValueError(f"{path}: expected a JSON object of lists, {{task: [wordings]}}")
    return questions


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

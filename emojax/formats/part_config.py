"""Sizes and special tokens of a pretrained part, whatever format its files have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emojax.formats.ctranslate2_files import (
    ctranslate2_config,
    ctranslate2_generation,
    is_ctranslate2,
)
from emojax.formats.gguf_config import gguf_config
from emojax.formats.json_files import read_json


def part_config(path: Path) -> dict[str, Any]:
    """The sizes of a part as a config.json of transformers.

    Args:
      path: a folder with config.json or one GGUF or CTranslate2 file, or such a file.

    Returns:
      model_type, ...; with the content of preprocessor_config.json (normalisation of pictures and
      waveforms), if there is one.

    Raises:
      FileNotFoundError: there is neither a config.json nor a file that has the sizes itself.
      ValueError: a file is damaged.
    """
    folder = path if path.is_dir() else path.parent
    config, views = folder / "config.json", folder / "preprocessor_config.json"
    # CTranslate2 calls its special tokens config.json, too: those have no model_type.
    if config.exists() and "suppress_ids" not in (facts := read_json(config)):
        return {**(read_json(views) if views.exists() else {}), **facts}
    file = _file_with_sizes(path)
    if file is None:
        return read_json(config)
    return gguf_config(file) if file.suffix == ".gguf" else ctranslate2_config(file)


def _file_with_sizes(path: Path) -> Path | None:
    """The GGUF or CTranslate2 file of a folder, or a file that is one."""
    files = [path] if path.is_file() else sorted([*path.glob("*.gguf"), *path.glob("*.bin")])
    found = [f for f in files if f.suffix == ".gguf" or is_ctranslate2(f)]
    if len(found) > 1:
        raise ValueError(f"{path} has {len(found)} files with weights: leave one there")
    return found[0] if found else None


def part_generation(folder: Path) -> dict[str, Any]:
    """The special tokens of a part as a generation_config.json of transformers.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged.
    """
    path = folder / "generation_config.json"
    file = None if path.exists() else _file_with_sizes(folder)
    if file is not None and file.suffix == ".bin":
        return ctranslate2_generation(folder)
    return read_json(path)

"""Sizes and special tokens of a pretrained part, whatever format its files have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emojax.weights.ctranslate2_files import (
    ctranslate2_config,
    ctranslate2_generation,
    is_ctranslate2,
)
from emojax.weights.gguf_config import gguf_config
from emojax.weights.json_files import read_json
from emojax.weights.tensor_files import tensor_files


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
    file = tensor_files(path)[0]
    if file.suffix == ".gguf":
        return gguf_config(file)
    if is_ctranslate2(file):
        return ctranslate2_config(file)
    return read_json(config)


def part_generation(folder: Path) -> dict[str, Any]:
    """The special tokens of a part as a generation_config.json of transformers.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged.
    """
    path = folder / "generation_config.json"
    if not path.exists() and is_ctranslate2(tensor_files(folder)[0]):
        return ctranslate2_generation(folder)
    return read_json(path)

"""What answering with a model needs of memory, known before its weights are read."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from emojax.bundle.memory import GB, PROCESS, REPORTED, free_memory
from emojax.bundle.model_folder import Bundle, load_bundle, read_facts
from emojax.bundle.precision import stored_shapes, target_shapes, with_precision
from emojax.config import Settings
from emojax.infer.prepare import keeps_stacked_layers, prepare_for_inference
from emojax.sharding import platform

logger = logging.getLogger(__name__)

ACTIVATIONS = 1.0 * GB  # of the encoders and of a prompt of one clip at full size; measured


def open_for_answers(folder: Path, *, precision: str = "", layout: str = "") -> Bundle:
    """Loads a model and prepares it for inference, if the memory of this machine is enough.

    Args:
      folder: the model folder.
      precision: as of `load_bundle`.
      layout: as of `load_bundle`.

    Returns:
      The model, ready to answer.

    Raises:
      ValueError: as `check_memory` and `load_bundle`.
      FileNotFoundError: the folder holds no complete model.
    """
    check_memory(folder, precision=precision)
    return prepare_for_inference(load_bundle(folder, precision=precision, layout=layout))


def check_memory(folder: Path, *, precision: str = "") -> None:
    """Reports what a model needs of memory, before its weights are read.

    Args:
      folder: the model folder.
      precision: as of `load_bundle`.

    Raises:
      ValueError: it needs more than is free.
      FileNotFoundError: the folder holds no complete model.
    """
    _, saved = read_facts(folder)
    needed = memory_needed(folder, saved, precision)
    free = free_memory()
    if needed > free:
        other = _smaller(folder, saved, precision, free)
        raise ValueError(
            f"{folder} needs about {needed / GB:.1f} GB of memory, "
            f"{free / GB:.1f} GB are free{other}"
        )
    if needed > REPORTED:
        logger.info(
            "%s needs about %.1f GB of memory, %.1f GB are free", folder, needed / GB, free / GB
        )


def memory_needed(folder: Path, saved: Settings, precision: str = "") -> float:
    """Bytes that a process needs to load a model and to answer one clip with it.

    Args:
      folder: the model folder.
      saved: its settings.
      precision: as of `load_bundle`.
    """
    settings = with_precision(saved, precision)
    stored = stored_shapes(folder)
    leaves = target_shapes(stored, saved=saved, settings=settings)
    weights = sum(map(_bytes, leaves.values()))
    # While a kernel becomes int8, its stored form is in memory too.
    converted = [_bytes(x) for p, x in stored.items() if leaves[p].dtype == jnp.int8 != x.dtype]
    scratch = 0.0
    if platform() == "cpu":
        scratch = _float32_copies(leaves, settings)
        scratch += _cache_bytes(settings) + ACTIVATIONS * min(1.0, weights / (8 * GB))
    return PROCESS + weights + max(scratch, max(converted, default=0))


def _float32_copies(leaves: Mapping[str, Any], settings: Settings) -> float:
    """Bytes of the float32 copies that XLA:CPU makes of kernels that are not float32.

    All kernels outside stacks have one at a time; of a stack, the kernels of one layer.
    """
    stacked = keeps_stacked_layers(leaves, settings.model.llama)
    alone = 0.0
    layers: dict[str, float] = {}
    for path, leaf in leaves.items():
        is_head = path == "params/llama/embed" and settings.model.llama.tied
        if not (path.endswith("/kernel") or is_head) or leaf.dtype == jnp.float32:
            continue
        stack, block, _ = path.partition("/blocks/")
        copies = 4.0 * math.prod(leaf.shape)
        if block and stacked:
            layers[stack] = layers.get(stack, 0.0) + copies / leaf.shape[0]
        else:
            alone += copies
    return alone + max(layers.values(), default=0.0)


def _cache_bytes(settings: Settings) -> float:
    """Keys and values of one clip with a usual prompt (the smallest bucket) and answer."""
    llama, data = settings.model.llama, settings.data
    tokens = min(length for length, _ in data.buckets) + min(data.max_answer, 200)
    size = 1 if llama.cache == "int8" else jnp.dtype(llama.precision.compute).itemsize
    return 2.0 * llama.depth * llama.kv_heads * llama.head_width * tokens * size


def _smaller(folder: Path, saved: Settings, precision: str, free: float) -> str:
    """What to do about a model that does not fit."""
    if saved.raw["model"]["kernels"] == "int8" or precision == "int8":
        return ""
    needed = memory_needed(folder, saved, "int8")
    verdict = "which fits" if needed <= free else "which does not fit either"
    return f". With --int8 it needs about {needed / GB:.1f} GB, {verdict}"


def _bytes(leaf: Any) -> int:
    return int(math.prod(leaf.shape) * jnp.dtype(leaf.dtype).itemsize)

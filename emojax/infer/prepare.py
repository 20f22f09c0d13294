"""Prepares a model for inference: LoRA merged into the kernels, and on CPU unstacked layers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from emojax.bundle.model_folder import Bundle
from emojax.model.dense import LoraConfig, merge_lora_kernel
from emojax.model.layers import unstack_layers
from emojax.model.lm.llama import LlamaConfig
from emojax.model.variables import flatten, merge
from emojax.sharding import platform

CLIPS = 4
LARGE = 1_000_000_000  # parameters
MOST_COPIES = 2_000_000_000  # bytes of float32 copies of kernels that may be held besides them


def merge_lora(leaves: dict[str, Any], config: LlamaConfig) -> dict[str, Any]:
    """Merges LoRA adapters into their kernels; without adapters nothing changes.

    Args:
      leaves: {path: array} of the whole model.
      config: its language model's.

    Returns:
      {path: array} without adapters.

    Raises:
      ValueError: the kernels are int8, so adapters cannot be merged into them.
    """
    out = {p: x for p, x in leaves.items() if not p.startswith("lora/")}
    for path in [p for p in leaves if p.startswith("lora/") and p.endswith("/a")]:
        kernel = path.replace("lora/", "params/", 1).removesuffix("/a") + "/kernel"
        if out[kernel].dtype == jnp.int8:
            raise ValueError(f"{kernel} is int8: merge adapters before kernels become int8")
        a, b = (jnp.asarray(leaves[path.removesuffix("/a") + end]) for end in ("/a", "/b"))
        out[kernel] = _merged(jnp.asarray(out[kernel]), a, b, lora=config.lora)
    return out


@jax.jit(static_argnames="lora")
def _merged(kernel: Any, a: Any, b: Any, *, lora: LoraConfig) -> Any:
    """`merge_lora_kernel`; of stacked layers, one at a time is float32."""
    if kernel.ndim == 2:
        return merge_lora_kernel(kernel, a, b, lora=lora)
    return jax.lax.map(lambda x: merge_lora_kernel(*x, lora=lora), (kernel, a, b))


def keeps_stacked_layers(leaves: Mapping[str, Any], config: LlamaConfig) -> bool:
    """Whether a model answers with its layers stacked, as they are stored.

    On CPU, XLA copies each layer's part of stacked arrays for every token. Of unstacked kernels
    that are not float32 it holds float32 copies all the time, which only small models can afford.

    Args:
      leaves: {path: anything with shape and dtype}.
      config: of the model's language model.
    """
    copies = sum(
        4 * math.prod(x.shape)
        for path, x in leaves.items()
        if path.endswith("/kernel") and x.dtype != jnp.float32
    )
    return platform() != "cpu" or config.unstacked_layers or copies > MOST_COPIES


def prepare_for_inference(bundle: Bundle) -> Bundle:
    """The same model in a form that answers faster; a prepared model is returned as it is.

    Answers differ by rounding only; folder and labels are kept. Int8 kernels keep their adapters
    separate.
    """
    model = bundle.settings.model
    llama = model.llama
    leaves = flatten(bundle.variables)
    if llama.precision.kernels != "int8" and llama.lora.rank:
        leaves = merge_lora(leaves, llama)
        llama = dataclasses.replace(llama, lora=LoraConfig(rank=0))
    changed: Any = dataclasses.replace(model, llama=llama)
    if not keeps_stacked_layers(leaves, llama):
        leaves = unstack_layers(leaves)
        changed = _unstacked(changed)
    if changed == model:
        return bundle
    settings = dataclasses.replace(bundle.settings, model=changed)
    return dataclasses.replace(bundle, settings=settings, variables=merge(leaves, {}))


def _unstacked(config: Any) -> Any:
    """A configuration in which every encoder and language model has unstacked layers."""
    names = [f.name for f in dataclasses.fields(config)]
    changed: dict[str, Any] = {
        name: _unstacked(value)
        for name in names
        if dataclasses.is_dataclass(value := getattr(config, name))
    }
    if "unstacked_layers" in names:
        changed["unstacked_layers"] = True
    return dataclasses.replace(config, **changed)


def clips_at_once(bundle: Bundle) -> int:
    """Number of clips that `predict` and timelines answer together; small, so answers appear soon.

    Batches are filled up to this number. On CPU, where a row of a large model takes minutes, that
    would cost more than compiling once for each number.
    """
    parameters = sum(math.prod(x.shape) for x in flatten(bundle.variables).values())
    return 1 if platform() == "cpu" and parameters > LARGE else CLIPS

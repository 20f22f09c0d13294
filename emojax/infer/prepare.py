"""A model made ready to answer: adapters merged into their kernels, and on CPU every layer with arrays of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import traverse_util

from emojax.bundle.model_folder import Bundle
from emojax.model.dense import LoraConfig, merge_lora_kernel
from emojax.model.layers import unstack_layers
from emojax.model.lm.llama import LlamaConfig
from emojax.sharding import platform


def merge_lora(leaves: dict[str, Any], config: LlamaConfig) -> dict[str, Any]:
    """{path: array} with adapters merged into their kernels (layers.merged_kernel); without adapters nothing changes.

    Raises:
      ValueError: int8 kernels, which adapters can not be merged into.
    """
    out = {p: x for p, x in leaves.items() if not p.startswith("lora/")}
    for path in [p for p in leaves if p.startswith("lora/") and p.endswith("/a")]:
        kernel = path.replace("lora/", "params/", 1).removesuffix("/a") + "/kernel"
        if out[kernel].dtype == jnp.int8:
            raise ValueError(f"{kernel} is int8: adapters are merged before kernels become int8")
        a, b = (jnp.asarray(leaves[path.removesuffix("/a") + end]) for end in ("/a", "/b"))
        out[kernel] = merge_lora_kernel(jnp.asarray(out[kernel]), a, b, lora=config.lora)
    return out


def ready(bundle: Bundle) -> Bundle:
    """The same model, faster to ask; its folder and labels stay. One that is ready is returned as it is.

    Answers differ by rounding alone. Int8 kernels keep their adapters apart.
    """
    model = bundle.settings.model
    llama = model.llama
    leaves = traverse_util.flatten_dict(bundle.variables, sep="/")
    if llama.precision.kernels != "int8" and llama.lora.rank:
        leaves = merge_lora(leaves, llama)
        llama = dataclasses.replace(llama, lora=LoraConfig(rank=0))
    changed: Any = dataclasses.replace(model, llama=llama)
    if platform() == "cpu" and not llama.unstacked_layers:
        leaves = unstack_layers(leaves)
        changed = _separate(changed)
    if changed == model:
        return bundle
    settings = dataclasses.replace(bundle.settings, model=changed)
    return dataclasses.replace(
        bundle, settings=settings, variables=traverse_util.unflatten_dict(leaves, sep="/")
    )


def _separate(config: Any) -> Any:
    """A configuration whose every encoder and language model has `separate` layers."""
    inner = {
        f.name: _separate(value)
        for f in dataclasses.fields(config)
        if dataclasses.is_dataclass(value := getattr(config, f.name))
    }
    own = (
        {"unstacked_layers": True}
        if any(f.name == "unstacked_layers" for f in dataclasses.fields(config))
        else {}
    )
    return dataclasses.replace(config, **inner, **own)

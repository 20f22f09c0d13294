"""How many parameters a pretrained part has, from its sizes alone."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from emojax.model.layers import EncoderConfig
from emojax.model.part import Family
from emojax.model.variables import flatten, unbox

_PIXELS = 224  # of pictures, where a part takes any size


def part_parameters(family: Family, fields: Mapping[str, Any]) -> int:
    """The parameters of a part as emojax loads it: of Whisper the encoder alone.

    Args:
      family: its architecture.
      fields: its sizes, as of `Release.fields`.
    """
    if family.kind == "language":
        return _language_parameters(fields)
    defaults = {"size": _PIXELS, "seconds": 30.0, "activation": "", "mean": (), "std": ()}
    values: Any = types.SimpleNamespace(**{**defaults, "layer_weights": False, **fields})
    shared = {k: fields.get(k, 0) for k in ("width", "depth", "heads", "mlp")}
    config = family.make(values, EncoderConfig(**shared, eps=1e-5))
    pixels = (values.size, values.size, 3)
    shape = config.view_shape if family.kind == "sound" else pixels
    module = family.module(config)
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.zeros((1, *shape), jnp.float32))
    )
    return sum(math.prod(leaf.shape) for leaf in flatten(unbox(shapes)).values())


def _language_parameters(fields: Mapping[str, Any]) -> int:
    width, heads, vocab = fields["width"], fields["heads"], fields["vocab"]
    kv_heads = fields.get("kv_heads") or heads
    head = fields.get("head_width") or width // heads
    layer = 2 * width * head * (heads + kv_heads) + 3 * width * fields["mlp"] + 2 * width
    layer += head * (heads + 2 * kv_heads) * bool(fields.get("qkv_bias"))
    layer += 2 * head * bool(fields.get("qk_norm"))
    embeddings = vocab * width * (1 if fields.get("tied") else 2)
    return int(embeddings + fields["depth"] * layer + width)

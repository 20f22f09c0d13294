"""The variables of a model as a flat dict, and which of them are trainable.

A module's variables are the nested dict {params, lora}. Training, checkpoints and weight tables use
flat dicts instead: {"params/llama/blocks/q/kernel": array, ...}. Everything here works on shapes as
well as on arrays.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding

from emojax.model.build import ModelConfig, init_variables
from emojax.model.parts import ENCODERS, tree_name
from emojax.sharding import tree_shardings

Array = jax.Array
Flat = dict[str, Array]  # path, joined by "/", -> array
Rules = tuple[tuple[str, str], ...]  # (regular expression on the whole path, "train" or "freeze")

# Modules whose outputs are features; a feature cache replaces them.
ENCODER_TREES = frozenset(
    {"ln_vision", "mae", "videomae"}
    | {tree_name(f, stream) for f in ENCODERS.values() for stream in ("image", "video", "audio")}
)

_flatten: Callable[..., Any] = traverse_util.flatten_dict
_unflatten: Callable[..., Any] = traverse_util.unflatten_dict


def flatten(tree: Any) -> dict[str, Any]:
    """Nested dict -> {path: leaf}."""
    return dict(_flatten(tree, sep="/"))


def merge(train: Flat, frozen: Flat) -> Any:
    """The nested variables {params, lora} for a module's `apply`."""
    return _unflatten({**frozen, **train}, sep="/")


def unbox(boxed: Any) -> Any:
    """Removes the boxes of logical axis names (nn.unbox would also apply their constraints)."""

    def is_box(x: Any) -> bool:
        return isinstance(x, nn.LogicallyPartitioned)

    return jax.tree.map(lambda x: x.value if is_box(x) else x, boxed, is_leaf=is_box)


@functools.lru_cache(maxsize=16)  # tracing the initialisers takes a second or two
def abstract_variables(config: ModelConfig) -> Any:
    """Boxed shapes of all variables; nothing is allocated."""
    return jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))


def variable_shardings(config: ModelConfig, mesh: Mesh) -> dict[str, NamedSharding]:
    """{path: sharding} of every variable."""
    return flatten(tree_shardings(abstract_variables(config), mesh))


def init_flat(
    config: ModelConfig, seed: int, mesh: Mesh, *, paths: Sequence[str] | None = None
) -> Flat:
    """Random variables, created in their shards.

    Args:
      config: the model.
      seed: of the random numbers.
      mesh: the mesh of the shards.
      paths: the variables to make; all by default.

    Returns:
      {path: array}.
    """
    shardings = variable_shardings(config, mesh)
    selected = {p: shardings[p] for p in (shardings if paths is None else paths)}

    def init() -> Flat:
        variables = flatten(unbox(init_variables(config, jax.random.key(seed))))
        return {p: variables[p] for p in selected}

    out: Flat = jax.jit(init, out_shardings=selected)()
    return out


def is_encoder_path(path: str) -> bool:
    """Whether a variable belongs to an encoder."""
    parts = path.split("/")
    return parts[0] == "params" and parts[1] in ENCODER_TREES


def count_parameters(tree: Flat) -> int:
    """Number of parameters."""
    return sum(math.prod(x.shape) for x in tree.values())


def select_trainable(paths: list[str], rules: Rules) -> dict[str, bool]:
    """Decides by the first matching rule which variables are trainable.

    Args:
      paths: paths of all variables.
      rules: `config.trainable`.

    Returns:
      {path: whether it is trainable}.

    Raises:
      ValueError: no rule matches a path, the second entry of a rule is not train or freeze, or the
        rules freeze everything.
    """
    if invalid := [r for r in rules if r[1] not in ("train", "freeze")]:
        raise ValueError(
            f"each rule of config.trainable must be (pattern, train or freeze), got {invalid}"
        )
    out: dict[str, bool] = {}
    for path in paths:
        for pattern, word in rules:
            if re.fullmatch(pattern, path):
                out[path] = word == "train"
                break
        else:
            raise ValueError(
                f"no rule of config.trainable matches '{path}'; "
                f"the rules are {[r[0] for r in rules]}"
            )
    if not any(out.values()):
        raise ValueError("the rules of config.trainable freeze everything")
    return out


def split_trainable(variables: Any, rules: Rules) -> tuple[Flat, Flat]:
    """Splits nested or flat variables into trainable and frozen ones.

    Args:
      variables: the variables.
      rules: `config.trainable`.

    Returns:
      (trainable, frozen); trainable arrays become float32.

    Raises:
      ValueError: an int8 kernel is trainable, or as `select_trainable`.
    """
    flat = flatten(variables)
    trainable = select_trainable(list(flat), rules)
    if quantized := [k for k, v in flat.items() if trainable[k] and v.dtype == jnp.int8]:
        raise ValueError(
            f"{quantized[0]} is stored as int8 and cannot be trained: freeze it or set "
            "config.model.kernels to float"
        )
    train = {k: v.astype(jnp.float32) for k, v in flat.items() if trainable[k]}
    return train, {k: v for k, v in flat.items() if not trainable[k]}

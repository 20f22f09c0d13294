"""The parameter tree of a model: as flat paths, as shapes, in its shards, and what of it is trainable."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding

from emojax.model.build import ModelConfig, init_variables
from emojax.sharding import tree_shardings

Array = jax.Array


Flat = dict[str, Array]  # tree path, joined by "/", -> array


def flatten(tree: Any) -> dict[str, Any]:
    """Nested dict -> {path: leaf}."""
    return dict(traverse_util.flatten_dict(tree, sep="/"))


def merge(train: Flat, frozen: Flat) -> Any:
    """The nested variables {params, lora} that a module's `apply` takes."""
    return traverse_util.unflatten_dict({**frozen, **train}, sep="/")


def select_trainable(paths: list[str], rules: tuple[tuple[str, str], ...]) -> dict[str, bool]:
    """{path: learns} by the first matching rule (regular expression on the whole path).

    Raises:
      ValueError: a path that no rule matches, a rule word other than train and freeze, nothing to train.
    """
    if bad := [r for r in rules if r[1] not in ("train", "freeze")]:
        raise ValueError(f"trainable rules say train or freeze, not {bad}")
    out: dict[str, bool] = {}
    for path in paths:
        for pattern, word in rules:
            if re.fullmatch(pattern, path):
                out[path] = word == "train"
                break
        else:
            raise ValueError(
                f"no rule of config.trainable matches '{path}'; the rules are {[r[0] for r in rules]}"
            )
    if not any(out.values()):
        raise ValueError("the rules of config.trainable freeze everything")
    return out


def split_trainable(variables: Any, rules: tuple[tuple[str, str], ...]) -> tuple[Flat, Flat]:
    """Nested or flat variables -> (train, frozen); train leaves become float32."""
    flat = flatten(variables)
    learns = select_trainable(list(flat), rules)
    if stiff := [k for k, v in flat.items() if learns[k] and v.dtype == jnp.int8]:
        raise ValueError(
            f"{stiff[0]} rests as int8 and can not learn: freeze it or set config.model.kernels to float"
        )
    train = {k: v.astype(jnp.float32) for k, v in flat.items() if learns[k]}
    return train, {k: v for k, v in flat.items() if not learns[k]}


# Parts of the tree whose outputs are features; what a feature cache stands for.
TOWERS = ("eva_image", "ln_vision", "eva_video", "whisper", "mae", "videomae", "hubert")


def is_encoder_path(path: str) -> bool:
    """Whether a variable belongs to an encoder."""
    parts = path.split("/")
    return parts[0] == "params" and parts[1] in TOWERS


def count_parameters(tree: Flat) -> int:
    """Number of parameters."""
    return sum(math.prod(x.shape) for x in tree.values())


def abstract_variables(config: ModelConfig) -> Any:
    """Boxed shapes of all variables, without making them."""
    return jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))


def variable_shardings(config: ModelConfig, mesh: Mesh) -> dict[str, NamedSharding]:
    """{path: sharding} of every variable."""
    return flatten(tree_shardings(abstract_variables(config), mesh))


def unbox(boxed: Any) -> Any:
    """Drops the boxes of logical axis names (nn.unbox would apply constraints on the way)."""
    is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)  # noqa: E731
    return jax.tree.map(lambda x: x.value if is_box(x) else x, boxed, is_leaf=is_box)


def init_flat(
    config: ModelConfig, seed: int, mesh: Mesh, *, paths: Sequence[str] | None = None
) -> Flat:
    """Random variables from a seed, made in their shards; only those of `paths` where given."""
    shardings = variable_shardings(config, mesh)
    wanted = {p: shardings[p] for p in (shardings if paths is None else paths)}

    def make() -> Flat:
        made = flatten(unbox(init_variables(config, jax.random.key(seed))))
        return {p: made[p] for p in wanted}

    return jax.jit(make, out_shardings=wanted)()

"""Variables as two flat trees: what learns and what is frozen. One ordered rule list decides."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from emojax.model.build import ModelConfig
from emojax.model.variables import (
    Array,
    Flat,
    abstract_variables,
    flatten,
    is_encoder_path,
    select_trainable,
    unbox,
    variable_shardings,
)
from emojax.sharding import replicated


class TrainState(NamedTuple):
    """step: int32[]. train: float32 leaves that learn. opt: optax state. ema: averaged `train`, or {} when off."""

    step: Array
    train: Flat
    opt: Any
    ema: Flat


def abstract_state(
    config: ModelConfig,
    mesh: Mesh,
    rules: tuple[tuple[str, str], ...],
    tx: Any,
    ema: bool,
    *,
    cached: bool = False,
) -> tuple[Any, Any]:
    """(TrainState, frozen) of a run as shapes in their shards, without making them; `cached`: without the towers."""
    shardings = variable_shardings(config, mesh)
    shapes = flatten(unbox(abstract_variables(config)))
    learns = select_trainable(list(shapes), rules)

    def shape(path: str, dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(shapes[path].shape, dtype, sharding=shardings[path])

    train = {p: shape(p, jnp.float32) for p in shapes if learns[p]}
    frozen = {
        p: shape(p, x.dtype)
        for p, x in shapes.items()
        if not learns[p] and not (cached and is_encoder_path(p))
    }
    step: Any = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh))
    moments = abstract_moments(tx, train, mesh)
    state = TrainState(step, train, moments, dict(train) if ema else {})
    return state, frozen


def abstract_moments(tx: Any, train: Any, mesh: Mesh) -> Any:
    """Optimizer state as shapes; moments lie as their parameters do, under the same paths."""

    def placed(path: Any, x: Any) -> jax.ShapeDtypeStruct:
        own = [
            train[k.key].sharding
            for k in path
            if isinstance(k, jax.tree_util.DictKey) and k.key in train
        ]
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=own[0] if own else replicated(mesh))

    return jax.tree_util.tree_map_with_path(placed, jax.eval_shape(tx.init, train))


def start_state(tx: Any, learned: Flat, mesh: Mesh, ema: bool) -> TrainState:
    """The state before the first step; its arrays are copies, for the step donates them."""
    moments = jax.tree.map(lambda x: x.sharding, abstract_moments(tx, learned, mesh))
    shardings = {p: x.sharding for p, x in learned.items()}
    copies = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=shardings)
    step = jax.device_put(np.int32(0), replicated(mesh))
    opt = jax.jit(tx.init, out_shardings=moments)(learned)
    return TrainState(step, copies(learned), opt, copies(learned) if ema else {})

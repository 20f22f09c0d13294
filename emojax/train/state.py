"""The training state: trainable variables, optimizer state and averaged weights, sharded."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from emojax.config import Rules
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
from emojax.sharding import replicated, shape_struct


class TrainState(NamedTuple):
    """What a step changes.

    Attributes:
      step: int32[], number of steps so far.
      train: {path: float32 array} of the trainable variables.
      opt: state of the optax optimizer.
      ema: moving average of `train`; {} without averaging.
    """

    step: Array
    train: Flat
    opt: Any
    ema: Flat


def abstract_state(
    config: ModelConfig, mesh: Mesh, rules: Rules, *, tx: Any, ema: bool, cached: bool = False
) -> tuple[Any, Any]:
    """The state of a run as shapes in their shards, without allocating it.

    Args:
      config: the network.
      mesh: devices of the run.
      rules: which variables are trainable.
      tx: the optax optimizer.
      ema: whether weights are averaged.
      cached: whether features are cached, so that the encoders are left out.

    Returns:
      (TrainState, frozen variables by path).
    """
    shardings = variable_shardings(config, mesh)
    shapes = flatten(unbox(abstract_variables(config)))
    trainable = select_trainable(list(shapes), rules)

    def shape(path: str, dtype: Any) -> Any:
        return shape_struct(shapes[path].shape, dtype, shardings[path])

    train = {p: shape(p, jnp.float32) for p in shapes if trainable[p]}
    frozen = {
        p: shape(p, x.dtype)
        for p, x in shapes.items()
        if not trainable[p] and not (cached and is_encoder_path(p))
    }
    step: Any = shape_struct((), jnp.int32, replicated(mesh))
    moments = abstract_moments(tx, train, mesh)
    state = TrainState(step, train, moments, dict(train) if ema else {})
    return state, frozen


def abstract_moments(tx: Any, train: Any, mesh: Mesh) -> Any:
    """The optimizer state as shapes; each moment has the sharding of its parameter."""

    def shape(path: Any, x: Any) -> Any:
        shardings = [
            train[k.key].sharding
            for k in path
            if isinstance(k, jax.tree_util.DictKey) and k.key in train
        ]
        sharding = shardings[0] if shardings else replicated(mesh)
        return shape_struct(x.shape, x.dtype, sharding)

    return jax.tree_util.tree_map_with_path(shape, jax.eval_shape(tx.init, train))


def start_state(tx: Any, trainable: Flat, mesh: Mesh, *, ema: bool) -> TrainState:
    """The state before the first step.

    Args:
      tx: the optax optimizer.
      trainable: {path: float32 array}; copied, because a step donates its state.
      mesh: devices of the run.
      ema: whether weights are averaged.

    Returns:
      The state of step 0, in the shards of the parameters.
    """
    moments = jax.tree.map(lambda x: x.sharding, abstract_moments(tx, trainable, mesh))
    shardings = {p: x.sharding for p, x in trainable.items()}
    copies = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=shardings)
    step = jax.device_put(np.int32(0), replicated(mesh))
    opt = jax.jit(tx.init, out_shardings=moments)(trainable)
    return TrainState(step, copies(trainable), opt, copies(trainable) if ema else {})

"""The training step as shapes: traced without allocating its arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from emojax.config import Settings, Stage
from emojax.model.build import make_model
from emojax.model.emotion import CACHED_PREFIX
from emojax.model.variables import abstract_variables, unbox
from emojax.sharding import batch_sharding, replicated, shape_struct
from emojax.train.state import abstract_state
from emojax.train.step import make_optimizer, make_step
from emojax.train.step_memory import room_for


def abstract_batch(
    settings: Settings,
    mesh: jax.sharding.Mesh,
    *,
    batch_size: int,
    bucket: tuple[int, int],
    cached: bool,
) -> dict[str, Any]:
    """A batch of the training step as shapes in their shards.

    Args:
      settings: the run.
      mesh: its devices.
      batch_size: B, over all devices.
      bucket: (T, A), row and answer length.
      cached: whether the batch holds features instead of pictures and sound.

    Returns:
      {field: shape, type and sharding}, first axis B.
    """
    sharding = batch_sharding(mesh)

    def array(shape: tuple[int, ...], dtype: Any) -> Any:
        return shape_struct((batch_size, *shape), dtype, sharding)

    row, answer = bucket
    lengths = {
        "ids": row,
        "soft_index": row,
        "positions": row,
        "answer_at": answer,
        "labels": answer,
    }
    out = {name: array((length,), jnp.int32) for name, length in lengths.items()}
    out |= {"valid": array((row,), bool), "row_tokens": array((), jnp.int32)}
    out |= {f"has_{name}": array((), bool) for name in ("image", "video", "audio")}
    shapes = settings.model.view_shapes
    views = {
        "image": array(shapes["image"], jnp.uint8),
        "frames": array(shapes["frames"], jnp.uint8),
        "sound": array(shapes["sound"], jnp.float32),
        "audio_frames": array((), jnp.int32),
    }
    if settings.model.word_heads:
        out |= {f"words_{s}": array((settings.data.words,), jnp.int32) for s in ("image", "audio")}
    if not cached:
        return out | views
    unsharded = {k: shape_struct(x.shape, x.dtype) for k, x in (out | views).items()}
    model, variables = make_model(settings.model), unbox(abstract_variables(settings.model))
    features = jax.eval_shape(lambda v, b: model.apply(v, b, method="encode"), variables, unsharded)
    dtype = settings.model.llama.precision.compute
    return out | {CACHED_PREFIX + name: array(x.shape[1:], dtype) for name, x in features.items()}


def trace_step(
    settings: Settings,
    stage: Stage,
    mesh: jax.sharding.Mesh,
    *,
    batch_size: int,
    bucket: tuple[int, int],
    cached: bool,
    memory: float | None = None,
) -> tuple[Any, Any, Any]:
    """Traces the step that training runs.

    Args:
      settings: the run.
      stage: the stage whose rules and optimizer are used.
      mesh: devices, present or not.
      batch_size: over all devices.
      bucket: (row length, answer length) in tokens.
      cached: whether features are cached.
      memory: bytes of a device, for remat "auto"; None if unknown.

    Returns:
      (traced step, abstract TrainState, frozen variables as shapes).
    """
    tx = make_optimizer(stage.optim)
    batch = abstract_batch(settings, mesh, batch_size=batch_size, bucket=bucket, cached=cached)
    key = jax.eval_shape(lambda: jax.random.key(0, impl="rbg"))
    with jax.set_mesh(mesh):
        state, frozen = abstract_state(
            settings.model,
            mesh,
            stage.trainable,
            tx=tx,
            ema=bool(stage.optim.ema),
            cached=cached,
        )
        step: Any = make_step(
            settings.model,
            tx,
            stage.optim.ema,
            accumulate=settings.train.accumulate,
            shardings=jax.tree.map(lambda x: x.sharding, state),
            room=room_for(memory, state, frozen, mesh.shape),
        )
        rate = shape_struct((), jnp.float32, replicated(mesh))
        key = shape_struct(key.shape, key.dtype, replicated(mesh))
        return step.trace(state, frozen, batch, rate, key), state, frozen

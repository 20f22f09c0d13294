"""Mesh and sharding rules: the only file that knows the names of mesh axes.

The mesh has the axes (data, fsdp, tensor). Parameters and activations carry logical axis names; RULES
maps those to mesh axes, once. `pjit` of older texts is `jax.jit` under `jax.set_mesh(mesh)` today.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")

# Logical axis -> mesh axis. `embed` on fsdp keeps no large kernel replicated; heads, mlp and vocab are
# the dimensions that tensor parallelism splits. The embedding table is split on its width alone: with
# the vocabulary on `tensor` XLA answers the token gather with a full rematerialization of the table.
RULES = (
    ("batch", ("data", "fsdp")),
    ("embed", "fsdp"),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("vocab", "tensor"),
    ("vocab_in", None),
    ("layers", None),
    ("length", None),
    ("head_dim", None),
    ("rank", None),
    ("act_embed", None),
    ("act_heads", "tensor"),
    ("act_vocab", "tensor"),
)


def make_mesh(shape: tuple[int, int, int] = (-1, 1, 1), devices: list[Any] | None = None) -> Mesh:
    """A mesh (data, fsdp, tensor); one entry may be -1 and is filled with what is left.

    Raises:
      ValueError: the shape does not multiply to the number of devices.
    """
    devices = devices or jax.devices()
    sizes = list(shape)
    if sizes.count(-1) > 1:
        raise ValueError(f"mesh {tuple(shape)}: only one entry may be -1")
    if -1 in sizes:
        rest = int(np.prod([s for s in sizes if s != -1]))
        if len(devices) % rest:
            raise ValueError(f"mesh {tuple(shape)}: {len(devices)} devices can not be divided by {rest}")
        sizes[sizes.index(-1)] = len(devices) // rest
    if int(np.prod(sizes)) != len(devices):
        raise ValueError(f"mesh {tuple(sizes)} needs {int(np.prod(sizes))} devices, there are {len(devices)}")
    # Auto: under Explicit axes Linen's constraints become assertions and fail.
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def tree_shardings(abstract: Any, mesh: Mesh) -> Any:
    """NamedShardings of a tree of boxed (logically partitioned) abstract arrays."""
    return nn.logical_to_mesh_sharding(nn.get_partition_spec(abstract), mesh, RULES)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding that keeps a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """First axis over data and fsdp."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Process-local NumPy rows -> global arrays, split over data and fsdp.

    Raises:
      ValueError: the rows can not be divided over the mesh.
    """
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    rows = len(next(iter(batch.values()))) * jax.process_count()
    if rows % parts:
        raise ValueError(f"a batch of {rows} can not be divided over {parts} parts (data x fsdp) of the mesh")
    sharding = batch_sharding(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def to_host(x: jax.Array) -> np.ndarray:
    """The whole array in this process' memory, wherever its parts lie."""
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def partitioned(init: Callable[..., Any], axes: tuple[str | None, ...]) -> Callable[..., Any]:
    """An initializer whose arrays carry logical axis names (Linen boxes them while initialising)."""
    return nn.with_logical_partitioning(init, axes)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Logical sharding constraint under the current mesh; nothing without one."""
    return nn.with_logical_constraint(x, axes, rules=RULES)

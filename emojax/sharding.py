"""Mesh and sharding rules: the only file that knows the names of mesh axes.

The mesh has the axes (data, fsdp, tensor). Parameters and activations carry logical axis names; RULES
maps those to mesh axes, once. `pjit` of older texts is `jax.jit` under `jax.set_mesh(mesh)` today.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
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
    ("adapter", ("fsdp", "tensor")),
    ("act_embed", None),
    ("act_heads", "tensor"),
    ("act_vocab", "tensor"),
)


def resolve_mesh_shape(
    shape: tuple[int, int, int], devices: int, *, slices: int = 1
) -> tuple[int, int, int]:
    """The mesh of so many devices: -1 filled with what is left, (0, 0, 0) with up to 16 on fsdp and the rest on data.

    Raises:
      ValueError: as `make_mesh`.
    """
    sizes = list(shape) if any(shape) else [-1, min(16, devices // slices), 1]
    if sizes.count(-1) > 1:
        raise ValueError(f"mesh {tuple(shape)}: only one entry may be -1")
    if -1 in sizes:
        rest = int(np.prod([s for s in sizes if s != -1]))
        if devices % rest:
            raise ValueError(f"mesh {tuple(shape)}: {devices} devices can not be divided by {rest}")
        sizes[sizes.index(-1)] = devices // rest
    if int(np.prod(sizes)) != devices:
        raise ValueError(
            f"mesh {tuple(sizes)} needs {int(np.prod(sizes))} devices, there are {devices}"
        )
    if sizes[0] % slices:
        raise ValueError(f"mesh {tuple(sizes)}: data must be a multiple of the {slices} slices")
    return (sizes[0], sizes[1], sizes[2])


def make_mesh(
    *, shape: tuple[int, int, int] = (-1, 1, 1), devices: list[Any] | None = None
) -> Mesh:
    """A mesh (data, fsdp, tensor); one entry may be -1 and is filled with what is left.

    (0, 0, 0) splits weights over up to 16 devices (of one slice) and rows over all: beyond 16 nothing is gained in memory
    that matters, and widths such as 1408 can not be split further.

    Devices of several TPU slices (a fast network within each, a slow one between) are split over `data`: only
    gradients travel between slices.

    Raises:
      ValueError: the shape does not multiply to the number of devices, or `data` can not be split over the slices.
    """
    devices = devices or jax.devices()
    slices = len({getattr(d, "slice_index", 0) for d in devices})
    sizes = resolve_mesh_shape(shape, len(devices), slices=slices)
    # Auto: under Explicit axes Linen's constraints become assertions and fail.
    kinds = (AxisType.Auto,) * len(AXES)
    if slices == 1:
        return jax.make_mesh(sizes, AXES, axis_types=kinds, devices=devices)
    within = (sizes[0] // slices, *sizes[1:])
    laid = mesh_utils.create_hybrid_device_mesh(
        within, (slices, 1, 1), devices, allow_split_physical_axes=True
    )
    return Mesh(laid, AXES, axis_types=kinds)


def start_processes(
    *, address: str | None = None, count: int | None = None, number: int | None = None
) -> int:
    """Joins the processes of a run, before anything else asks jax for devices; returns this one's number.

    Args:
      address, count, number: coordinator HOST:PORT, number of processes and which one this is, where they are given
        ($EMOJAX_COORDINATOR, $EMOJAX_PROCESSES, $EMOJAX_PROCESS stand for them). Without them SLURM's variables say so, or,
        with $EMOJAX_DISTRIBUTED=auto, whatever jax finds: a TPU slice's metadata, MPI, Kubernetes. Else this process is alone.

    Raises:
      ValueError: some of the three are given and others not.
    """
    env = os.environ.get
    address = address or env("EMOJAX_COORDINATOR")
    count = count or int(env("EMOJAX_PROCESSES", 0)) or None
    number = int(env("EMOJAX_PROCESS", -1)) if number is None else number
    if address or count or number >= 0:
        if not (address and count and number >= 0):
            raise ValueError(
                "several processes need all three: coordinator address, number of processes, own number"
            )
        if platforms := env("JAX_PLATFORMS", ""):
            if platforms.startswith("cpu"):
                jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, count, number)
    elif env("EMOJAX_DISTRIBUTED") == "auto" or int(env("SLURM_STEP_NUM_TASKS", 1)) > 1:
        jax.distributed.initialize()
    return jax.process_index()


def platform() -> str:
    """Where the program that is traced will run: tpu, gpu or cpu. The mesh says so, also when it is compiled elsewhere."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None and device.platform else jax.default_backend()


def is_divisible(rows: int, heads: int) -> bool:
    """Whether so many rows and heads can be split over the mesh (one row, as when a model is initialised, can not)."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return not sizes or rows % (sizes["data"] * sizes["fsdp"]) == 0 == heads % sizes["tensor"]


def shard_over_heads(fn: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Runs fn(q, k, v [B, T, N, H], keys [B, T]) -> [B, T, N, H] on each shard of rows and heads: for kernels that XLA can not split."""
    if jax.sharding.get_abstract_mesh().empty:
        return fn
    rows, heads = PartitionSpec(("data", "fsdp")), PartitionSpec(("data", "fsdp"), None, "tensor")
    return jax.shard_map(fn, in_specs=(heads, heads, heads, rows), out_specs=heads, check_vma=False)


def tree_shardings(abstract: Any, mesh: Mesh) -> Any:
    """NamedShardings of a tree of boxed (logically partitioned) abstract arrays."""
    return nn.logical_to_mesh_sharding(nn.get_partition_spec(abstract), mesh, RULES)


def check_rows(mesh: Mesh, rows: int, accumulate: int) -> None:
    """Raises ValueError where a step's rows can not be shared out: over the mesh, its micro-batches, or the processes."""
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % (parts * accumulate):
        micro = f" in {accumulate} micro-batches" if accumulate > 1 else ""
        raise ValueError(
            f"a batch of {rows} can not be divided over {parts} parts (data x fsdp) of the mesh{micro}"
        )
    places = np.argwhere(
        np.vectorize(lambda d: d.process_index == jax.process_index())(mesh.devices)
    )
    own = len({(int(p[0]), int(p[1])) for p in places})
    if own * jax.process_count() != parts:
        raise ValueError(
            f"mesh {tuple(mesh.devices.shape)}: the tensor axis may not cross processes, of which there are "
            f"{jax.process_count()} with {len(places)} devices each"
        )


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
        raise ValueError(
            f"a batch of {rows} can not be divided over {parts} parts (data x fsdp) of the mesh"
        )
    sharding = batch_sharding(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def broadcast_text(text: str) -> str:
    """What process 0 says, on every process (up to 1,000 bytes of UTF-8); a point that all of them reach together."""
    if jax.process_count() == 1:
        return text
    from jax.experimental import multihost_utils

    said = np.zeros(1000, np.uint8)
    raw = np.frombuffer(text.encode()[:1000], np.uint8)
    said[: len(raw)] = raw
    heard = np.asarray(multihost_utils.broadcast_one_to_all(said))
    return bytes(heard).rstrip(b"\0").decode(errors="replace")


def any_process(flag: bool) -> bool:
    """Whether any process says so; a point that all of them reach together."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray([flag]))))


def to_host(x: jax.Array) -> np.ndarray:
    """The whole array in this process' memory, wherever its parts lie."""
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def partitioned(init: Callable[..., Any], axes: tuple[str | None, ...]) -> Callable[..., Any]:
    """An initializer whose arrays carry logical axis names (Linen boxes them while initialising)."""
    return nn.with_logical_partitioning(init, axes)


def row_shards() -> int:
    """Into how many parts the mesh splits the rows of a batch."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return sizes["data"] * sizes["fsdp"] if sizes else 1


def split_micro_batches(batch: Any, count: int) -> Any:
    """Arrays [B, ...] -> [count, B / count, ...]; every shard of rows gives each micro-batch an equal share of its own."""
    n = row_shards()

    def split(x: jax.Array) -> jax.Array:
        rows = x.reshape(n, count, -1, *x.shape[1:]).swapaxes(0, 1)
        return constrain(
            rows.reshape(count, -1, *x.shape[1:]), None, "batch", *[None] * (x.ndim - 1)
        )

    return jax.tree.map(split, batch)


def merge_micro_batches(pieces: Any) -> Any:
    """The inverse of `micro_batches`, for arrays [count, B / count, ...]."""
    n = row_shards()

    def join(x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], n, -1, *x.shape[2:]).swapaxes(0, 1).reshape(-1, *x.shape[2:])

    return jax.tree.map(join, pieces)


def replication(leaves: dict[str, Any]) -> list[tuple[str, int, int]]:
    """(path, bytes of the whole, copies of each byte) of every sharded array or shape, largest waste first.

    Copies over `data` are meant; what is counted here is copies within the devices of one `data` row.
    """
    rows = []
    for path, x in leaves.items():
        mesh_size = x.sharding.mesh.size // x.sharding.mesh.shape["data"]
        whole, part = (
            math.prod(s) * x.dtype.itemsize for s in (x.shape, x.sharding.shard_shape(x.shape))
        )
        rows.append((path, whole, part * mesh_size // max(1, whole)))
    return sorted(rows, key=lambda r: -r[1] * (r[2] - 1))


def gather_embed(kernel: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
    """A kernel whole along `embed`, gathered just before its matmul.

    Left to itself XLA for TPU turns matmul and gather into a loop over slices of the contraction, whose partial sums
    cost as much again as the matmul (measured by its own cycle estimates, docs/scaling.md).
    """
    return constrain(kernel, *(None if axis == "embed" else axis for axis in axes))


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Logical sharding constraint under the current mesh; nothing without one."""
    return nn.with_logical_constraint(x, axes, rules=RULES)

"""Device mesh and sharding rules: the only file that knows the names of mesh axes.

The mesh has the axes (data, fsdp, tensor). Parameters and activations carry logical axis names;
RULES maps those to mesh axes, once. What older texts call `pjit` is `jax.jit` under
`jax.set_mesh(mesh)` today.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.linen import spmd
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")
MAX_FSDP = 16  # devices on fsdp when the mesh is (0, 0, 0)
MAX_TEXT = 1000  # bytes that `broadcast_text` sends

# Logical axis -> mesh axis. `embed` on fsdp leaves no large kernel replicated; heads, mlp and vocab
# are the dimensions that tensor parallelism splits. The embedding table is split along its width
# only: with the vocabulary on `tensor`, XLA rematerialises the whole table for the token gather.
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

MOST_KV_HEADS = 256

_spec: Callable[..., PartitionSpec] = PartitionSpec


def kv_axis(kv_heads: int) -> str:
    """The logical axis of kernels of keys or values with fewer heads than the queries have."""
    if kv_heads > MOST_KV_HEADS:
        raise ValueError(f"{kv_heads} key-value heads, at most {MOST_KV_HEADS} are supported")
    return f"kv_heads_{kv_heads}"


@functools.cache
def _rules(tensor: int) -> tuple[tuple[str, Any], ...]:
    """RULES for a mesh; key-value heads that `tensor` devices cannot share are replicated."""
    heads = range(1, MOST_KV_HEADS + 1)
    return RULES + tuple((kv_axis(n), None if n % tensor else "tensor") for n in heads)


def replication_note(tensor: int, kv_heads: int) -> str:
    """Says that every device of the tensor axis holds all keys and values; "" if they are split."""
    if kv_heads % tensor == 0:
        return ""
    return (
        f"{kv_heads} key-value heads cannot be split over {tensor} devices of the tensor axis: "
        "each holds all of them"
    )


_MESH = "set config.train.mesh to three sizes with this product, such as -1,1,1"


def resolve_mesh_shape(
    shape: tuple[int, int, int], devices: int, *, slices: int = 1
) -> tuple[int, int, int]:
    """Fills in the mesh shape for a number of devices.

    Args:
      shape: sizes of (data, fsdp, tensor). One entry may be -1: it becomes what the others leave.
        (0, 0, 0) puts up to 16 devices on fsdp and the others on data.
      devices: number of devices.
      slices: number of TPU slices that the devices belong to.

    Returns:
      The sizes; their product is `devices`.

    Raises:
      ValueError: more than one -1, the product differs from `devices`, or `data` is not a multiple
        of `slices`.
    """
    sizes = list(shape) if any(shape) else [-1, min(MAX_FSDP, devices // slices), 1]
    if sizes.count(-1) > 1:
        raise ValueError(
            f"mesh {tuple(shape)}: only one entry of config.train.mesh may be -1 (what is left)"
        )
    if -1 in sizes:
        fixed = int(np.prod([s for s in sizes if s != -1]))
        if devices % fixed:
            raise ValueError(
                f"mesh {tuple(shape)}: {devices} devices cannot be divided by {fixed}; {_MESH}"
            )
        sizes[sizes.index(-1)] = devices // fixed
    if int(np.prod(sizes)) != devices:
        raise ValueError(
            f"mesh {tuple(sizes)} needs {int(np.prod(sizes))} devices, there are {devices}; {_MESH}"
        )
    if sizes[0] % slices:
        raise ValueError(
            f"mesh {tuple(sizes)}: data must be a multiple of the {slices} slices, as in "
            f"--config.train.mesh={slices},-1,1"
        )
    return (sizes[0], sizes[1], sizes[2])


def make_mesh(
    *, shape: tuple[int, int, int] = (-1, 1, 1), devices: list[Any] | None = None
) -> Mesh:
    """Makes the mesh (data, fsdp, tensor).

    Devices of several TPU slices (fast network within a slice, slow between slices) are split over
    `data`, so only gradients travel between slices.

    Args:
      shape: sizes of the axes; see `resolve_mesh_shape` for -1 and (0, 0, 0). (0, 0, 0): weights
        over up to 16 devices of a slice, the batch over all. Beyond 16 little memory is saved, and
        widths such as 1408 do not divide.
      devices: all devices of jax by default.

    Returns:
      The mesh, to be entered by `jax.set_mesh`.

    Raises:
      ValueError: as `resolve_mesh_shape`.
    """
    devices = devices or jax.devices()
    slices = len({getattr(d, "slice_index", 0) for d in devices})
    sizes = resolve_mesh_shape(shape, len(devices), slices=slices)
    # Auto: under Explicit axes Linen's constraints become assertions and fail.
    kinds = (AxisType.Auto,) * len(AXES)
    if slices == 1:
        return jax.make_mesh(sizes, AXES, axis_types=kinds, devices=devices)
    per_slice = (sizes[0] // slices, *sizes[1:])
    grid = mesh_utils.create_hybrid_device_mesh(
        per_slice, (slices, 1, 1), devices, allow_split_physical_axes=True
    )
    return Mesh(grid, AXES, axis_types=kinds)


def start_processes(
    *, address: str | None = None, count: int | None = None, number: int | None = None
) -> int:
    """Connects the processes of a distributed run.

    A program calls this once, before anything asks jax for its devices; library functions never do.
    Without arguments and variables SLURM's variables decide; with $EMOJAX_DISTRIBUTED=auto jax
    detects a TPU slice, MPI or Kubernetes; otherwise the process runs alone.

    Args:
      address: HOST:PORT of the coordinator; $EMOJAX_COORDINATOR by default.
      count: number of processes; $EMOJAX_PROCESSES by default.
      number: index of this process; $EMOJAX_PROCESS by default.

    Returns:
      The index of this process.

    Raises:
      ValueError: only some of the three are given.
    """
    env = os.environ.get
    address = address or env("EMOJAX_COORDINATOR")
    count = count or int(env("EMOJAX_PROCESSES", 0)) or None
    number = int(env("EMOJAX_PROCESS", -1)) if number is None else number
    if address or count or number >= 0:
        if not (address and count and number >= 0):
            raise ValueError(
                "several processes need all three: coordinator address, number of processes, "
                "index of this process"
            )
        if env("JAX_PLATFORMS", "").startswith("cpu"):
            update: Callable[[str, Any], None] = jax.config.update
            update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, count, number)
    elif env("EMOJAX_DISTRIBUTED") == "auto" or int(env("SLURM_STEP_NUM_TASKS", 1)) > 1:
        jax.distributed.initialize()
    return jax.process_index()


def platform() -> str:
    """Platform the traced program will run on: tpu, gpu or cpu.

    The mesh decides, so a program that is compiled for other hardware is traced for it.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None and device.platform else jax.default_backend()


def is_divisible(batch: int, heads: int, kv_heads: int) -> bool:
    """Whether the current mesh can split a batch and attention heads evenly.

    A batch of one, as when a model is initialised, cannot be split. Where the tensor axis exceeds
    the key-value heads, the query heads of a device must share one of them.
    """
    sizes = jax.sharding.get_abstract_mesh().shape
    if not sizes:
        return True
    if batch % (sizes["data"] * sizes["fsdp"]) or heads % sizes["tensor"]:
        return False
    own = heads // sizes["tensor"]
    shared = kv_heads % sizes["tensor"] == 0 or (heads // kv_heads) % own == 0
    return bool(shared)


def shard_over_heads(
    fn: Callable[..., jax.Array], *, heads: int, kv_heads: int
) -> Callable[..., jax.Array]:
    """Wraps an attention kernel that XLA cannot split, so that it runs on each shard.

    Batch and heads are sharded. Key-value heads that the tensor axis cannot share are replicated,
    and each device takes the one that its query heads attend to; `is_divisible` must hold.

    Args:
      fn: (q: [B, T, N, H], k, v: [B, T, K, H], key_mask: bool[B, T]) -> [B, T, N, H].
      heads: N.
      kv_heads: K.

    Returns:
      The same function for global arrays; `fn` itself when there is no mesh.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return fn
    rows, split = _spec(("data", "fsdp")), _spec(("data", "fsdp"), None, "tensor")
    tensor, body, kv = mesh.shape["tensor"], fn, split
    if kv_heads % tensor:
        kv = rows

        def body(q: jax.Array, k: jax.Array, v: jax.Array, key_mask: jax.Array) -> jax.Array:
            own = jax.lax.axis_index("tensor") * (heads // tensor) // (heads // kv_heads)
            k, v = (jax.lax.dynamic_slice_in_dim(x, own, 1, axis=2) for x in (k, v))
            return fn(q, k, v, key_mask)

    return jax.shard_map(body, in_specs=(split, kv, kv, rows), out_specs=split, check_vma=False)


def tree_shardings(abstract: Any, mesh: Mesh) -> Any:
    """NamedShardings of a tree of boxed (logically partitioned) abstract arrays."""
    rules = _rules(mesh.shape["tensor"])
    return spmd.logical_to_mesh_sharding(nn.get_partition_spec(abstract), mesh, rules)


def check_division(batch: int, parts: int, accumulate: int) -> None:
    """Checks that a training batch can be split over parts of a mesh.

    Args:
      batch: global batch size.
      parts: devices along data x fsdp.
      accumulate: number of micro-batches in a step.

    Raises:
      ValueError: it cannot.
    """
    if batch % (parts * accumulate):
        micro = f" in {accumulate} micro-batches" if accumulate > 1 else ""
        raise ValueError(
            f"a batch size of {batch} cannot be divided over {parts} parts (data x fsdp) of the "
            f"mesh{micro}: set config.train.batch to a multiple of {parts * accumulate}, or the "
            "batch size per device, config.train.rows_per_device (presets that end in _pod, such "
            "as configs/v2.py:stage1_pod, set it to 4)"
        )


def check_batch_size(mesh: Mesh, batch: int, accumulate: int) -> None:
    """Checks that a training batch can be split over the mesh and the processes.

    Args:
      mesh: the mesh of the run.
      batch: global batch size.
      accumulate: number of micro-batches in a step.

    Raises:
      ValueError: the batch cannot be split over data x fsdp and the micro-batches, or the tensor
        axis crosses processes.
    """
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    check_division(batch, parts, accumulate)
    local = np.argwhere(
        np.vectorize(lambda d: d.process_index == jax.process_index())(mesh.devices)
    )
    local_parts = len({(int(p[0]), int(p[1])) for p in local})
    if local_parts * jax.process_count() != parts:
        raise ValueError(
            f"mesh {tuple(mesh.devices.shape)}: the tensor axis may not cross processes; there are "
            f"{jax.process_count()} processes with {len(local)} devices each"
        )


def shape_struct(shape: tuple[int, ...], dtype: Any, sharding: Any = None) -> Any:
    """An array as shape, dtype and sharding. `jax.ShapeDtypeStruct` itself has no types."""
    struct: Any = jax.ShapeDtypeStruct
    return struct(shape, dtype, sharding=sharding)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding with a whole copy on every device."""
    return NamedSharding(mesh, _spec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: first axis over data and fsdp."""
    return NamedSharding(mesh, _spec(("data", "fsdp")))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Makes global arrays, split over data and fsdp, of each process's part of a batch.

    Args:
      batch: {name: array[B / processes, ...]}, this process's rows.
      mesh: the mesh of the run.

    Returns:
      {name: array[B, ...]}.

    Raises:
      ValueError: the batch cannot be divided over the mesh.
    """
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    rows = len(next(iter(batch.values()))) * jax.process_count()
    if rows % parts:
        raise ValueError(
            f"a batch size of {rows} cannot be divided over {parts} parts (data x fsdp) of the mesh"
        )
    sharding = batch_sharding(mesh)
    make: Callable[..., jax.Array] = jax.make_array_from_process_local_data
    return {k: make(sharding, v) for k, v in batch.items()}


def broadcast_text(text: str) -> str:
    """Returns the text of process 0 on every process; all processes must call it together.

    At most 1,000 bytes of UTF-8 are sent.
    """
    if jax.process_count() == 1:
        return text
    from jax.experimental import multihost_utils

    buffer = np.zeros(MAX_TEXT, np.uint8)
    raw = np.frombuffer(text.encode()[:MAX_TEXT], np.uint8)
    buffer[: len(raw)] = raw
    received = np.asarray(multihost_utils.broadcast_one_to_all(buffer))
    return bytes(received).rstrip(b"\0").decode(errors="replace")


def any_process(flag: bool) -> bool:
    """Whether the flag is set on any process; all processes must call it together."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray([flag]))))


def to_host(x: jax.Array) -> np.ndarray:
    """The whole array in this process's memory, wherever its shards are."""
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def partitioned(init: Callable[..., Any], axes: tuple[str | None, ...]) -> Callable[..., Any]:
    """An initializer whose arrays carry logical axis names (Linen boxes them at initialisation)."""
    return nn.with_logical_partitioning(init, axes)


def row_shards() -> int:
    """Number of parts that the current mesh splits a batch into."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return sizes["data"] * sizes["fsdp"] if sizes else 1


def split_micro_batches(batch: Any, count: int) -> Any:
    """Splits arrays [B, ...] into micro-batches [count, B / count, ...].

    Every shard of the batch gives each micro-batch an equal part of its own rows, so no row moves
    between devices.
    """
    n = row_shards()

    def split(x: jax.Array) -> jax.Array:
        rows = x.reshape(n, count, -1, *x.shape[1:]).swapaxes(0, 1)
        return constrain(
            rows.reshape(count, -1, *x.shape[1:]), None, "batch", *[None] * (x.ndim - 1)
        )

    return jax.tree.map(split, batch)


def merge_micro_batches(parts: Any) -> Any:
    """The inverse of `split_micro_batches`, for arrays [count, B / count, ...]."""
    n = row_shards()

    def merge(x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], n, -1, *x.shape[2:]).swapaxes(0, 1).reshape(-1, *x.shape[2:])

    return jax.tree.map(merge, parts)


def list_copies(leaves: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Lists arrays by the memory that their copies waste, largest waste first.

    Copies over `data` are intended; only copies within the devices of one `data` row are counted.

    Args:
      leaves: {path: array or ShapeDtypeStruct with a NamedSharding}.

    Returns:
      (path, bytes of the whole array, copies of each byte) of each leaf.
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
    """Gathers a kernel along `embed` just before its matmul.

    Otherwise XLA:TPU turns matmul and gather into a loop over slices of the contraction, whose
    partial sums cost as much again as the matmul (XLA's own cycle estimates, docs/scaling.md).
    """
    return constrain(kernel, *(None if axis == "embed" else axis for axis in axes))


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Logical sharding constraint under the current mesh; no effect without a mesh."""
    rules = _rules(jax.sharding.get_abstract_mesh().shape.get("tensor", 1))
    out: jax.Array = spmd.with_logical_constraint(x, axes, rules=rules)
    return out

"""Memory of a training step on one device, by formula, and the remat policy that fits into it.

At rest are weights, gradients and optimizer state. A layer of the language model keeps its input
and what the policy names (model/remat.py). The rest is temporary: one layer's backward pass, or the
logits. docs/scaling.md compares the formula with the compiler.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from emojax.model.build import ModelConfig
from emojax.model.lm.llama import LlamaConfig
from emojax.model.remat import REMAT, remat_names
from emojax.sharding import row_shards
from emojax.train.state import TrainState

GIB = 2.0**30
USABLE = 0.95  # fraction of a device's memory that the formula may fill
# Kept or computed again together; keeping one of q, k and v alone saves little.
GROUPS = (("q", "k", "v"), ("attention",), ("residual",), ("gate",), ("up",))

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows that one device processes at a time.

    Attributes:
      rows: number of rows; those of a micro-batch when batches are accumulated.
      length: tokens of a row.
      answers: answer positions of a row.
      tensor: devices over which heads and MLP are split.
    """

    rows: float
    length: int
    answers: int
    tensor: int = 1

    @property
    def tokens(self) -> float:
        """Tokens of all rows."""
        return self.rows * self.length


def bytes_at_rest(state: TrainState, frozen: Mapping[str, Any], sizes: Mapping[str, int]) -> float:
    """Bytes on one device of what a step holds from its start to its end.

    Args:
      state: arrays or shapes, with their shardings.
      frozen: the same of the frozen variables.
      sizes: {mesh axis: devices}; the shardings may belong to a mesh of other sizes.

    Returns:
      Bytes of state, frozen variables and gradients.
    """

    def local(leaves: Iterable[Any]) -> float:
        return math.fsum(x.size * x.dtype.itemsize / _shards(x, sizes) for x in leaves)

    return local(jax.tree.leaves((state, frozen))) + local(state.train.values())


def _shards(x: Any, sizes: Mapping[str, int]) -> int:
    """Parts into which an array is split."""
    spec: Iterable[Any] = getattr(x.sharding, "spec", ())
    axes = [a for entry in spec if entry for a in (entry if isinstance(entry, tuple) else (entry,))]
    return math.prod(sizes[axis] for axis in axes)


def _results(llama: LlamaConfig, part: Rows) -> dict[str, tuple[float, float]]:
    """{name: (entries on one device, FLOPs to compute them again)} per token of a layer.

    "rest" has no name for a policy: outputs of norms and of the MLP's activation.
    """
    q, kv = llama.heads * llama.head_width, llama.kv_heads * llama.head_width
    width, mlp, tensor = llama.width, llama.mlp, part.tensor
    key = kv if llama.kv_heads % tensor else kv / tensor  # a copy on every device
    in_memory = math.ceil(llama.kv_heads / 8) * 8 / llama.kv_heads  # XLA:TPU pads heads to 8
    return {
        "q": (q / tensor * math.ceil(llama.heads / 8) * 8 / llama.heads, 2 * width * q),
        "k": (key * in_memory, 2 * width * kv),
        "v": (key * in_memory, 2 * width * kv),
        "attention": (q / tensor, 2 * q * part.length),  # half of the square
        "residual": (width, 2 * width * q),
        "gate": (mlp / tensor, 2 * width * mlp),
        "up": (mlp / tensor, 2 * width * mlp),
        "rest": (2 * width + mlp / tensor, 0),
    }


def kept_bytes(llama: LlamaConfig, names: Collection[str], part: Rows) -> float:
    """Bytes that all layers keep for the backward pass: their inputs, and what is named."""
    results = _results(llama, part)
    sums = 4 * llama.heads / part.tensor if "attention" in names else 0  # log-sum-exps, float32
    entries = llama.width + sum(results[name][0] for name in names)
    return part.tokens * llama.depth * (_itemsize(llama) * entries + sums)


def temporary_bytes(llama: LlamaConfig, names: Collection[str], part: Rows) -> float:
    """Bytes of what a step holds for a while: one layer's backward pass, or the logits."""
    size, results = _itemsize(llama), _results(llama, part)
    again = sum(entries for name, (entries, _) in results.items() if name not in names)
    gradients = 2 * results["gate"][0] + 4 * llama.width
    kernels = 4 * size * llama.width * llama.mlp / part.tensor  # gathered, the next ones too
    layer = part.tokens * size * (again + gradients) + kernels
    # Logits and their gradient in float32; the kernel of the head.
    head = llama.width * size + 2 * 4 * part.rows * part.answers
    return max(layer, head * llama.vocab / part.tensor)


def recomputed_flops(llama: LlamaConfig, names: Collection[str], part: Rows) -> float:
    """FLOPs per token that the backward pass of all layers computes again."""
    results = _results(llama, part).items()
    return llama.depth * float(sum(flops for name, (_, flops) in results if name not in names))


def _itemsize(llama: LlamaConfig) -> int:
    return int(jnp.dtype(llama.precision.compute).itemsize)


def choose_remat(llama: LlamaConfig, part: Rows, room: float) -> str:
    """The policy that computes least again and fits; "full" if none does.

    Args:
      llama: the language model.
      part: the rows on one device.
      room: bytes of a device for what a step keeps and what it holds for a while.

    Returns:
      A name of REMAT, or the names of what is kept, joined by commas.
    """

    def cost(names: tuple[str, ...]) -> tuple[float, float]:
        return recomputed_flops(llama, names, part), kept_bytes(llama, names, part)

    subsets = (
        tuple(itertools.chain(*groups))
        for count in range(len(GROUPS) + 1)
        for groups in itertools.combinations(GROUPS, count)
    )
    fitting = [
        names
        for names in subsets
        if kept_bytes(llama, names, part) + temporary_bytes(llama, names, part) <= room
    ]
    best = min(fitting, key=cost, default=())
    named = {frozenset(kept): name for name, kept in REMAT.items()}
    return named.get(frozenset(best), ",".join(best))


def tower_bytes(config: ModelConfig, trainable: Iterable[str], rows: float) -> float:
    """Bytes that encoders with trainable weights keep: input and attention of each layer."""
    parts = {path.split("/")[1] for path in trainable}
    return sum(
        2 * rows * count * positions * e.width * e.depth * jnp.dtype(e.precision.compute).itemsize
        for name, (e, positions, count) in config.tower_attention.items()
        if name in parts
    )


def room_for(
    memory: float | None, state: TrainState, frozen: Mapping[str, Any], sizes: Mapping[str, int]
) -> float | None:
    """Bytes of a device that a step may fill.

    Args:
      memory: bytes of a device; None if unknown.
      state: as of `bytes_at_rest`.
      frozen: as of `bytes_at_rest`.
      sizes: as of `bytes_at_rest`.

    Returns:
      The usable part of the memory without what is at rest; None if it is unknown.
    """
    return None if memory is None else USABLE * memory - bytes_at_rest(state, frozen, sizes)


def with_remat(
    config: ModelConfig, part: Rows, room: float | None, *, trainable: Iterable[str] = ()
) -> ModelConfig:
    """The network for rows of one length, with a policy in place of "auto".

    Args:
      config: the network.
      part: the rows on one device.
      room: of `room_for`; where it is unknown, nothing is computed again.
      trainable: paths of the trainable variables.

    Returns:
      The configuration with a language model whose `remat` is a policy of model/remat.py or "none".
    """
    llama = config.llama
    if llama.remat == "auto":
        if room is None:
            remat = "none"
        else:
            room -= tower_bytes(config, trainable, part.rows)
            remat = choose_remat(llama, part, room)
    elif llama.remat_long and part.length > llama.long_row:
        remat = llama.remat_long
    else:
        return config
    return dataclasses.replace(config, llama=dataclasses.replace(llama, remat=remat))


def with_remat_of_batch(
    config: ModelConfig, train: Mapping[str, Any], batch: Mapping[str, Any], room: float | None
) -> ModelConfig:
    """`with_remat` for the batch of a step that is being traced on the current mesh.

    Args:
      config: the network.
      train: {path: array} of the trainable variables.
      batch: the arrays of the step.
      room: of `room_for`.

    Returns:
      As `with_remat`; a policy that was chosen by memory is logged.
    """
    rows, length = batch["ids"].shape
    part = Rows(
        rows=rows / row_shards(),
        length=length,
        answers=batch["labels"].shape[1],
        tensor=dict(jax.sharding.get_abstract_mesh().shape).get("tensor", 1),
    )
    out = with_remat(config, part, room, trainable=train)
    if config.llama.remat == "auto" and room is not None:
        logger.info("%s", describe_choice(out.llama, part, room))
    return out


def describe_choice(llama: LlamaConfig, part: Rows, room: float) -> str:
    """What a policy keeps, and how much of the room it takes, in words."""
    names = remat_names(llama.remat)
    used = kept_bytes(llama, names, part) + temporary_bytes(llama, names, part)
    kept = ", ".join(names) or "the inputs of layers alone"
    return f"rows of {part.length:,} tokens keep {kept}: {used / GIB:.1f} of {room / GIB:.1f} GiB"

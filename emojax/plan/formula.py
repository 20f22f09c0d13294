"""A plan by formula alone: for GPUs without their compiler, and beside the compiler's figures."""

from __future__ import annotations

import math
from typing import Any

import jax

from emojax.config import Settings, Stage
from emojax.model.lm.llama import LlamaConfig
from emojax.model.remat import remat_names
from emojax.model.variables import count_parameters
from emojax.plan.topology import Chip
from emojax.sharding import AXES, make_mesh
from emojax.train.flops import TILE, useful_flops
from emojax.train.state import abstract_state
from emojax.train.step import make_optimizer
from emojax.train.step_memory import (
    Rows,
    bytes_at_rest,
    kept_bytes,
    recomputed_flops,
    room_for,
    temporary_bytes,
    tower_bytes,
    with_remat,
)

ASSUMED_MFU = 0.55  # fraction of the peak that a program reaches if its cycles are not known


def estimate(
    settings: Settings,
    stage: Stage,
    chip: Chip,
    *,
    mesh_shape: tuple[int, ...],
    bucket: tuple[int, int],
    cached: bool,
) -> dict[str, Any]:
    """Memory, FLOPs and time of a training step.

    Args:
      settings: the run.
      stage: the stage that is planned.
      chip: the chip.
      mesh_shape: devices along data, fsdp and tensor.
      bucket: (row length, answer length) in tokens.
      cached: whether features are cached.

    Returns:
      The figures that `emojax plan train --json` prints (docs/logs.md). Sizes follow from shapes,
      activations from what the remat policy keeps, time from `ASSUMED_MFU`.
    """
    state, frozen = _abstract_state(settings, stage, cached=cached)
    batch, chips = settings.train.batch, math.prod(mesh_shape)
    sizes = dict(zip(AXES, mesh_shape, strict=True))
    part = _rows_on_device(settings, sizes, bucket)
    room = room_for(chip.hbm, state, frozen, sizes)
    llama = with_remat(settings.model, part, room, trainable=state.train).llama
    names, towers = remat_names(llama.remat), tower_bytes(settings.model, state.train, part.rows)
    temporary = kept_bytes(llama, names, part) + towers + temporary_bytes(llama, names, part)
    at_rest = bytes_at_rest(state, frozen, sizes)
    useful = useful_flops(
        settings.model, state.train, frozen, batch_size=batch, length=bucket[0], answers=bucket[1]
    )
    executed = sum(useful.values()) + _wasted_flops(useful, llama, part, batch)
    out = {
        "executed_flops": executed,
        "useful_flops": sum(useful.values()),
        "useful_flops_by_part": useful,
        "learned_parameters": count_parameters(state.train),
        "frozen_parameters": count_parameters(frozen),
        "argument_bytes_per_chip": at_rest,
        "temporary_bytes_per_chip": temporary,
        "peak_bytes_per_chip": at_rest + temporary,
        "fits": at_rest + temporary <= chip.hbm,
        "step_seconds_estimate": executed / chips / (ASSUMED_MFU * chip.peak),
        "remat": llama.remat,
        "batch": batch,
        "length": bucket[0],
        "chips": chips,
        "assumptions": [
            "calculated by formula, not compiled",
            f"executed FLOPs at {ASSUMED_MFU:.0%} of the peak",
            "weights and optimizer state are split over fsdp and tensor; each layer keeps its "
            "input and what the remat policy names",
        ],
    }
    return out | rates(out, chip)


def _rows_on_device(settings: Settings, sizes: dict[str, int], bucket: tuple[int, int]) -> Rows:
    train = settings.train
    return Rows(
        rows=train.batch / (sizes["data"] * sizes["fsdp"] * train.accumulate),
        length=bucket[0],
        answers=bucket[1],
        tensor=sizes["tensor"],
    )


def _wasted_flops(useful: dict[str, float], llama: LlamaConfig, part: Rows, batch: int) -> float:
    """Whole tiles, and 7 matmuls of attention for 6; what the remat policy computes again."""
    tiles = 7 / 6 * (part.length + TILE) / part.length - 1
    again = recomputed_flops(llama, remat_names(llama.remat), part)
    return useful["attention"] * tiles + batch * part.length * again


def rates(plan: dict[str, Any], chip: Chip) -> dict[str, Any]:
    """MFU, tokens and clips per second of a plan that has a step time."""
    seconds = plan["step_seconds_estimate"]
    return {
        "useful_mfu": plan["useful_flops"] / plan["chips"] / seconds / chip.peak,
        "executed_share_of_peak": plan["executed_flops"] / plan["chips"] / seconds / chip.peak,
        "tokens_per_second": plan["batch"] * plan["length"] / seconds,
        "clips_per_second": plan["batch"] / seconds,
    }


def _abstract_state(settings: Settings, stage: Stage, *, cached: bool) -> tuple[Any, Any]:
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.local_devices()[:1])
    with jax.set_mesh(mesh):
        return abstract_state(
            settings.model,
            mesh,
            stage.trainable,
            tx=make_optimizer(stage.optim),
            ema=bool(stage.optim.ema),
            cached=cached,
        )

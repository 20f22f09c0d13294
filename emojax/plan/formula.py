"""A plan by formula alone: for GPUs without their compiler, and beside the compiler's figures."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from emojax.config import Settings, Stage
from emojax.model.build import for_length
from emojax.model.lm.llama import LlamaConfig
from emojax.model.variables import count_parameters
from emojax.plan.topology import Chip
from emojax.sharding import make_mesh
from emojax.train.flops import useful_flops
from emojax.train.state import abstract_state
from emojax.train.step import make_optimizer

ASSUMED_MFU = 0.55  # fraction of the peak that a program reaches if its cycles are not known


def estimate_gpu(
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
      chip: the GPU.
      mesh_shape: devices along data, fsdp and tensor.
      bucket: (row length, answer length) in tokens.
      cached: whether features are cached.

    Returns:
      The figures that `emojax plan train --json` prints (docs/logs.md). Sizes follow from shapes,
      activations from what the remat policy keeps, time from `ASSUMED_MFU`.
    """
    state, frozen = _abstract_state(settings, stage, cached=cached)
    batch, chips = settings.train.batch, math.prod(mesh_shape)
    useful = useful_flops(
        settings.model, state.train, frozen, batch_size=batch, length=bucket[0], answers=bucket[1]
    )
    llama = for_length(settings.model, bucket[0]).llama
    executed = _executed_flops(useful, llama.remat)
    shards = mesh_shape[1] * mesh_shape[2]  # weights are split over fsdp and tensor
    at_rest = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((state, frozen))) / shards
    layer = max(
        x.size // x.shape[0] for p, x in {**frozen, **state.train}.items() if "llama/blocks" in p
    )
    activations = _activations(llama, batch * bucket[0] / chips, layer)
    logits = 3 * 4 * batch / chips * bucket[1] * llama.vocab
    peak = at_rest + activations + logits
    out = {
        "executed_flops": executed,
        "useful_flops": sum(useful.values()),
        "useful_flops_by_part": useful,
        "learned_parameters": count_parameters(state.train),
        "frozen_parameters": count_parameters(frozen),
        "argument_bytes_per_chip": at_rest,
        "temporary_bytes_per_chip": activations + logits,
        "peak_bytes_per_chip": peak,
        "fits": peak <= chip.hbm,
        "step_seconds_estimate": executed / chips / (ASSUMED_MFU * chip.peak),
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


def _executed_flops(useful: dict[str, float], remat: str) -> float:
    """Useful FLOPs and the recomputation of the remat policy."""
    again = {"full": 1.5, "qkv": 1.4, "qkv_gate": 1.2}.get(remat, 1.05)
    return useful["llama"] * again + useful["attention"] * again + useful["head"] + useful["clip"]


def _activations(llama: LlamaConfig, tokens: float, layer: int) -> float:
    """Bytes of activations on a chip: `tokens` tokens on it, `layer` parameters per layer."""
    kept = {
        "full": 0,
        "qkv": 3,
        "qkv_gate": 3 + llama.mlp / llama.width,
        "most": 4 + 2 * llama.mlp / llama.width,
    }
    widths = 1 + kept.get(llama.remat, 8 + 3 * llama.mlp / llama.width)
    size = jnp.dtype(llama.precision.compute).itemsize
    return tokens * llama.width * size * (widths * llama.depth + 12) + 4 * layer * size

"""Plans a training run without its hardware.

The real step is compiled ahead of time: memory is the compiler's figure, FLOPs are counted in the
traced program, and time is an estimate with its assumptions named (from the compiler's cycles on
v4, v5e and v5p, from an assumed fraction of the peak elsewhere). Without a compiler for GPUs they
are estimated by formula (formula.py).
"""

from __future__ import annotations

import logging
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from emojax.config import Settings, Stage, for_devices, resolve
from emojax.model.variables import count_parameters
from emojax.plan import hlo
from emojax.plan.abstract_step import trace_step
from emojax.plan.formula import ASSUMED_MFU, estimate, rates
from emojax.plan.gpu_target import COMPILER_OPTIONS, has_gpu_compiler
from emojax.plan.topology import CHIPS, GIB, Chip, Topology, describe_devices
from emojax.sharding import AXES, check_division, list_copies, make_mesh, resolve_mesh_shape
from emojax.train.flops import executed_flops, useful_flops

KERNEL_MFU = 0.5  # fraction of the peak that Pallas kernels are assumed to reach
GPU_ASSUMPTIONS = (
    "compiled for the GPU, run on none",
    "the peak does not include workspaces of cuDNN, buffers of NCCL and the CUDA context",
)
NO_GPU_COMPILER = (
    "to have the step compiled instead, install the gpu-compiler extra: "
    "pip install -e '.[gpu-compiler]' (docs/gpu.md)"
)

logger = logging.getLogger(__name__)


def plan_step(
    settings: Settings,
    stage: Stage,
    topology: Topology,
    *,
    bucket: tuple[int, int],
    cached: bool,
    by_formula: bool = False,
) -> dict[str, Any]:
    """What one training step needs on each chip.

    Args:
      settings: the run, with the batch size of this topology.
      stage: the stage that is planned.
      topology: the hardware.
      bucket: (row length, answer length) in tokens.
      cached: whether features are cached.
      by_formula: whether GPUs are estimated by formula where they could be compiled for.

    Returns:
      The figures that `emojax plan train --json` prints.

    Raises:
      ValueError: the mesh does not fit the topology, or the batch size the mesh.
    """
    chip = CHIPS[topology.chip]
    compiles = topology.is_tpu or (not by_formula and has_gpu_compiler())
    devices = describe_devices(topology) if compiles else None
    shape = resolve_mesh_shape(settings.train.mesh, topology.chips, slices=topology.slices)
    sizes = dict(zip(AXES, shape, strict=True))
    train = settings.train
    check_division(train.batch, sizes["data"] * sizes["fsdp"], train.accumulate)
    out: dict[str, Any] = {
        "config": settings.name,
        "stage": stage.name,
        "topology": str(topology),
        "chip": chip.name,
        "chips": topology.chips,
        "mesh": list(sizes.values()),
        "batch": settings.train.batch,
        "length": bucket[0],
        "answer": bucket[1],
        "kernels": settings.model.llama.precision.kernels,
        "param_dtype": settings.model.llama.precision.params,
        "encoders": "cached" if cached else "in the step",
        "hbm_bytes": chip.hbm,
    }
    formula = estimate(settings, stage, chip, mesh_shape=shape, bucket=bucket, cached=cached)
    if devices:
        out["remat"] = formula["remat"]
        mesh = make_mesh(shape=shape, devices=devices)
        out = _compile(settings, stage, mesh, chip=chip, bucket=bucket, cached=cached, plan=out)
        return out | {"formula_peak_bytes_per_chip": formula["peak_bytes_per_chip"]}
    out |= {"source": "formula"} if by_formula else {"source": "formula", "note": NO_GPU_COMPILER}
    return out | formula


def _compile(
    settings: Settings,
    stage: Stage,
    mesh: jax.sharding.Mesh,
    *,
    chip: Chip,
    bucket: tuple[int, int],
    cached: bool,
    plan: dict[str, Any],
) -> dict[str, Any]:
    """The plan with the figures of the compiled step."""
    batch = settings.train.batch
    how: dict[str, Any] = {"bucket": bucket, "cached": cached, "memory": chip.hbm}
    traced, state, frozen = trace_step(settings, stage, mesh, batch_size=batch, **how)
    useful = useful_flops(
        settings.model, state.train, frozen, batch_size=batch, length=bucket[0], answers=bucket[1]
    )
    out = plan | {
        "source": "compiler",
        "executed_flops": executed_flops(traced.jaxpr),
        "useful_flops": sum(useful.values()),
        "useful_flops_by_part": useful,
        "learned_parameters": count_parameters(state.train),
        "frozen_parameters": count_parameters(frozen),
        "replicated": [
            r for r in list_copies({**state.train, **frozen}) if r[2] > 1 and r[1] > 16e6
        ],
    }
    start = time.monotonic()
    try:
        with jax.set_mesh(mesh):
            compiled, text = _compiled(traced.lower(), chip)
    except Exception as error:
        if "hbm" not in str(error).lower():
            raise
        used = re.search(r"Used ([\d.]+)G of|temporaries \(([\d.]+)G\)", str(error))
        need = float(used.group(1) or used.group(2)) * GIB if used else None
        return out | {
            "fits": False,
            "peak_bytes_per_chip": need,
            "compile_seconds": time.monotonic() - start,
        }
    memory = compiled.memory_analysis()
    peak = memory.peak_memory_in_bytes
    out |= {
        "fits": peak <= chip.hbm,
        "compile_seconds": time.monotonic() - start,
        "argument_bytes_per_chip": memory.argument_size_in_bytes,
        "temporary_bytes_per_chip": memory.temp_size_in_bytes,
        "peak_bytes_per_chip": peak,
    }
    times = _times(text, chip, out)
    return out | times | rates(out | times, chip)


def _compiled(lowered: Any, chip: Chip) -> tuple[Any, str]:
    """The compiled program, and its text if its operations have cycles.

    The text is dumped by the compiler: `as_text()` fails for large programs of some chips.
    """
    if not chip.clock:
        return lowered.compile(compiler_options=COMPILER_OPTIONS if chip.is_gpu else None), ""
    with tempfile.TemporaryDirectory() as folder:
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        compiled = lowered.compile(compiler_options=options)
        return compiled, "".join(p.read_text() for p in Path(folder).glob("*after_codegen.txt"))


def _times(text: str, chip: Chip, plan: dict[str, Any]) -> dict[str, Any]:
    """The estimated seconds of a step, with their assumptions."""
    if text:
        return _from_cycles(hlo.read_program(text), chip)
    per_chip = plan["executed_flops"] / plan["chips"]
    assumptions = [
        f"executed FLOPs at {ASSUMED_MFU:.0%} of the peak (not the compiler's figure)",
        "input is always ready",
    ]
    if chip.is_gpu:
        assumptions = [*GPU_ASSUMPTIONS, *assumptions]
    return {
        "step_seconds_estimate": per_chip / (ASSUMED_MFU * chip.peak),
        "assumptions": assumptions,
    }


def _from_cycles(costs: hlo.ProgramCosts, chip: Chip) -> dict[str, Any]:
    totals = costs.totals()
    moved = sum(t["bytes"] for t in totals.values())
    compute = costs.cycles / chip.clock + costs.kernel_flops / (KERNEL_MFU * chip.peak)
    return {
        "collectives": totals,
        "compute_seconds": compute,
        "collective_seconds": moved / chip.links,
        "step_seconds_estimate": max(compute, moved / chip.links),
        "assumptions": [
            "compute: the compiler's cycles of each operation at the chip's clock, kernels at "
            f"{KERNEL_MFU:.0%} of the peak",
            f"collectives: bytes of their results at {chip.links / 1e9:.0f} GB/s per chip, hidden "
            "behind compute",
            "input is always ready",
        ],
    }


def plan_run(
    settings: Settings,
    stage: Stage,
    topology: Topology,
    *,
    bucket: tuple[int, int],
    cached: bool,
    by_formula: bool = False,
) -> dict[str, Any]:
    """`plan_step`, and the time of the whole stage.

    Args:
      settings: the run, with the batch size of this topology.
      stage: the stage that is planned.
      topology: the hardware.
      bucket: (row length, answer length) in tokens.
      cached: whether features are cached.
      by_formula: as of `plan_step`.

    Returns:
      The figures of `plan_step`, and steps, hours and chip_hours if the time of a step is known.

    Raises:
      ValueError: as `plan_step`.
    """
    out = plan_step(settings, stage, topology, bucket=bucket, cached=cached, by_formula=by_formula)
    if "step_seconds_estimate" in out:
        hours = stage.steps * out["step_seconds_estimate"] / 3600
        out |= {"steps": stage.steps, "hours": hours, "chip_hours": hours * out["chips"]}
    return out


def propose(
    config: Any,
    stage: str,
    topology: Topology,
    *,
    bucket: tuple[int, int],
    cached: bool,
) -> list[dict[str, Any]]:
    """Searches for plans that fit.

    Tries weights split over all chips and, on larger slices, over 16 of them; batch sizes from 8
    per chip down; for each, remat is chosen by memory. GPUs are estimated by formula.

    Args:
      config: ConfigDict of the run.
      stage: name of the stage.
      topology: the hardware.
      bucket: (row length, answer length) in tokens.
      cached: whether features are cached.

    Returns:
      The plans, most clips per second first.
    """
    n = topology.chips // topology.slices
    meshes = [(topology.slices, n, 1)] + ([(topology.chips // 16, 16, 1)] if n > 16 else [])
    plans: list[dict[str, Any]] = []
    for mesh in meshes:
        for per_chip in (8, 4, 2, 1):
            candidate = config.copy_and_resolve_references()
            candidate.model.remat = "auto"
            candidate.train.mesh, candidate.train.rows_per_device = mesh, per_chip
            if per_chip % candidate.train.accumulate:
                continue
            settings = for_devices(resolve(candidate), topology.chips)
            chosen = next(s for s in settings.stages if s.name == stage)
            plan = plan_run(
                settings, chosen, topology, bucket=bucket, cached=cached, by_formula=True
            )
            verdict = "fits" if plan["fits"] else "does not fit"
            logger.info(
                "mesh %s, batch size %d per chip, keeps %s: %s",
                mesh,
                per_chip,
                plan["remat"],
                verdict,
            )
            if plan["fits"]:
                plans.append(plan)
                if plan["remat"] == "all":
                    break  # a smaller batch size would only be slower
    return sorted(plans, key=lambda p: -p["clips_per_second"])

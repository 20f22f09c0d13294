"""Plans a training run without its hardware: the real step is compiled ahead of time for a TPU that is not there.

Memory is the TPU compiler's own figure. FLOPs are counted in the traced program. Time is an estimate with its assumptions
named: on v5e and v4 the compiler's cycles, elsewhere a share of the peak. GPUs are worked out by formula alone.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from emojax.config import Settings, Stage, for_devices, resolve
from emojax.model.build import for_length, make_model
from emojax.model.emotion import CACHED_PREFIX
from emojax.model.variables import abstract_variables, count_parameters, unbox
from emojax.plan import hlo
from emojax.sharding import (
    AXES,
    batch_sharding,
    make_mesh,
    replicated,
    replication,
    resolve_mesh_shape,
)
from emojax.train.flops import executed_flops, useful_flops
from emojax.train.state import abstract_state
from emojax.train.step import make_optimizer, make_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """peak: bfloat16 FLOP/s. hbm: bytes that a program may use. bandwidth: of memory. links: bytes/s a chip sends to and
    receives from its neighbours. clock: Hz of the compiler's cycles, 0 where its text can not be read.
    """

    name: str
    peak: float
    hbm: float
    bandwidth: float
    links: float
    clock: float = 0.0


GIB = 2.0**30
# Published figures (the "How to scale your model" book); clock from reference measurements of plain matmuls.
CHIPS = {
    "v4": Chip(
        name="TPU v4", peak=275e12, hbm=32 * GIB, bandwidth=1.2e12, links=2.7e11, clock=1.05e9
    ),
    "v5e": Chip(
        name="TPU v5e", peak=197e12, hbm=16 * GIB, bandwidth=8.1e11, links=1.8e11, clock=1.5e9
    ),
    "v5p": Chip(name="TPU v5p", peak=459e12, hbm=95 * GIB, bandwidth=2.8e12, links=5.4e11),
    "v6e": Chip(name="TPU v6e", peak=918e12, hbm=32 * GIB, bandwidth=1.6e12, links=3.6e11),
    "a100": Chip(name="NVIDIA A100 80GB", peak=312e12, hbm=80e9, bandwidth=2.0e12, links=6.0e11),
    "h100": Chip(name="NVIDIA H100", peak=989e12, hbm=80e9, bandwidth=3.35e12, links=9.0e11),
    "h200": Chip(name="NVIDIA H200", peak=989e12, hbm=141e9, bandwidth=4.8e12, links=9.0e11),
}
# Names that clouds use -> chips along each axis. v4 and v5p count cores, two a chip.
ALIASES = {
    "v4-8": "v4:2x2x1",
    "v4-16": "v4:2x2x2",
    "v4-32": "v4:2x2x4",
    "v4-64": "v4:2x4x4",
    "v5e-4": "v5e:2x2",
    "v5e-8": "v5e:2x4",
    "v5e-16": "v5e:4x4",
    "v5e-64": "v5e:8x8",
    "v5e-256": "v5e:16x16",
    "v5p-8": "v5p:2x2x1",
    "v5p-16": "v5p:2x2x2",
    "v5p-128": "v5p:4x4x4",
    "v6e-4": "v6e:2x2",
    "v6e-8": "v6e:2x4",
    "v6e-16": "v6e:4x4",
    "v6e-64": "v6e:8x8",
    "v6e-256": "v6e:16x16",
}
KERNEL_SHARE = 0.5  # of the peak, that Pallas kernels are taken to reach
SHARE = 0.55  # of the peak, that a program is taken to reach where its cycles can not be read
LEAN = ("most", "qkv_gate", "qkv", "full")  # remat policies from the fastest to the smallest


@dataclasses.dataclass(frozen=True)
class Topology:
    """What a run would be made on: `chip` is a key of CHIPS, `shape` the chips of a slice along each axis."""

    chip: str
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chips(self) -> int:
        """All of them."""
        return math.prod(self.shape) * self.slices

    @property
    def is_tpu(self) -> bool:
        """Whether its program can be compiled here."""
        return self.chip.startswith("v")

    def __str__(self) -> str:
        own = f"{self.chip}:{'x'.join(map(str, self.shape))}"
        return own if self.slices == 1 else f"{own}*{self.slices}"


def parse_topology(text: str) -> Topology:
    """`v5e:4x4`, `v5e-16`, `v5e:4x4*2` (two slices), `h100:8`.

    Raises:
      ValueError: it is none of these.
    """
    text = text.lower().replace("v5litepod", "v5e")
    own, _, slices = text.partition("*")
    chip, _, shape = ALIASES.get(own, own).partition(":")
    if (
        chip not in CHIPS
        or not re.fullmatch(r"\d+(x\d+)*", shape)
        or not re.fullmatch(r"\d*", slices)
    ):
        raise ValueError(
            f"'{text}' is no topology: chips are {', '.join(CHIPS)}, as in v5e:4x4, v5p:2x2x1, v5e:4x4*2 for two slices, "
            f"h100:8; or one of {', '.join(ALIASES)}"
        )
    found = Topology(chip, tuple(int(n) for n in shape.split("x")), int(slices or 1))
    if not found.chips:
        raise ValueError(f"'{text}' has no chips")
    return found


def describe_devices(topology: Topology) -> list[Any]:
    """Devices of a TPU that is not here, for a Mesh.

    Raises:
      ValueError: libtpu is not installed, or knows no such topology.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault(
        "ALLOW_MULTIPLE_LIBTPU_LOAD", "1"
    )  # there is no chip that two plans could fight over
    from jax.experimental import topologies

    options: dict[str, Any] = {"chip_config_name": "megacore"} if topology.chip == "v4" else {}
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    name = f"{topology.chip}:{'x'.join(map(str, topology.shape))}"
    try:
        return list(
            topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
        )
    except Exception as error:
        first = str(error).splitlines()[0][:160]
        missing = importlib.util.find_spec("libtpu") is None
        raise ValueError(
            f"{name}: {first}{' (compiling for TPUs needs `pip install -e .[tpu]`)' if missing else ''}"
        ) from error


def abstract_batch(
    settings: Settings, mesh: jax.sharding.Mesh, rows: int, bucket: tuple[int, int], cached: bool
) -> dict[str, Any]:
    """A batch of the training step as shapes in their shards; `bucket`: (T, A)."""
    sharding = batch_sharding(mesh)
    text = {
        "ids": bucket[0],
        "soft_index": bucket[0],
        "positions": bucket[0],
        "answer_at": bucket[1],
        "labels": bucket[1],
    }

    def array(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=sharding)

    out = {name: array((size,), jnp.int32) for name, size in text.items()}
    out |= {"valid": array((bucket[0],), bool), "row_tokens": array((), jnp.int32)}
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
    plain = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in (out | views).items()}
    model, variables = make_model(settings.model), unbox(abstract_variables(settings.model))
    features = jax.eval_shape(lambda v, b: model.apply(v, b, method="encode"), variables, plain)
    kept = settings.model.llama.precision.compute
    return out | {
        CACHED_PREFIX + name: array(x.shape[1:], kept) for name, x in features._asdict().items()
    }


def lower_step(
    settings: Settings,
    stage: Stage,
    mesh: jax.sharding.Mesh,
    *,
    rows: int,
    bucket: tuple[int, int],
    cached: bool,
) -> tuple[Any, Any, Any]:
    """(traced step, its state, its frozen variables) as shapes: the very step that `loop.py` runs."""
    tx = make_optimizer(stage.optim)
    whole = replicated(mesh)
    batch = abstract_batch(settings, mesh, rows, bucket, cached)
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
        lies = jax.tree.map(lambda x: x.sharding, state)
        step: Any = make_step(
            settings.model,
            tx,
            stage.optim.ema,
            accumulate=settings.train.accumulate,
            shardings=lies,
        )
        rate = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)
        key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole)
        return step.trace(state, frozen, batch, rate, key), state, frozen


def plan_step(
    settings: Settings,
    stage: Stage,
    topology: Topology,
    *,
    rows: int,
    bucket: tuple[int, int],
    cached: bool,
) -> dict[str, Any]:
    """What one training step needs on each chip; see `emojax plan train`.

    Raises:
      ValueError: the mesh does not fit the topology, or the batch the mesh.
    """
    chip = CHIPS[topology.chip]
    devices = describe_devices(topology) if topology.is_tpu else None
    mesh = make_mesh(shape=settings.train.mesh, devices=devices) if devices else None
    shape = resolve_mesh_shape(settings.train.mesh, topology.chips, slices=topology.slices)
    sizes = dict(zip(AXES, shape, strict=True))
    parts = sizes["data"] * sizes["fsdp"]
    if rows % (parts * settings.train.accumulate):
        raise ValueError(
            f"a batch of {rows} can not be divided over {parts} parts (data x fsdp)"
            + (
                f" in {settings.train.accumulate} parts of a step"
                if settings.train.accumulate > 1
                else ""
            )
        )
    out: dict[str, Any] = {
        "config": settings.name,
        "stage": stage.name,
        "topology": str(topology),
        "chip": chip.name,
        "chips": topology.chips,
        "mesh": list(sizes.values()),
        "batch": rows,
        "length": bucket[0],
        "answer": bucket[1],
        "remat": for_length(settings.model, bucket[0]).llama.remat,
        "kernels": settings.raw["model"]["kernels"],
        "encoders": "cached" if cached else "in the step",
        "hbm_bytes": chip.hbm,
    }
    if mesh is None:
        return out | _worked_out(
            settings, stage, chip, shape=shape, rows=rows, bucket=bucket, cached=cached
        )
    traced, state, frozen = lower_step(
        settings, stage, mesh, rows=rows, bucket=bucket, cached=cached
    )
    useful = useful_flops(
        settings.model, state.train, frozen, rows=rows, length=bucket[0], answers=bucket[1]
    )
    out |= {
        "executed_flops": executed_flops(traced.jaxpr),
        "useful_flops": sum(useful.values()),
        "useful_flops_by_part": useful,
        "learned_parameters": count_parameters(state.train),
        "frozen_parameters": count_parameters(frozen),
        "replicated": [
            r for r in replication({**state.train, **frozen}) if r[2] > 1 and r[1] > 16e6
        ],
    }
    start = time.monotonic()
    try:
        with jax.set_mesh(mesh):
            compiled = traced.lower().compile()
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
    return out | _times(compiled, chip, out)


def _times(compiled: Any, chip: Chip, plan: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a step and what follows from them."""
    per_chip = plan["executed_flops"] / plan["chips"]
    found: dict[str, Any] = {}
    if chip.clock:
        try:
            report = hlo.read(compiled.as_text())
        except (
            Exception
        ) as error:  # large programs' text can not be printed for some chips in this version of XLA
            report = None
            found["note"] = f"no HLO text: {str(error).splitlines()[0][:120]}"
        if report is not None:
            totals = report.totals()
            moved = sum(t["bytes"] for t in totals.values())
            compute = report.cycles / chip.clock + report.kernel_flops / (KERNEL_SHARE * chip.peak)
            found |= {
                "collectives": totals,
                "compute_seconds": compute,
                "collective_seconds": moved / chip.links,
                "step_seconds_estimate": max(compute, moved / chip.links),
                "assumptions": [
                    "compute: the compiler's cycles for each operation over the clock, kernels at "
                    f"{KERNEL_SHARE:.0%} of the peak",
                    f"collectives: bytes of their results over {chip.links / 1e9:.0f} GB/s a chip, hidden behind compute",
                    "input is always ready",
                ],
            }
    if "step_seconds_estimate" not in found:
        found |= {
            "step_seconds_estimate": per_chip / (SHARE * chip.peak),
            "assumptions": [
                f"executed FLOPs at {SHARE:.0%} of the peak (not the compiler's figure)",
                "input is always ready",
            ],
        }
    return found | rates(plan | found, chip)


def rates(plan: dict[str, Any], chip: Chip) -> dict[str, Any]:
    """MFU, tokens and clips a second of a plan with its step time."""
    seconds = plan["step_seconds_estimate"]
    return {
        "useful_mfu": plan["useful_flops"] / plan["chips"] / seconds / chip.peak,
        "executed_share_of_peak": plan["executed_flops"] / plan["chips"] / seconds / chip.peak,
        "tokens_per_second": plan["batch"] * plan["length"] / seconds,
        "clips_per_second": plan["batch"] / seconds,
    }


def _worked_out(
    settings: Settings,
    stage: Stage,
    chip: Chip,
    *,
    shape: tuple[int, ...],
    rows: int,
    bucket: tuple[int, int],
    cached: bool,
) -> dict[str, Any]:
    """GPUs: sizes from shapes, activations from what the remat policy names, time from a share of the peak."""
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.local_devices()[:1])
    with jax.set_mesh(mesh):
        state, frozen = abstract_state(
            settings.model,
            mesh,
            stage.trainable,
            tx=make_optimizer(stage.optim),
            ema=bool(stage.optim.ema),
            cached=cached,
        )
    useful = useful_flops(
        settings.model, state.train, frozen, rows=rows, length=bucket[0], answers=bucket[1]
    )
    chips, held = math.prod(shape), shape[1] * shape[2]  # weights are split over fsdp and tensor
    llama = for_length(settings.model, bucket[0]).llama
    remat = llama.remat
    kept = {
        "full": 0,
        "qkv": 3,
        "qkv_gate": 3 + llama.mlp / llama.width,
        "most": 4 + 2 * llama.mlp / llama.width,
    }
    widths = 1 + kept.get(remat, 8 + 3 * llama.mlp / llama.width)
    size = jnp.dtype(llama.precision.compute).itemsize
    tokens = rows * bucket[0] / chips
    at_rest = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((state, frozen))) / held
    layer = max(
        x.size // x.shape[0] for p, x in {**frozen, **state.train}.items() if "llama/blocks" in p
    )
    activations = tokens * llama.width * size * (widths * llama.depth + 12) + 4 * layer * size
    logits = 3 * 4 * rows / chips * bucket[1] * llama.vocab
    again = {"full": 1.5, "qkv": 1.4, "qkv_gate": 1.2}.get(remat, 1.05)
    executed = (
        useful["llama"] * again + useful["attention"] * again + useful["head"] + useful["clip"]
    )
    out = {
        "executed_flops": executed,
        "useful_flops": sum(useful.values()),
        "useful_flops_by_part": useful,
        "learned_parameters": count_parameters(state.train),
        "frozen_parameters": count_parameters(frozen),
        "argument_bytes_per_chip": at_rest,
        "temporary_bytes_per_chip": activations + logits,
        "peak_bytes_per_chip": at_rest + activations + logits,
        "fits": at_rest + activations + logits <= chip.hbm,
        "step_seconds_estimate": executed / chips / (SHARE * chip.peak),
        "batch": rows,
        "length": bucket[0],
        "chips": chips,
        "assumptions": [
            "worked out by formula, not compiled",
            f"executed FLOPs at {SHARE:.0%} of the peak",
            "weights and optimizer split over fsdp and tensor; a layer is kept at its block input and what the policy names",
        ],
    }
    return out | rates(out, chip)


def plan_run(
    settings: Settings, stage: Stage, topology: Topology, bucket: tuple[int, int], cached: bool
) -> dict[str, Any]:
    """`plan_step` of the settings' own batch, and what the whole stage takes."""
    out = plan_step(
        settings, stage, topology, rows=settings.train.batch, bucket=bucket, cached=cached
    )
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
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Plans that fit, by clips a second: weights split over all chips and, on larger slices, over 16 of them; from 4 rows a
    chip down, and for each the fastest remat policy that fits.
    """
    n = topology.chips // topology.slices
    meshes = [(topology.slices, n, 1)] + ([(topology.chips // 16, 16, 1)] if n > 16 else [])
    found = []
    for mesh in meshes:
        for rows in (8, 4, 2, 1):
            for remat in LEAN:
                own = config.copy_and_resolve_references()
                own.model.remat = own.model.remat_long = remat
                own.train.mesh, own.train.rows_per_device = mesh, rows
                if rows % own.train.accumulate:
                    continue
                settings = for_devices(resolve(own), topology.chips)
                chosen = next(s for s in settings.stages if s.name == stage)
                plan = plan_run(settings, chosen, topology, bucket, cached)
                verdict = "fits" if plan["fits"] else "does not fit"
                say(f"mesh {mesh}, {rows} rows a chip, remat {remat}: {verdict}")
                if plan["fits"]:
                    found.append(plan)
                    break
            if found and found[-1]["mesh"] == list(mesh) and found[-1]["remat"] == LEAN[0]:
                break  # fewer rows would only be slower
    return sorted(found, key=lambda p: -p["clips_per_second"])

"""Writes docs/scaling.md: memory, FLOPs and step time on TPU slices and GPUs that are not present.

    pip install -e .[tpu] && python scripts/scaling.py tpu             # an hour on 2 cores
    pip install -e .[gpu-compiler] && python scripts/scaling.py gpu    # six minutes

Each prints its rows and replaces its part of the page. An interrupted script continues: plans are
stored in runs/scaling/. Remove that folder after a change of the model or the step. `tpu --stored`
writes the rows of stored plans alone.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
from data_pipeline.io import write_json
from emojax.config import change_fields, for_devices, load_config, resolve
from emojax.plan.step_plan import plan_run
from emojax.plan.topology import LIBTPU_VARIABLES, parse_topology

ROOT = Path(__file__).parents[1]
STORED = ROOT / "runs" / "scaling"
GIB = 2.0**30
GPUS = ("h100:1", "h100:8", "h100:2x8")
SLICES = ("v4-16", "v5e-16", "v5e-256", "v5p-8", "v6e-16")
# (configuration, stage, row and answer length); the answers of second stages contain reasons
STAGES = (
    ("v2:stage1_pod", "stage 1", (768, 128)),
    ("v2:stage2_pod", "stage 2", (1024, 384)),
    ("v1:pretrain_pod", "pretrain", (512, 128)),
    ("v1:tune_pod", "tune", (1024, 384)),
)
# Language models in place of LLaMA-2, in both stages of v2
MODELS = ("Qwen2.5-7B-Instruct", "Llama-3.1-8B-Instruct")
MODEL_SLICES = ("v5e-16", "v5p-8")
# One change at a time, on v2 stage 1 and v5e:4x4: (row and answer length, cached, fields)
CHANGES: dict[str, tuple[tuple[int, int], bool, dict[str, object]]] = {
    "as shipped, cached features": ((768, 128), True, {}),
    "remat most": ((768, 128), True, {"model.remat": "most"}),
    "remat qkv_gate": ((768, 128), True, {"model.remat": "qkv_gate"}),
    "remat qkv": ((768, 128), True, {"model.remat": "qkv"}),
    "remat full": ((768, 128), True, {"model.remat": "full"}),
    "encoders in the step": ((768, 128), False, {}),
    "encoders in the step, remat full": ((768, 128), False, {"model.remat": "full"}),
    "int8 kernels": ((768, 128), True, {"model.kernels": "int8"}),
    "mesh 4,4,1": ((768, 128), True, {"train.mesh": (4, 4, 1), "model.remat": "full"}),
    "mesh 1,4,4": ((768, 128), True, {"train.mesh": (1, 4, 4)}),
    "rows of 2048 tokens": ((2048, 1024), True, {}),
    "two slices": ((768, 128), True, {}),
}


def plan(
    name: str,
    config_name: str,
    topology: str,
    bucket: tuple[int, int],
    *,
    cached: bool = True,
    changes: dict | None = None,
) -> dict:
    """Makes one plan, or reads it from disk."""
    path = STORED / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    print(f"{name} ...", file=sys.stderr, flush=True)
    begin = time.monotonic()
    config = load_config(config_name)
    change_fields(config, changes or {})
    target = parse_topology(topology)
    settings = for_devices(resolve(config), target.chips)
    result = plan_run(settings, settings.stages[0], target, bucket=bucket, cached=cached)
    result["wall_seconds"] = time.monotonic() - begin
    write_json(path, result)
    return result


def row(first: str, p: dict) -> str:
    """A row of the table, with `first` in its first cell."""
    mesh = ",".join(map(str, p["mesh"]))
    per_chip = 1e12 * p["chips"]
    start = f"| {first} | {mesh} | {p['batch']} x {p['length']} | {p['remat']} |"
    formula = f"{p['formula_peak_bytes_per_chip'] / GIB:.1f}"
    if not p["fits"]:
        need = f"{p['peak_bytes_per_chip'] / GIB:.1f}" if p["peak_bytes_per_chip"] else "more"
        return f"{start} {need} of {p['hbm_bytes'] / GIB:.0f}: too much | {formula} | | | | | | |"
    source = "cycles" if "compute_seconds" in p else "55 %"
    return (
        f"{start} {p['peak_bytes_per_chip'] / GIB:.1f} of {p['hbm_bytes'] / GIB:.0f} | {formula} | "
        f"{p['executed_flops'] / per_chip:.1f} / {p['useful_flops'] / per_chip:.1f} | "
        f"{p['step_seconds_estimate']:.2f} ({source}) | {p['useful_mfu']:.2f} | "
        f"{p['clips_per_second']:.0f} | {p['chip_hours']:,.0f} | {p['compile_seconds']:.0f} |"
    )


HEAD = (
    "| | mesh | batch x tokens | remat | peak GiB per chip, compiler | by formula "
    "| TFLOP per chip, executed / useful | step s, source | useful MFU | clips/s | chip-hours "
    "| compile s |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)

GPU_HEAD = (
    "| | mesh | batch x tokens | peak GiB per card, compiler | by formula "
    "| TFLOP per card, executed / useful | step s at 55 % of the peak | compile s |\n"
    "|---|---|---|---|---|---|---|---|"
)


def gpu_row(first: str, p: dict) -> str:
    """A row of the table of GPUs, with `first` in its first cell."""
    if p["source"] != "compiler":
        raise SystemExit("GPU rows need `pip install -e .[gpu-compiler]`")
    mesh = ",".join(map(str, p["mesh"]))
    per_card = 1e12 * p["chips"]
    return (
        f"| {first} | {mesh} | {p['batch']} x {p['length']} | "
        f"{p['peak_bytes_per_chip'] / GIB:.1f} of {p['hbm_bytes'] / GIB:.0f} | "
        f"{p['formula_peak_bytes_per_chip'] / GIB:.1f} | "
        f"{p['executed_flops'] / per_card:.1f} / {p['useful_flops'] / per_card:.1f} | "
        f"{p['step_seconds_estimate']:.2f} | {p['compile_seconds']:.0f} |"
    )


TPU_TEXT = """# Full size on TPU slices and GPUs

    .venv/bin/python scripts/scaling.py tpu    # writes this part; needs `pip install -e .[tpu]`
    emojax plan train --config configs/v2.py:stage1_pod --topology v5e-16 --cached

No TPU was used: the training step (`emojax/train/step.py`) was compiled ahead of time by the TPU
compiler on {machine}.

* Peak memory is the compiler's figure; beside it the formula's (`emojax/train/step_memory.py`),
  which chooses what a layer keeps (`remat`, [training.md](training.md)). They differ by at most
  {deviation}.
* FLOPs are counted in the traced program. Useful FLOPs follow a formula: 4 N per token for N frozen
  kernel parameters, 6 N for trainable ones, half of the attention's square, and the language model
  head at answer positions only.
* Step time "cycles": the compiler's estimate for each operation at the chip's clock, with Pallas
  kernels at 50 % of the peak. Collectives are assumed to overlap with compute; their own time,
  bytes over link speed, is shorter in all rows of this page. Step time "55 %" (v6e, whose cycles
  are not used: by them plain matmuls reach 55 to 87 % of the peak): that of the executed FLOPs at
  55 % of the peak, which is an assumption.
* Chip-hours are those of the released 200,000 samples per stage (v1: 120,000), with all rows of
  this length and input always ready.

## Both models and stages, cached features, as shipped

`_pod`: a batch size of 4 per chip; remat is chosen by memory.

{head}
{main}

## Other language models: v2, cached features

    emojax plan train --config configs/v2.py:stage1_pod --topology v5e-16 --cached \\
        --config.model.llama.part=Qwen2.5-7B-Instruct

{head}
{models}

## One change at a time: v2, stage 1, v5e:4x4

{head}
{changes}

Gathering whole kernels before their matmul, heads as an output axis of the matmul, splash attention
and little recomputation help more than the choice of the mesh. Sharding over `tensor` does not pay
off at this size.
"""


GPU_TITLE = "## NVIDIA H100: compiled, never run\n"
GPU_TEXT = """
    .venv/bin/python scripts/scaling.py gpu    # writes this part; needs the gpu-compiler extra
    emojax plan train --config configs/v2.py:stage1_pod --topology h100:2x8 --cached

No GPU was used: XLA compiled the step of both models and stages for H100 SXM cards on {machine};
cached features, `_pod` presets. 2 x 8 are two machines with eight cards; only gradients travel
between them.

* Peak memory is the compiler's figure; beside it the formula's (`emojax/plan/formula.py`), which
  `emojax plan` prints where the compiler is not installed. Workspaces of cuDNN, buffers of NCCL and
  the CUDA context come on top of both.
* Step time is the time of the executed FLOPs at 55 % of the peak, which is an assumption.
* Not shown: whether cuDNN accepts the calls, what tuning on the device chooses, and any speed.

{head}
{main}
"""


def tpu_cases() -> Iterator[tuple[str, str, dict]]:
    """(table, first cell, arguments of `plan`) of each row about TPUs."""
    for config, stage, bucket in STAGES:
        for topology in SLICES:
            name = f"{config.replace(':', '-')}-{topology}-{bucket[0]}"
            known = {"name": name, "config_name": config, "topology": topology, "bucket": bucket}
            yield "main", f"{config[:2]} {stage}, {topology}", known
    for config, stage, bucket in STAGES[:2]:
        for part, topology in itertools.product(MODELS, MODEL_SLICES):
            name = f"{config.replace(':', '-')}-{part}-{topology}"
            known = {"name": name, "config_name": config, "topology": topology, "bucket": bucket}
            changes = {"model.llama.part": part}
            label = f"{part.removesuffix('-Instruct')}, {stage}, {topology}"
            yield "models", label, known | {"changes": changes}
    for label, (bucket, cached, changes) in CHANGES.items():
        yield (
            "changes",
            label,
            {
                "name": "change-" + "".join(c if c.isalnum() else "_" for c in label),
                "config_name": "v2:stage1_pod",
                "topology": "v5e:4x4*2" if label == "two slices" else "v5e-16",
                "bucket": bucket,
                "cached": cached,
                "changes": changes,
            },
        )


def tpu_part(machine: str, *, stored: bool) -> str:
    """The part of the page about TPUs; its rows are printed too."""
    for name, value in LIBTPU_VARIABLES.items():
        os.environ.setdefault(name, value)
    plans: dict[str, dict] = {}
    tables: dict[str, list[str]] = {"main": [], "models": [], "changes": []}
    for table, label, arguments in tpu_cases():
        if not stored or (STORED / f"{arguments['name']}.json").exists():
            plans[label] = plan(**arguments)
            tables[table].append(printed(row(label, plans[label])))
    return TPU_TEXT.format(
        machine=machine,
        head=HEAD,
        deviation=largest_deviation(plans),
        **{table: "\n".join(rows) for table, rows in tables.items()},
    )


def largest_deviation(plans: dict[str, dict]) -> str:
    """The largest difference between the formula's peak and the compiler's, in words."""

    def difference(label: str) -> float:
        p = plans[label]
        return (p["formula_peak_bytes_per_chip"] - p["peak_bytes_per_chip"]) / GIB

    known = [label for label, p in plans.items() if p["peak_bytes_per_chip"]]
    label = max(known, key=lambda name: abs(difference(name)))
    return f"{abs(difference(label)):.1f} GiB ({label}: {difference(label):+.1f})"


def gpu_part(machine: str) -> str:
    """The part of the page about GPUs; its rows are printed too."""
    rows = []
    for config, stage, bucket in STAGES:
        for topology in GPUS:
            name = f"{config.replace(':', '-')}-{topology.replace(':', '-')}-{bucket[0]}"
            made = plan(name, config, topology, bucket)
            cards = topology.split(":")[1].replace("x", " x ")
            label = f"{config[:2]} {stage}, {cards} {'card' if cards == '1' else 'cards'}"
            rows.append(printed(gpu_row(label, made)))
    return GPU_TITLE + GPU_TEXT.format(machine=machine, head=GPU_HEAD, main="\n".join(rows))


def printed(line: str) -> str:
    """The line, after printing it."""
    print(line, flush=True)
    return line


def main(parts: list[str]) -> None:
    stored = "--stored" in parts
    parts = [part for part in parts if part != "--stored"]
    if set(parts) - {"tpu", "gpu"}:
        raise SystemExit(f"parts of the page are tpu and gpu, got {' '.join(parts)}")
    page = ROOT / "docs" / "scaling.md"
    tpu, _, gpu = page.read_text().partition(GPU_TITLE)
    gpu = GPU_TITLE + gpu
    machine = f"a CPU machine ({platform.machine()}, {os.cpu_count()} cores)"
    if not parts or "tpu" in parts:
        tpu = tpu_part(machine, stored=stored) + "\n"
    if not parts or "gpu" in parts:
        gpu = gpu_part(machine)
    page.write_text(tpu.rstrip("\n") + "\n\n" + gpu)


if __name__ == "__main__":
    main(sys.argv[1:])

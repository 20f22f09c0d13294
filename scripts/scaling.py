"""Writes docs/scaling.md: memory, FLOPs and step time of the full-size models on TPU slices, compiled without a TPU.

    pip install -e .[tpu] && python scripts/scaling.py        # about half an hour on 2 cores; goes on where it was

Plans are kept in runs/scaling/, named by what was planned; remove the folder after a change to model or step.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
from emojax.config import for_devices, load_config, resolve
from emojax.plan import step_plan

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "runs" / "scaling"
GIB = 2.0**30
SLICES = ("v4-16", "v5e-16", "v5e-256", "v5p-8", "v6e-16")
# (configuration, stage, row and answer length): the second stages answer with reasons
STAGES = (
    ("v2:stage1_pod", "stage 1", (768, 128)),
    ("v2:stage2_pod", "stage 2", (1024, 384)),
    ("v1:pretrain_pod", "pretrain", (512, 128)),
    ("v1:tune_pod", "tune", (1024, 384)),
)
# One change at a time, v2 stage 1 on v5e:4x4
CHANGES: dict[str, tuple[tuple[int, int], bool, dict[str, object]]] = {
    "as shipped, cached features": ((768, 128), True, {}),
    "remat qkv_gate": ((768, 128), True, {"model.remat": "qkv_gate"}),
    "remat qkv": ((768, 128), True, {"model.remat": "qkv"}),
    "remat full": ((768, 128), True, {"model.remat": "full"}),
    "encoders in the step": ((768, 128), False, {}),
    "encoders in the step, remat full": ((768, 128), False, {"model.remat": "full"}),
    "int8 kernels": ((768, 128), True, {"model.kernels": "int8"}),
    "mesh 4,4,1": ((768, 128), True, {"train.mesh": (4, 4, 1), "model.remat": "full"}),
    "mesh 1,4,4": ((768, 128), True, {"train.mesh": (1, 4, 4)}),
    "rows of 2048 tokens (remat full by rule)": ((2048, 1024), True, {}),
    "two slices": ((768, 128), True, {}),
}


def planned(
    name: str, config_name: str, topology: str, bucket: tuple[int, int], cached: bool, changes: dict
) -> dict:
    """One plan, kept on disk."""
    path = KEPT / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    print(f"{name} ...", file=sys.stderr, flush=True)
    begin = time.monotonic()
    config = load_config(config_name)
    config.update_from_flattened_dict(changes)
    where = step_plan.parse_topology(topology)
    settings = for_devices(resolve(config), where.chips)
    found = step_plan.plan_run(settings, settings.stages[0], where, bucket, cached)
    found["wall_seconds"] = time.monotonic() - begin
    KEPT.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    return found


def line(first: str, p: dict) -> str:
    mesh = ",".join(map(str, p["mesh"]))
    per_chip = 1e12 * p["chips"]
    head = f"| {first} | {mesh} | {p['batch']} x {p['length']} |"
    if not p["fits"]:
        need = f"{p['peak_bytes_per_chip'] / GIB:.1f}" if p["peak_bytes_per_chip"] else "more"
        return f"{head} {need} of {p['hbm_bytes'] / GIB:.0f}: does not fit | | | | | | |"
    source = "cycles" if "compute_seconds" in p else "55 %"
    return (
        f"{head} {p['peak_bytes_per_chip'] / GIB:.1f} of {p['hbm_bytes'] / GIB:.0f} | "
        f"{p['executed_flops'] / per_chip:.1f} / {p['useful_flops'] / per_chip:.1f} | {p['step_seconds_estimate']:.2f} ({source}) | "
        f"{p['useful_mfu']:.2f} | {p['clips_per_second']:.0f} | {p['chip_hours']:,.0f} | {p['compile_seconds']:.0f} |"
    )


HEAD = """| | mesh | rows x tokens | peak GiB a chip | TFLOP a chip, executed / useful | step s, from | useful MFU | clips/s | chip-hours | compile s |
|---|---|---|---|---|---|---|---|---|---|"""

TEXT = """# Full size on TPU slices

    .venv/bin/python scripts/scaling.py        # writes this page; needs `pip install -e .[tpu]`
    emojax plan train --config configs/v2.py:stage1_pod --topology v5e-16 --cached

No TPU was used: the real training step (`emojax/train/step.py`) was compiled ahead of time by the TPU compiler on {machine}.

* Memory is the compiler's figure. FLOPs are counted in the traced program; useful ones by formula (4 N a token for frozen kernels, 6 N for those that
  learn, half of the attention's square, the head at answer positions alone).
* Step time "cycles": the compiler's estimate for every operation, at the chip's clock, Pallas kernels at 50 % of the peak; collectives are taken to be hidden behind compute (their
  own time, bytes over link speed, is below it in every row of this page). "55 %": on v5p and v6e the compiler's text can not be read in this
  version; executed FLOPs at 55 % of the peak stand there, which is an assumption and not a figure of the compiler's.
* Chip-hours are of the released 200,000 samples of a stage (v1: 120,000) at rows of this length all the time; input always ready.

## Both models, both stages, features cached, as shipped (`_pod`: four rows a chip, remat `most`; rows over 768 tokens: `full`)

{head}
{main}

## One change at a time: v2, stage 1, v5e:4x4

{head}
{changes}

What the changes say: kernels gathered whole before their matmul, heads that come out of the matmul, attention by splash and little recomputation
are worth more than the mesh. Splitting over `tensor` does not pay at this size.
"""


def main() -> None:
    rows = []
    for config, stage, bucket in STAGES:
        for topology in SLICES:
            name = f"{config.replace(':', '-')}-{topology}-{bucket[0]}"
            rows.append(
                line(
                    f"{config[:2]} {stage}, {topology}",
                    planned(name, config, topology, bucket, True, {}),
                )
            )
    changes = []
    for label, (bucket, cached, fields) in CHANGES.items():
        topology = "v5e:4x4*2" if label == "two slices" else "v5e-16"
        name = "change-" + "".join(c if c.isalnum() else "_" for c in label)
        changes.append(
            line(label, planned(name, "v2:stage1_pod", topology, bucket, cached, fields))
        )
    machine = f"a CPU machine ({platform.machine()}, {os.cpu_count()} cores)"
    text = TEXT.format(machine=machine, head=HEAD, main="\n".join(rows), changes="\n".join(changes))
    (ROOT / "docs" / "scaling.md").write_text(text)


if __name__ == "__main__":
    main()

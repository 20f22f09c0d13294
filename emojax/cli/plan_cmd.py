"""`emojax plan`: what a full-size model needs on hardware that is not here, and what fits."""

from __future__ import annotations

import argparse
import json
import os
import re
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from data_pipeline.suggestions import no_such
from emojax.cli.arguments import Commands, count

if TYPE_CHECKING:
    from emojax.config import Settings

GIB = 2.0**30
DEFAULT_BUCKET = (768, 128)


def add_parser(commands: Commands) -> None:
    """Adds `plan`."""
    p = commands.add_parser("plan", help="what a full-size run needs, without starting it")
    kinds = p.add_subparsers(dest="what", required=True, metavar="what")
    w = kinds.add_parser("weights", help="parameters and bytes by module")
    w.add_argument("--preset", action="append", help="configuration by name (default: v1 and v2)")
    w.add_argument("--int8", action="store_true", help="with frozen kernels as int8")
    w.add_argument("--json", action="store_true")
    t = kinds.add_parser(
        "train",
        help="memory, FLOPs, collectives and time of a training step, compiled for a TPU or GPU "
        "that need not be here",
    )
    t.add_argument("--config", required=True, help="e.g. configs/v2.py:stage1_pod")
    t.add_argument(
        "--topology",
        required=True,
        help="v5e:4x4, v5e-16, v5p:2x2x1, v5e:4x4*2 (two slices), h100:8, h100:2x8 (two machines)",
    )
    t.add_argument("--stage", help="stage of the configuration (default: its first)")
    t.add_argument("--batch", type=count, help="batch size (default: the configuration's)")
    t.add_argument(
        "--bucket",
        help="row and answer length, e.g. 768,128 (default: that, or the configuration's first)",
    )
    t.add_argument(
        "--cached", action="store_true", help="features of the frozen encoders are cached"
    )
    t.add_argument(
        "--propose",
        action="store_true",
        help="search for mesh, batch size and remat that fit, fastest first",
    )
    t.add_argument(
        "--formula",
        action="store_true",
        help="estimate GPUs by formula, in seconds, also where the gpu-compiler extra is installed",
    )
    t.add_argument("--json", action="store_true", help="print one JSON object")
    for parser in (w, t):
        parser.accept_fields()


def run(args: argparse.Namespace, console: Console) -> int:
    """Plans weights or training; exit code 1 if the training does not fit."""
    return _plan_train(args, console) if args.what == "train" else _plan_weights(args, console)


def _plan_weights(args: argparse.Namespace, console: Console) -> int:
    from emojax.weights import importer

    plans = [
        importer.plan_weights(preset, int8=args.int8, changes=args.fields)
        for preset in args.preset or ("v1", "v2")
    ]
    if args.json:
        print(json.dumps(plans))
        return 0
    for plan in plans:
        table = Table(
            "module", "parameters", "trainable", "tensors", "MiB at rest", title=plan["preset"]
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for row in (*plan["modules"], plan["total"]):
            cells = (f"{row['parameters']:,}", f"{row['trainable']:,}", str(row["tensors"]))
            table.add_row(row["module"], *cells, f"{row['bytes'] / 2**20:,.1f}")
        console.print(table)
    return 0


def _plan_train(args: argparse.Namespace, console: Console) -> int:
    import jax

    # The step is compiled for hardware that is not here.
    jax.config.update("jax_platforms", "cpu")  # type: ignore[no-untyped-call]
    from emojax.config import for_devices, load_config, resolve
    from emojax.plan.step_plan import plan_run, propose
    from emojax.plan.topology import LIBTPU_VARIABLES, parse_topology

    for name, value in LIBTPU_VARIABLES.items():
        os.environ.setdefault(name, value)
    topology = parse_topology(args.topology)
    config = load_config(args.config, args.fields)
    if args.batch is not None:
        if args.batch % topology.chips == 0:  # the same number of samples, in other steps
            config.train.rows_per_device = args.batch // topology.chips
        else:
            config.train.batch, config.train.rows_per_device = args.batch, 0
    settings = for_devices(resolve(config), topology.chips)
    stages = {s.name: s for s in settings.stages}
    if args.stage and args.stage not in stages:
        raise ValueError(f"--stage: {no_such('stage', args.stage, stages)}")
    stage = stages[args.stage] if args.stage else settings.stages[0]
    bucket = _bucket(args.bucket, settings)
    with console.status(f"compiling {settings.name}:{stage.name} for {topology}"):
        plan = plan_run(
            settings,
            stage,
            topology,
            bucket=bucket,
            cached=args.cached,
            by_formula=args.formula,
        )
        proposals = []
        if args.propose or not plan["fits"]:
            proposals = propose(config, stage.name, topology, bucket=bucket, cached=args.cached)
    if args.json:
        print(json.dumps(plan | {"proposals": proposals}))
    else:
        show(plan, console)
        if proposals:
            console.print(proposal_table(proposals))
        elif not plan["fits"]:
            console.print(
                "nothing fits: use more chips, int8 kernels (--config.model.kernels=int8), or "
                "cached features"
            )
    return 0 if plan["fits"] else 1


def _bucket(text: str | None, settings: Settings) -> tuple[int, int]:
    """(row length, answer length) in tokens."""
    if not text:
        buckets = settings.data.buckets
        return DEFAULT_BUCKET if DEFAULT_BUCKET in buckets else buckets[0]
    if not re.fullmatch(r"\d+,\d+", text):
        raise ValueError(
            f"--bucket is '{text}'; it must be a row and an answer length, as in 768,128"
        )
    length, answer = map(int, text.split(","))
    if not 0 < answer <= length:
        raise ValueError(f"--bucket is '{text}'; the answer is a part of the row")
    return length, answer


def show(p: dict[str, Any], console: Console) -> None:
    """Prints one plan."""
    mesh = " x ".join(map(str, p["mesh"]))
    console.print(
        f"{p['config']}:{p['stage']} on {p['topology']} ({p['chips']} x {p['chip']}), "
        f"mesh data x fsdp x tensor {mesh}"
    )
    kernels = p["param_dtype"] if p["kernels"] == "float" else p["kernels"]
    console.print(
        f"batch of {p['batch']} x {p['length']} tokens, {p['answer']} answer positions, "
        f"encoders {p['encoders']}, remat {p['remat']}, frozen kernels {kernels}"
    )
    table = Table("", "", show_header=False, title="per chip")

    def gib(value: float | None) -> str:
        return "-" if value is None else f"{value / GIB:.2f} GiB"

    if "argument_bytes_per_chip" in p:
        table.add_row("arguments", gib(p["argument_bytes_per_chip"]))
        table.add_row("temporaries", gib(p["temporary_bytes_per_chip"]))
    verdict = "fits" if p["fits"] else "DOES NOT FIT"
    table.add_row(
        "peak / HBM", f"{gib(p['peak_bytes_per_chip'])} / {gib(p['hbm_bytes'])}  {verdict}"
    )
    if "formula_peak_bytes_per_chip" in p:
        table.add_row("peak, by formula", gib(p["formula_peak_bytes_per_chip"]))
    table.add_row("FLOPs executed", f"{p['executed_flops'] / p['chips'] / 1e12:.1f} TFLOP")
    table.add_row("FLOPs useful", f"{p['useful_flops'] / p['chips'] / 1e12:.1f} TFLOP")
    for kind, total in p.get("collectives", {}).items():
        table.add_row(kind, f"{total['count']:,} of {total['bytes'] / 1e9:.2f} GB in all")
    if "step_seconds_estimate" in p:
        table.add_row("step, estimate", f"{p['step_seconds_estimate']:.3f} s")
        table.add_row("useful MFU", f"{p['useful_mfu']:.1%}")
    console.print(table)
    if "hours" in p:
        console.print(
            f"{p['tokens_per_second']:,.0f} tokens/s, {p['clips_per_second']:,.1f} clips/s; "
            f"{p['steps']:,} steps: {p['hours']:.1f} h, {p['chip_hours']:,.0f} chip-hours"
        )
        for line in p["assumptions"]:
            console.print(f"  assumed: {line}", soft_wrap=True)
    for path, whole, copies in p.get("replicated", [])[:5]:
        size = f"{whole / 1e6:.0f} MB"
        console.print(f"note: {path} ({size}) is stored {copies} times", soft_wrap=True)
    if "note" in p:
        console.print(f"note: {p['note']}", soft_wrap=True)


def proposal_table(proposals: list[dict[str, Any]]) -> Table:
    """Plans that fit, fastest first."""
    columns = ("mesh", "batch size", "remat", "peak GiB", "step s", "clips/s", "MFU")
    table = Table(*columns, title="what fits, fastest first")
    for p in proposals:
        cells = (
            ",".join(map(str, p["mesh"])),
            str(p["batch"]),
            p["remat"],
            f"{p['peak_bytes_per_chip'] / GIB:.1f}",
            f"{p['step_seconds_estimate']:.2f}",
            f"{p['clips_per_second']:.0f}",
            f"{p['useful_mfu']:.0%}",
        )
        table.add_row(*cells)
    return table

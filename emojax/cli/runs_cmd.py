"""The commands about runs: sweep, watch, report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from emojax.cli.arguments import count
from emojax.cli.console import setup


def add_parsers(commands: Any) -> None:
    """Adds `sweep`, `watch` and `report`."""
    p = commands.add_parser("sweep", help="runs over a grid of settings, as one table and picture")
    actions = p.add_subparsers(dest="action", required=True, metavar="action")
    actions.add_parser("list", help="sweeps that come with the package, and their points")
    a = actions.add_parser(
        "run", help="run every point here, on the embedded corpus; goes on where it was cut off"
    )
    a.add_argument("name", help="name of `sweep list`, or a sweep file")
    a.add_argument(
        "--out", required=True, help="folder for the runs, NAME.md, NAME.json and NAME.png"
    )
    a.add_argument(
        "--clips",
        type=count,
        default=600,
        help="training clips of the corpus (default %(default)s)",
    )
    a = actions.add_parser("launch", help="print one command a point, to run elsewhere")
    a.add_argument("name", help="name of `sweep list`, or a sweep file")
    a.add_argument(
        "--out",
        required=True,
        help="folder of the runs, e.g. gs://bucket/sweep; a run's number is added",
    )
    a.add_argument(
        "--with",
        dest="prefix",
        default="python -m emojax.train",
        help='what stands before the options, {n} is the number: "./launch_tpu.sh s{n} us-west4-a v5litepod-16 --" '
        '(default "%(default)s")',
    )
    p = commands.add_parser("watch", help="follow a training run in the terminal")
    p.add_argument("run", help="run folder")
    p.add_argument("--once", action="store_true", help="print how it stands and end")
    p = commands.add_parser("report", help="a training run as one HTML page")
    p.add_argument("run", help="run folder")
    p.add_argument("--out", help="file (default: RUN/report.html)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs one of them."""
    if args.command == "sweep":
        return _sweep(args, console)
    from emojax.reports import training_page

    if args.command == "watch":
        return training_page.watch(args.run, console, once=args.once)
    path = training_page.write_html(args.run, out=Path(args.out) if args.out else None)
    console.print(f"written: {path}", soft_wrap=True)
    return 0


def _sweep(args: argparse.Namespace, console: Console) -> int:
    from data_pipeline.embedded.truth import CorpusConfig
    from emojax.workflows import jobs, sweep

    if args.action == "list":
        for name, text in sweep.known().items():
            module = sweep.load_sweep(sweep.find_sweep(name))
            number = len(list(sweep.points(module)))
            console.print(f"{name:16} {number:>3} runs of {module.PRESET}: {text}", soft_wrap=True)
        return 0
    if args.action == "launch":
        module = sweep.load_sweep(sweep.find_sweep(args.name))
        if not module.PRESET.startswith("tiny"):
            Console(stderr=True, markup=False, highlight=False).print(
                f"{module.PRESET} is full size: add --data, --cache and --config.train.init_from of your machines to each line",
                soft_wrap=True,
            )
        for line in sweep.launches(module, args.out.rstrip("/"), args.prefix):
            print(line)
        return 0
    module = sweep.load_sweep(sweep.find_sweep(args.name))
    if not module.PRESET.startswith("tiny"):
        raise ValueError(
            f"{args.name} is of the full-size {module.PRESET}: `emojax sweep launch` prints its commands"
        )
    setup()
    clips = args.clips
    corpus = (
        CorpusConfig()
        if clips == 600
        else CorpusConfig(train=clips, val=max(9, clips // 4), test=max(9, clips // 2))
    )
    results = sweep.run(args.name, jobs.run_folder(args.out), console, corpus=corpus)
    print(sweep.table(results))
    return 0

"""`emojax sweep`: lists sweeps, runs them here, or prints their commands."""

from __future__ import annotations

import argparse

from rich.console import Console

from emojax.cli.arguments import Commands, count, output_folder
from emojax.cli.console import progress_bars, setup
from emojax.cli.output import kept_in

CLIPS = 600  # training clips of the whole embedded corpus


def add_parser(commands: Commands) -> None:
    """Adds `sweep`."""
    p = commands.add_parser("sweep", help="runs over a grid of settings, as one table and picture")
    actions = p.add_subparsers(dest="action", required=True, metavar="action")
    actions.add_parser("list", help="sweeps that come with the package, and their points")
    a = actions.add_parser(
        "run", help="run all points here, on the embedded corpus; an interrupted sweep continues"
    )
    a.add_argument("name", help="name of `sweep list`, or a sweep file")
    a.add_argument(
        "--out", required=True, help="folder for the runs, NAME.md, NAME.json and NAME.png"
    )
    a.add_argument(
        "--clips",
        type=count,
        default=CLIPS,
        help="training clips of the corpus (default %(default)s)",
    )
    a = actions.add_parser("launch", help="print one command per point, to run elsewhere")
    a.add_argument("name", help="name of `sweep list`, or a sweep file")
    a.add_argument(
        "--out",
        required=True,
        help="folder of the runs, e.g. gs://bucket/sweep; the number of the run is added",
    )
    a.add_argument(
        "--with",
        dest="prefix",
        default="python -m emojax.train",
        help="command before the options, {n} is the number: "
        '"./launch_tpu.sh s{n} us-west4-a v5litepod-16 --" (default "%(default)s")',
    )


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    if args.action != "run":
        return ""
    return kept_in(args.out, "finished runs are")


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs one action."""
    from emojax.workflows import sweep

    if args.action == "list":
        for name, text in sweep.known().items():
            module = sweep.load_sweep(sweep.find_sweep(name))
            number = len(list(sweep.points(module)))
            console.print(f"{name:16} {number:>3} runs of {module.PRESET}: {text}", soft_wrap=True)
        return 0
    module = sweep.load_sweep(sweep.find_sweep(args.name))
    is_tiny = module.PRESET.startswith("tiny")
    if args.action == "launch":
        if not is_tiny:
            Console(stderr=True, markup=False, highlight=False).print(
                f"{module.PRESET} is full size: add --data, --cache and --config.train.init_from "
                "of your machines to each line",
                soft_wrap=True,
            )
        for line in sweep.launches(module, args.out.rstrip("/"), args.prefix):
            print(line)
        return 0
    if not is_tiny:
        raise ValueError(
            f"{args.name} uses the full-size {module.PRESET}: "
            "`emojax sweep launch` prints its commands"
        )
    return _run_here(args, console)


def _run_here(args: argparse.Namespace, console: Console) -> int:
    from data_pipeline.embedded.truth import CorpusConfig
    from emojax.workflows import sweep

    setup()
    corpus, clips = CorpusConfig(), args.clips
    if clips != CLIPS:
        corpus = CorpusConfig(train=clips, val=max(9, clips // 4), test=max(9, clips // 2))
    with output_folder(args.out) as out, progress_bars(console) as progress:
        results = sweep.run(args.name, out, corpus=corpus, progress=progress)
    print(sweep.table(results))
    return 0

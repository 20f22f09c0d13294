"""`emojax report`: writes a training run as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from emojax.cli.arguments import Commands
from emojax.cli.plot_options import add_plots_option


def add_parser(commands: Commands) -> None:
    """Adds `report`."""
    p = commands.add_parser("report", help="a training run as one HTML page")
    p.add_argument("run", help="run folder")
    p.add_argument("--out", help="file (default: RUN/training.html)")
    add_plots_option(p, default="")
    p.add_argument(
        "--overwrite", action="store_true", help="replace a file that is not such a page"
    )


def kept(_args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    return "the output may be incomplete; run the same command again"


def run(args: argparse.Namespace, console: Console) -> int:
    """Writes the page."""
    from emojax.reports import training_page

    out = Path(args.out) if args.out else None
    path = training_page.write_html(args.run, out=out, overwrite=args.overwrite)
    written = [path, *training_page.save_plots(args.run, path, kinds=args.plots)]
    console.print(f"written: {', '.join(written)}", soft_wrap=True)
    return 0

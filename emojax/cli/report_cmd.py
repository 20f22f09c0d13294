"""`emojax report`: writes a training run as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from emojax.cli.arguments import Commands


def add_parser(commands: Commands) -> None:
    """Adds `report`."""
    p = commands.add_parser("report", help="a training run as one HTML page")
    p.add_argument("run", help="run folder")
    p.add_argument("--out", help="file (default: RUN/report.html)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Writes the page."""
    from emojax.reports import training_page

    path = training_page.write_html(args.run, out=Path(args.out) if args.out else None)
    console.print(f"written: {path}", soft_wrap=True)
    return 0

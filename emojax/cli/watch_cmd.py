"""`emojax watch`: follows a training run in the terminal."""

from __future__ import annotations

import argparse

from rich.console import Console

from emojax.cli.arguments import Commands


def add_parser(commands: Commands) -> None:
    """Adds `watch`."""
    p = commands.add_parser("watch", help="follow a training run in the terminal")
    p.add_argument("run", help="run folder")
    p.add_argument("--once", action="store_true", help="print the current state and end")


def run(args: argparse.Namespace, console: Console) -> int:
    """Shows the run until it ends."""
    from emojax.reports import training_page

    return training_page.watch(args.run, console, once=args.once)

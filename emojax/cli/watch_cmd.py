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


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    return f"the run in {args.run} is not touched"


def run(args: argparse.Namespace, console: Console) -> int:
    """Shows the run until it ends."""
    from etils import epath
    from rich.live import Live

    from emojax.reports.training_state import state_table, state_tables

    run = epath.Path(args.run)
    table = state_table(run)
    if args.once:
        console.print(table)
        return 0
    with Live(table, console=console, refresh_per_second=2) as live:
        for table in state_tables(run):
            live.update(table)
    return 0

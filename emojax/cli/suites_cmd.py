"""`emojax suites`: lists the suites and sets of `emojax evaluate --suite`."""

from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.table import Table

from emojax.cli.arguments import Commands


def add_parser(commands: Commands) -> None:
    """Adds `suites`."""
    p = commands.add_parser("suites", help="list the suites and sets that `evaluate --suite` knows")
    p.add_argument("--json", action="store_true")


def run(args: argparse.Namespace, console: Console) -> int:
    """Prints the suites."""
    from emojax.evaluate.suites import SETS, SUITES

    if args.json:
        suites = {
            s.name: {
                "title": s.title,
                "sets": [m.name for m in s.members],
                "figure": s.figure,
                "note": s.note,
            }
            for s in SUITES.values()
        }
        sets = {
            b.name: {
                "dataset": b.dataset,
                "task": b.task,
                "metric": b.metric,
                "labels": list(b.labels),
                "scored": list(b.scored_modes),
            }
            for b in SETS.values()
        }
        print(json.dumps({"suites": suites, "sets": sets}, indent=1))
        return 0
    table = Table(title="suites")
    for column in ("suite", "sets", "its figure"):
        table.add_column(column)
    for s in SUITES.values():
        table.add_row(s.name, ", ".join(m.name for m in s.members), s.figure)
    console.print(table)
    console.print(
        "the name of a set is a suite of one set; data sets: `emojax data list`", soft_wrap=True
    )
    return 0

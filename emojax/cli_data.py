"""`emojax data ...`: what is there, what is wrong with it, and making it ready to train on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def add_parser(commands: Any) -> None:
    """The command's options."""
    p = commands.add_parser("data", help="check, build and cache the data sets of MMEVerse, MERR and others")
    actions = p.add_subparsers(dest="action", required=True, metavar="action")

    a = actions.add_parser("list", help="data sets that are read, and where to ask for them")
    a.add_argument("--json", action="store_true")

    a = actions.add_parser(
        "check", help="count clips by set, split and label; find what is missing, damaged or leaking"
    )
    _root(a)
    a.add_argument(
        "--out", default="runs/data", help="folder for report.json, counts.csv and counts.png (default %(default)s)"
    )
    a.add_argument("--no-decode", action="store_true", help="only look whether clips are there")
    a.add_argument("--all-labels", action="store_true", help="print every label of every fold")
    a.add_argument("--json", action="store_true", help="print the report as JSON")


def _root(a: argparse.ArgumentParser) -> None:
    a.add_argument("root", help="folder that holds data sets, as their makers or MMEVerse give them out")
    a.add_argument("--sets", metavar="A,B,...", help="data sets (default: all; see `emojax data list`)")
    a.add_argument(
        "--lenient",
        action="store_true",
        help="repair hand-edited JSON and leave rows with faults out; both are counted",
    )


def set_names(args: argparse.Namespace) -> list[str] | None:
    """--sets as a list."""
    return [n.strip() for n in args.sets.split(",") if n.strip()] if args.sets else None


@contextmanager
def bars(console: Console) -> Iterator[Any]:
    """Progress bars by name, fed with (name, done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, Any] = {}

        def tick(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield tick


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs one action; see emojax.cli.main for exit codes."""
    return {"list": _list, "check": _check}[args.action](args, console)


def _list(args: argparse.Namespace, console: Console) -> int:
    from rich.table import Table

    from data_pipeline.datasets.registry import DATASETS, IMAGES, TRAINING

    if args.json:
        rows = [
            {"name": s.name, "title": s.title, "folders": s.folders, "request": s.request, "terms": s.terms}
            for s in DATASETS.values()
        ]
        print(json.dumps(rows, indent=1))
        return 0
    table = Table("set", "in MMEVerse", "folder", "ask at; terms")
    for s in DATASETS.values():
        use = "trained on" if s.name in TRAINING else "image set" if s.name in IMAGES else ""
        table.add_row(s.name, use, s.folders[0], f"{s.request}; {s.terms}")
    console.print(table)
    return 0


def _check(args: argparse.Namespace, console: Console) -> int:
    from data_pipeline.check import check_root, missing_sets
    from data_pipeline.datasets.registry import choose_sets
    from emojax import data_report

    out = Path(args.out)
    quiet = Console(stderr=True) if args.json else console
    with bars(quiet) as tick:
        report = check_root(
            Path(args.root), set_names(args), args.lenient, not args.no_decode, out / "media.jsonl", tick
        )  # fmt: skip
    written = data_report.write(report, out)
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        data_report.show(report, console, args.all_labels)
        nothing = ", ".join(s.name for s in missing_sets(report, choose_sets(set_names(args))))
        if nothing:
            console.print(f"nothing found of: {nothing} (`emojax data list` says where to ask)", soft_wrap=True)
        console.print(f"written: {', '.join(map(str, written))}", soft_wrap=True)
    if not report["sets"]:
        return 2
    return 3 if report["refused"] else 0

"""`emojax compare`: compares evaluations of the same clips with paired tests."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from emojax.cli.arguments import Commands, name_list, whole
from emojax.cli.console import progress_bars
from emojax.cli.output import print_parts
from emojax.cli.plot_options import add_latex_option


def add_parser(commands: Commands) -> None:
    """Adds `compare`."""
    p = commands.add_parser(
        "compare", help="compare evaluations of the same clips, with paired tests"
    )
    p.add_argument(
        "runs",
        nargs="+",
        metavar="FOLDER",
        help="folders of `emojax evaluate`; the first is compared with each of the others",
    )
    p.add_argument(
        "--score", default="", help="score to compare (default: the main score of each set)"
    )
    p.add_argument(
        "--sets",
        metavar="A,B,...",
        help="sets (or splits of a manifest) to compare (default: all but train)",
    )
    p.add_argument(
        "--permutations", type=whole, default=10000, help="of the paired test (default %(default)s)"
    )
    p.add_argument("--tables", help="folder of the official word tables")
    p.add_argument("--out", required=True, help="folder for comparison.json, .md and .html")
    add_latex_option(p)


def kept(_args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    return "the output may be incomplete; run the same command again"


def run(args: argparse.Namespace, console: Console) -> int:
    """Compares the first folder with each of the others."""
    from emojax.evaluate.comparison_stats import compare_runs
    from emojax.evaluate.emotion_wheels import find_tables
    from emojax.reports.comparison import terminal_table, write_comparison

    if len(args.runs) < 2:
        raise ValueError("give at least two folders of `emojax evaluate`")
    tables = find_tables(Path(args.tables) if args.tables else None)
    folders = [Path(run) for run in args.runs]
    for folder in folders[1:]:
        if folder.resolve() == folders[0].resolve():
            console.print(
                f"note: {folder} is the folder that it is compared with: nothing can differ",
                soft_wrap=True,
            )
    with progress_bars(console) as progress:
        result = compare_runs(
            folders,
            tables,
            score=args.score,
            sets=name_list(args.sets),
            permutations=args.permutations,
            progress=progress,
        )
    if (Path(args.out) / "comparison.json").exists():
        console.print(f"note: the comparison in {args.out} is replaced", soft_wrap=True)
    write_comparison(result, Path(args.out))
    print_parts(terminal_table(result), console)
    files = "comparison.json, comparison.md, comparison.html"
    if args.latex:
        from emojax.reports.latex_tables import write_comparison_tex

        files += f", {write_comparison_tex(result, Path(args.out)).name}"
    console.print(f"written: {args.out}/{files}", soft_wrap=True)
    return 0

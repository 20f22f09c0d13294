"""Options of commands that write plots and tables for papers."""

from __future__ import annotations

import argparse

from data_pipeline.suggestions import not_one_of
from emojax.cli.arguments import name_list

KINDS = ("png", "svg", "pdf")  # as in reports/plot_files.py, whose import is slow


def plot_kinds(text: str) -> list[str]:
    """Parses `png,svg,pdf`.

    Raises:
      argparse.ArgumentTypeError: there is no such kind of file.
    """
    kinds = [kind.lstrip(".") for kind in name_list(text.lower())]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise argparse.ArgumentTypeError(f"{not_one_of(unknown[0], KINDS)} (kinds of plots)")
    return kinds


def add_plots_option(p: argparse.ArgumentParser, *, default: str = "png") -> None:
    """Adds `--plots`."""
    shown = default or "none"
    p.add_argument(
        "--plots",
        type=plot_kinds,
        metavar="KIND,...",
        default=plot_kinds(default),
        help=f"save plots as {', '.join(KINDS)} (default {shown})",
    )


def add_latex_option(p: argparse.ArgumentParser) -> None:
    """Adds `--latex`."""
    p.add_argument("--latex", action="store_true", help="write the tables as LaTeX (.tex) too")

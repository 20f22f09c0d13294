"""What several commands print: the tables of an evaluation, how to get a model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

NO_MODEL = "\n".join(
    (
        "there is no model yet. Three ways to get one:",
        "  emojax demo                              "
        "trains a small one on the embedded corpus, in minutes",
        "  emojax train --manifest M.csv --out DIR  "
        "trains on your own clips; then give --model DIR",
        "  emojax fetch emotion-llama-v2            "
        "downloads and imports released weights (19 GB; needs accelerators)",
    )
)


def show_evaluation(results: dict[str, Any], out: Path, console: Console) -> None:
    """Prints the tables of an evaluation and the names of its files.

    Args:
      results: the scores, as in evaluation.json.
      out: the folder of the evaluation.
      console: where to print.
    """
    from emojax.reports import evaluation_tables

    print_parts(evaluation_tables.terminal_tables(results), console)
    files = f"{out}/evaluation.json, evaluation.md, report.html, clips.csv, predictions/"
    console.print(f"written: {files}", soft_wrap=True)


def print_parts(parts: Iterable[Table | str], console: Console) -> None:
    """Prints tables and lines of text; only the terminal wraps the lines."""
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def model_folder(name: str | None) -> Path:
    """The folder of a model by name or path, or the newest one.

    Raises:
      ValueError: there is none; the message says how to get one.
    """
    from emojax.infer.predict import default_model
    from emojax.weights.locations import find_model

    folder = find_model(name) if name else default_model()
    if folder is None:
        raise ValueError(NO_MODEL)
    return folder

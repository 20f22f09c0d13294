"""What commands print: an answer, the tables of an evaluation, how to get a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from data_pipeline.media.notes import counted

if TYPE_CHECKING:
    from emojax.types import Answer

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


def kept_in(folder: str | Path, what: str) -> str:
    """What a stopped command has kept in a folder, and how to go on.

    Args:
      folder: where the command writes.
      what: what it keeps there, with its verb: "answers are".
    """
    if not any(p.is_file() and not p.name.startswith(".") for p in Path(folder).rglob("*")):
        return "nothing was written; run the same command again"
    return f"{what} kept in {folder}; run the same command again to go on"


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
    from emojax.weights.locations import default_model, find_model

    folder = find_model(name) if name else default_model()
    if folder is None:
        raise ValueError(NO_MODEL)
    return folder


def on_one_line(text: str) -> str:
    """A text in which line ends and what no terminal can show are blanks."""
    return "".join(c if c.isprintable() else " " for c in text)


def answer_text(answer: Answer, *, known: Collection[str] = ()) -> str:
    """An answer as lines of text.

    Args:
      answer: the answer.
      known: notes that were shown with an earlier file, and are counted only.
    """
    path = on_one_line(answer.path)
    if answer.error is not None:
        return f"{path}\n  refused: {answer.error}"
    ranked = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])
    best = ", ".join(f"{name} {p:.2f}" for name, p in ranked[:3])
    label = answer.label
    if answer.nobody:
        label = f"{label}: nobody is seen, heard or quoted"
    elif answer.leading:
        label = f"{label}: {answer.leading[0]} or {answer.leading[1]}"
    lines = [path, f"  {label}   {best}"]
    if answer.contributions is not None:
        parts = ", ".join(f"{m} {v:+.2f}" for m, v in answer.contributions.items())
        lines.append(
            f"  contributions to the log-probability of the best label: {parts or 'no modality'}"
        )
    if answer.transcript is not None:
        lines.append(f"  transcript ({answer.transcript['language']}): {answer.transcript['text']}")
    if answer.reason:
        lines.append(f"  {on_one_line(answer.reason)}")
    notes = [note for note in answer.notes if note not in known]
    if repeated := len(answer.notes) - len(notes):
        notes.append(f"{counted(repeated, 'note')} as above")
    lines.append("; ".join([f"  from {', '.join(answer.modalities)}", *notes]))
    return "\n".join(lines)

"""`emojax demo`: trains a miniature on the embedded corpus, evaluates it and explains one clip."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from emojax.cli.arguments import Commands, output_folder
from emojax.cli.console import progress_bars, setup
from emojax.cli.output import print_parts

if TYPE_CHECKING:
    from emojax.workflows.demo import DemoResult


def add_parser(commands: Commands) -> None:
    """Adds `demo`."""
    p = commands.add_parser(
        "demo", help="train a miniature on the embedded corpus, evaluate it, explain one clip"
    )
    p.add_argument(
        "--out",
        default="runs/demo",
        help="run folder (default %(default)s); an earlier demo in it is kept under another name, "
        "one that was stopped is continued",
    )
    p.add_argument(
        "--overwrite", action="store_true", help="remove an earlier run in the folder first"
    )
    p.add_argument(
        "--preset",
        default="tiny",
        help="tiny: Emotion-LLaMAv2 in miniature; tiny:v1: Emotion-LLaMA",
    )
    p.accept_fields()


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    from etils import epath

    from emojax.train.run_folder import describe_progress

    return describe_progress(epath.Path(args.out))


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs the demo."""
    setup(training=True)
    from emojax.workflows.demo import demo

    with output_folder(args.out) as out, progress_bars(console) as progress:
        result = demo(
            out,
            overwrite=args.overwrite,
            preset=args.preset,
            changes=args.fields,
            progress=progress,
        )
    show(result, console)
    return 0


def show(result: DemoResult, console: Console) -> None:
    """Prints the scores of the demo, the answer to one clip, and what to try next."""
    from emojax.reports import evaluation_tables

    print_parts(evaluation_tables.terminal_tables(result.scores), console)
    console.print(figures(result.scores))
    record, answer = result.record, result.answer
    best = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])[:3]
    console.print(f"\none clip: {record.path}", soft_wrap=True)
    console.print(f"  subtitle       {record.subtitle}")
    console.print(f"  label          {answer.label}   (true: {record.label})")
    console.print("  probabilities  " + ", ".join(f"{name} {p:.2f}" for name, p in best))
    console.print(f"  reason         {answer.reason}\n", soft_wrap=True)
    console.print(
        f"made in {result.scores['seconds']:.0f} s: {result.out}/ with model.json, weights/, "
        "evaluation.json, evaluation.md, confusion_test.png, log.jsonl, tensorboard/\n"
        "try next:\n"
        f"  emojax predict {record.path} --json\n"
        "  emojax predict your_clip.mp4 --subtitle 'what is said'\n"
        "  emojax train --manifest yours.csv --out runs/mine      "
        "(columns path,label[,subtitle,split,speaker,start,end])\n"
        "  emojax corpus --out corpus                             (the clips themselves)",
        soft_wrap=True,
    )


def figures(scores: dict[str, Any]) -> Table:
    """The figures of the embedded test split."""
    table = Table(title="embedded test split")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("note")
    ablations, test = scores["ablations"], scores["test"]
    single = max(value for name, value in ablations.items() if name.startswith("only_"))
    conflict = f"{scores['conflict_n']} clips, words against face and voice"
    rows = [
        ("fused UAR", ablations["fused"], f"best possible {scores['best_possible']:.3f}"),
        ("best single modality", single, ""),
        ("conflict clips UAR", scores["conflict"], conflict),
    ]
    if "calibration" in test:
        risk = {p["coverage"]: p["risk"] for p in test["risk_coverage"]["curve"]}
        ece, note = test["calibration"]["ece"], "calibrated on the validation clips"
        rows.append(("ECE of the probabilities", ece, note))
        note = f"{risk[1.0]:.3f} when every clip is answered"
        rows.append(("errors at 80 % coverage", risk[0.8], note))
    if "clues" in scores:
        clues = scores["clues"]
        note = f"{clues['named']} clues named in the reasons"
        rows.append(("clue precision", clues["precision"], note))
        note = f"absent modality named in {clues['absent_named']} clips"
        rows.append(("clue recall", clues["recall"], note))
    for name, value, note in rows:
        table.add_row(name, f"{value:.3f}", note)
    return table

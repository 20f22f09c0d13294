"""`emojax judge`: scores texts by a language model, or checks their clues without one."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data_pipeline.io import refuse_device, write_json
from data_pipeline.media.notes import counted
from emojax.cli.arguments import Commands, check_required, whole
from emojax.cli.console import progress_bars
from emojax.cli.endpoint_options import add_endpoint_options, endpoint_of
from emojax.cli.output import kept_in

EXAMPLES = {
    "predictions": "preds.jsonl",
    "references": "final-EMER-reason.csv",
    "task": "clue-overlap",
    "endpoint": "http://localhost:8000/v1",
    "model": "NAME",
    "out": "DIR",
}
PUBLISHED = (("emer", "clue_overlap"), ("emer", "label_overlap"), ("mer2024_ov", "judge_average"))


def add_parser(commands: Commands) -> None:
    """Adds `judge`."""
    p = commands.add_parser(
        "judge",
        help="score texts by a language model: clues, labels, open words, reasoning",
        description="Asks an OpenAI-compatible endpoint. Replies are kept in --out and reused.",
    )
    p.add_argument(
        "--predictions",
        help="rows with a `reason` or `response`: JSONL, npz of AffectGPT, CSV of EMER outputs",
    )
    p.add_argument(
        "--references", help="reference texts by clip (csv, jsonl); for --task ov the true words"
    )
    p.add_argument(
        "--task",
        choices=("clue-overlap", "label-overlap", "ov", "reasoning", "clues"),
        help="clues: no judge; claims are checked against the action units, tone and transcript "
        "of --references (MERR's folder, or records.jsonl)",
    )
    p.add_argument(
        "--endpoint", metavar="URL", help="base address, such as http://localhost:8000/v1"
    )
    p.add_argument("--model", metavar="NAME", help="the judge, as the endpoint names it")
    p.add_argument("--seed", type=whole, default=0)
    add_endpoint_options(p)
    p.add_argument(
        "--agreement", nargs=2, metavar=("A", "B"), help="compare the files of two judges instead"
    )
    p.add_argument("--out", help="folder for judge_<task>_<model>.json and the stored replies")


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    if args.task == "clues" or args.agreement or not args.out:
        return "nothing was written; run the same command again"
    return kept_in(f"{args.out}/replies", "replies are")


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs the judge.

    Raises:
      EndpointError: no clip could be scored.
    """
    if args.agreement:
        from emojax.evaluate import llm_judge

        first, second = (json.loads(refuse_device(Path(p)).read_text()) for p in args.agreement)
        print(json.dumps(llm_judge.judge_agreement(first, second), indent=1))
        return 0
    if args.task == "clues":
        return _check_clues(args, console)
    for name, example in EXAMPLES.items():
        if not getattr(args, name):
            raise ValueError(f"--{name} is missing, such as --{name} {example}")
    result = _judge(args, console)
    name = f"judge_{args.task}_{re.sub(r'[^A-Za-z0-9._-]+', '-', args.model)}.json"
    path = Path(args.out) / name
    write_json(path, result, indent=1)
    if result["scored"]:
        _show(result, args.task, console)
    console.print(f"written: {path}", soft_wrap=True)
    if not result["scored"]:
        from data_pipeline.llm.replies import no_usable_reply

        says = (f" ({c['server_says']})" if "server_says" in c else "" for c in result["clips"])
        raise no_usable_reply(
            args.endpoint,
            [c["fault"] + words for c, words in zip(result["clips"], says, strict=True)],
        )
    return 0


def _judge(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from data_pipeline.llm.client import ChatClient
    from emojax.evaluate import llm_judge
    from emojax.evaluate.prediction_files import read_predictions, read_references

    rows = read_predictions(Path(args.predictions))
    references = read_references(Path(args.references))
    known = [r for r in rows if r.clip in references]
    if not known:
        raise ValueError(f"{args.predictions} and {args.references} have no clip in common")
    if unknown := len(rows) - len(known):
        console.print(
            f"left out: {unknown} of {counted(len(rows), 'prediction')} without a reference"
        )
    if lost := len(references) - len(known):
        console.print(
            f"not scored: {lost} of {counted(len(references), 'reference')} without a prediction"
        )
    endpoint = endpoint_of(args, args.model)
    with (
        ChatClient(endpoint, Path(args.out) / "replies", concurrency=args.concurrency) as client,
        progress_bars(console) as progress,
    ):
        return llm_judge.judge(args.task, known, references, client, progress=progress)


def _show(result: dict[str, Any], task: str, console: Console) -> None:
    table = Table(title=f"{task}: {result['scored']} of {counted(result['n'], 'clip')} scored")
    for column in ("judge that answered", "score", "mean", "95 %"):
        table.add_column(column, justify="right" if column in ("mean", "95 %") else "left")
    for model, scores in result["by_model"].items():
        for score, value in scores.items():
            if score != "n":
                low_high = value["interval"]
                span = f"{low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else "-"
                table.add_row(model or "(not reported)", score, f"{value['mean']:.3f}", span)
    console.print(table)
    _show_published(result, console)
    for key in ("not_scored", "faults"):
        if result[key]:
            counts = ", ".join(f"{n} x {kind}" for kind, n in result[key].items())
            console.print(f"{key.replace('_', ' ')}: {counts}", soft_wrap=True)
    for fault, message in result["server_says"].items():
        console.print(f"{fault}: {message}", soft_wrap=True)
    tokens = result["tokens"]
    if estimated := tokens.get("estimated"):
        console.print(
            f"the server did not count the tokens of {estimated} of the replies: they are "
            "estimated",
            soft_wrap=True,
        )
    cost = f", cost {result['cost']:.2f}" if result["cost"] is not None else ""
    console.print(
        f"{counted(result['requests'], 'request')}, {tokens['prompt']:,} + {tokens['reply']:,} "
        f"tokens{cost}"
    )
    if len(result["by_model"]) > 1:
        console.print("several models answered: there is no mean over all of them", soft_wrap=True)


def _show_published(result: dict[str, Any], console: Console) -> None:
    from emojax.evaluate.paper_results import published_figures

    for where, score in PUBLISHED:
        if any(score in scores for scores in result["by_model"].values()):
            for figure in published_figures(where, score=score):
                source = f"{figure.source}; {', '.join(figure.differences)}"
                console.print(
                    f"published: {figure.system} {figure.value} ({source})", soft_wrap=True
                )


def _check_clues(args: argparse.Namespace, console: Console) -> int:
    from emojax.evaluate.clue_scores import check_clues, read_evidence
    from emojax.evaluate.prediction_files import read_predictions

    check_required(args, ("predictions", "references", "out"))
    rows, records = read_predictions(Path(args.predictions)), read_evidence(Path(args.references))
    both = [(r.reason or r.response, records[r.clip]) for r in rows if r.clip in records]
    if not both:
        raise ValueError(f"{args.predictions} and {args.references} have no clip in common")
    result = {"task": "clues", "judge": None, "n": len(both)} | check_clues(both)
    out = Path(args.out)
    write_json(out / "judge_clues.json", result, indent=1)
    table = Table(title=f"clues of {counted(len(both), 'clip')}, checked without a judge")
    for column in ("", "claims", "precision", "recall", "cannot be checked"):
        table.add_column(column, justify="right" if column else "left")
    for name, v in {"all": result, **result["by_modality"]}.items():
        cells = ["-" if v[k] is None else f"{v[k]:.3f}" for k in ("precision", "recall")]
        table.add_row(name, str(v["claims"]), *cells, str(v["unknown"]))
    console.print(table)
    console.print(f"written: {out / 'judge_clues.json'}", soft_wrap=True)
    return 0

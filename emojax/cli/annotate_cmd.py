"""`emojax annotate`: describes clips by a recipe, with language models of the user's choice."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from emojax.cli.agent_endpoints import add_agent_options, endpoints_of
from emojax.cli.arguments import Commands, count, name_list, whole
from emojax.cli.console import progress_bars, setup
from emojax.cli.manifest_options import add_columns_option
from emojax.cli.output import kept_in

if TYPE_CHECKING:
    from data_pipeline.annotate.runner import Job
    from data_pipeline.llm.budget import Ledger
    from data_pipeline.llm.endpoint import Endpoint
    from emojax.workflows.annotate import AnnotationResult


def add_parser(commands: Commands) -> None:
    """Adds `annotate`."""
    p = commands.add_parser(
        "annotate",
        help="describe clips as MERR and MMEVerse do, by language models of your choice "
        "(docs/annotate.md)",
        description="An interrupted run continues with the same command; no request is sent twice.",
    )
    p.add_argument(
        "clips", nargs="?", help="folder of media, manifest CSV (labels if known), or records.jsonl"
    )
    p.add_argument(
        "--recipe",
        default="mmeverse",
        help="merr_coarse, merr_fine, mmeverse, or your own .toml (default %(default)s)",
    )
    p.add_argument(
        "--show-recipe", action="store_true", help="print the recipe, to change it, and end"
    )
    p.add_argument("--out", help="folder of the outputs")
    add_columns_option(p)
    p.add_argument("--labels", metavar="A,B,...", help="the label space, if clips have no labels")
    p.add_argument(
        "--units",
        default="none",
        metavar="DIR",
        help="folder of OpenFace or py-feat CSV files named as the clips; `py-feat` to measure "
        "now; `none`: the peak frame is found from motion and loudness",
    )
    p.add_argument(
        "--eight-units",
        metavar="N,...",
        help="which FACS units the columns AU01 to AU08 of your files are",
    )
    add_agent_options(p)
    p.add_argument(
        "--transcribe",
        metavar="PART",
        help="transcribe clips without transcript: a fetched Whisper, or a folder of its files",
    )
    p.add_argument(
        "--hear-with",
        metavar="MODEL",
        help="with --transcribe: a model folder whose audio encoder is that Whisper model",
    )
    p.add_argument(
        "--cluster",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="run on Ray: address of a running cluster, or `local` (needs the extra .[cluster])",
    )
    _add_output_options(p)


def _add_output_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--name", help="of the set, in file names (default: that of the clips)")
    p.add_argument(
        "--text-column", default="text", help="of MMEVerse's files (default %(default)s)"
    )
    p.add_argument(
        "--label-column", default="emotion_label", help="of MMEVerse's files (default %(default)s)"
    )
    p.add_argument("--licence", default="", help="of clips and annotations, for the data card")
    p.add_argument("--seed", type=whole, default=0, help="of the filters' random draws")
    p.add_argument("--limit", type=count, metavar="N", help="only the first N clips")
    p.add_argument("--json", action="store_true", help="print summary.json")


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    if not args.out:
        return ""
    return kept_in(args.out, "what is annotated is")


def run(args: argparse.Namespace, console: Console) -> int:
    """Annotates clips; exit code 3 if some are unfinished."""
    from data_pipeline.annotate import outputs
    from data_pipeline.annotate.clip_lists import read_clip_list
    from data_pipeline.annotate.recipe import load_recipe, recipe_text
    from data_pipeline.annotate.runner import Job

    if args.show_recipe:
        print(recipe_text(args.recipe), end="")
        return 0
    if not args.clips or not args.out:
        raise ValueError("give clips (a folder, a manifest or records.jsonl) and --out DIR")
    recipe = load_recipe(args.recipe)
    labels = name_list(args.labels)
    records = read_clip_list(Path(args.clips), labels=labels, columns=args.columns)[: args.limit]
    if not labels and any(not r.labels for r in records) and "reasoning" in recipe.agents:
        raise ValueError("some clips have no labels: name the labels, --labels happy,sad,...")
    endpoints = endpoints_of(args, recipe.agents)
    _check_options(args, endpoints.values())
    job = Job(
        recipe=recipe,
        out=Path(args.out).absolute(),
        endpoints=endpoints,
        concurrency=args.concurrency,
        retries=args.retries,
        backoff=args.backoff,
        units=args.units,
        eight_units=_eight_units(args.eight_units),
        max_money=args.most_money,
        max_tokens=args.most_tokens,
        ask_again=args.ask_again,
    )
    missing = [a for a in recipe.agents if a not in endpoints and a not in recipe.optional]
    if missing:
        raise ValueError(
            f"recipe {recipe.name} asks {', '.join(missing)}: give --endpoint URL --model NAME, "
            "or --agents FILE"
        )
    options = _run_options(args)
    from emojax.workflows.annotate import annotate

    names = outputs.OutputSettings(
        name=args.name or Path(args.clips).stem or "clips",
        text=args.text_column,
        label=args.label_column,
        licence=args.licence,
    )
    with progress_bars(console, note=_cost_note(job)) as progress:
        result = annotate(job, records, names, seed=args.seed, progress=progress, **options)
    if args.json:
        print(json.dumps(result.summary, ensure_ascii=False))
    else:
        _show(result.summary, console)
        files = ", ".join(p.name for p in result.files)
        console.print(f"written: {job.out}/ with {files}", soft_wrap=True)
    console.print(_what_next(result, args), soft_wrap=True)
    return 3 if result.run.unfinished else 0


def _eight_units(text: str | None) -> tuple[int, ...]:
    numbers = (text or "").split(",")
    eight = tuple(int(x) if x.strip().isdecimal() else -1 for x in numbers if x)
    if eight and (len(eight) != 8 or min(eight) < 1):
        raise ValueError(f"--eight-units {text}: give eight numbers, such as 1,2,4,6,9,12,25,26")
    return eight


def _run_options(args: argparse.Namespace) -> dict[str, Any]:
    """Options of `run_job`: a transcriber, or a function that works on a cluster."""
    options: dict[str, Any] = {}
    if args.transcribe:
        from emojax.workflows.annotate import whisper_transcriber

        if args.cluster:
            raise ValueError(
                "--transcribe runs on this machine only: write transcripts into the manifest first"
            )
        setup()
        options["transcribe"] = whisper_transcriber(args.transcribe, args.hear_with)
        options["transcriber"] = f"{args.transcribe} {args.hear_with}"
    if args.cluster:
        from data_pipeline.annotate.cluster import on_cluster

        options["work"] = on_cluster(address=None if args.cluster == "local" else args.cluster)
    return options


def _check_options(args: argparse.Namespace, endpoints: Iterable[Endpoint]) -> None:
    if args.name is not None and (
        not args.name or args.name.startswith(".") or set(args.name) & set("/\\\0")
    ):
        raise ValueError(f"--name '{args.name}': give a plain name, it is part of file names")
    if len({"video_id", "mode", args.text_column, args.label_column}) < 4:
        raise ValueError(
            "--text-column and --label-column: give two names, neither of them video_id or mode"
        )
    if Path(args.out).exists() and not Path(args.out).is_dir():
        raise ValueError(f"--out {args.out}: this is a file, give a folder")
    if args.most_money is not None and any(
        e.price_in is None or e.price_out is None for e in endpoints
    ):
        raise ValueError(
            "--most-money needs the prices of all endpoints: --price-in and --price-out, or "
            "fields in --agents"
        )
    if bool(args.transcribe) != bool(args.hear_with):
        raise ValueError("give both --transcribe PART and --hear-with MODEL, or neither")


def _what_next(result: AnnotationResult, args: argparse.Namespace) -> str:
    run = result.run
    if run.stopped:
        more = (
            "; give more, and run the same command again to continue" if run.budget_reached else ""
        )
        return run.stopped + more
    if run.unfinished:
        return (
            f"{len(run.unfinished)} clips are unfinished (unfinished.csv): run the same command "
            "again to ask for them"
        )
    if not result.kept:
        why = "; recipes that use action units need --units DIR" if args.units == "none" else ""
        return f"nothing was kept: left_out.csv gives the reason for each clip{why}"
    return f"try next: emojax verify {args.out} --annotator YOUR_NAME"


def _cost_note(job: Job) -> Callable[[float, float | None], str]:
    """A function of (clips done, clips in all) that says what they cost and will probably cost."""
    priced = any(e.price_in is not None for e in job.endpoints.values())
    ledgers: list[Ledger] = []
    first: list[tuple[float, float]] = []

    def note(done: float, total: float | None) -> str:
        if not ledgers:  # the run makes the folder of the ledger
            ledgers.append(job.ledger())
        spending = ledgers[0].spending()
        value = spending.money if priced else float(spending.tokens)
        if not first:
            first.append((done, value))
        clips, paid = done - first[0][0], value - first[0][1]
        expected = value + paid / clips * ((total or done) - done) if clips > 0 else value
        if not value:
            return ""
        if priced:
            return f"{value:.2f} of about {expected:.2f}"
        return f"{value:,.0f} of about {expected:,.0f} tokens"

    return note


def _show(summary: dict[str, Any], console: Console) -> None:
    table = Table("label", "clips", title=f"{summary['kept']} of {summary['clips']} clips kept")
    for label, n in summary["labels"].items():
        table.add_row(label or "(none)", str(n))
    console.print(table)
    for title in ("left_out", "unfinished"):
        for why, n in summary[title].items():
            console.print(f"  {title.replace('_', ' ')}: {n}  {why}", soft_wrap=True)
    claims = "; ".join(
        f"{modality} {c.get('supported', 0)} / {c.get('contradicted', 0)} / {c.get('unknown', 0)}"
        for modality, c in summary["claims"].items()
    )
    console.print(
        f"claims of the reasons, supported / contradicted / not known: {claims}", soft_wrap=True
    )
    spent, more = summary["spent"], ""
    if spent["uncounted"]:
        more += (
            f" ({spent['uncounted']:,} of them counted at their maximum, because the server "
            "reported no tokens)"
        )
    if spent["lost"]:
        more += f", {spent['lost']:,} more counted at their maximum, because their reply was lost"
    money = f", money {spent['money']:.4f}" if spent["money"] else ""
    tokens = spent["tokens_in"] + spent["tokens_out"]
    console.print(
        f"{spent['requests']:,} requests answered{more}, {tokens:,} tokens{money}", soft_wrap=True
    )

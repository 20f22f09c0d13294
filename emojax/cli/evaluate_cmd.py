"""The commands about scores: evaluate, suites, compare."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data_pipeline.llm.endpoint import Endpoint
from emojax.cli.console import progress_bars, setup
from emojax.cli.progress_bars import bar


def add_parsers(commands: Any) -> None:
    """Adds `evaluate`, `suites` and `compare`."""
    p = commands.add_parser(
        "evaluate",
        help="score a model, a server or a file of predictions",
        description="Scores a model on the clips of a manifest or of a suite, or predictions that are there already.",
    )
    p.add_argument("model", nargs="?", help="model folder, or the name of an imported model")
    p.add_argument("--manifest", help="CSV as for train")
    p.add_argument(
        "--split",
        type=str.lower,
        choices=("train", "val", "test"),
        help="of the manifest; default: every split; a manifest without splits counts as test",
    )
    p.add_argument(
        "--predictions",
        help="JSONL, npz or CSV of any system, or a folder of files named after sets",
    )
    p.add_argument("--suite", help="a suite or a set: see `emojax suites`")
    p.add_argument("--data", help="folder of data sets, for --suite (see `emojax data check`)")
    p.add_argument(
        "--answers",
        choices=("text", "labels", "both"),
        default="text",
        help="with --suite: generated text as in the papers; closed questions from the probabilities of their labels, in one "
        "forward pass; or both (default %(default)s)",
    )
    p.add_argument(
        "--endpoint",
        metavar="URL",
        help="ask this OpenAI-compatible multimodal server in place of a model",
    )
    p.add_argument("--served", metavar="NAME", help="with --endpoint: the model's name there")
    p.add_argument(
        "--send",
        choices=("frames", "video"),
        default="frames",
        help="with --endpoint: 8 pictures and the sound, or the file",
    )
    _endpoint_options(p)
    p.add_argument(
        "--batch", type=int, default=16, help="with --suite: clips at once (default %(default)s)"
    )
    p.add_argument("--limit", type=int, default=0, help="with --suite: at most so many clips a set")
    p.add_argument("--int8", action="store_true", help="with --suite: frozen kernels as int8")
    p.add_argument(
        "--truth",
        help="with --predictions: labels by clip (csv, npz, jsonl), for files that hold none",
    )
    p.add_argument(
        "--metric", default="", help="with --predictions of no known set: single, multi_label, ..."
    )
    p.add_argument(
        "--labels",
        metavar="A,B,...",
        default="",
        help="with --predictions of no known set: the label space",
    )
    p.add_argument("--mode", default="", help="with --predictions: score rows of this mode alone")
    p.add_argument(
        "--tables",
        help="folder of the official word tables (default: fetched ones, else our own lexicon)",
    )
    p.add_argument(
        "--resamples",
        type=int,
        default=2000,
        help="of the bootstrap; 0: no intervals (default %(default)s)",
    )
    p.add_argument("--seed", type=int, default=0, help="of the bootstrap (default %(default)s)")
    p.add_argument(
        "--out",
        required=True,
        help="folder for evaluation.json, evaluation.md, report.html, clips.csv",
    )

    p = commands.add_parser(
        "judge",
        help="score texts by a language model: clues, labels, open words, reasoning",
        description="Asks an OpenAI-compatible endpoint. Replies are kept below --out and never asked for twice.",
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
        help="clues: no judge; claims are checked against action units, tone and words of --references (MERR's folder, or records.jsonl)",
    )
    p.add_argument(
        "--endpoint", metavar="URL", help="base address, such as http://localhost:8000/v1"
    )
    p.add_argument("--model", metavar="NAME", help="the judge, as the endpoint names it")
    p.add_argument("--seed", type=int, default=0)
    _endpoint_options(p)
    p.add_argument(
        "--agreement", nargs=2, metavar=("A", "B"), help="compare two judges' files instead"
    )
    p.add_argument("--out", help="folder for judge_<task>_<model>.json and the stored replies")

    p = commands.add_parser(
        "compare", help="compare evaluations of the same clips, with paired tests"
    )
    p.add_argument(
        "runs",
        nargs="+",
        metavar="FOLDER",
        help="folders of `emojax evaluate`; the first is compared with each other one",
    )
    p.add_argument(
        "--score", default="", help="score to compare (default: what stands for each set)"
    )
    p.add_argument(
        "--permutations", type=int, default=10000, help="of the paired test (default %(default)s)"
    )
    p.add_argument("--tables", help="folder of the official word tables")
    p.add_argument("--out", required=True, help="folder for comparison.json, .md and .html")

    p = commands.add_parser("suites", help="list the suites and sets that `evaluate --suite` knows")
    p.add_argument("--json", action="store_true")


def _endpoint_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--key-from",
        metavar="VARIABLE",
        default="EMOJAX_API_KEY",
        help="environment variable of the key (default %(default)s)",
    )
    p.add_argument(
        "--concurrency", type=int, default=4, help="requests at once (default %(default)s)"
    )
    p.add_argument(
        "--timeout", type=float, default=60.0, help="seconds a request (default %(default)s)"
    )
    p.add_argument(
        "--price",
        nargs=2,
        type=float,
        metavar=("IN", "OUT"),
        help="money for a million tokens of prompts and replies",
    )


def endpoint_of(args: argparse.Namespace, model: str) -> Endpoint:
    """The endpoint of a command's options.

    Raises:
      ValueError: an option is no use.
    """
    if not args.endpoint.startswith(("http://", "https://")):
        raise ValueError(
            f"--endpoint {args.endpoint}: give an address, such as http://localhost:8000/v1"
        )
    if args.concurrency < 1 or not args.timeout > 0:
        raise ValueError("--concurrency and --timeout are above 0")
    price = args.price or (None, None)
    return Endpoint(
        url=args.endpoint,
        model=model,
        key=os.environ.get(args.key_from, ""),
        seed=args.seed,
        timeout=args.timeout,
        price_in=price[0],
        price_out=price[1],
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """One command of this page; its exit code."""
    return {"suites": _suites, "judge": _judge, "compare": _compare, "evaluate": _evaluate}[
        args.command
    ](args, console)


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    from emojax.evaluate.emotion_wheels import find_tables
    from emojax.evaluate.results_folder import Options
    from emojax.evaluate.suites import METRICS, SUITES, suite_of
    from emojax.workflows import evaluate, jobs

    if args.metric and args.metric not in METRICS:
        raise ValueError(f"--metric {args.metric}: it is one of {', '.join(METRICS)}")
    for name in ("resamples", "limit"):
        if getattr(args, name) < 0:
            raise ValueError(f"--{name} is a number of 0 or more")
    if args.seed < 0:
        raise ValueError(f"--seed {args.seed}: a number of 0 or more")
    if args.predictions:
        useless = [
            n for n in ("endpoint", "served", "data", "split", "limit", "int8") if getattr(args, n)
        ]
        if useless:
            raise ValueError(
                f"--{useless[0]} has no use with --predictions, which are scored as they are"
            )
    if args.batch < 1:
        raise ValueError("--batch is a number of 1 or more")
    suite = suite_of(args.suite) if args.suite else None
    tables = find_tables(Path(args.tables) if args.tables else None)
    labels = tuple(filter(None, map(str.strip, args.labels.split(","))))
    options = Options(
        tables=tables,
        resamples=args.resamples,
        seed=args.seed,
        metric=args.metric,
        labels=labels,
        mode=args.mode,
    )
    out = jobs.run_folder(args.out)
    if args.predictions:
        if args.model or args.manifest:
            raise ValueError(
                "--predictions are scored as they are: leave out the model and the manifest"
            )
        one = args.suite if suite and args.suite not in SUITES else ""  # a set's name
        truth = Path(args.truth) if args.truth else None
        evaluate.evaluate_files(
            Path(args.predictions),
            one,
            None if one else suite,
            truth=truth,
            out=out,
            options=options,
            console=console,
        )
        return 0
    if not args.model and not args.endpoint:
        raise ValueError("give a model (a folder or a name), --endpoint URL, or --predictions FILE")
    if bool(args.manifest) == bool(suite):
        raise ValueError("give the clips: --manifest FILE, or --suite NAME with --data FOLDER")
    if args.suite and not args.data:
        raise ValueError("--suite needs --data FOLDER, where the data sets are")
    if args.endpoint:
        if args.model or not args.served:
            raise ValueError("--endpoint needs --served NAME, and no model folder")
        place = Path(args.data if suite else args.manifest)
        evaluate.evaluate_server(
            endpoint_of(args, args.served),
            suite,
            place,
            split=args.split,
            out=out,
            options=options,
            console=console,
            send=args.send,
            concurrency=args.concurrency,
            limit=args.limit,
        )
        return 0
    from emojax.weights.locations import find_model

    setup()
    model = find_model(args.model)
    if suite is None:
        jobs.score_manifest(model, args.manifest, args.split, out, console)
        return 0
    evaluate.evaluate_suite(
        model,
        suite,
        Path(args.data),
        out=out,
        options=options,
        console=console,
        answers=args.answers,
        batch=args.batch,
        limit=args.limit,
        int8=args.int8,
    )
    return 0


def _judge(args: argparse.Namespace, console: Console) -> int:
    from emojax.evaluate import llm_judge

    if args.agreement:
        first, second = (json.loads(Path(p).read_text()) for p in args.agreement)
        print(json.dumps(llm_judge.judges_agree(first, second), indent=1))
        return 0
    if args.task == "clues":
        return _clues(args, console)
    for name, example in (
        ("predictions", "preds.jsonl"), ("references", "final-EMER-reason.csv"), ("task", "clue-overlap"),
        ("endpoint", "http://localhost:8000/v1"), ("model", "NAME"), ("out", "DIR"),
    ):  # fmt: skip
        if not getattr(args, name):
            raise ValueError(f"--{name} is missing, such as --{name} {example}")
    from data_pipeline.llm.client import ChatClient
    from emojax.evaluate.predictions import read_predictions, read_references

    rows = read_predictions(Path(args.predictions))
    references = read_references(Path(args.references))
    here = [r for r in rows if r.clip in references]
    if not here:
        raise ValueError(f"{args.predictions} and {args.references} have no clip in common")
    if unknown := len(rows) - len(here):
        console.print(f"{unknown} of {len(rows)} predictions have no reference, and are left out")
    if lost := len(references) - len(here):
        console.print(
            f"{lost} of {len(references)} references have no prediction; the scores are over the rest"
        )
    out = Path(args.out)
    with ChatClient(
        endpoint_of(args, args.model), out / "replies", concurrency=args.concurrency
    ) as client:
        with progress_bars(console) as progress:
            result = llm_judge.judge(args.task, here, references, client, progress=progress)
    name = f"judge_{args.task}_{re.sub(r'[^A-Za-z0-9._-]+', '-', args.model)}.json"
    (out / name).write_text(json.dumps(result, indent=1, ensure_ascii=False))
    table = Table(title=f"{args.task}: {result['scored']} of {result['n']} clips scored")
    for column in ("judge that answered", "score", "mean", "95 %"):
        table.add_column(column, justify="right" if column in ("mean", "95 %") else "left")
    for model, scores in result["by_model"].items():
        for score, value in scores.items():
            if score != "n":
                low_high = value["interval"]
                span = f"{low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else "-"
                table.add_row(model or "(not told)", score, f"{value['mean']:.3f}", span)
    console.print(table)
    from emojax.evaluate.paper_results import figures_for

    for where, score in (
        ("emer", "clue_overlap"),
        ("emer", "label_overlap"),
        ("mer2024_ov", "judge_average"),
    ):
        for figure in (
            figures_for(where, score=score)
            if any(score in m for m in result["by_model"].values())
            else ()
        ):
            console.print(
                f"published: {figure.system} {figure.value} ({figure.source}; {', '.join(figure.differs)})",
                soft_wrap=True,
            )
    for what in ("not_scored", "faults"):
        if result[what]:
            told = ", ".join(f"{n} {kind}" for kind, n in result[what].items())
            console.print(f"{what.replace('_', ' ')}: {told}", soft_wrap=True)
    tokens = result["tokens"]
    cost = f", cost {result['cost']:.2f}" if result["cost"] is not None else ""
    console.print(
        f"{result['requests']} requests, {tokens['prompt']:,} + {tokens['reply']:,} tokens{cost}"
    )
    if len(result["by_model"]) > 1:
        console.print("several models answered: there is no mean over all of them", soft_wrap=True)
    console.print(f"written: {out / name}", soft_wrap=True)
    return 0 if result["scored"] else 1


def _clues(args: argparse.Namespace, console: Console) -> int:
    from emojax.evaluate.clue_scores import checked_clues, read_evidence
    from emojax.evaluate.predictions import read_predictions

    for name in ("predictions", "references", "out"):
        if not getattr(args, name):
            raise ValueError(f"--{name} is missing")
    rows, records = read_predictions(Path(args.predictions)), read_evidence(Path(args.references))
    both = [(r.reason or r.response, records[r.clip]) for r in rows if r.clip in records]
    if not both:
        raise ValueError(f"{args.predictions} and {args.references} have no clip in common")
    result = {"task": "clues", "judge": None, "n": len(both)} | checked_clues(both)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "judge_clues.json").write_text(json.dumps(result, indent=1))
    table = Table(title=f"clues of {len(both)} clips, checked without a judge")
    for column in ("", "claims", "precision", "recall", "can not be checked"):
        table.add_column(column, justify="right" if column else "left")
    for name, v in {"all": result, **result["by_modality"]}.items():
        cells = ["-" if v[k] is None else f"{v[k]:.3f}" for k in ("precision", "recall")]
        table.add_row(name, str(v["claims"]), *cells, str(v["unknown"]))
    console.print(table)
    console.print(f"written: {out / 'judge_clues.json'}", soft_wrap=True)
    return 0


def _compare(args: argparse.Namespace, console: Console) -> int:
    from emojax.evaluate.emotion_wheels import find_tables
    from emojax.reports.comparison import compare_runs, show, write

    if len(args.runs) < 2:
        raise ValueError("give two folders of `emojax evaluate`, or more")
    tables = find_tables(Path(args.tables) if args.tables else None)
    with bar(console, "compare") as tick:
        result = compare_runs(
            [Path(r) for r in args.runs], args.score, args.permutations, tables, tick=tick
        )
    write(result, Path(args.out))
    show(result, console)
    console.print(
        f"written: {args.out}/comparison.json, comparison.md, comparison.html", soft_wrap=True
    )
    return 0


def _suites(args: argparse.Namespace, console: Console) -> int:
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
        "a set's name alone is a suite of one; data sets: `emojax data list`", soft_wrap=True
    )
    return 0

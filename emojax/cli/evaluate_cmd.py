"""`emojax evaluate`: scores a model, a server or files of predictions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from data_pipeline.suggestions import not_one_of
from emojax.cli.arguments import Commands, count, name_list, output_folder, whole
from emojax.cli.console import progress_bars, setup
from emojax.cli.endpoint_options import add_endpoint_options, endpoint_of
from emojax.cli.manifest_options import add_columns_option, labels_to_choose_from
from emojax.cli.output import kept_in, show_evaluation
from emojax.cli.plot_options import add_latex_option, add_plots_option

if TYPE_CHECKING:
    from data_pipeline.progress import Progress
    from emojax.evaluate.score_files import ScoringOptions
    from emojax.evaluate.suites import Suite


def add_parser(commands: Commands) -> None:
    """Adds `evaluate`."""
    p = commands.add_parser(
        "evaluate",
        help="score a model, a server or a file of predictions",
        description="Scores a model on the clips of a manifest or suite, or existing predictions.",
    )
    p.add_argument("model", nargs="?", help="model folder, or the name of an imported model")
    _add_clip_options(p)
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
        help="with --endpoint: 8 frames and the audio, or the file",
    )
    add_endpoint_options(p)
    p.add_argument(
        "--batch", type=count, default=16, help="with --suite: clips at once (default %(default)s)"
    )
    p.add_argument("--limit", type=whole, default=0, help="with --suite: at most N clips per set")
    p.add_argument("--int8", action="store_true", help="with --suite: frozen kernels as int8")
    _add_prediction_options(p)
    p.add_argument(
        "--resamples",
        type=whole,
        default=2000,
        help="of the bootstrap; 0: no intervals (default %(default)s)",
    )
    p.add_argument("--seed", type=whole, default=0, help="of the bootstrap (default %(default)s)")
    p.add_argument(
        "--out",
        required=True,
        help="folder for evaluation.json, evaluation.md, report.html, clips.csv",
    )
    add_plots_option(p)
    add_latex_option(p)


def _add_clip_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--manifest", help="table as for train")
    add_columns_option(
        p,
        more="; of predictions: clip=, response=, answer= (the truth)",
    )
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
        help="with --suite: generated text as in the papers; closed questions from the "
        "probabilities of their labels, in one forward pass; or both (default %(default)s)",
    )


def _add_prediction_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--truth",
        help="with --predictions: labels by clip (csv, npz, jsonl), for files without labels",
    )
    p.add_argument(
        "--metric",
        default="",
        help="with --predictions of an unknown set: single, multi_label, ...",
    )
    p.add_argument(
        "--labels",
        metavar="A,B,...",
        default="",
        help="of --manifest (default: the model's), or of --predictions of an unknown set: the "
        "classes",
    )
    p.add_argument("--mode", default="", help="with --predictions: score only rows of this mode")
    p.add_argument(
        "--tables",
        help="folder of the official word tables (default: fetched ones, else our own lexicon)",
    )


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    if (args.suite and not args.predictions) or args.endpoint:
        return kept_in(args.out, "answers are")
    return "nothing was written; run the same command again"


def run(args: argparse.Namespace, console: Console) -> int:
    """Scores what the options name."""
    from emojax.evaluate.emotion_wheels import find_tables
    from emojax.evaluate.score_files import ScoringOptions
    from emojax.evaluate.suites import find_suite

    _check_options(args)
    suite = find_suite(args.suite) if args.suite else None
    options = ScoringOptions(
        tables=find_tables(Path(args.tables) if args.tables else None),
        resamples=args.resamples,
        seed=args.seed,
        metric=args.metric,
        labels=tuple(name_list(args.labels)),
        mode=args.mode,
    )
    with output_folder(args.out) as out, progress_bars(console) as progress:
        is_replaced = (out / "evaluation.json").exists()
        if args.predictions:
            results = _score_files(args, suite, out, options, progress=progress)
        else:
            results = _score_clips(args, suite, out, options, progress=progress)
    if results:  # in several processes, only the first has them
        if is_replaced:
            console.print(f"note: the earlier evaluation in {out} is replaced", soft_wrap=True)
        show_evaluation(results, out, console)
        _write_for_papers(args, results, out, console)
    return 0


def _write_for_papers(
    args: argparse.Namespace, results: dict[str, Any], out: Path, console: Console
) -> None:
    """Writes plots of other kinds than PNG, which every evaluation has, and LaTeX tables."""
    from emojax.reports.evaluation_tables import write_plots
    from emojax.reports.latex_tables import write_evaluation_tex

    written = [p for k in args.plots if k != "png" for p in write_plots(results, out, kind=k)]
    if args.latex:
        written.append(write_evaluation_tex(results, out))
    if written:
        console.print(f"written: {', '.join(map(str, written))}", soft_wrap=True)


def _check_options(args: argparse.Namespace) -> None:
    from emojax.evaluate.suites import METRICS

    if args.metric and args.metric not in METRICS:
        raise ValueError(f"--metric: {not_one_of(args.metric, METRICS)}")
    if args.predictions:
        for name in ("endpoint", "served", "data", "split", "limit", "int8"):
            if getattr(args, name):
                raise ValueError(
                    f"--{name} has no use with --predictions, which are scored as they are"
                )


def _score_files(
    args: argparse.Namespace,
    suite: Suite | None,
    out: Path,
    options: ScoringOptions,
    *,
    progress: Progress,
) -> dict[str, Any]:
    from emojax.evaluate.suites import SUITES
    from emojax.workflows.evaluate import evaluate_files

    if args.model or args.manifest:
        raise ValueError(
            "--predictions are scored as they are: leave out the model and the manifest"
        )
    is_set = suite is not None and args.suite not in SUITES
    return evaluate_files(
        Path(args.predictions),
        args.suite if is_set else "",
        None if is_set else suite,
        truth=Path(args.truth) if args.truth else None,
        out=out,
        options=options,
        columns=args.columns,
        progress=progress,
    )


def _score_clips(
    args: argparse.Namespace,
    suite: Suite | None,
    out: Path,
    options: ScoringOptions,
    *,
    progress: Progress,
) -> dict[str, Any]:
    from emojax.workflows import evaluate

    if not args.model and not args.endpoint:
        raise ValueError("give a model (a folder or a name), --endpoint URL, or --predictions FILE")
    if bool(args.manifest) == bool(suite):
        raise ValueError("give the clips: --manifest FILE, or --suite NAME with --data FOLDER")
    if args.suite and not args.data:
        raise ValueError("--suite needs --data FOLDER, the folder of the data sets")
    if args.endpoint:
        if args.model or not args.served:
            raise ValueError("--endpoint needs --served NAME, and no model folder")
        return evaluate.evaluate_server(
            endpoint_of(args, args.served),
            suite,
            Path(args.data if suite else args.manifest),
            split=args.split,
            out=out,
            options=options,
            send=args.send,
            concurrency=args.concurrency,
            limit=args.limit,
            columns=args.columns,
            progress=progress,
        )
    setup()
    from emojax.bundle.model_folder import read_facts
    from emojax.weights.locations import find_model
    from emojax.workflows.score import score_manifest

    model = find_model(args.model)
    if suite is None:
        return score_manifest(
            model,
            args.manifest,
            out,
            split=args.split,
            labels=labels_to_choose_from(args.labels, read_facts(model)[0]["labels"]),
            columns=args.columns,
            progress=progress,
        )
    return evaluate.evaluate_suite(
        model,
        suite,
        Path(args.data),
        out=out,
        options=options,
        answers=args.answers,
        batch=args.batch,
        limit=args.limit,
        int8=args.int8,
        progress=progress,
    )

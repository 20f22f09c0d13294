"""`emojax <command>`: one page that names every command and hands over."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emojax.cli.arguments import whole
from emojax.cli.console import setup, shown_log


def parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    top = argparse.ArgumentParser(
        prog="emojax", description="Names the emotion that a clip of a person shows, and why."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")

    p = commands.add_parser(
        "demo", help="train in miniature on the embedded corpus, evaluate, explain one clip"
    )
    p.add_argument("--out", default="runs/demo", help="run folder (default %(default)s; made anew)")
    p.add_argument(
        "--preset",
        default="tiny",
        help="tiny: Emotion-LLaMAv2 in miniature; tiny:v1: Emotion-LLaMA",
    )

    p = commands.add_parser(
        "train", help="train on the clips of a manifest; --config=FILE hands over to emojax.train"
    )
    p.add_argument(
        "--manifest", required=True, help="CSV with path,label[,subtitle,split,speaker,start,end]"
    )
    p.add_argument("--out", required=True, help="run folder; an unfinished run in it goes on")
    p.add_argument(
        "--preset", default="tiny:people", help="configuration by name (default %(default)s)"
    )
    p.add_argument("--seed", type=int, help="seed of weights, order and augmentation")

    from emojax.cli import annotate_cmd, evaluate_cmd, predict_cmd, serve_cmd

    evaluate_cmd.add_parsers(commands)
    predict_cmd.add_parsers(commands)
    serve_cmd.add_parser(commands)
    annotate_cmd.add_parsers(commands)

    from emojax.cli import data_cmd

    data_cmd.add_parser(commands)
    _add_weights(commands)

    p = commands.add_parser(
        "corpus", help="write the embedded corpus: clips, records.jsonl, manifest.csv"
    )
    p.add_argument("--out", help="folder (default: the cache)")
    p.add_argument("--train", type=whole, default=600, help="clips (default %(default)s)")
    p.add_argument("--val", type=whole, default=150, help="clips (default %(default)s)")
    p.add_argument("--test", type=whole, default=300, help="clips (default %(default)s)")
    p.add_argument("--seed", type=whole, default=0, help="another seed, another corpus")
    return top


def _add_weights(commands: Any) -> None:
    p = commands.add_parser(
        "fetch", help="download the released files of a model and import them, or a scorer's tables"
    )
    p.add_argument(
        "name",
        help="model of the catalogue (see `emojax weights list`), or mer-unibench: the scorer's word tables",
    )
    _import_options(p)
    p.add_argument("--mirror", action="store_true", help="take mirrors of gated repositories")

    p = commands.add_parser("weights", help="list, show, import or verify weights")
    actions = p.add_subparsers(dest="action", required=True, metavar="action")
    a = actions.add_parser("list", help="models and sources of the catalogue, and which are here")
    a.add_argument("--json", action="store_true")
    a = actions.add_parser("show", help="what a model is made of, and where from")
    a.add_argument("name", help="model of the catalogue, or a model folder")
    a.add_argument("--json", action="store_true")
    a = actions.add_parser("verify", help="compare an imported model with its manifest")
    a.add_argument("name", help="model of the catalogue, or a model folder")
    a = actions.add_parser("import", help="import files that are here")
    a.add_argument("name", help="model of the catalogue: see `emojax weights list`")
    _import_options(a)

    p = commands.add_parser(
        "export", help="write what a model has learned in other projects' layouts"
    )
    p.add_argument("model", help="model folder, or an imported model's name")
    p.add_argument(
        "--format",
        required=True,
        choices=("peft", "emotion-llama", "hf-merged", "safetensors"),
        help="layout",
    )
    p.add_argument("--out", required=True, help="file or folder to write")

    from emojax.cli import plan_cmd, runs_cmd

    plan_cmd.add_parser(commands)
    runs_cmd.add_parsers(commands)


def _import_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--file",
        action="append",
        default=[],
        metavar="SOURCE=PATH",
        help="a file or folder that is here",
    )
    p.add_argument(
        "--out", help="model folder (default: the cache, where predict --model NAME finds it)"
    )
    p.add_argument("--preset", help="another configuration than the model's own")
    p.add_argument(
        "--questions",
        metavar="FILE",
        help='JSON {task: [wordings]}, e.g. the originals\'; "{labels}" is filled in',
    )
    p.add_argument(
        "--int8", action="store_true", help="keep frozen kernels as int8 (config.model.kernels)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; exit code 0, 1 failed, 2 wrong usage, 3 some files were refused, 130 stopped by the user."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["train"] and any(a.startswith("--config") for a in argv):
        return _hand_over(argv[1:])
    args, rest = parser().parse_known_args(argv)
    planning = args.command == "plan" and args.what == "train"
    if rest and not (planning and all(word.startswith("--config.") for word in rest)):
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    from rich.console import Console

    to_pipe = args.command in ("predict", "annotate", "verify") or (
        args.command in ("data", "plan") and getattr(args, "json", False)
    )
    console = Console(stderr=to_pipe, markup=False, highlight=False)
    from data_pipeline.datasets.manifest import ManifestError

    try:
        own = {
            "demo": _demo,
            "train": _train,
            "evaluate": _evaluate,
            "predict": _predict,
            "corpus": _corpus,
        }
        own |= {"calibrate": _predict, "serve": _serve}
        own |= dict.fromkeys(("suites", "judge", "compare"), _evaluate)
        own |= {"annotate": _annotate, "verify": _annotate}
        own |= {"data": _data, "sweep": _runs, "watch": _runs, "report": _runs}
        if planning:
            from emojax.cli import plan_cmd

            with shown_log(console):
                return plan_cmd.run_train(args, console, rest)
        with shown_log(console):
            return own.get(args.command, _weights)(args, console)
    except (ManifestError, ValueError) as error:
        console.print(f"emojax {args.command}: {error}", soft_wrap=True)
        return 2
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        console.print(f"emojax {args.command}: {error}", soft_wrap=True)
        return 2
    except KeyboardInterrupt as stop:
        if str(stop):  # train.stop.Stopped: what was saved, by SIGTERM or Ctrl-C
            console.print(f"emojax {args.command}: {stop}", soft_wrap=True)
            return getattr(stop, "code", 130)
        goes_on = {
            "train": "; the same command goes on from the last checkpoint",
            "data": "; the same command goes on",
        }
        goes_on["predict"] = (
            goes_on["data"]
            if getattr(args, "timeline", False) or getattr(args, "report", None)
            else ""
        )
        goes_on["sweep"] = goes_on["annotate"] = goes_on["data"]
        again = goes_on.get(args.command, "")
        console.print(f"emojax {args.command}: stopped{again}")
        return 130


def _hand_over(argv: list[str]) -> int:
    from absl import app

    from emojax.cli import train_config_cmd

    app.run(train_config_cmd.main, ["emojax train", *argv], flags_parser=train_config_cmd.parse)
    return 0


def _demo(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.workflows.demo import demo
    from emojax.workflows.jobs import run_folder

    setup(training=True)
    demo(run_folder(args.out), console, preset=args.preset)
    return 0


def _train(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.cli.console import progress_bars
    from emojax.config import load_config, resolve
    from emojax.train.start import check_tokenizer
    from emojax.workflows import jobs
    from emojax.workflows.train import run_training

    config = load_config(args.preset)
    if args.seed is not None:
        config.seed = args.seed
    settings = resolve(config)
    check_tokenizer(settings.train)
    setup(training=True)
    out = jobs.run_folder(args.out)
    records = jobs.read_records(args.manifest, console, seed=settings.seed)
    sources = jobs.open_views(records, settings, console)
    with progress_bars(console) as progress:
        run_training(settings, records, sources, out, progress=progress)
    if "val" in sources:
        jobs.calibrate(out, sources["val"], console, name=f"{args.manifest}, val")
    jobs.score_splits(out, sources, sorted(sources), out, console)
    console.print(f"try next: emojax predict CLIP --model {out}", soft_wrap=True)
    return 0


def _data(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.cli import data_cmd

    return data_cmd.run(args, console)


def _runs(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.cli import runs_cmd

    return runs_cmd.run(args, console)


def _weights(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.cli.weights_cmd import run

    return run(args, console)


def _evaluate(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.cli import evaluate_cmd

    return evaluate_cmd.run(args, console)


def _annotate(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.cli import annotate_cmd

    return annotate_cmd.run(args, console)


def _serve(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.cli import serve_cmd

    return serve_cmd.run(args, console)


def _predict(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.cli import predict_cmd

    return predict_cmd.run(args, console)


def _corpus(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from data_pipeline.embedded.generate import make_corpus
    from data_pipeline.embedded.truth import CorpusConfig
    from emojax.cli.progress_bars import bar

    config = CorpusConfig(train=args.train, val=args.val, test=args.test, seed=args.seed)
    with bar(console, "make the embedded corpus") as tick:
        folder = make_corpus(
            config=config, folder=Path(args.out) if args.out else None, progress=tick
        )
        tick(args.train + args.val + args.test, args.train + args.val + args.test)
    console.print(f"written: {folder} (clips/, records.jsonl, manifest.csv)", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

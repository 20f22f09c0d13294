"""`emojax <command>`: one page that names every command and hands over."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NO_MODEL = """there is no model yet. Three ways to get one:
  emojax demo                                    trains a small one on the embedded corpus, in minutes
  emojax train --manifest M.csv --out DIR        trains on your own clips; then give --model DIR
  emojax fetch emotion-llama-v2                  downloads and imports released weights (19 GB; needs accelerators)"""


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def _count(text: str) -> int:
    if int(text) < 0:
        raise ValueError
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    top = argparse.ArgumentParser(
        prog="emojax", description="Names the emotion that a clip of a person shows, and why."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")

    p = commands.add_parser("demo", help="train in miniature on the embedded corpus, evaluate, explain one clip")
    p.add_argument("--out", default="runs/demo", help="run folder (default %(default)s; made anew)")
    p.add_argument("--preset", default="tiny", help="tiny: Emotion-LLaMAv2 in miniature; tiny:v1: Emotion-LLaMA")

    p = commands.add_parser("train", help="train on the clips of a manifest; --config=FILE hands over to emojax.train")
    p.add_argument("--manifest", required=True, help="CSV with path,label[,subtitle,split,speaker,start,end]")
    p.add_argument("--out", required=True, help="run folder; an unfinished run in it goes on")
    p.add_argument("--preset", default="tiny:people", help="configuration by name (default %(default)s)")
    p.add_argument("--seed", type=int, help="seed of weights, order and augmentation")

    from emojax import cli_evaluate

    cli_evaluate.add_parsers(commands)

    p = commands.add_parser(
        "calibrate", help="fit the temperature of a model's probabilities on clips with known labels"
    )
    p.add_argument("model", help="model folder, or the name of an imported model")
    p.add_argument("--manifest", required=True, help="CSV as for train; not the clips that scores are told of")
    p.add_argument(
        "--split", type=str.lower, choices=("train", "val", "test"), default="val", help="(default %(default)s)"
    )

    p = commands.add_parser("predict", help="label, probabilities and reason of media files")
    p.add_argument("paths", nargs="+", metavar="PATH", help="files, or folders that are searched for media")
    p.add_argument(
        "--model", help="model folder, or the name of an imported model (default: the newest imported or demo model)"
    )
    p.add_argument("--subtitle", default="", help="what is said, for all files alike")
    p.add_argument("--labels", metavar="A,B,...", help="labels to choose from (default: the model's own)")
    p.add_argument(
        "--one-speaker",
        action="store_true",
        help="all files are of one person: what is common to his or her voice is taken out (models trained on named speakers)",
    )
    p.add_argument("--int8", action="store_true", help="frozen kernels as int8: half the memory of bfloat16")
    p.add_argument(
        "--abstain", type=_share, default=0.0, metavar="P", help='answer "cannot tell" below this probability'
    )
    p.add_argument(
        "--contributions", action="store_true", help="measure what picture, sound and words each add to the answer"
    )
    p.add_argument("--json", action="store_true", help="one JSON object a line")
    p.add_argument(
        "--decode-timeout", type=_seconds, default=8.0, help="refuse a file that takes longer (default %(default)s s)"
    )

    from emojax import cli_data

    cli_data.add_parser(commands)
    _add_weights(commands)

    p = commands.add_parser("corpus", help="write the embedded corpus: clips, records.jsonl, manifest.csv")
    p.add_argument("--out", help="folder (default: the cache)")
    p.add_argument("--train", type=_count, default=600, help="clips (default %(default)s)")
    p.add_argument("--val", type=_count, default=150, help="clips (default %(default)s)")
    p.add_argument("--test", type=_count, default=300, help="clips (default %(default)s)")
    p.add_argument("--seed", type=_count, default=0, help="another seed, another corpus")
    return top


def _add_weights(commands: Any) -> None:
    p = commands.add_parser(
        "fetch", help="download the released files of a model and import them, or a scorer's tables"
    )
    p.add_argument(
        "name", help="model of the catalogue (see `emojax weights list`), or mer-unibench: the scorer's word tables"
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

    p = commands.add_parser("export", help="write what a model has learned in other projects' layouts")
    p.add_argument("model", help="model folder, or an imported model's name")
    p.add_argument(
        "--format", required=True, choices=("peft", "emotion-llama", "hf-merged", "safetensors"), help="layout"
    )
    p.add_argument("--out", required=True, help="file or folder to write")

    from emojax import cli_plan, cli_runs

    cli_plan.add_parser(commands)
    cli_runs.add_parsers(commands)


def _import_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--file", action="append", default=[], metavar="SOURCE=PATH", help="a file or folder that is here")
    p.add_argument("--out", help="model folder (default: the cache, where predict --model NAME finds it)")
    p.add_argument("--preset", help="another configuration than the model's own")
    p.add_argument(
        "--questions", metavar="FILE", help='JSON {task: [wordings]}, e.g. the originals\'; "{labels}" is filled in'
    )
    p.add_argument("--int8", action="store_true", help="keep frozen kernels as int8 (config.model.kernels)")


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

    to_pipe = args.command == "predict" or (args.command in ("data", "plan") and getattr(args, "json", False))
    console = Console(stderr=to_pipe, markup=False, highlight=False)
    from data_pipeline.datasets.manifest import ManifestError

    try:
        own = {"demo": _demo, "train": _train, "evaluate": _evaluate, "predict": _predict, "corpus": _corpus}
        own["calibrate"] = _calibrate
        own |= dict.fromkeys(("suites", "judge", "compare"), _evaluate)
        own |= {"data": _data, "sweep": _runs, "watch": _runs, "report": _runs}
        if planning:
            from emojax import cli_plan

            return cli_plan.run_train(args, console, rest)
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
        if str(stop):  # train.loop.Stopped: what was saved, by SIGTERM or Ctrl-C
            console.print(f"emojax {args.command}: {stop}", soft_wrap=True)
            return getattr(stop, "code", 130)
        goes_on = {"train": "; the same command goes on from the last checkpoint", "data": "; the same command goes on"}
        goes_on["sweep"] = goes_on["data"]
        again = goes_on.get(args.command, "")
        console.print(f"emojax {args.command}: stopped{again}")
        return 130


def _hand_over(argv: list[str]) -> int:
    from absl import app

    from emojax.train import __main__ as train_main

    app.run(train_main.main, ["emojax train", *argv], flags_parser=train_main.parse)
    return 0


def _demo(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.demo import demo
    from emojax.jobs import run_folder

    demo(run_folder(args.out), console, preset=args.preset)
    return 0


def _train(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax import jobs
    from emojax.settings import load_config, resolve
    from emojax.train.start import check_tokenizer

    config = load_config(args.preset)
    if args.seed is not None:
        config.seed = args.seed
    settings = resolve(config)
    check_tokenizer(settings)
    jobs.setup(training=True)
    out = jobs.run_folder(args.out)
    records = jobs.read_records(args.manifest, console, seed=settings.seed)
    sources = jobs.open_views(records, settings, console)
    jobs.run_training(settings, records, sources, out, console)
    if "val" in sources:
        jobs.calibrate(out, sources["val"], console, f"{args.manifest}, val")
    jobs.score_splits(out, sources, sorted(sources), out, console)
    console.print(f"try next: emojax predict CLIP --model {out}", soft_wrap=True)
    return 0


def _data(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax import cli_data

    return cli_data.run(args, console)


def _runs(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax import cli_runs

    return cli_runs.run(args, console)


def _weights(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.cli_weights import run

    return run(args, console)


def _evaluate(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax import cli_evaluate

    return cli_evaluate.run(args, console)


def _calibrate(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax import jobs
    from emojax.bundle import load_bundle
    from emojax.exchange import find_model

    jobs.setup()
    folder = find_model(args.model)
    bundle = load_bundle(folder)
    records = [r for r in jobs.read_records(args.manifest, console, bundle.labels) if r.split == args.split]
    if not records:
        raise ValueError(f"{args.manifest} has no row of split '{args.split}'")
    source = jobs.open_views(records, bundle.settings, console)[args.split]
    return 0 if jobs.calibrate(folder, source, console, f"{args.manifest}, {args.split}") else 2


def _predict(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from emojax.exchange import find_model
    from emojax.infer.predict import default_model, find_media, listen, predict
    from emojax.progress import bar

    folder = find_model(args.model) if args.model else default_model()
    if folder is None:
        console.print(NO_MODEL, soft_wrap=True)
        return 2
    from emojax import jobs
    from emojax.bundle import as_int8, load_bundle

    jobs.setup()
    bundle = as_int8(load_bundle(folder)) if args.int8 else load_bundle(folder)
    paths = find_media(args.paths)
    if not paths:
        console.print(f"no media file in {', '.join(args.paths)}")
        return 3
    subtitle = args.subtitle.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # bytes that are no text
    labels = list(dict.fromkeys(filter(None, map(str.strip, (args.labels or "").split(","))))) or None
    if labels and len(labels) < 2:
        raise ValueError("--labels needs at least two labels, separated by commas")
    refused, speakers, timeout = 0, None, args.decode_timeout
    if args.one_speaker:
        with bar(console, "listen") as tick:
            speakers = listen(bundle, paths, timeout, lambda n: tick(n, len(paths)))
    with bar(console, "predict") as tick:
        answers = predict(
            bundle,
            paths,
            labels,
            subtitle,
            timeout,
            speakers=speakers,
            abstain=args.abstain,
            explain=args.contributions,
        )
        for number, answer in enumerate(answers, 1):
            refused += answer.error is not None
            print(json.dumps(answer.to_json(), ensure_ascii=False) if args.json else _plain(answer), flush=True)
            tick(number, len(paths))
    return 3 if refused else 0


def _plain(answer) -> str:  # type: ignore[no-untyped-def]
    if answer.error is not None:
        return f"{answer.path}\n  refused: {answer.error}"
    best = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])[:3]
    lines = [answer.path, f"  {answer.label}   " + ", ".join(f"{name} {p:.2f}" for name, p in best)]
    if answer.leading:
        lines[-1] = f"  {answer.label}: {answer.leading[0]} or {answer.leading[1]}   " + ", ".join(
            f"{n} {p:.2f}" for n, p in best
        )
    if answer.contributions is not None:
        told = ", ".join(f"{m} {v:+.2f}" for m, v in answer.contributions.items())
        lines.append(f"  adds to the log-probability of the likeliest: {told or 'nothing is there'}")
    if answer.reason:
        lines.append("  " + "".join(c if c.isprintable() else " " for c in answer.reason))
    lines.append(f"  from {', '.join(answer.modalities)}" + (f"; {'; '.join(answer.notes)}" if answer.notes else ""))
    return "\n".join(lines)


def _corpus(args: argparse.Namespace, console) -> int:  # type: ignore[no-untyped-def]
    from data_pipeline.embedded.generate import make_corpus
    from data_pipeline.embedded.truth import CorpusConfig
    from emojax.progress import bar

    config = CorpusConfig(train=args.train, val=args.val, test=args.test, seed=args.seed)
    with bar(console, "make the embedded corpus") as tick:
        folder = make_corpus(config, Path(args.out) if args.out else None, tick)
        tick(args.train + args.val + args.test, args.train + args.val + args.test)
    console.print(f"written: {folder} (clips/, records.jsonl, manifest.csv)", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

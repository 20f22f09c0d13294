"""`emojax fetch`: downloads the released files of a model and imports them, or word tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from emojax.cli.arguments import Commands, add_precision, output_folder
from emojax.cli.console import progress_bars, setup
from emojax.cli.parser import Parser


def add_parser(commands: Commands) -> None:
    """Adds `fetch`."""
    p = commands.add_parser(
        "fetch",
        help="download the released files of a model and import them, a pretrained part, or the "
        "word tables of scores",
    )
    p.add_argument(
        "name",
        help="model or part (see `emojax weights list --parts`); hf:OWNER/NAME: a part from a "
        "repository of Hugging Face; or mer-unibench: the word tables of its scores",
    )
    p.add_argument(
        "--as",
        dest="kind",
        choices=("sound", "picture", "language"),
        help="what hf:OWNER/NAME is to be used as; anything else is refused",
    )
    add_import_options(p)
    p.add_argument(
        "--mirror",
        action="store_true",
        help="use mirrors: other repositories of gated files, packages of an index for parts",
    )


def add_import_options(p: Parser) -> None:
    """Adds the options that `fetch` and `weights import` have in common."""
    p.add_argument(
        "--file",
        action="append",
        default=[],
        metavar="SOURCE=PATH",
        help="a file or folder that is here already",
    )
    p.add_argument(
        "--out", help="model folder (default: the cache, where predict --model NAME finds it)"
    )
    p.add_argument("--preset", help="another configuration than the model's own")
    p.add_argument(
        "--questions",
        metavar="FILE",
        help="the questions that are asked: an official file (mer_eval_datasets.py of "
        "Emotion-LLaMAv2, first_face.py of Emotion-LLaMA), or JSON {task: [wordings]}, in which "
        '"{labels}" is filled in, or "builtin"; default: the official ones, if they can be had',
    )
    add_precision(p)
    p.add_argument(
        "--legacy-tokenizer",
        action=argparse.BooleanOptionalAction,
        help="whether text after <s> gets a leading space (default: as tokenizer_config.json says)",
    )
    p.accept_fields()


def kept(_args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    return (
        "run the same command again; complete files are not downloaded again, packages of an index "
        "are"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Fetches word tables, a part, one source, or all sources of a model."""
    setup()
    from emojax.evaluate import official_files
    from emojax.weights.catalogue import MODELS, SOURCES
    from emojax.workflows.fetch_weights import fetch_source, fetch_tables, is_part

    if args.name == official_files.NAME:
        with progress_bars(console) as progress:
            fetch_tables(progress=progress)
        return 0
    if is_part(args.name, mirror=args.mirror):
        return _fetch_part(args, console)
    if args.kind:
        raise ValueError(f"--as is for parts, such as hf:OWNER/NAME; {args.name} is not a part")
    if args.name in SOURCES and args.name not in MODELS:
        with progress_bars(console) as progress:
            path = fetch_source(args.name, mirror=args.mirror, progress=progress)
        console.print(f"fetched: {path}; give it to a model with --file", soft_wrap=True)
        return 0
    return import_files(args, console, download=True)


_STREAMS = {"sound": "audio", "picture": "image", "language": "llama"}


def _fetch_part(args: argparse.Namespace, console: Console) -> int:
    from emojax.weights.fetch_part import fetch_part
    from emojax.weights.part_files import part_kind

    with progress_bars(console) as progress:
        folder = fetch_part(args.name, kind=args.kind, mirror=args.mirror, progress=progress)
    console.print(f"fetched: {folder}", soft_wrap=True)
    if stream := _STREAMS.get(part_kind(args.name, folder)):
        console.print(f"use it with --config.model.{stream}.part={args.name}", soft_wrap=True)
    return 0


def import_files(args: argparse.Namespace, console: Console, *, download: bool) -> int:
    """Imports a model from the files of --file and, with `download`, from fetched ones."""
    from emojax.weights import importer
    from emojax.weights.catalogue import catalogue_model
    from emojax.weights.locations import weights_folder
    from emojax.workflows.fetch_weights import choose_questions, fetch_sources

    model = catalogue_model(args.name)
    files = _given_files(args.file, model.sources)
    questions = choose_questions(model, args.questions, download=download)
    settings = importer.model_settings(
        model,
        preset=args.preset,
        changes=args.fields,
        precision=args.precision,
        questions=questions,
    )
    folder = args.out or str(weights_folder(args.name))
    with output_folder(folder) as out, progress_bars(console) as progress:
        if download:
            files = fetch_sources(args.name, files, mirror=args.mirror, progress=progress)
        importer.import_model(
            args.name,
            files,
            out,
            settings=settings,
            legacy_tokenizer=args.legacy_tokenizer,
            progress=progress,
        )
    where = out if args.out else args.name
    command = f"emojax predict CLIP --model {where}"
    if not model.fields:  # weights to start from cannot answer yet
        command = (
            "python -m emojax.train --config=configs/v2.py:stage1 "
            f"--config.train.init_from={where} --manifest=M.csv --out=DIR"
        )
    console.print(f"written: {out}\ntry next: {command}", soft_wrap=True)
    return 0


def _given_files(entries: list[str], sources: tuple[str, ...]) -> dict[str, Path]:
    from emojax.weights.catalogue import SOURCES
    from emojax.weights.tensor_files import tensor_files

    files: dict[str, Path] = {}
    for entry in entries:
        key, equals, path = entry.partition("=")
        if not equals or key not in SOURCES:
            raise ValueError(
                f"--file {entry}: give SOURCE=PATH, where SOURCE is one of {', '.join(sources)}"
            )
        files[key] = Path(path).expanduser()
        tensor_files(files[key])  # raises if they are not there
    return files

"""`emojax train`: trains on a manifest, built data or the embedded corpus, and scores the model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.console import Console

from emojax.cli.arguments import Commands, check_required
from emojax.cli.console import setup
from emojax.cli.manifest_options import add_columns_option, add_labels_option

if TYPE_CHECKING:
    from emojax.config import Settings

DEFAULT_PRESET, DEFAULT_OUT = "tiny:people", "runs/train"


def add_parser(commands: Commands) -> None:
    """Adds `train`."""
    p = commands.add_parser(
        "train",
        help="train on the clips of a manifest or on built data, calibrate and score the model",
        description="Trains on the clips of a manifest, on built data (--data), or with --config "
        "alone on the embedded corpus; then scores every split. With --config one run may have "
        "several processes, and its folder may be remote.",
    )
    p.add_argument("--manifest", help="CSV with path,label[,subtitle,split,speaker,start,end]")
    p.add_argument(
        "--out",
        help=f"run folder; an unfinished run in it is continued (with --config: {DEFAULT_OUT})",
    )
    add_columns_option(p)
    add_labels_option(p)
    which = p.add_mutually_exclusive_group()
    which.add_argument(
        "--preset",
        help=f"configuration by name (default {DEFAULT_PRESET})",
    )
    which.add_argument(
        "--config", metavar="FILE", help="configuration by file, e.g. configs/v2.py:stage1"
    )
    p.add_argument("--seed", type=int, help="seed of weights, order and augmentation")
    p.add_argument("--data", help="folder of `emojax data build`, in place of a manifest")
    p.add_argument("--sets", metavar="A,B,...", help="data sets of --data (default: all)")
    p.add_argument(
        "--cache", help="folder of `emojax data encode`: features of the frozen encoders"
    )
    p.accept_fields()


def kept(args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    from etils import epath

    from emojax.train.run_folder import describe_progress

    return describe_progress(epath.Path(_out(args)))


def run(args: argparse.Namespace, console: Console) -> int:
    """Trains, calibrates on the validation split and scores every split."""
    _check_options(args)
    settings = _settings(args)
    setup(training=True)
    from emojax.cli.train_config import train_config
    from emojax.sharding import start_processes

    if args.config:
        start_processes()
    train_config(args, settings, _out(args), console)
    if not args.config:
        console.print(f"try next: emojax predict CLIP --model {args.out}", soft_wrap=True)
    return 0


def _out(args: argparse.Namespace) -> str:
    return args.out if args.out is not None else DEFAULT_OUT


def _check_options(args: argparse.Namespace) -> None:
    if args.config is None:
        if args.data or args.cache or args.sets:
            raise ValueError("--data, --cache and --sets need --config FILE")
        check_required(args, ("manifest", "out"))
    if args.manifest and args.data:
        raise ValueError("--manifest and --data both name the clips: give one of them")
    if args.cache and not args.data:
        raise ValueError("--cache needs --data, the built data that were encoded")


def _settings(args: argparse.Namespace) -> Settings:
    from emojax.config import load_config, resolve
    from emojax.train.start import check_start
    from emojax.weights.locations import find_model

    config = load_config(args.config or args.preset or DEFAULT_PRESET, args.fields)
    if args.seed is not None:
        config.seed = args.seed
    if config.train.init_from:
        config.train.init_from = str(find_model(config.train.init_from))
    settings = resolve(config)
    check_start(settings)
    return settings

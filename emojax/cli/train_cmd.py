"""`emojax train`: trains on the clips of a manifest, calibrates and scores the model."""

from __future__ import annotations

import argparse

from rich.console import Console

from emojax.cli.arguments import Commands, name_list, output_folder
from emojax.cli.console import progress_bars, setup
from emojax.cli.manifest_options import add_columns_option, add_labels_option
from emojax.cli.output import show_evaluation


def add_parser(commands: Commands) -> None:
    """Adds `train`."""
    p = commands.add_parser(
        "train", help="train on the clips of a manifest; --config=FILE runs emojax.train instead"
    )
    p.add_argument(
        "--manifest", required=True, help="CSV with path,label[,subtitle,split,speaker,start,end]"
    )
    add_columns_option(p)
    add_labels_option(p)
    p.add_argument("--out", required=True, help="run folder; an unfinished run in it is continued")
    p.add_argument(
        "--preset", default="tiny:people", help="configuration by name (default %(default)s)"
    )
    p.add_argument("--seed", type=int, help="seed of weights, order and augmentation")


def run(args: argparse.Namespace, console: Console) -> int:
    """Trains, calibrates on the validation split and scores every split."""
    from emojax.config import load_config, resolve
    from emojax.train.start import check_tokenizer

    config = load_config(args.preset)
    if args.seed is not None:
        config.seed = args.seed
    settings = resolve(config)
    check_tokenizer(settings.train)
    setup(training=True)
    from data_pipeline.loader.open_sources import open_views, read_records
    from emojax.workflows.score import calibrate, score_splits
    from emojax.workflows.train import run_training

    out = output_folder(args.out)
    records = read_records(
        args.manifest,
        labels=name_list(args.labels) or None,
        seed=settings.seed,
        columns=args.columns,
    )
    with progress_bars(console) as progress:
        sources = open_views(records, settings.views, settings.sampling, progress=progress)
        run_training(settings, records, sources, out, progress=progress)
        if "val" in sources:
            calibrate(out, sources["val"], name=f"{args.manifest}, val", progress=progress)
        results = score_splits(out, sources, out, progress=progress)
    show_evaluation(results, out, console)
    console.print(f"try next: emojax predict CLIP --model {out}", soft_wrap=True)
    return 0

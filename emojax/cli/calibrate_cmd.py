"""`emojax calibrate`: fits the temperature of a model's probabilities."""

from __future__ import annotations

import argparse
import logging

from rich.console import Console

from data_pipeline.media.notes import counted
from emojax.cli.arguments import Commands
from emojax.cli.console import progress_bars, setup
from emojax.cli.manifest_options import add_columns_option

logger = logging.getLogger(__name__)


def add_parser(commands: Commands) -> None:
    """Adds `calibrate`."""
    p = commands.add_parser(
        "calibrate",
        help="fit the temperature of a model's probabilities on clips with known labels",
    )
    p.add_argument("model", help="model folder, or the name of an imported model")
    p.add_argument(
        "--manifest", required=True, help="CSV as for train; not the clips that are scored later"
    )
    add_columns_option(p)
    p.add_argument(
        "--split",
        type=str.lower,
        choices=("train", "val", "test"),
        help="clips of this split (default: val if the manifest has it, else test)",
    )


def kept(_args: argparse.Namespace) -> str:
    """What a run that was stopped has kept, and how to go on."""
    return "the model is as it was; run the same command again"


def run(args: argparse.Namespace, console: Console) -> int:
    """Calibrates a model folder."""
    setup()
    from data_pipeline.loader.open_sources import open_views
    from emojax.bundle.calibration import FILE
    from emojax.bundle.model_folder import load_bundle
    from emojax.weights.locations import find_model
    from emojax.workflows.score import FEW_CLIPS, calibrate, read_labelled_clips

    if args.split == "train":
        logger.warning(
            "note: models are too confident about the clips that they were trained on; calibrate "
            "on other clips (--split val) unless this model never saw these"
        )
    folder = find_model(args.model)
    bundle = load_bundle(folder)
    records = read_labelled_clips(
        folder,
        args.manifest,
        labels=bundle.labels,
        splits=(args.split,) if args.split else ("val", "test"),
        columns=args.columns,
    )
    split = records[0].split
    views, sampling = bundle.settings.views, bundle.settings.sampling
    with progress_bars(console) as progress:
        source = open_views(records, views, sampling, progress=progress)[split]
        if len(source) < FEW_CLIPS:
            raise ValueError(
                f"{counted(len(source), 'clip')} of split '{split}' cannot calibrate "
                f"probabilities: that needs at least {FEW_CLIPS}. Add clips, or give another "
                "--split"
            )
        name = f"{args.manifest}, {split}"
        calibrate(folder, source, name=name, keep=True, progress=progress)
    console.print(f"written: {folder / FILE}", soft_wrap=True)
    return 0

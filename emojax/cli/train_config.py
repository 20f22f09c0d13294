"""The run of `emojax train`: reads the data, trains and scores, in one or more processes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from etils import epath
from rich.console import Console

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.io import cache_root, wait_for_lock
from data_pipeline.loader.open_sources import open_data, open_views, read_records
from data_pipeline.progress import Progress
from data_pipeline.schema import ClipRecord
from emojax.cli.arguments import name_list
from emojax.cli.console import progress_bars
from emojax.cli.output import show_evaluation
from emojax.config import Settings
from emojax.train.run_folder import open_run_folder
from emojax.train.start import check_run
from emojax.workflows.score import calibrate, score_data, score_splits
from emojax.workflows.train import run_training, train_on_data

# Scores what was trained; returns {folder: {split: scores}}.
Scoring = Callable[[], dict[Path, dict[str, Any]]]


def train_config(args: argparse.Namespace, settings: Settings, out: str, console: Console) -> None:
    """Reads the data that the options name, trains, and scores.

    Several processes, and runs in remote folders, leave scoring to `emojax evaluate`.

    Args:
      args: the options of `emojax train`.
      settings: the resolved run.
      out: run folder, local or remote.
      console: where to print; silent in all processes but the first.
    """
    console.quiet = jax.process_index() > 0  # the others would repeat the first
    with_scores = jax.process_count() == 1 and "://" not in out
    train = _train_built if args.data else _train_clips
    with open_run_folder(out) as folder, progress_bars(console) as progress:
        score = train(args, settings, folder, progress=progress)
        results = score() if with_scores else {}
    for place, result in results.items():
        show_evaluation(result, place, console)
    if not with_scores:
        console.print(f"trained: {out}; score it with `emojax evaluate`", soft_wrap=True)


def _train_built(
    args: argparse.Namespace, settings: Settings, out: epath.Path, *, progress: Progress
) -> Scoring:
    names = name_list(args.sets) or None
    records, sources = open_data(Path(args.data), settings.views, settings.sampling, names=names)
    cache = Path(args.cache) if args.cache else None
    train_on_data(settings, records, sources, out, cache=cache, progress=progress)
    return lambda: score_data(Path(out), records, sources, Path(out), progress=progress)


def _train_clips(
    args: argparse.Namespace, settings: Settings, out: epath.Path, *, progress: Progress
) -> Scoring:
    if args.manifest:
        records = read_records(
            args.manifest,
            labels=name_list(args.labels) or None,
            seed=settings.seed,
            columns=args.columns,
        )
    else:
        records = _embedded_corpus(progress)
    check_run(settings, records, out)
    sources = open_views(records, settings.views, settings.sampling, progress=progress)
    run_training(settings, records, sources, out, progress=progress)

    def score() -> dict[Path, dict[str, Any]]:
        folder = Path(out)
        if "val" in sources:
            name = f"{args.manifest}, val" if args.manifest else "val"
            calibrate(folder, sources["val"], name=name, progress=progress)
        return {folder: score_splits(folder, sources, folder, progress=progress)}

    return score


def _embedded_corpus(progress: Progress) -> list[ClipRecord]:
    with wait_for_lock(cache_root() / "building"):  # one process per machine makes it
        return load_corpus(make_corpus(progress=progress))

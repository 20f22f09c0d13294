"""`python -m emojax.train --config=FILE ...`: trains one configuration, in one or more processes.

Flags: --config=configs/tiny.py [--config.optim.lr=3e-4 ...] [--manifest=M.csv | --data=BUILT
[--sets=A,B] [--cache=C]] --out=DIR. Without --manifest and --data the embedded corpus is used.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from etils import epath
from ml_collections import config_flags
from rich.console import Console

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.io import cache_root, wait_for_lock
from data_pipeline.loader.open_sources import open_data, open_views, read_records
from data_pipeline.progress import Progress
from data_pipeline.schema import ClipRecord
from emojax.cli.console import first_process_only, progress_bars, setup, shown_log
from emojax.cli.manifest_options import COLUMNS_HELP, column_names
from emojax.cli.output import show_evaluation
from emojax.config import Settings, check_arguments, current_arguments, resolve
from emojax.sharding import start_processes
from emojax.train.run_folder import run_path
from emojax.train.start import check_tokenizer
from emojax.train.stop import Stopped
from emojax.weights.locations import find_model
from emojax.workflows.score import calibrate, score_data, score_splits
from emojax.workflows.train import run_training, train_on_data

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "configuration file, e.g. configs/tiny.py", lock_config=True
)
_MANIFEST = flags.DEFINE_string("manifest", None, "manifest CSV (default: the embedded corpus)")
_COLUMNS = flags.DEFINE_string("columns", "", COLUMNS_HELP)
_DATA = flags.DEFINE_string("data", None, "folder of `emojax data build`, in place of a manifest")
_SETS = flags.DEFINE_list("sets", None, "data sets of --data (default: all)")
_CACHE = flags.DEFINE_string(
    "cache", None, "folder of `emojax data encode`: features of the frozen encoders"
)
_OUT = flags.DEFINE_string("out", "runs/train", "run folder")


def main(argv: list[str]) -> None:
    """Trains one configuration and scores all splits.

    Exits with 2 for wrong usage; after a checkpoint was saved, with 143 if SIGTERM and with 130 if
    Ctrl-C stopped the run.
    """
    if len(argv) > 1:
        raise app.UsageError(f"not understood: {argv[1:]}")
    console = Console(markup=False, highlight=False)
    try:
        setup(training=True)
        start_processes()
        console = first_process_only(console)
        with shown_log(console):
            run(console)
    except ImportError as error:  # etils asks for the package of a remote path
        print(f"emojax.train: {error}; for gs:// paths: pip install gcsfs", file=sys.stderr)
        raise SystemExit(2) from None
    except (ValueError, OSError) as error:
        print(f"emojax.train: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except Stopped as stopped:
        console.print(str(stopped))
        raise SystemExit(stopped.code) from None
    except KeyboardInterrupt:
        print(
            "emojax.train: stopped; run the same command again to continue from the last "
            "checkpoint",
            file=sys.stderr,
        )
        raise SystemExit(130) from None


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; for a fault, prints it in one sentence and exits with 2."""
    argv, sys.argv = current_arguments(argv), current_arguments(sys.argv)  # the flags read both
    try:
        return flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        print(f"emojax.train: {_explain(error, argv)}", file=sys.stderr)
        raise SystemExit(2) from None


def _explain(error: Exception, argv: list[str]) -> str:
    try:
        check_arguments(argv)
    except ValueError as unknown_field:
        return str(unknown_field)
    except (AttributeError, TypeError, OSError):
        pass  # the configuration file cannot be read, as `error` says
    text = str(error.args[0] if error.args else error).strip() or type(error).__name__
    # The message of the configuration file comes after its traceback.
    lines = text.splitlines()[-1:] if "Traceback" in text else text.splitlines()
    return " ".join(lines)


def run(console: Console) -> None:
    """Reads the data that the flags name, trains, and scores.

    Several processes, and runs in remote folders, leave scoring to `emojax evaluate`.
    """
    out = run_path(_OUT.value)
    config = _CONFIG.value
    if config.train.init_from:
        config.train.init_from = str(find_model(config.train.init_from))
    settings = resolve(config)
    check_tokenizer(settings.train)
    if _CACHE.value and not _DATA.value:
        raise ValueError("--cache needs --data, the built data that were encoded")
    with_scores = jax.process_count() == 1 and "://" not in str(out)
    train = _train_built if _DATA.value else _train_clips
    with progress_bars(console) as progress:
        results = train(settings, out, with_scores=with_scores, progress=progress)
    for folder, result in results.items():
        show_evaluation(result, folder, console)
    if not with_scores:
        console.print(f"trained: {out}; score it with `emojax evaluate`", soft_wrap=True)


Results = dict[Path, dict[str, Any]]  # {folder: {split: scores}}


def _train_built(
    settings: Settings, out: epath.Path, *, with_scores: bool, progress: Progress
) -> Results:
    records, sources = open_data(
        Path(str(_DATA.value)), settings.views, settings.sampling, names=_SETS.value
    )
    cache = Path(_CACHE.value) if _CACHE.value else None
    train_on_data(settings, records, sources, out, cache=cache, progress=progress)
    if not with_scores:
        return {}
    return score_data(Path(out), records, sources, Path(out), progress=progress)


def _train_clips(
    settings: Settings, out: epath.Path, *, with_scores: bool, progress: Progress
) -> Results:
    if _MANIFEST.value:
        columns = column_names(_COLUMNS.value)
        records = read_records(_MANIFEST.value, seed=settings.seed, columns=columns)
    else:
        records = _embedded_corpus(progress)
    sources = open_views(records, settings.views, settings.sampling, progress=progress)
    run_training(settings, records, sources, out, progress=progress)
    if not with_scores:
        return {}
    folder = Path(out)
    if "val" in sources:
        calibrate(folder, sources["val"], name="val", progress=progress)
    return {folder: score_splits(folder, sources, folder, progress=progress)}


def _embedded_corpus(progress: Progress) -> list[ClipRecord]:
    with wait_for_lock(cache_root() / "building"):  # one process per machine makes it
        return load_corpus(make_corpus(progress=progress))


def start() -> None:
    """Parses the flags of the process and runs."""
    untyped_flags: Any = flags
    untyped_flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse)

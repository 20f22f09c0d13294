"""`python -m emojax.train --config=configs/tiny.py --config.optim.lr=3e-4 [--manifest=M.csv | --data=BUILT [--cache=C]] --out=DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import config_flags
from rich.console import Console

from data_pipeline.datasets.manifest import ManifestError
from data_pipeline.embedded.generate import load_corpus, make_corpus
from emojax.cli.console import first_process_only, progress_bars, setup, shown_log
from emojax.cli.progress_bars import bar
from emojax.config import check_arguments, current_arguments, resolve
from emojax.sharding import start_processes
from emojax.train.run_folder import run_path
from emojax.train.start import check_tokenizer
from emojax.train.stop import Stopped
from emojax.weights.locations import find_model
from emojax.workflows import jobs
from emojax.workflows.train import run_training, train_on_data

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "configuration file, e.g. configs/tiny.py", lock_config=True
)
_MANIFEST = flags.DEFINE_string("manifest", None, "manifest CSV; the embedded corpus without one")
_DATA = flags.DEFINE_string("data", None, "folder of `emojax data build`, in place of a manifest")
_SETS = flags.DEFINE_list("sets", None, "data sets of --data (default: all)")
_CACHE = flags.DEFINE_string(
    "cache", None, "folder of `emojax data encode`: features of the frozen encoders"
)
_OUT = flags.DEFINE_string("out", "runs/train", "run folder")


def main(argv: list[str]) -> None:
    """Trains one configuration and scores every split; exit code 143 where SIGTERM, 130 where Ctrl-C stopped it after saving."""
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
    except (ManifestError, ValueError, OSError) as error:
        print(f"emojax.train: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except Stopped as stopped:
        console.print(str(stopped))
        raise SystemExit(stopped.code) from None
    except KeyboardInterrupt:
        print(
            "emojax.train: stopped; the same command goes on from the last checkpoint",
            file=sys.stderr,
        )
        raise SystemExit(130) from None


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; prints what is wrong with them and exits with code 2."""
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
    """Reads what the flags name, trains, and scores (with one process; several leave that to `emojax evaluate`)."""
    out = run_path(_OUT.value)
    config = _CONFIG.value
    if config.train.init_from:
        config.train.init_from = str(find_model(config.train.init_from))
    settings = resolve(config)
    check_tokenizer(settings.train)
    if _CACHE.value and not _DATA.value:
        raise ValueError("--cache needs --data, the built data that were encoded")
    scoring = jax.process_count() == 1 and "://" not in str(out)
    if _DATA.value:
        records, built = jobs.open_data(Path(_DATA.value), settings, names=_SETS.value)
        cache = Path(_CACHE.value) if _CACHE.value else None
        with progress_bars(console) as progress:
            train_on_data(settings, records, built, out, cache=cache, progress=progress)
        if scoring:
            jobs.score_data(Path(out), records, built, Path(out), console)
    else:
        if _MANIFEST.value:
            records = jobs.read_records(_MANIFEST.value, console, seed=settings.seed)
        else:
            with jobs.one_builder(), bar(console, "make the embedded corpus") as tick:
                records = load_corpus(make_corpus(progress=tick))
        sources = jobs.open_views(records, settings, console)
        with progress_bars(console) as progress:
            run_training(settings, records, sources, out, progress=progress)
        if scoring and "val" in sources:
            jobs.calibrate(Path(out), sources["val"], console, name="val")
        if scoring:
            jobs.score_splits(Path(out), sources, sorted(sources), Path(out), console)
    if not scoring:
        console.print(f"trained: {out}; score it with `emojax evaluate`", soft_wrap=True)


def start() -> None:
    """Reads the flags and runs."""
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse)

"""Trains and scores all points of a sweep file, and writes them as a table and a picture.

A sweep file (configs/sweeps/) has PRESET, SEEDS, and `sweep()`, which yields (name, {dotted field:
value}). The folder of a run is named by a hash of its configuration and corpus: sweeps share runs,
and an interrupted sweep continues, also within a run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import shlex
import statistics
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.embedded.generate import corpus_key, load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.io import write_json, write_text
from data_pipeline.loader.open_sources import open_views
from data_pipeline.progress import Progress, no_progress
from data_pipeline.suggestions import no_such
from emojax.bundle.model_folder import load_bundle
from emojax.config import (
    CONFIGS,
    Settings,
    change_fields,
    load_config,
    original_names,
    resolve,
)
from emojax.evaluate.model_answers import evaluate_embedded
from emojax.reports.sweep_plot import save_sweep
from emojax.workflows.score import items_of
from emojax.workflows.train import run_training

SWEEPS = CONFIGS / "sweeps"
ABLATIONS = ("fused", "only_video", "only_audio", "only_text")
COLUMNS = (*ABLATIONS, "conflict", "clue precision", "clue recall", "loss")

logger = logging.getLogger(__name__)


def known() -> dict[str, str]:
    """{name: first line of its docstring} of the sweep files that come with the package."""
    paths = sorted(SWEEPS.glob("[a-z]*.py"))
    return {p.stem: (load_sweep(p).__doc__ or "").strip().splitlines()[0] for p in paths}


def find_sweep(name: str) -> Path:
    """The file of a sweep by its name or path.

    Raises:
      ValueError: there is none.
    """
    packaged = SWEEPS / f"{name}.py"
    path = packaged if packaged.exists() else Path(name)
    if not path.is_file():
        raise ValueError(f"{no_such('sweep', name, known())}, or give a file")
    return path


def load_sweep(path: Path) -> ModuleType:
    """The sweep file as a module.

    Raises:
      ValueError: it is not a sweep file.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if lacking := [name for name in ("PRESET", "SEEDS", "sweep") if not hasattr(module, name)]:
        raise ValueError(
            f"{path} is not a sweep file: it has no {', '.join(lacking)} (see configs/sweeps/)"
        )
    return module


def points(module: ModuleType) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(name, seed, {dotted field: value}) of every run."""
    for seed in module.SEEDS:
        for name, changes in module.sweep():
            yield name, seed, changes


def settings_of(module: ModuleType, seed: int, changes: dict[str, Any]) -> Settings:
    """The settings of one point.

    Raises:
      ValueError: the configuration does not have a field, or a value has another type.
    """
    config: ConfigDict = load_config(module.PRESET).lock()
    config.seed = seed
    try:
        change_fields(config, changes)
    except ValueError as error:
        raise ValueError(f"{module.__name__}: {error}") from error
    return resolve(config)


def key_of(settings: Settings, corpus: CorpusConfig) -> str:
    """The name of a point's folder."""
    # Under the original names of fields, so that results of older versions are found again.
    inputs = [original_names(settings.raw), corpus_key(corpus)]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]


def launches(module: ModuleType, out: str, prefix: str) -> Iterator[str]:
    """Yields one command per point, to run on other machines.

    Args:
      module: the sweep file.
      out: folder of the runs.
      prefix: start of each command; {n} in it becomes the number of the point.

    Yields:
      The command, quoted for a shell.
    """
    preset, _, variant = module.PRESET.partition(":")
    config = f"configs/{preset}.py" + (f":{variant}" if variant else "")
    for number, (_, seed, changes) in enumerate(points(module)):
        words = [f"--config={config}", f"--config.seed={seed}"]
        words += [f"--config.{field}={value}" for field, value in changes.items()]
        words.append(f"--out={out}/{number}")
        yield f"{prefix.replace('{n}', str(number))} {shlex.join(words)}"


def run_one(
    settings: Settings, folder: Path, corpus: CorpusConfig, *, progress: Progress = no_progress
) -> dict[str, Any]:
    """Trains and scores one configuration on the embedded corpus, or reads its stored result.

    Args:
      settings: the configuration.
      folder: the run folder.
      corpus: settings of the corpus.
      progress: gets the tasks of decoding and training.

    Returns:
      The scores of the test split, with the mean loss of the last 20 steps.
    """
    stored = folder / "result.json"
    result: dict[str, Any]
    if stored.exists():
        result = json.loads(stored.read_text())
        return result
    records = load_corpus(make_corpus(config=corpus))
    sources = open_views(records, settings.views, settings.sampling, progress=progress)
    run_training(settings, records, sources, folder, progress=progress)
    bundle = load_bundle(folder)
    items = items_of(sources["test"], bundle)
    result = evaluate_embedded(
        bundle, items, corpus, ablations=ABLATIONS, with_clues=bundle.can_reason
    )
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [r["loss"] for r in rows if r["stage"] == rows[-1]["stage"]][-20:]
    result["loss"] = statistics.fmean(losses)
    write_json(stored, result)  # a point without this file is run again
    return result


def row_of(result: dict[str, Any]) -> dict[str, float]:
    """The numbers of a result by column."""
    row = {**result["ablations"], "conflict": result["conflict"], "loss": result.get("loss")}
    row |= {f"clue {k}": result["clues"][k] for k in ("precision", "recall") if "clues" in result}
    return {k: v for k, v in row.items() if v is not None}


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """A Markdown table with one row per variant: mean and standard deviation over seeds."""

    def cell(values: list[float]) -> str:
        if not values:
            return "-"
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.3f}{spread}"

    lines = ["| variant | seeds | " + " | ".join(COLUMNS) + " |", "|" + "---|" * (2 + len(COLUMNS))]
    for name, runs in results.items():
        rows = [row_of(r) for r in runs]
        cells = " | ".join(cell([r[c] for r in rows if c in r]) for c in COLUMNS)
        lines.append(f"| {name} | {len(runs)} | {cells} |")
    return "\n".join(lines)


def fused_by_variant(results: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """{variant: fused UAR of each seed}."""
    return {name: [r["ablations"]["fused"] for r in runs] for name, runs in results.items()}


def run(
    name: str, out: Path, *, corpus: CorpusConfig | None = None, progress: Progress = no_progress
) -> dict[str, list[dict[str, Any]]]:
    """Runs all points that have no result yet; writes table, picture and JSON after each.

    Args:
      name: name or path of the sweep file.
      out: folder of the runs and of NAME.md, NAME.json and NAME.png.
      corpus: settings of the embedded corpus.
      progress: gets the tasks of decoding and training.

    Returns:
      {variant: one result per seed}.

    Raises:
      ValueError: there is no such sweep, or one of its points has a wrong field.
    """
    path = find_sweep(name)
    module, corpus = load_sweep(path), corpus or CorpusConfig()
    # All points are resolved first: a mistyped field fails before the first run.
    runs = [(label, seed, settings_of(module, seed, c)) for label, seed, c in points(module)]
    results: dict[str, list[dict[str, Any]]] = {}
    for number, (label, seed, settings) in enumerate(runs, 1):
        key = key_of(settings, corpus)
        logger.info(f"{path.stem} {number}/{len(runs)}: {label}, seed {seed} ({key})")
        result = run_one(settings, out / key, corpus, progress=progress)
        results.setdefault(label, []).append(result)
        write_text(out / f"{path.stem}.md", table(results) + "\n")
        rows = {variant: [row_of(r) for r in done] for variant, done in results.items()}
        write_json(out / f"{path.stem}.json", rows)
        save_sweep(fused_by_variant(results), out / f"{path.stem}.png")
    return results

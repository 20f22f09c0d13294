"""`emojax sweep`: every point of a sweep file, as a table and a picture.

A sweep file (configs/sweeps/) has PRESET, SEEDS, and `sweep()`, which yields (name, {dotted field: value}). Runs are kept by a
hash of their configuration and corpus, so sweeps share them and one that was cut off goes on, also within a run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shlex
import statistics
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console

from data_pipeline.embedded.generate import corpus_key, load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from emojax.bundle.model_folder import load_bundle
from emojax.cli.console import progress_bars
from emojax.config import (
    CONFIGS,
    Settings,
    change_fields,
    load_config,
    original_names,
    resolve,
)
from emojax.evaluate.model_answers import evaluate_embedded
from emojax.workflows import jobs
from emojax.workflows.train import run_training

ABLATIONS = ("fused", "only_video", "only_audio", "only_text")
SWEEPS = CONFIGS / "sweeps"
COLUMNS = (*ABLATIONS, "conflict", "clue precision", "clue recall", "loss")


def known() -> dict[str, str]:
    """{name: first line of its text} of the sweep files that come with the package."""
    found = {}
    for path in sorted(SWEEPS.glob("[a-z]*.py")):
        found[path.stem] = (load_sweep(path).__doc__ or "").strip().splitlines()[0]
    return found


def find_sweep(name: str) -> Path:
    """The file of a sweep by its name or path.

    Raises:
      ValueError: there is none.
    """
    own = SWEEPS / f"{name}.py"
    path = own if own.exists() else Path(name)
    if not path.is_file():
        raise ValueError(
            f"there is no sweep '{name}'; there are {', '.join(known())}, or give a file"
        )
    return path


def load_sweep(path: Path) -> ModuleType:
    """The sweep file as a module.

    Raises:
      ValueError: it is no sweep file.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if lacking := [name for name in ("PRESET", "SEEDS", "sweep") if not hasattr(module, name)]:
        raise ValueError(
            f"{path} is no sweep file: it has no {', '.join(lacking)} (see configs/sweeps/)"
        )
    return module


def points(module: ModuleType) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(name, seed, {dotted field: value}) of every run."""
    for seed in module.SEEDS:
        for name, changes in module.sweep():
            yield name, seed, changes


def settings_of(module: ModuleType, seed: int, changes: dict[str, Any]) -> Settings:
    """The run of one point.

    Raises:
      ValueError: a field that the configuration does not have, or a value of another type.
    """
    config: ConfigDict = load_config(module.PRESET).lock()
    config.seed = seed
    try:
        change_fields(config, changes)
    except ValueError as error:
        raise ValueError(f"{module.__name__}: {error}") from error
    return resolve(config)


def key_of(settings: Settings, corpus: CorpusConfig) -> str:
    """Name of a point's folder."""
    # Under the original names of fields, so that results of older versions are found again.
    what = [original_names(settings.raw), corpus_key(corpus)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def launches(module: ModuleType, out: str, prefix: str) -> Iterator[str]:
    """One command a point, for machines of one's own: `prefix` stands before each, {n} in it is the point's number."""
    preset, _, variant = module.PRESET.partition(":")
    config = f"configs/{preset}.py" + (f":{variant}" if variant else "")
    for number, (_, seed, changes) in enumerate(points(module)):
        words = [f"--config={config}", f"--config.seed={seed}"]
        words += [f"--config.{field}={value}" for field, value in changes.items()]
        words.append(f"--out={out}/{number}")
        yield f"{prefix.replace('{n}', str(number))} {shlex.join(words)}"


def run_one(
    settings: Settings, folder: Path, corpus: CorpusConfig, console: Console
) -> dict[str, Any]:
    """Trains and scores one configuration on the embedded corpus, or reads its kept result."""
    kept = folder / "result.json"
    if kept.exists():
        return json.loads(kept.read_text())
    records = load_corpus(make_corpus(config=corpus))
    sources = jobs.open_views(records, settings, console)
    with progress_bars(console) as progress:
        run_training(settings, records, sources, folder, progress=progress)
    bundle = load_bundle(folder)
    items = jobs.items_of(sources["test"], bundle)
    result = evaluate_embedded(
        bundle, items, corpus, ablations=ABLATIONS, with_clues=bundle.can_reason
    )
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    last = [r["loss"] for r in rows if r["stage"] == rows[-1]["stage"]][-20:]
    result["loss"] = statistics.fmean(last)
    # Written whole or not at all: a point without it is made again.
    kept.with_suffix(".part").write_text(json.dumps(result))
    kept.with_suffix(".part").rename(kept)
    return result


def row_of(result: dict[str, Any]) -> dict[str, float]:
    """A result's numbers by column."""
    row = {**result["ablations"], "conflict": result["conflict"], "loss": result.get("loss")}
    row |= {f"clue {k}": result["clues"][k] for k in ("precision", "recall") if "clues" in result}
    return {k: v for k, v in row.items() if v is not None}


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row a variant, mean and standard deviation over seeds; a dash where there is no such number."""

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


def plot(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Fused UAR of each variant, a dot a seed and a bar at the mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 0.8 + 0.32 * len(results)))
    for place, runs in enumerate(results.values()):
        values = [r["ablations"]["fused"] for r in runs]
        axis.barh(place, statistics.fmean(values), color="#b7c9e2", height=0.6)
        axis.plot(values, [place] * len(values), "o", color="#27476e", markersize=4)
    axis.set_yticks(range(len(results)), list(results))
    axis.invert_yaxis()
    axis.set_xlabel("UAR, all modalities")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def run(
    name: str, out: Path, console: Console, *, corpus: CorpusConfig | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Runs every point that has no result yet; table, picture and JSON are written after each."""
    path = find_sweep(name)
    module, corpus = load_sweep(path), corpus or CorpusConfig()
    all_points = list(points(module))
    for (
        _,
        seed,
        changes,
    ) in all_points:  # a mistyped field is told before the first run, not before the last
        settings_of(module, seed, changes)
    results: dict[str, list[dict[str, Any]]] = {}
    for number, (label, seed, changes) in enumerate(all_points, 1):
        settings = settings_of(module, seed, changes)
        key = key_of(settings, corpus)
        console.print(
            f"{path.stem} {number}/{len(all_points)}: {label}, seed {seed} ({key})", soft_wrap=True
        )
        results.setdefault(label, []).append(run_one(settings, out / key, corpus, console))
        (out / f"{path.stem}.md").write_text(table(results) + "\n")
        (out / f"{path.stem}.json").write_text(
            json.dumps({k: [row_of(r) for r in v] for k, v in results.items()})
        )
        plot(results, out / f"{path.stem}.png")
    return results

"""`python -m emojax.sweep configs/sweeps/fusion.py --out=runs/sweeps`: every variant by every seed, as a table.

A sweep file has PRESET, SEEDS, and `sweep()`, which yields (name, {dotted field: value}). Runs are kept by a hash of their
configuration and corpus, so sweeps share them and a sweep that was cut off goes on.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console

from data_pipeline.embedded.generate import corpus_key, load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from emojax import jobs
from emojax.bundle import load_bundle
from emojax.evaluate.run import evaluate_embedded
from emojax.settings import Settings, load_config, resolve

ABLATIONS = ("fused", "only_video", "only_audio", "only_text")
COLUMNS = (*ABLATIONS, "conflict", "clue precision", "clue recall")


def load_sweep(path: Path) -> ModuleType:
    """The sweep file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def variants(module: ModuleType) -> Iterator[tuple[str, int, Settings]]:
    """(name, seed, settings) of every run."""
    for seed in module.SEEDS:
        for name, changes in module.sweep():
            config: ConfigDict = load_config(module.PRESET)
            config.seed = seed
            config.update_from_flattened_dict(changes)
            yield name, seed, resolve(config)


def run_one(settings: Settings, folder: Path, console: Console) -> dict[str, Any]:
    """Trains and scores one configuration on the embedded corpus, or reads its kept result."""
    kept = folder / "result.json"
    if kept.exists():
        return json.loads(kept.read_text())
    records = load_corpus(make_corpus())
    sources = jobs.open_views(records, settings, console)
    jobs.run_training(settings, records, sources, folder, console)
    bundle = load_bundle(folder)
    items = jobs.items_of(sources["test"], bundle)
    result = evaluate_embedded(bundle, items, CorpusConfig(), ABLATIONS, with_clues=bundle.can_reason)
    kept.write_text(json.dumps(result))
    return result


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row a variant, mean and standard deviation over seeds; a dash where the model writes no reason."""

    def cell(values: list[float]) -> str:
        if not values:
            return "-"
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.3f}{spread}"

    lines = ["| variant | seeds | " + " | ".join(COLUMNS) + " |", "|" + "---|" * (2 + len(COLUMNS))]
    for name, runs in results.items():
        rows = [
            {**r["ablations"], "conflict": r["conflict"]}
            | {f"clue {k}": r["clues"][k] for k in ("precision", "recall") if "clues" in r}
            for r in runs
        ]
        lines.append(
            f"| {name} | {len(runs)} | " + " | ".join(cell([r[c] for r in rows if c in r]) for c in COLUMNS) + " |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Runs a sweep file; prints the table after every run."""
    if len(argv) != 2 or not argv[1].startswith("--out="):
        print("usage: python -m emojax.sweep configs/sweeps/NAME.py --out=DIR", file=sys.stderr)
        return 2
    jobs.setup()
    console = Console(stderr=True, markup=False, highlight=False)
    path, out = Path(argv[0]), Path(argv[1].removeprefix("--out="))
    results: dict[str, list[dict[str, Any]]] = {}
    for name, seed, settings in variants(load_sweep(path)):
        what = [settings.raw, corpus_key(CorpusConfig())]
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
        console.print(f"{path.stem}: {name}, seed {seed} ({key})")
        results.setdefault(name, []).append(run_one(settings, out / key, console))
        (out / f"{path.stem}.md").write_text(table(results) + "\n")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Compares a model trained on annotations of the pipeline with one trained on the true texts.

    python scripts/annotate_check.py OUT [SEEDS]

Trains two models of the demo's size per seed (default: 2 seeds), 5 minutes each on two cores.
Scores in OUT are reused: the same command continues an interrupted check, and a larger SEEDS adds
to it. Use a new OUT after a change of the code.

The embedded corpus is annotated with the recipe `mmeverse` over the real protocol. The endpoint
simulates models that describe what a clip shows (tests/annotators.py); the merging agent returns
the content of its prompt. Action units are those of the corpus. Both models are scored on the same
test clips, against the ground truth.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from annotators import Scripted, chat
from chat_server import serve
from rich.console import Console

from data_pipeline.embedded.generate import load_corpus, make_corpus, write_manifest
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.io import write_json
from data_pipeline.loader.open_sources import open_views
from data_pipeline.progress import Progress
from data_pipeline.schema import ClipRecord, read_records
from emojax.bundle.model_folder import load_bundle
from emojax.cli.console import progress_bars, setup, shown_log
from emojax.cli.main import main as emojax
from emojax.config import load_config, resolve
from emojax.evaluate.model_answers import evaluate_embedded
from emojax.workflows.score import items_of
from emojax.workflows.train import run_training


def annotate(folder: Path, records: list[ClipRecord], out: Path) -> list[ClipRecord]:
    unseen = [r for r in records if r.split != "test"]
    manifest = folder / "to_annotate.csv"
    write_manifest(manifest, unseen)
    scripted = Scripted(unseen, folder / "units")
    with serve(chat(lambda body, _: scripted(body))) as server:
        command = [
            "annotate",
            str(manifest),
            "--recipe",
            "mmeverse",
            "--out",
            str(out),
            "--units",
            str(folder / "units"),
        ]
        if emojax(
            [
                *command,
                "--endpoint",
                server.url,
                "--model",
                "scripted",
                "--licence",
                "drawn by emojax",
            ]
        ):
            raise SystemExit("the annotation was not completed")
    kept = {r.id: r for r in read_records(out / "records.jsonl")}
    # Texts and peak frames are those of the annotation; all other fields stay.
    return [
        dataclasses.replace(r, texts=kept[r.id].texts, peak_index=kept[r.id].peak_index)
        for r in unseen
        if r.id in kept
    ]


def score(records: list[ClipRecord], out: Path, seed: int, progress: Progress) -> dict[str, Any]:
    if (stored := out / "score.json").is_file():
        return dict(json.loads(stored.read_text()))
    config = load_config("tiny")
    config.seed = seed
    settings = resolve(config)
    sources = open_views(records, settings.views, settings.sampling, progress=progress)
    run_training(settings, records, sources, out, progress=progress)
    bundle = load_bundle(out)
    results = evaluate_embedded(bundle, items_of(sources["test"], bundle), CorpusConfig())
    scores = {
        "clips": sum(r.split == "train" for r in records),
        "fused_uar": round(results["ablations"]["fused"], 4),
        "conflict_uar": round(results["conflict"], 4),
        "clue_precision": round(results["clues"]["precision"], 4),
        "clue_recall": round(results["clues"]["recall"], 4),
    }
    write_json(stored, scores)
    return scores


def main() -> None:
    out = Path(sys.argv[1])
    setup(training=True)
    console = Console(stderr=True)
    folder = make_corpus(config=CorpusConfig())
    records = load_corpus(folder)
    annotated = annotate(folder, records, out / "annotations")
    test = [r for r in records if r.split == "test"]
    result: dict[str, Any] = {"annotated": [], "true texts": []}
    for seed in range(int(sys.argv[2]) if len(sys.argv) > 2 else 2):
        for name, clips in (("annotated", [*annotated, *test]), ("true texts", records)):
            run = out / f"{name}_{seed}".replace(" ", "_")
            with shown_log(console), progress_bars(console) as progress:
                result[name].append(score(clips, run, seed, progress))
            print(name, seed, result[name][-1], flush=True)
    mean = {
        n: {k: float(np.mean([s[k] for s in result[n]])) for k in result[n][0]}
        for n in ("annotated", "true texts")
    }
    result["means"] = {n: {k: round(v, 4) for k, v in m.items()} for n, m in mean.items()}
    result["difference"] = {
        k: round(v - mean["true texts"][k], 4) for k, v in mean["annotated"].items() if k != "clips"
    }
    print(json.dumps(result, indent=1))
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

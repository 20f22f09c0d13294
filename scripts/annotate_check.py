"""Whether a model that learns from annotations made by the pipeline is as good as one that learns from the true texts.

    python scripts/annotate_check.py OUT [SEEDS]     for each seed (2) two trainings of the demo's size: 5 min each on two cores

A training whose score lies in OUT is not done again: the same command goes on, and a greater SEEDS adds to it (so take
a new OUT after a change of code).

The embedded corpus is annotated by the shipped recipe `mmeverse` through the real protocol; the endpoint plays models that see and
hear what a clip shows (tests/annotators.py), and the merging one writes what its prompt holds. Action units are those of the
corpus. Both models are scored on the same test clips, against the truth.
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
from data_pipeline.schema import ClipRecord, read_records
from emojax.bundle.model_folder import load_bundle
from emojax.cli.console import progress_bars, setup
from emojax.cli.main import main as emojax
from emojax.config import load_config, resolve
from emojax.evaluate.model_answers import evaluate_embedded
from emojax.workflows import jobs
from emojax.workflows.train import run_training


def annotate(folder: Path, records: list[ClipRecord], out: Path) -> list[ClipRecord]:
    learn = [r for r in records if r.split != "test"]
    manifest = folder / "to_annotate.csv"
    write_manifest(manifest, learn)
    scripted = Scripted(learn, folder / "units")
    with serve(chat(lambda body, number: scripted(body))) as server:
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
            raise SystemExit("the annotation did not end")
    kept = {r.id: r for r in read_records(out / "records.jsonl")}
    # What is known of people and speakers stays; texts are the annotation's alone.
    return [
        dataclasses.replace(r, texts=kept[r.id].texts, peak_index=kept[r.id].peak_index)
        for r in learn
        if r.id in kept
    ]


def score(records: list[ClipRecord], out: Path, seed: int, console: Console) -> dict[str, Any]:
    if (kept := out / "score.json").is_file():
        return dict(json.loads(kept.read_text()))
    config = load_config("tiny")
    config.seed = seed
    settings = resolve(config)
    sources = jobs.open_views(records, settings, console)
    with progress_bars(console) as progress:
        run_training(settings, records, sources, out, progress=progress)
    bundle = load_bundle(out)
    found = evaluate_embedded(bundle, jobs.items_of(sources["test"], bundle), CorpusConfig())
    scores = {
        "clips": sum(r.split == "train" for r in records),
        "fused_uar": round(found["ablations"]["fused"], 4),
        "conflict_uar": round(found["conflict"], 4),
        "clue_precision": round(found["clues"]["precision"], 4),
        "clue_recall": round(found["clues"]["recall"], 4),
    }
    kept.write_text(json.dumps(scores) + "\n")
    return scores


def main() -> None:
    out = Path(sys.argv[1])
    setup(training=True)
    console = Console(stderr=True)
    folder = make_corpus(config=CorpusConfig())
    records = load_corpus(folder)
    made = annotate(folder, records, out / "annotations")
    test = [r for r in records if r.split == "test"]
    found: dict[str, Any] = {"annotated": [], "true texts": []}
    for seed in range(int(sys.argv[2]) if len(sys.argv) > 2 else 2):
        for name, own in (("annotated", [*made, *test]), ("true texts", records)):
            found[name].append(score(own, out / f"{name}_{seed}".replace(" ", "_"), seed, console))
            print(name, seed, found[name][-1], flush=True)
    mean = {
        n: {k: float(np.mean([s[k] for s in found[n]])) for k in found[n][0]}
        for n in ("annotated", "true texts")
    }
    found["means"] = {n: {k: round(v, 4) for k, v in m.items()} for n, m in mean.items()}
    found["difference"] = {
        k: round(v - mean["true texts"][k], 4) for k, v in mean["annotated"].items() if k != "clips"
    }
    print(json.dumps(found, indent=1))
    (out / "result.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

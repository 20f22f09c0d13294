"""`emojax demo`: the whole path on the embedded corpus, from drawing the clips to explaining one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.io import cache_root
from emojax.bundle.model_folder import load_bundle
from emojax.cli.console import progress_bars
from emojax.cli.progress_bars import bar
from emojax.config import load_config, resolve
from emojax.evaluate.clue_scores import ABLATIONS
from emojax.evaluate.model_answers import evaluate_embedded
from emojax.infer.predict import DEMO_POINTER, predict
from emojax.reports import evaluation_tables
from emojax.workflows import jobs
from emojax.workflows.train import run_training


def demo(
    out: Path, console: Console, *, fresh: bool = True, preset: str = "tiny"
) -> dict[str, Any]:
    """Makes the corpus, trains both stages, scores the test split and explains one clip; returns the results."""
    begin = time.monotonic()
    settings = resolve(load_config(preset))
    if any(out.iterdir() if out.exists() else ()) and not (out / "config.json").exists():
        raise ValueError(
            f"{out} holds other things than a run: choose another folder, the demo makes its own anew"
        )
    if fresh:
        shutil.rmtree(out, ignore_errors=True)
    corpus = CorpusConfig()
    with bar(console, "make the embedded corpus") as tick:
        folder = make_corpus(config=corpus, progress=tick)
        tick(corpus.train + corpus.val + corpus.test, corpus.train + corpus.val + corpus.test)
    records = load_corpus(folder)
    sources = jobs.open_views(records, settings, console)
    with progress_bars(console) as progress:
        run_training(settings, records, sources, out, progress=progress)
    jobs.calibrate(out, sources["val"], console, name="embedded corpus, val")
    bundle = load_bundle(out)
    items = jobs.items_of(sources["test"], bundle)
    passes = len(items) * (len(ABLATIONS) + 1)
    done = 0
    with bar(console, "evaluate") as tick:

        def count(n: int) -> None:
            nonlocal done
            done += n
            tick(done, passes)

        results = evaluate_embedded(bundle, items, corpus, tick=count)
    results["seconds"] = round(time.monotonic() - begin, 1)
    evaluation_tables.write(results, out)
    (cache_root() / DEMO_POINTER).write_text(str(out.absolute()))
    evaluation_tables.show(results, console)
    _facts(results, console)
    record = next(r for r, _ in items if r.truth is not None and all(r.truth["clues"].values()))
    answer = next(predict(bundle, [record.path], subtitle=record.subtitle))
    best = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])[:3]
    console.print(f"\none clip: {record.path}", soft_wrap=True)
    console.print(f"  subtitle  {record.subtitle}")
    console.print(f"  label     {answer.label}   (true: {record.label})")
    console.print("  chances   " + ", ".join(f"{name} {p:.2f}" for name, p in best))
    console.print(f"  reason    {answer.reason}\n", soft_wrap=True)
    console.print(
        f"made in {results['seconds']:.0f} s: {out}/ with model.json, weights/, evaluation.json, evaluation.md, "
        f"confusion_test.png, log.jsonl, tensorboard/\n"
        "try next:\n"
        f"  emojax predict {record.path} --json\n"
        "  emojax predict your_clip.mp4 --subtitle 'what is said'\n"
        "  emojax train --manifest yours.csv --out runs/mine      (columns path,label[,subtitle,split,speaker,start,end])\n"
        "  emojax corpus --out corpus                             (the clips themselves)",
        soft_wrap=True,
    )
    return results


def _facts(results: dict[str, Any], console: Console) -> None:
    table = Table(title="embedded test split")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("note")
    rows = [
        (
            "fused UAR",
            results["ablations"]["fused"],
            f"best possible {results['best_possible']:.3f}",
        ),
        (
            "best single modality",
            max(results["ablations"][k] for k in results["ablations"] if k.startswith("only_")),
            "",
        ),
        (
            "conflict clips UAR",
            results["conflict"],
            f"{results['conflict_n']} clips, words against face and voice",
        ),
    ]
    test = results["test"]
    if "calibration" in test:
        risk = {p["coverage"]: p["risk"] for p in test["risk_coverage"]["curve"]}
        rows.append(
            (
                "ECE of the probabilities",
                test["calibration"]["ece"],
                "calibrated on the validation clips",
            )
        )
        rows.append(
            ("errors at 80 % coverage", risk[0.8], f"{risk[1.0]:.3f} when every clip is answered")
        )
    if "clues" in results:
        clues = results["clues"]
        rows.append(
            ("clue precision", clues["precision"], f"{clues['named']} clues named in the reasons")
        )
        rows.append(
            (
                "clue recall",
                clues["recall"],
                f"absent modality named in {clues['absent_named']} clips",
            )
        )
    for name, value, note in rows:
        table.add_row(name, f"{value:.3f}", note)
    console.print(table)

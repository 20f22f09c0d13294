"""Evaluates on unseen people: leave-two-actors-out on java_sed (8 actors, 6 emotions).

    .venv/bin/python scripts/leave_two_actors_out.py ../shared/data/java_sed runs/java_sed

4 folds, 3 seeds each. A run is `emojax train --manifest` on six actors (mp4 and audio files),
scored on the mp4 files of the other two. Finished runs are reused: an interrupted script continues.

Two figures per run. `uar`: as `emojax train` scores it; the manifest names the speakers, so audio
features are normalised over the 24 clips of a test speaker (no labels are used). `alone`: the same
model on the same clips without the speaker column, as if each clip were of an unknown speaker.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def write_manifest(data: Path, fold: str, path: Path, speakers: bool = True) -> None:
    rows = list(csv.DictReader((data / "manifest.csv").open()))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"] + ["speaker"] * speakers)
        for row in rows:
            held_out = row["fold"] == fold
            if held_out and not row["file"].endswith(".mp4"):
                continue
            media = (data / row["file"]).absolute()
            writer.writerow(
                [media, row["emotion"], "test" if held_out else "train"] + [row["actor"]] * speakers
            )


def run_fold(args: argparse.Namespace, fold: str, seed: int) -> Path:
    """Trains and scores one fold if that is not done; returns the run's folder."""
    manifest, run = args.out / f"fold{fold}.csv", args.out / f"fold{fold}_seed{seed}"
    nameless = args.out / f"fold{fold}_no_speakers.csv"
    write_manifest(args.data, fold, manifest)
    write_manifest(args.data, fold, nameless, speakers=False)
    timing = run / "seconds.json"
    if timing.exists():
        return run
    begin = time.monotonic()
    with (args.out / f"fold{fold}_seed{seed}.log").open("w") as log:

        def emojax(*words: str) -> None:
            subprocess.run(
                [sys.executable, "-m", "emojax.cli", *words], check=True, stdout=log, stderr=log
            )

        where = ("--manifest", str(manifest), "--out", str(run))
        emojax("train", *where, "--preset", args.preset, "--seed", str(seed))
        seconds = time.monotonic() - begin
        where = ("--manifest", str(nameless), "--out", str(run / "alone"))
        emojax("evaluate", str(run), *where, "--split", "test")
    timing.write_text(json.dumps(seconds))
    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="tiny:people")
    parser.add_argument("--folds", nargs="+", default=["0", "1", "2", "3"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in args.seeds:
        for fold in args.folds:
            run = run_fold(args, fold, seed)
            scores = json.loads((run / "evaluation.json").read_text())["test"]
            alone = json.loads((run / "alone" / "evaluation.json").read_text())["test"]["uar"]
            seconds = json.loads((run / "seconds.json").read_text())
            results.append(
                {
                    "fold": fold,
                    "seed": seed,
                    "uar": scores["uar"],
                    "alone": alone,
                    "seconds": seconds,
                }
            )
            print(
                f"fold {fold} seed {seed}: UAR {scores['uar']:.3f} on {scores['n']} clips, "
                f"{alone:.3f} with each clip alone, {seconds:.0f} s",
                flush=True,
            )
    values = [r["uar"] for r in results]
    by_seed = [statistics.fmean(r["uar"] for r in results if r["seed"] == s) for s in args.seeds]
    spread = statistics.stdev(by_seed) if len(by_seed) > 1 else 0.0
    print(
        f"\nmean UAR {statistics.fmean(values):.3f} (chance 0.167); "
        f"by seed {[round(v, 3) for v in by_seed]}, standard deviation over seeds {spread:.3f}; "
        f"lowest run {min(values):.3f}, highest {max(values):.3f}; "
        f"longest run {max(r['seconds'] for r in results):.0f} s; "
        f"with each clip alone {statistics.fmean(r['alone'] for r in results):.3f}"
    )
    (args.out / "summary.json").write_text(
        json.dumps({"runs": results, "mean": statistics.fmean(values)}, indent=1)
    )


if __name__ == "__main__":
    main()

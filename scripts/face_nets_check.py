"""What the face nets find and carry on Java-SED, and their time per frame on one core.

    emojax fetch tiny-face-detector && emojax fetch face-expression-net
    .venv/bin/python scripts/face_nets_check.py ../shared/data/java_sed

Three figures. `found`: frames in which the detector finds a face, of all frames and of those that
are not of one colour (most of the recordings begin with black). `ms per frame`: processor time, the
fastest of seven passes over one clip. `UAR`: mean, deviation and maximum over time of a clip's 256
features, standardised, logistic regression (C = 0.01), learned without the two actors that are
scored; as it is, and with the mean of each actor removed. The figures are in docs/weights.md.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, also for XLA's threads

import jax
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_pipeline.media.clip import Sampling, read_clip
from data_pipeline.media.face_crops import crop_faces
from data_pipeline.media.presence import is_blank
from emojax.infer.face_detector import TinyFaceDetector
from emojax.model.encoders.face_api import FaceNetConfig, make_net
from emojax.weights.face_nets import load_face_net


def fastest(run: Callable[[], Any], frames: int) -> float:
    """Milliseconds per frame."""
    times = []
    for _ in range(8):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return min(times[1:]) / frames * 1e3


def scored(features: np.ndarray, rows: list[dict[str, str]]) -> float:
    """UAR over all folds."""
    labels, folds = (np.array([r[k] for r in rows]) for k in ("emotion", "fold"))
    guessed = labels.copy()
    for fold in np.unique(folds):
        held = folds == fold
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        guessed[held] = probe.fit(features[~held], labels[~held]).predict(features[held])
    return float(recall_score(labels, guessed, average="macro"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of Java-SED with manifest.csv")
    parser.add_argument("--detector", type=Path, help="its weights, if not fetched")
    parser.add_argument("--expression", type=Path, help="its weights, if not fetched")
    parser.add_argument("--frames", type=int, default=12, help="of each clip")
    args = parser.parse_args()
    detector = TinyFaceDetector(args.detector)
    net = make_net(FaceNetConfig())
    variables = load_face_net(FaceNetConfig(), args.expression)
    encode = jax.jit(net.apply)

    def features_of(crops: np.ndarray) -> np.ndarray:
        return np.asarray(encode(variables, crops[None]))[0]

    rows = [r for r in csv.DictReader((args.data / "manifest.csv").open()) if "mp4" in r["file"]]
    every, shown, found, features = 0, 0, 0, []
    for row in rows:
        clip = read_clip(args.data / row["file"], sampling=Sampling(num_frames=args.frames))
        faces = crop_faces(clip.frames, detector(clip.frames))
        every += len(clip.frames)
        shown += sum(not is_blank(f[None]) for f in clip.frames)
        found += int(faces.found.sum())
        seen = features_of(faces.crops)[faces.found]
        features.append(np.concatenate([seen.mean(0), seen.std(0), seen.max(0)]))
    print(f"found: {found / every:.3f} of {every} frames, {found / shown:.3f} of {shown} shown")
    boxes = detector(clip.frames)
    for name, run in (
        ("detector", lambda: detector(clip.frames)),
        ("crops", lambda: crop_faces(clip.frames, boxes)),
        ("expression", lambda: features_of(faces.crops)),
    ):
        print(f"{name}: {fastest(run, len(clip.frames)):.1f} ms per frame of {clip.frames.shape}")
    table = np.stack(features)
    actors = np.array([r["actor"] for r in rows])
    mean = np.stack([table[actors == a].mean(0) for a in actors])
    print(f"UAR: {scored(table, rows):.3f}, mean removed {scored(table - mean, rows):.3f}")


if __name__ == "__main__":
    main()

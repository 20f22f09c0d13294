"""Shared by tests of built data and caches: a model with frozen encoders, jobs, kills."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax

from data_pipeline.loader.tokens import SmallTokenizer
from emojax.bundle.model_folder import save_bundle
from emojax.config import Settings, change_fields, load_config, resolve
from emojax.model.variables import init_flat, merge
from emojax.sharding import make_mesh

ROOT = Path(__file__).parents[1]
# The released behaviour at the smallest sizes: frozen encoders, no augmentation.
OPTIONS = {"train.tokenizer": "small", "data.image_choice": "middle", "data.temporal": "uniform"}
CLI = [sys.executable, "-m", "emojax.cli"]
BUILD = ["--image", "middle", "--temporal", "uniform"]


def settings(**changes: object) -> Settings:
    config = load_config("tiny:released")
    for name, value in {**OPTIONS, **changes}.items():
        change_fields(config, {name: value})
    return resolve(config)


def save_random_model(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A model folder of random weights."""
    s = settings(**changes)
    mesh = make_mesh(shape=(-1, 1, 1))
    with jax.set_mesh(mesh):
        variables = init_flat(s.model, seed, mesh)
    tokenizer = SmallTokenizer.train(
        ["which one of angry happy sad is shown", "the person in video says"] * 2, 400
    )
    save_bundle(
        folder,
        s,
        tokenizer,
        variables=merge(jax.device_get(variables), {}),
        labels=("angry", "happy", "sad"),
        reasons=False,
    )
    return folder


def train_command(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    options = [f"--config.{k}={v}" for k, v in OPTIONS.items()]
    return [
        sys.executable, "-m", "emojax.train", "--config=configs/tiny.py:released", *options,
        f"--config.train.init_from={model}", f"--data={data}", f"--out={out}",
        "--config.stages=('perception',)", *more,
    ]  # fmt: skip


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "EMOJAX_CACHE": str(cache), "JAX_PLATFORMS": "cpu"}


def run_job(
    command: list[str], env: dict[str, str], *, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, which must have this exit code."""
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, start_new_session=True
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def run_with_kills(
    command: list[str],
    kills: int,
    env: dict[str, str],
    *,
    busy: Callable[[], bool],
    longest: float,
    fresh: Path | None = None,
) -> int:
    """Starts a job repeatedly and kills it and its workers with SIGKILL; the last start finishes.

    Each kill comes at a random moment after `busy()` is true. If a job ends before it is killed,
    the folder `fresh` is emptied for the next start.

    Returns:
      How many kills hit a running job.
    """
    hit, rng = 0, random.Random(0)
    while hit < kills:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None and not busy():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, longest))
        alive = process.poll() is None
        hit += alive
        if alive:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not alive and fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
    run_job(command, env)
    return hit

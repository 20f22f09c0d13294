"""Training that is killed at a random step and started again has bit-equal losses."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipeline.embedded.generate import make_corpus
from data_pipeline.embedded.truth import CorpusConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    folder = make_corpus(
        config=CorpusConfig(train=24, val=9, test=9), folder=tmp_path_factory.mktemp("corpus") / "c"
    )
    return folder / "manifest.csv"


def command(manifest: Path, out: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "emojax.train",
        "--config=configs/tiny.py:test",
        f"--manifest={manifest}",
        f"--out={out}",
        "--config.stage.perception.steps=8",
        "--config.stage.cognition.steps=8",
        "--config.data.buckets=((208,96),)",  # one shape: one step to compile
    ]


def losses(out: Path) -> dict[tuple[str, int], float]:
    lines = (out / "log.jsonl").read_text().splitlines()
    # A killed run may leave half a line.
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    assert len({(r["stage"], r["step"]) for r in rows}) == len(rows), "each step is logged once"
    return {(r["stage"], r["step"]): r["loss"] for r in rows}


@pytest.mark.parametrize(
    ("stages", "first"),
    [(("perception",), 3), pytest.param(("perception", "cognition"), 11, marks=pytest.mark.full)],
)
def test_sigkill_and_resume(manifest, tmp_path, stages, first):
    """Killed in its last stage, not at its border: there would be no iterator to restore."""
    env = {**os.environ, "EMOJAX_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    run = lambda out: [*command(manifest, out), f"--config.stages={stages}"]
    subprocess.run(run(tmp_path / "whole"), cwd=ROOT, env=env, check=True, capture_output=True)
    whole = losses(tmp_path / "whole")
    assert list(whole) == [(stage, i) for stage in stages for i in range(1, 9)]
    out = tmp_path / "cut"
    process = subprocess.Popen(
        run(out), cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stage, target = stages[-1], first + random.randrange(4)
    log = out / "log.jsonl"
    limit = time.monotonic() + 240
    while time.monotonic() < limit and process.poll() is None:
        saved = any(p.name.isdigit() for p in (out / "checkpoints" / stage).glob("*"))
        if saved and log.exists() and len(log.read_text().splitlines()) >= target:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = losses(out)
    assert before and (stage, 8) not in before
    again = subprocess.run(run(out), cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    assert re.search(rf"{stage}: continues from step [2-7]\b", again.stdout), (target, again.stdout)
    assert losses(out) == whole
    scores = [
        json.loads((d / "evaluation.json").read_text())["val"]["confusion"]
        for d in (tmp_path / "whole", out)
    ]
    assert scores[0] == scores[1]


@pytest.mark.full
def test_thirty_kills_lose_and_repeat_no_step(manifest, tmp_path):
    """Each step is logged once, and is bit-equal to that of an undisturbed run."""
    env = {**os.environ, "EMOJAX_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    more = [
        "--config.stages=('perception',)",
        "--config.stage.perception.steps=800",
        "--config.train.save_every=5",
        "--config.train.log_clips=True",
    ]
    whole = [*command(manifest, tmp_path / "whole"), *more]
    subprocess.run(whole, cwd=ROOT, env=env, check=True, capture_output=True)
    out = tmp_path / "cut"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for _ in range(30):
        log = out / "log.jsonl"
        before = log.stat().st_mtime_ns if log.exists() else 0
        cut = 1 << 30
        process = subprocess.Popen([*command(manifest, out), *more], cwd=ROOT, env=env, **quiet)
        limit = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < limit:
            # The log is cut back to the checkpoint; then lines are added.
            if log.exists() and log.stat().st_mtime_ns != before:
                cut = min(cut, log.stat().st_size)
                if log.stat().st_size > cut:
                    break
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.7))
        assert process.poll() is None and time.monotonic() < limit, "the run ended before its kill"
        process.kill()
        process.wait()
    subprocess.run(
        [*command(manifest, out), *more], cwd=ROOT, env=env, check=True, capture_output=True
    )
    assert losses(out) == losses(tmp_path / "whole")
    shown = [(d / "clips-0.jsonl").read_text() for d in (tmp_path / "whole", out)]
    assert shown[0] == shown[1]
    assert len((out / "starts.jsonl").read_text().splitlines()) == 31


def test_sigterm_saves_and_the_run_goes_on(manifest, tmp_path):
    env = {**os.environ, "EMOJAX_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    out = tmp_path / "run"
    words = [
        *command(manifest, out),
        "--config.train.save_every=1000",
        "--config.stage.perception.steps=3000",
    ]
    process = subprocess.Popen(
        words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 240
    while time.monotonic() < limit and process.poll() is None:
        if (out / "log.jsonl").exists() and len((out / "log.jsonl").read_text().splitlines()) > 3:
            break
        time.sleep(0.02)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and time.monotonic() - begin < 30, errors[-2000:]
    step = int(re.search(r"stopped after perception step (\d+)", errors)[1])
    assert (out / "checkpoints" / "perception" / str(step)).is_dir()
    assert max(s for _, s in losses(out)) == step

"""Two JAX processes of 4 devices each, started by launch_tpu.sh: SIGKILL, SIGTERM, topology."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipeline.embedded.generate import make_corpus
from data_pipeline.embedded.truth import CorpusConfig

ROOT = Path(__file__).parents[2]
STEPS = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    make_corpus(config=CorpusConfig(train=24, val=9, test=9), folder=folder / "c")
    return folder


def start(place: Path, out: Path, processes: int, devices: int) -> subprocess.Popen:
    words = [
        "--config=configs/tiny.py:test",
        f"--manifest={place / 'c' / 'manifest.csv'}",
        f"--out={out}",
        "--config.stages=('perception',)",
        f"--config.stage.perception.steps={STEPS}",
        f"--config.train.mesh=(2,{processes * devices // 2},1)",
        "--config.train.save_every=2",
        "--config.train.log_clips=True",
        "--config.data.buckets=((208,96),)",  # one shape: one step to compile
        # Dropout bits do not depend on the mesh; sums over devices do, in the last digit.
        "--config.optim.ema=0.0",
    ]
    env = {**os.environ, "EMOJAX_CACHE": str(place / "cache"), "PYTHON": sys.executable}
    # Process 0 alone writes to the cache of programs. If it finds one there that the other process
    # has to compile, the other may come to the first collective after its time limit of 30 s.
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [
        "bash",
        "launch_tpu.sh",
        "--local",
        str(processes),
        "--devices",
        str(devices),
        "--",
        *words,
    ]
    with (place / f"{out.name}-{processes}.log").open("a") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
        )


def rows(out: Path, name: str = "log.jsonl") -> dict[int, dict]:
    if not (out / name).exists():
        return {}
    lines = [json.loads(x) for x in (out / name).read_text().splitlines() if x.endswith("}")]
    assert len({r["step"] for r in lines}) == len(lines), "a step is logged once"
    return {r["step"]: r for r in lines}


def clips(out: Path, processes: int) -> dict[int, list[str]]:
    parts = [rows(out, f"clips-{i}.jsonl") for i in range(processes)]
    return {step: [c for part in parts for c in part[step]["clips"]] for step in parts[0]}


def wait_for(process: subprocess.Popen, ready) -> None:
    limit = time.monotonic() + 300
    while not ready() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    assert process.poll() is None, "the run ended too early"


def checkpoint(out: Path, step: int) -> bool:
    return (out / "checkpoints" / "perception" / str(step)).exists()


def workers(process: subprocess.Popen) -> list[int]:
    processes = subprocess.run(
        ["pgrep", "-g", str(process.pid), "-f", "emojax.train"], capture_output=True, text=True
    )
    return [
        int(p)
        for p in processes.stdout.split()
        if "python" in Path(f"/proc/{p}/cmdline").read_text().split("\0")[0]
    ]


def test_two_processes_train_together(place):
    out = place / "both"
    assert start(place, out, 2, 2).wait(timeout=400) == 0, (
        place / f"{out.name}-2.log"
    ).read_text()[-3000:]
    assert sorted(rows(out)) == list(range(1, STEPS + 1)) and (out / "model.json").exists()
    assert json.loads((out / "starts.jsonl").read_text())["processes"] == 2
    parts = [rows(out, f"clips-{i}.jsonl") for i in range(2)]
    for step in range(1, STEPS + 1):  # each process reads its own half of the batch
        one, other = (set(part[step]["clips"]) for part in parts)
        assert len(one) == len(other) == 4 and not one & other, step


@pytest.mark.full
@pytest.mark.parametrize("devices", [2, 4])
def test_one_of_two_processes_is_lost_and_the_run_goes_on(place, devices):
    whole, cut = place / f"whole{devices}", place / f"cut{devices}"
    assert start(place, whole, 2, devices).wait(timeout=400) == 0, (
        place / f"{whole.name}-2.log"
    ).read_text()[-3000:]
    expected = rows(whole)
    assert sorted(expected) == list(range(1, STEPS + 1)) and (whole / "model.json").exists()
    assert json.loads((whole / "starts.jsonl").read_text())["processes"] == 2

    process = start(place, cut, 2, devices)
    wait_for(process, lambda: checkpoint(cut, 2))
    victims = workers(process)
    assert len(victims) == 2
    os.kill(victims[1], signal.SIGKILL)
    assert process.wait(timeout=60) != 0
    assert not (cut / "model.json").exists()
    other = place / f"other{devices}"
    shutil.copytree(cut, other)
    # The same topology: bit-equal. One process with all devices: same clips, same losses to 1e-6.
    assert start(place, cut, 2, devices).wait(timeout=400) == 0, (
        place / f"{cut.name}-2.log"
    ).read_text()[-3000:]
    assert "continues from step" in (place / f"{cut.name}-2.log").read_text()
    assert {s: r["loss"] for s, r in rows(cut).items()} == {
        s: r["loss"] for s, r in expected.items()
    }
    assert start(place, other, 1, 2 * devices).wait(timeout=400) == 0, (
        place / f"{other.name}-1.log"
    ).read_text()[-3000:]
    resumed = rows(other)
    assert {s: r["loss"] for s, r in resumed.items()} == pytest.approx(
        {s: r["loss"] for s, r in expected.items()}, rel=1e-6
    )
    log = (place / f"{other.name}-1.log").read_text()
    first = int(log.split("continues from step ")[1].split()[0])
    after = {s: c for s, c in clips(whole, 2).items() if s > first}
    assert after and {s: c for s, c in clips(other, 1).items() if s > first} == after


@pytest.mark.full
def test_sigterm_saves_on_both_before_the_run_ends(place):
    out = place / "term"
    process = start(place, out, 2, 4)
    wait_for(process, lambda: len(rows(out)) >= 2)
    begin = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=90) == 143, (place / "term-2.log").read_text()[-3000:]
    assert time.monotonic() - begin < 30
    log = (place / "term-2.log").read_text()
    step = int(log.split("stopped after perception step ")[1].split(",")[0])
    assert checkpoint(out, step) and max(rows(out)) == step

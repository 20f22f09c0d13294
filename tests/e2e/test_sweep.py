"""A sweep of nine points over LoRA rank and learning rate continues after it was killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SWEEP = '''"""Nine points."""
PRESET = "tiny:test"
SEEDS = (0,)


def sweep():
    for rank in (2, 4, 8):
        for rate in (3e-4, 1e-3, 3e-3):
            yield f"rank {rank}, lr {rate:g}", {"model.lora.rank": rank, "optim.lr": rate}
'''


@pytest.mark.full
def test_nine_points_survive_a_kill(tmp_path):
    (tmp_path / "nine.py").write_text(SWEEP)
    env = {**os.environ, "EMOJAX_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "emojax.cli",
        "sweep",
        "run",
        str(tmp_path / "nine.py"),
        "--out",
        str(out),
    ]
    command += ["--clips", "24"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    limit = time.monotonic() + 400
    while (
        len(list(out.glob("*/result.json"))) < 2
        and process.poll() is None
        and time.monotonic() < limit
    ):
        time.sleep(0.1)
    time.sleep(3)  # into the third point
    process.kill()
    process.wait()
    made = {p: p.stat().st_mtime_ns for p in out.glob("*/result.json")}
    assert 2 <= len(made) < 9
    done = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    assert {p: p.stat().st_mtime_ns for p in made} == made, "stored results are not computed again"
    table = (out / "nine.md").read_text()
    assert table.strip() in done.stdout and len(table.splitlines()) == 2 + 9
    assert (
        len(json.loads((out / "nine.json").read_text())) == 9
        and (out / "nine.png").stat().st_size > 3000
    )
    assert len(list(out.glob("*/result.json"))) == 9

"""The training step compiled for absent GPUs, where the gpu-compiler extra is installed.

tests/unit/test_gpu_programs.py lowers the same programs without it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emojax.plan.gpu_target import has_gpu_compiler

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not has_gpu_compiler(), reason="the gpu-compiler extra is not installed"),
]


@pytest.mark.parametrize(
    ("topology", "mesh"),
    [("a100:1", [1, 1, 1]), ("h100:8", [1, 8, 1]), ("h200:2x8", [2, 8, 1])],
)
def test_full_size_compiles_and_the_formula_is_near(topology, mesh):
    command = [sys.executable, "-m", "emojax.cli", "plan", "train", "--json", "--cached"]
    command += ["--config", "v2:stage1_pod", "--topology", topology]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    plan = json.loads(done.stdout.splitlines()[-1])
    assert plan["source"] == "compiler" and plan["fits"] and plan["mesh"] == mesh
    assert plan["peak_bytes_per_chip"] == pytest.approx(
        plan["formula_peak_bytes_per_chip"], rel=0.1
    )
    assert plan["replicated"] == [] or topology == "a100:1"

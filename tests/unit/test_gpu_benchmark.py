"""bench/gpu.py on a machine without a GPU: everything up to the check of the device."""

import importlib.util
import json
import math
from pathlib import Path

FILE = Path(__file__).parents[2] / "bench" / "gpu.py"
SPEC = importlib.util.spec_from_file_location("bench_gpu", FILE)
gpu = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gpu)


def test_our_side_runs_in_small(capsys):
    """The whole path: random weights, a batch, steps, FLOPs, the peak of matmuls."""
    assert gpu.main(["--side", "ours", "--check"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one.pop("gpu") == "" and one.pop("memory_bytes") >= 0
    assert all(value > 0 and math.isfinite(value) for value in one.values()), one
    # By hand: 2 layers of 4 D D + 3 D M frozen entries, D 64, M 128; LoRA of rank 64 on q and v.
    layers = 2 * (4 * (4 * 64**2 + 3 * 64 * 128) + 6 * 2 * 64 * (64 + 64))
    assert one["useful_flops"] > 2 * 512 * layers


def test_without_a_gpu_nothing_is_measured(capsys):
    assert gpu.main(["--side", "ours"]) == 2
    assert "no GPU found; --check runs in small" in capsys.readouterr().err


def test_check_says_what_is_missing(monkeypatch, capsys):
    sides = {"ours": ("json",), "theirs": ("no_such_package", "json")}
    one = {"seconds": 0.5, "matmul_peak": 4e12, "executed_flops": 1e12, "useful_flops": 8e11}
    one |= {"memory_bytes": 3, "loss": 5.0, "gpu": ""}
    monkeypatch.setattr(gpu, "SIDES", sides)
    monkeypatch.setattr(gpu, "measure", lambda side, words: one)
    assert gpu.main(["--check"]) == 0
    printed = capsys.readouterr().out
    assert "ours: ran, loss 5.000" in printed and "ours: no GPU found" in printed
    assert "theirs: no_such_package not installed" in printed
    result = gpu.summary(one, {"seconds": 0.75, "memory_bytes": 4}, tokens=1024)
    assert result["ratio"] == 1.5 and result["tokens_per_second"] == 2048
    assert result["executed_share_of_peak"] == 0.5 and result["useful_share_of_peak"] == 0.4

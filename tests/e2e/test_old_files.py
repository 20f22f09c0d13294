"""Files that commit bfbf151 wrote are read; tests/data/make_old_files.py made them."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest
from data_jobs import OPTIONS, ROOT

from data_pipeline.builders.shards import open_built
from data_pipeline.loader.batches import BuiltSource
from data_pipeline.loader.features import open_cache
from data_pipeline.loader.samples import read_element
from emojax.bundle.model_folder import load_bundle
from emojax.infer.answer import label_probabilities, reasons
from emojax.model.variables import flatten
from emojax.workflows.encode_features import cache_config

ARCHIVE = Path(__file__).parents[1] / "data" / "old_files.tar.gz"
STEPS = ("perception.steps=4", "train.save_every=2", "train.log_every=1")


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "old_files"


@pytest.fixture(scope="module")
def expected(old) -> dict:
    return json.loads((old / "expected.json").read_text())


@pytest.mark.parametrize("name", ["model", "run"])
def test_a_model_folder_answers_as_before(old, expected, name):
    bundle = load_bundle(old / name)
    settings = bundle.settings
    built = open_built(old / "built")["embedded"]
    source = BuiltSource(built, "val", settings.views, settings.sampling(None))
    items = [read_element(source[i], settings.views) for i in range(len(source))]
    assert [record.id for record, _ in items] == expected[name]["ids"]
    found = label_probabilities(bundle, items, bundle.labels)
    np.testing.assert_allclose(found, expected[name]["probabilities"], rtol=1e-4, atol=1e-6)
    if expected[name]["reasons"]:
        assert reasons(bundle, items) == expected[name]["reasons"]


def test_a_feature_cache_serves_the_model_that_made_it(old, expected):
    bundle = load_bundle(old / "model")
    cache = open_cache(old / "cache", cache_config(bundle.settings, flatten(bundle.variables)))
    assert {split: len(s) for split, s in cache.sources["embedded"].items()} == {
        "train": 8,
        "val": 3,
        "test": 1,
    }
    _, features = cache.sources["embedded"]["val"][0]
    sums = {k: float(np.abs(x.astype(np.float64)).sum()) for k, x in features.arrays.items()}
    assert sums == pytest.approx(expected["cache"], rel=1e-6)


def resume(folder: Path, home: Path) -> str:
    options = [f"--config.{k}={v}" for k, v in OPTIONS.items()]
    options += [f"--config.{'stage.' if s.startswith('perception') else ''}{s}" for s in STEPS]
    command = [
        sys.executable, "-m", "emojax.train", f"--config={ROOT}/configs/tiny.py:released", *options,
        "--config.train.init_from=model", "--config.stages=('perception',)",
        "--data=built", "--cache=cache", "--out=run",
    ]  # fmt: skip
    env = {**os.environ, "EMOJAX_CACHE": str(home), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_a_run_goes_on_from_its_checkpoints(old, expected, tmp_path):
    """Its settings are recognised, a checkpoint is read, and later steps repeat the old losses."""
    folder = tmp_path / "copy"
    shutil.copytree(old, folder)
    log = folder / "run" / "log.jsonl"
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 3, 4]
    text = resume(folder, tmp_path / "home")
    assert "from step 2" in text
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]  # no step is logged twice
    assert [line["loss"] for line in lines] == pytest.approx(expected["losses"], rel=1e-5)
    after, before = (flatten(load_bundle(f / "run").variables) for f in (folder, old))
    assert set(after) == set(before)
    for path, x in before.items():
        np.testing.assert_allclose(
            jax.device_get(after[path]), jax.device_get(x), rtol=1e-4, atol=1e-6
        )


def emojax(*words: str, folder: Path, home: Path) -> str:
    env = {**os.environ, "EMOJAX_CACHE": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "emojax.cli", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_results_folders_are_compared(old, expected, tmp_path):
    out = tmp_path / "c"
    emojax("compare", "one", "other", "--out", str(out), folder=old, home=tmp_path / "home")
    (found,) = json.loads((out / "comparison.json").read_text())["comparisons"]
    assert found.pop("run") == "other"
    assert found == expected["comparison"]


def test_a_run_is_shown(old, tmp_path):
    home, page = tmp_path / "home", tmp_path / "r.html"
    text = emojax("watch", "run", "--once", folder=old, home=home)
    assert "4/4" in text
    assert "finished" in text
    emojax("report", "run", "--out", str(page), folder=old, home=home)
    assert "perception" in page.read_text()

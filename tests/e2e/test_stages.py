"""Stages with their own rules, optimizer, mixture and start; best weights by validation."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.loader.open_sources import open_views
from emojax.bundle.model_folder import load_bundle
from emojax.cli.main import main
from emojax.config import load_config, resolve
from emojax.model.variables import flatten, init_flat
from emojax.reports import training_page
from emojax.sharding import make_mesh
from emojax.train.start import stage_sources
from emojax.workflows.train import run_training

ONLY_LORA = ((r"lora/.*", "train"), (r"params/.*", "freeze"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, settings) of a run whose second stage restarts and trains adapters only."""
    place = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOJAX_CACHE", str(place / "cache"))
        records = load_corpus(make_corpus(config=CorpusConfig(train=24, val=9, test=9)))
        config = load_config("tiny:test")
        config.data.speaker_norm, config.train.mesh = 0.0, (1, 8, 1)
        config.data.buckets = ((208, 96),)  # one shape: one step to compile per stage
        config.stage.perception.steps = config.stage.cognition.steps = 4
        config.stage.cognition.inherits = "start"
        config.stage.cognition.trainable = ONLY_LORA
        config.stage.cognition.optim.lr, config.stage.cognition.optim.ema = 5e-3, 0.0
        config.train.update({"validate_every": 2, "take": "best", "validate_clips": 9})
        settings = resolve(config)
        sources = open_views(records, settings.views, settings.sampling)
        run_training(settings, records, sources, place / "run")
        yield place / "run", settings


def test_a_stage_has_its_own_rules_and_start(run):
    folder, settings = run
    start = init_flat(
        settings.model, settings.seed, make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    )
    for path, x in flatten(load_bundle(folder).variables).items():
        same = np.array_equal(np.asarray(x), np.asarray(start[path]))
        assert same == path.startswith("params/"), path
    rates = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    top = {s: max(r["lr"] for r in rates if r["stage"] == s) for s in ("perception", "cognition")}
    assert top["cognition"] > 2 * top["perception"]


def test_validation_is_logged_and_the_best_weights_are_used(run):
    folder, _ = run
    rows = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    assert [(r["stage"], r["step"]) for r in rows] == [
        (s, n) for s in ("perception", "cognition") for n in (2, 4)
    ]
    assert len(rows[0]["samples"]) == 8 and 0 <= rows[0]["score"] <= 1
    assert json.loads((folder / "starts.jsonl").read_text())["devices"] == 8
    assert json.loads((folder / "base.json").read_text()) == {"start": "random", "seed": 0}


def test_watch_and_report(run, capsys, tmp_path):
    folder, _ = run
    assert main(["watch", str(folder), "--once"]) == 0
    printed = capsys.readouterr().out
    assert "4/4" in printed and "finished" in printed
    page = training_page.write_html(str(folder), out=tmp_path / "r.html")
    text = Path(page).read_text()
    assert (
        text.count("data:image/png;base64,") >= 6
        and "Answers over time" in text
        and "http" not in text
    )
    assert main(["report", str(tmp_path)]) == 2 and "no config.json" in capsys.readouterr().err


def test_weights_of_a_stage():
    config = load_config("v1:mer2023_semi")
    pseudo, fine = resolve(config).stages
    sources = {"mer2023": ([1], 1.0), "merr_fine": ([1], 1.0)}
    assert list(stage_sources(pseudo, sources)) == ["mer2023"]
    assert list(stage_sources(fine, sources)) == ["merr_fine"] and fine.steps == 30_000
    with pytest.raises(
        ValueError, match="no data set of other has a weight above 0|name 'mer2023'"
    ):
        stage_sources(pseudo, {"other": ([1], 1.0)})
    config.stage.fine.inherits = "labels"
    with pytest.raises(ValueError, match="inherits is 'labels'"):
        resolve(config)

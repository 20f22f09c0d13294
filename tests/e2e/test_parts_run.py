"""The whole path with a language model that a configuration names: train, save, load, predict."""

import json

import numpy as np
import pytest
from small_parts import write_language_model

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.loader.open_sources import open_views
from emojax.bundle.model_folder import load_bundle
from emojax.cli.main import main
from emojax.config import load_config, resolve
from emojax.workflows.train import run_training

ONLY_LORA = ((r"lora/.*", "train"), (r"params/.*", "freeze"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder of the model, one clip, tensors of the part)."""
    place = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOJAX_CACHE", str(place / "cache"))
        tensors = write_language_model(place / "part")
        records = load_corpus(make_corpus(config=CorpusConfig(train=16, val=9, test=9)))
        config = load_config("tiny:test", [f"--config.model.llama.part={place / 'part'}"])
        config.data.speaker_norm, config.stages = 0.0, ("cognition",)
        config.data.buckets = ((400, 96),)
        config.stage.cognition.steps, config.trainable = 2, ONLY_LORA
        config.optim.ema = 0.0
        settings = resolve(config)
        sources = open_views(records, settings.views, settings.sampling)
        run_training(settings, records, sources, place / "run")
        yield place / "run", records[0].path, tensors


def test_the_frozen_part_is_in_the_model_folder(run):
    folder, _, tensors = run
    llama = load_bundle(folder).variables["params"]["llama"]
    given = tensors["model.layers.1.self_attn.v_proj.bias"]
    np.testing.assert_array_equal(llama["blocks"]["v"]["bias"][1], given)
    facts = json.loads((folder / "model.json").read_text())
    assert facts["parts"]["llama"]["name"].endswith("part")
    base = json.loads((folder / "base.json").read_text())
    assert base["parts"]["llama"][0].endswith("part")
    assert sorted(p.name for p in (folder / "tokenizer").iterdir())[0] == "chat.json"


def test_a_clip_is_answered(run, capsys):
    folder, clip, _ = run
    assert main(["predict", clip, "--model", str(folder), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[0])
    assert abs(sum(answer["probabilities"].values()) - 1) < 1e-6
    assert answer["error"] is None and isinstance(answer["reason"], str)

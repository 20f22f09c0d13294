"""The commands for released weights: messages without them, import, verify, predict, export."""

import json
import re

import numpy as np
import pytest
import small_files
from commands import emojax, run_command
from safetensors.numpy import load_file

from data_pipeline.embedded.generate import make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from emojax.bundle.model_folder import load_bundle
from emojax.model.variables import flatten, select_trainable
from emojax.weights.catalogue import SOURCES, catalogue_model
from emojax.weights.importer import model_settings

PRESETS = {"emotion-llama-v2": "tiny:released", "emotion-llama": "tiny:released_v1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    make_corpus(config=CorpusConfig(train=1, val=1, test=1), folder=folder / "corpus")
    return folder


def released_files(name: str, folder) -> list[str]:
    """Tiny random files of all sources of a model, as options of a command."""
    files = small_files.source_files(
        name, model_settings(catalogue_model(name), preset=PRESETS[name]), folder
    )
    return [word for key, path in files.items() for word in ("--file", f"{key}={path}")]


@pytest.mark.parametrize(
    "name", ["emotion-llama-v2", pytest.param("emotion-llama", marks=pytest.mark.full)]
)
def test_a_released_model_by_its_name(place, tmp_path, name):
    clip = str(next((place / "corpus" / "clips").glob("test*.mp4")))
    before = run_command(place, "predict", clip, "--model", name)
    assert (
        before.returncode == 2
        and f"emojax fetch {name}" in before.stderr
        and "gated" in before.stderr
    )
    assert all(source in before.stderr for source in catalogue_model(name).sources)
    words = released_files(name, tmp_path)
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps({"emotion": ["one of {labels}, in {one} word?"]}))
    out = emojax(
        place,
        "weights",
        "import",
        name,
        "--preset",
        PRESETS[name],
        "--questions",
        str(questions),
        *words,
    )
    saved = json.loads((place / "cache" / "weights" / name / "model.json").read_text())["config"][
        "data"
    ]["questions"]
    assert saved == {"emotion": ["one of {labels}, in {one} word?"]}
    assert out.returncode == 0 and f"predict CLIP --model {name}" in out.stdout, (
        out.stdout + out.stderr
    )
    answered = emojax(place, "predict", clip, "--model", name, "--json")
    assert answered.returncode == 0, answered.stderr
    answer = json.loads(answered.stdout)
    assert answer["error"] is None and abs(sum(answer["probabilities"].values()) - 1) < 1e-6
    assert len(answer["probabilities"]) == 9 and answer["model"].startswith(name)
    chosen = emojax(
        place, "predict", clip, "--model", name, "--json", "--labels", "joy, angry,disgust"
    )
    assert list(json.loads(chosen.stdout)["probabilities"]) == ["joy", "angry", "disgust"]
    assert run_command(place, "predict", clip, "--model", name, "--labels", "joy").returncode == 2
    assert run_command(place, "weights", "verify", name).returncode == 0
    shown = run_command(place, "weights", "show", name)
    assert (
        re.search(r"sha256 [0-9a-f]{64}", shown.stdout)
        and SOURCES["eva-vit-g"].licence in shown.stdout
    )
    listed = json.loads(run_command(place, "weights", "list", "--json").stdout)
    assert {m["name"]: m["imported"] for m in listed["models"]}[name]
    exported = emojax(place, "export", name, "--format", "peft", "--out", str(tmp_path / "adapter"))
    assert exported.returncode == 0 and (tmp_path / "adapter" / "adapter_config.json").exists()


@pytest.mark.full
def test_an_import_over_another_model_leaves_nothing_of_it(place, tmp_path):
    name, folder = "emotion-llama-v2", tmp_path / "both"
    make_corpus(config=CorpusConfig(train=9, val=1, test=1), folder=tmp_path / "corpus")
    manifest = str(tmp_path / "corpus" / "manifest.csv")
    out = emojax(
        place, "train", "--manifest", manifest, "--out", str(folder), "--preset", "tiny:test"
    )
    assert out.returncode == 0 and (folder / "tokenizer.json").exists(), out.stdout
    words = released_files(name, tmp_path / "files")
    out = emojax(
        place, "weights", "import", name, "--preset", PRESETS[name], "--out", str(folder), *words
    )
    assert out.returncode == 0 and not (folder / "tokenizer.json").exists(), out.stdout + out.stderr
    assert emojax(place, "weights", "verify", str(folder)).returncode == 0
    (folder / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes() + b" ")
    out = emojax(place, "weights", "verify", str(folder))
    assert out.returncode in (1, 2) and "tokenizer" in out.stderr
    for file in (folder / "weights").rglob("*"):
        if file.is_file() and file.stat().st_size > 4000:
            file.write_bytes(file.read_bytes()[:1000])
    out = emojax(place, "weights", "verify", str(folder))
    assert out.returncode == 2 and "Traceback" not in out.stderr


def test_the_demo_does_not_touch_other_files(place, tmp_path):
    (tmp_path / "precious.txt").write_text("precious")
    out = run_command(place, "demo", "--out", str(tmp_path))
    assert out.returncode == 2 and "holds other files than those of the demo" in out.stderr
    out = run_command(place, "demo", "--out", str(tmp_path), "--preset", "nonsense")
    assert out.returncode == 2 and "there is no preset" in out.stderr
    assert (tmp_path / "precious.txt").read_text() == "precious"


def test_wrong_usage_is_explained(place):
    out = run_command(place, "weights", "import", "emotion-llama-v2", "--file", "llama=/x")
    assert out.returncode == 2 and "llama-2-7b-chat" in out.stderr
    out = run_command(place, "weights", "import", "emotion-llama-v3")
    assert out.returncode == 2 and "there is no model 'emotion-llama-v3'" in out.stderr
    out = run_command(place, "weights", "import", "emotion-llama-v2")
    assert out.returncode == 2 and "needs files of llama-2-7b-chat, eva-vit-g" in out.stderr
    out = run_command(place, "fetch", "emotion-llama", "--file", "llama-2-7b-chat=/nothing")
    assert out.returncode == 2 and "/nothing does not exist" in out.stderr, (
        "checked before anything is fetched"
    )
    out = run_command(place, "fetch", "emotion-llama")
    assert out.returncode == 2 and "cannot be downloaded by a program" in out.stderr
    assert "--file emotion-llama=PATH" in out.stderr and "--file mae-faces=PATH" in out.stderr
    out = run_command(place, "predict", "x.mp4", "--model", "nonsense")
    assert out.returncode == 2 and "emotion-llama-v2" in out.stderr
    out = run_command(
        place, "train", "--manifest", "m.csv", "--out", str(place / "x"), "--preset", "v2"
    )
    assert out.returncode == 2 and "train.tokenizer_path" in out.stderr


def test_the_plan_adds_up_to_the_published_counts(place):
    out = run_command(place, "plan", "weights", "--json")
    v1, v2 = json.loads(out.stdout)
    assert (v1["total"]["trainable"], v2["total"]["trainable"]) == (74_993_664, 71_536_387)
    assert (v1["total"]["tensors"], v2["total"]["tensors"]) == (138, 166)
    by_name = {m["module"]: m["parameters"] for m in v2["modules"]}
    assert (
        by_name["eva_image"] == 986_975_872
        and by_name["fusion"] == 2_838_275
        and by_name["ln_vision"] == 2_816
    )
    for plan in (v1, v2):
        for field in ("parameters", "trainable", "bytes"):
            assert sum(m[field] for m in plan["modules"]) == plan["total"][field]
    table = run_command(place, "plan", "weights", "--preset", "v2").stdout
    assert "9,445,045,763" in table and "71,536,387" in table


def test_a_model_trained_from_imported_weights_is_exported(place, tmp_path):
    name = "emotion-llama-v2"
    words = released_files(name, tmp_path)
    model = tmp_path / "imported"
    out = emojax(
        place, "weights", "import", name, "--preset", PRESETS[name], "--out", str(model), *words
    )
    assert out.returncode == 0, out.stdout + out.stderr
    make_corpus(config=CorpusConfig(train=9, val=1, test=1), folder=tmp_path / "corpus")
    fields = [
        "--config.train.batch=8",
        f"--config.train.init_from={model}",
        "--config.optim.lr=0.01",
    ]
    where = [
        "--manifest",
        str(tmp_path / "corpus" / "manifest.csv"),
        "--out",
        str(tmp_path / "run"),
    ]
    out = emojax(place, "train", "--config=configs/tiny.py:released", *fields, *where)
    assert out.returncode == 0 and "starts from emotion-llama-v2@" in out.stdout, (
        out.stdout + out.stderr
    )
    before, after = (flatten(load_bundle(f).variables) for f in (model, tmp_path / "run"))
    settings = load_bundle(model).settings
    trainable = select_trainable(list(before), settings.trainable)
    changed = {p for p in before if not np.array_equal(before[p], after[p])}
    assert changed <= {p for p in before if trainable[p]} and any(
        p.startswith("lora/") for p in changed
    )
    out = emojax(
        place,
        "export",
        str(tmp_path / "run"),
        "--format",
        "safetensors",
        "--out",
        str(tmp_path / "o.safetensors"),
    )
    assert out.returncode == 0, out.stdout
    key = "llama_model.base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"
    stored = load_file(tmp_path / "o.safetensors")[key]
    np.testing.assert_array_equal(stored, np.asarray(after["lora/llama/blocks/q/b"])[1].T)
    where[-1] += "2"
    out = emojax(
        place, "train", "--config=configs/tiny.py:test", f"--config.train.init_from={model}", *where
    )
    assert out.returncode == 2 and "is another model" in out.stderr


@pytest.mark.full
def test_v1_trains_and_answers_from_media_files(place, tmp_path):
    make_corpus(config=CorpusConfig(train=18, val=1, test=9), folder=tmp_path / "corpus")
    manifest, run = str(tmp_path / "corpus" / "manifest.csv"), str(tmp_path / "run")
    out = emojax(place, "train", "--manifest", manifest, "--out", run, "--preset", "tiny:test_v1")
    assert out.returncode == 0, out.stdout + out.stderr
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["test"]["n"] == 9
    clips = [str(p) for p in sorted((tmp_path / "corpus" / "clips").glob("test*.mp4"))]
    answered = emojax(place, "predict", *clips, "--model", run, "--json")
    answers = [json.loads(line) for line in answered.stdout.splitlines()]
    assert answered.returncode == 0 and len(answers) == 9 and all(a["label"] for a in answers)
    assert len({tuple(a["probabilities"].values()) for a in answers}) > 1

"""Every configuration and every sweep resolves; unknown fields and values are refused."""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict

from data_pipeline.media.transcript import Cue, Transcript
from data_pipeline.suggestions import nearest, similarity
from emojax.cli.main import main
from emojax.config import (
    change_fields,
    load_config,
    original_names,
    presets,
    resolve,
    resolve_saved,
)
from emojax.config.fields import Optim, StageFields
from emojax.config.renamed_fields import current_arguments
from emojax.infer import answer_cache
from emojax.infer.timeline_records import TimelineOptions
from emojax.reports.sweep_plot import save_sweep
from emojax.train.start import parse_weights
from emojax.workflows.evaluate import settings_id
from emojax.workflows.sweep import (
    fused_by_variant,
    launches,
    load_sweep,
    points,
    settings_of,
    table,
)

ROOT = Path(__file__).parents[2]
PRESETS = (
    "tiny",
    "tiny:people",
    "tiny:test",
    "v2",
    "v2:stage1",
    "v2:stage2_pod",
    "v2:joint",
    "v2:pod",
    "v1:pretrain",
    "v1:tune",
)
PRESETS += ("v1:mer2023_semi", "v1:labels_pod")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_resolve_and_survive_json(preset):
    config = load_config(preset)
    settings = resolve(config)
    again = resolve(ConfigDict(json.loads(json.dumps(settings.raw))))
    assert (
        again.model == settings.model
        and again.stages == settings.stages
        and again.data == settings.data
    )
    assert (
        again.trainable == settings.trainable
        and again.optim == settings.optim
        and again.views == settings.views
    )


def test_declared_fields_are_those_of_the_first_release():
    """Same names, nesting and values, and so the same hash of a run's settings."""
    first = json.loads((ROOT / "tests" / "data" / "config_first.json").read_text())
    base = json.loads(load_config("base").to_json_best_effort())
    assert original_names(base) == first["base"]
    for preset, digest in first["hashes"].items():
        text = json.dumps(original_names(resolve(load_config(preset)).raw), sort_keys=True)
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest, preset


def test_begun_suites_are_found_again():
    """Their settings have the same hash as before fields were renamed."""
    first = json.loads((ROOT / "tests" / "data" / "config_first.json").read_text())
    for preset, digest in first["hashes"].items():
        assert settings_id(resolve(load_config(preset))) == digest, preset


def test_begun_timelines_are_found_again(tmp_path, monkeypatch):
    """The key is the one that commit bfbf151 computed for the same file, model and question."""
    monkeypatch.setattr(answer_cache, "__version__", "0.1.0")
    path = tmp_path / "talk.mp4"
    path.write_bytes(b"a recording")
    os.utime(path, ns=(10**18, 10**18))
    settings = resolve(load_config("tiny"))
    key = answer_cache.answer_key(
        SimpleNamespace(name="tiny@nowhere", settings=settings, calibration=None),
        str(path),
        TimelineOptions(reasons=False, purpose="x"),
        labels=("happy", "sad"),
        transcript=Transcript(
            cues=(Cue(start=0.0, end=1.0, text="hello", speaker="anna"),),
            source="talk.srt",
            language="en",
        ),
        people=SimpleNamespace(name="whole picture"),
    )
    assert key == "884a8b8b62a8dade9151e2ae8d42cf954448799921d64cfb20ebc1b5fc1d3391"


def test_types_of_fields_that_are_none_are_known():
    config = load_config("base").lock()
    config.train.init_from, config.stage.joint.optim.lr = "folder", 1e-3
    with pytest.raises(TypeError):
        config.train.tokenizer_path = 3
    assert resolve(config).train.init_from == "folder"


def test_folders_of_an_older_version_get_the_new_fields_released_value():
    raw = resolve(load_config("tiny")).raw
    del raw["data"]["eval_views"], raw["model"]["image"]["dropout"]
    settings = resolve_saved(raw)
    assert settings.data.eval_views == 1 and settings.model.image.encoder.width == 96
    assert settings.model.image.encoder.dropout == 0.0


def test_renamed_fields_keep_their_old_name():
    raw = json.loads(json.dumps(original_names(resolve(load_config("tiny")).raw)))
    assert raw["stage"]["joint"]["strange_words"] == 0.2
    raw["stage"]["joint"]["strange_words"] = 0.4
    assert resolve_saved(raw).raw["stage"]["joint"]["random_word_insertion"] == 0.4
    config = load_config("tiny").lock()
    change_fields(config, {"stage.perception.strange_words": 0.5})
    assert resolve(config).stages[0].tasks.random_word_insertion == 0.5
    config = load_config("tiny")  # a preset of a user, written for the old name
    config.stage.perception.strange_words = 0.6
    assert resolve(config).stages[0].tasks.random_word_insertion == 0.6
    old = ["--config=x.py", "--config.stage.joint.strange_words=0.1", "--config.optim.lr=1"]
    assert current_arguments(old) == [
        "--config=x.py",
        "--config.stage.joint.random_word_insertion=0.1",
        "--config.optim.lr=1",
    ]


def test_unknown_fields_are_refused_with_the_nearest_name():
    nearest = "no field config.optim.lrr; did you mean config.optim.lr.$"
    with pytest.raises(ValueError, match=nearest):
        change_fields(load_config("tiny"), {"optim.lrr": 1.0})
    config = load_config("tiny")
    config.optim.lrr = 1.0
    with pytest.raises(ValueError, match=nearest):
        resolve(config)
    raw = resolve(load_config("tiny")).raw
    raw["model"]["image"]["witdh"] = 3
    with pytest.raises(ValueError, match="did you mean config.model.image.width"):
        resolve_saved(raw)


def test_presets_do_not_depend_on_the_working_folder(tmp_path):
    """A user's own folder `configs` on the import path is not mistaken for ours."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("")
    (tmp_path / "configs" / "base.py").write_text("raise SystemExit(3)")
    code = "from emojax.config import load_config; print(load_config('tiny:people').name)"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.stdout == "tiny\n", run.stderr


def test_typos_are_refused():
    config = load_config("tiny").lock()
    with pytest.raises(AttributeError, match="lr"):
        config.optim.lrr = 1.0
    with pytest.raises(ValueError, match="no preset 'tinny'"):
        load_config("tinny")
    with pytest.raises(ValueError, match="did you mean 'tiny:people'. There are tiny:people, tin"):
        load_config("tiny:poeple")
    with pytest.raises(ValueError, match="preset or file 'configs/nope.py'; there are tiny, tiny:"):
        load_config("configs/nope.py")
    config = load_config("tiny")
    config.data.temporal = "unifrom"
    with pytest.raises(
        ValueError, match="config.data.temporal is 'unifrom'; it must be one of uniform, window"
    ):
        resolve(config)
    config = load_config("tiny")
    config.stage.cognition.tasks = ("emotion", "reson")
    with pytest.raises(ValueError, match="tasks holds .'reson'."):
        resolve(config)
    for preset in ("sweeps", "sweeps/fusion", "base:x"):
        with pytest.raises(ValueError, match="there is no preset"):
            load_config(preset)
    config = load_config("tiny")
    config.stages = ("perception", "thinking")
    with pytest.raises(ValueError, match="names 'thinking'"):
        resolve(config)


def test_a_fault_of_a_preset_file_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "faulty.py").write_text("def get_config():\n    return {}.lacking\n")
    monkeypatch.setattr(presets, "CONFIGS", tmp_path)
    with pytest.raises(AttributeError, match="lacking"):
        load_config("faulty")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--config.optim.rl=1", "no field config.optim.rl; did you mean config.optim.lr?"),
        ("--config.lr=1", "no field config.lr; did you mean config.optim.lr?"),
        ("--config.train.lerning_rate=1", "did you mean config.optim.lr?"),
        ("--config.batch_size=1", "did you mean config.train.batch?"),
        ("--config.stage.percepton.steps=2", "did you mean config.stage.perception.steps?"),
        (
            "--config.train.steps=2",
            "mean config.stage.cognition.steps or config.stage.perception.steps?",
        ),
        ("--config.no.such.qqq=1", "there is no field config.no.such.qqq$"),
        ("--config.train.batch=many", "config.train.batch is 'many'; it must be a whole number, s"),
        ("--config.model.word_heads=maybe", "it must be true or false, such as True"),
        ("--config.train.batch", "config.train.batch has no value: give --config.train.batch=8"),
        ("--config.train=3", "config.train is a section: set its fields one by one"),
        ("--config.data.buckets[0]=3", "give the whole value of config.data.buckets"),
        ("--x=1", "not understood: --x=1"),
    ],
)
def test_mistyped_words_of_a_command_line(word, message):
    with pytest.raises(ValueError, match=re.escape(message).replace(r"\$", "$")):
        load_config("tiny:test", [word])


def test_words_of_a_command_line_are_read_as_ml_collections_reads_them(tmp_path):
    words = ["--config.train.mesh=(1,2,4)", "--config.model.remat=full", "--config.optim.lr=0.5"]
    words += ["--noconfig.model.word_heads", "--config.stages=perception", "--config.optim.lr=3e-4"]
    words += ["--config.stage.joint.strange_words=0.1", "--config.train.init_from=folder"]
    (tmp_path / "own.py").write_text((ROOT / "configs" / "tiny.py").read_text())
    for preset in ("tiny:test", f"{tmp_path}/own.py:test"):
        c = load_config(preset, words)
        assert c.train.mesh == (1, 2, 4) and c.model.remat == "full" and c.optim.lr == 3e-4
        assert not c.model.word_heads and c.stages == ("perception",)
        assert c.stage.joint.random_word_insertion == 0.1 and c.train.init_from == "folder"


@pytest.mark.parametrize(
    "name", sorted(p.stem for p in (ROOT / "configs" / "sweeps").glob("[a-z]*.py"))
)
def test_sweeps_resolve(name):
    module = load_sweep(ROOT / "configs" / "sweeps" / f"{name}.py")
    runs = list(points(module))
    assert len({(n, seed) for n, seed, _ in runs}) == len(runs)
    assert len({json.dumps(settings_of(module, *r[1:]).raw, sort_keys=True) for r in runs}) == len(
        runs
    )


def test_numbers_out_of_range_are_refused():
    for field in ("batch", "accumulate", "save_every", "log_every", "keep"):
        config = load_config("tiny:test")
        config.train[field] = 0
        with pytest.raises(ValueError, match=f"config.train.{field} is 0"):
            resolve(config)
    config = load_config("tiny:test")
    config.stage.perception.steps = -5
    with pytest.raises(ValueError, match="perception.steps is -5"):
        resolve(config)


@pytest.mark.parametrize(
    "field",
    [
        *("optim.lr", "optim.clip", "data.augment", "model.image.dropout", "model.audio.seconds"),
        *("stage.perception.drop_modality", "stage.perception.optim.lr"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(field):
    for value in ("nan", "inf", "-inf"):
        config = load_config("tiny:test", [f"--config.{field}={value}"])
        with pytest.raises(ValueError, match=f"config.{field} is {value}; it must be a finite"):
            resolve(config)


def test_mixture_weights_are_finite_numbers():
    assert parse_weights("meld=150, own=0.5,") == {"meld": 150.0, "own": 0.5}
    for text in ("meld", "meld=many", "meld=nan", "own=1,meld=inf"):
        with pytest.raises(ValueError, match="the mixture weights hold 'meld"):
            parse_weights(text)


def test_swapped_letters_are_one_error():
    """Damerau's distance: a transposition is one edit, so that `model` is as near as `mode`."""
    assert nearest("--modle", ("--mode", "--model", "--module")) == "--model"
    assert nearest("fomrat", ("form", "format", "formats")) == "format"
    assert nearest("max_token", ("temperature", "max_tokens", "seed")) == "max_tokens"
    assert nearest("xyz", ("abc",)) == "" and nearest("a", ()) == ""
    assert similarity("ab", "ba") > similarity("ab", "a") and similarity("abc", "abc") == 1


def test_sweep_files_are_checked_before_the_first_run(tmp_path, capsys):
    path = tmp_path / "own.py"
    path.write_text(
        'PRESET = "tiny:test"\nSEEDS = (0,)\n'
        'def sweep():\n    yield "a", {"stage.perception.stepz": 2}\n'
    )
    (tmp_path / "none.py").write_text("PRESET = 'tiny'\n")
    (tmp_path / "text.md").write_text("no sweep\n")
    for name in ("own.py", "none.py", "text.md"):
        assert main(["sweep", "run", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    printed = " ".join(capsys.readouterr().err.split())
    name = "config.stage.perception"
    assert f"there is no field {name}.stepz; did you mean {name}.steps?" in printed
    assert "it has no SEEDS, sweep" in printed and "is not a Python file" in printed


def test_one_launch_per_point(capsys):
    module = load_sweep(ROOT / "configs" / "sweeps" / "paper_table10.py")
    lines = list(launches(module, "gs://b/s", "./launch_tpu.sh s{n} z v5litepod-16 --"))
    assert len(lines) == 3 and lines[0].startswith(
        "./launch_tpu.sh s0 z v5litepod-16 -- --config=configs/v2.py:pod"
    )
    assert "'--config.stages=('\"'\"'joint'\"'\"',)'" in lines[0] and lines[2].endswith(
        "--out=gs://b/s/2"
    )
    assert main(["sweep", "list"]) == 0 and "lora" in capsys.readouterr().out
    assert (
        main(["sweep", "run", "paper_table9", "--out", "x"]) == 2
        and main(["sweep", "launch", "no", "--out", "x"]) == 2
    )


def test_sweep_table_by_hand(tmp_path):
    def run(fused):
        return {
            "ablations": {"fused": fused, "only_video": 0.5, "only_audio": 0.5, "only_text": 0.5},
            "conflict": 0.25,
        }

    reasons = {**run(0.7), "clues": {"precision": 0.9, "recall": 0.6}}
    text = table({"a": [run(0.8), run(0.9)], "b": [reasons]})
    assert "| a | 2 | 0.850 ± 0.071 | 0.500 ± 0.000 |" in text and text.count("| - | - | - |") == 1
    save_sweep(fused_by_variant({"a": [run(0.8), run(0.9)], "b": [reasons]}), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 3000
    assert "| b | 1 | 0.700 | 0.500 | 0.500 | 0.500 | 0.250 | 0.900 | 0.600 | - |" in text


def test_every_field_of_stages_and_optimizers_is_documented():
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    rows = "".join(line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `"))
    for fields in (StageFields, Optim):
        missing = [f.name for f in dataclasses.fields(fields) if f"`{f.name}`" not in rows]
        assert not missing, (fields, missing)

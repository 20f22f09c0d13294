"""The commands as a new user types them: their files, exit codes and messages."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, emojax, run_command, start

from data_pipeline.embedded.generate import make_corpus
from data_pipeline.embedded.truth import CorpusConfig

SPLIT_KEYS = {"n", "labels", "uar", "accuracy", "weighted_f1", "macro_f1", "confusion"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("e2e")
    make_corpus(config=CorpusConfig(train=21, val=9, test=9), folder=folder / "corpus")
    return folder


@pytest.fixture(scope="module")
def model(place) -> Path:
    manifest = str(place / "corpus" / "manifest.csv")
    out = emojax(
        place,
        "train",
        "--manifest",
        manifest,
        "--out",
        str(place / "m"),
        "--preset",
        "tiny:test",
        "--seed",
        "3",
    )
    assert out.returncode == 0, out.stderr + out.stdout
    return place / "m"


def test_train_writes_a_model_and_scores(model):
    scores = json.loads((model / "evaluation.json").read_text())
    assert set(scores) == {"train", "val", "test"}
    for split, n in (("train", 21), ("val", 9), ("test", 9)):
        assert set(scores[split]) >= SPLIT_KEYS and scores[split]["n"] == n
        assert np.sum(scores[split]["confusion"]) == n and len(scores[split]["labels"]) == 9
    assert (model / "confusion_test.png").stat().st_size > 5000
    assert len(json.loads((model / "training_clips.json").read_text())) == 39
    assert json.loads((model / "config.json").read_text())["seed"] == 3
    rows = [json.loads(line) for line in (model / "log.jsonl").read_text().splitlines()]
    assert json.loads((model / "model.json").read_text())["reason_task"] == "", (
        "a manifest has no reasons"
    )
    assert [(r["stage"], r["step"]) for r in rows] == [
        (s, i) for s in ("perception", "cognition") for i in range(1, 7)
    ]


def test_evaluate_writes_the_same_scores(place, model):
    manifest = str(place / "corpus" / "manifest.csv")
    out = emojax(
        place,
        "evaluate",
        str(model),
        "--manifest",
        manifest,
        "--split",
        "test",
        "--out",
        str(place / "e"),
    )
    assert out.returncode == 0, out.stderr
    assert json.loads((place / "e" / "evaluation.json").read_text()) == {
        "test": json.loads((model / "evaluation.json").read_text())["test"]
    }
    words = ("evaluate", str(place), "--manifest", manifest, "--out", str(place / "e"))
    out = run_command(place, *words)
    assert out.returncode == 2 and "holds no model" in out.stderr


def test_predict_contract(place, model):
    media = place / "media"
    (media / "deep").mkdir(parents=True)
    clips = sorted((place / "corpus" / "clips").glob("test_*.mp4"))
    shutil.copy(clips[0], media / "a.mp4")
    shutil.copy(clips[1], media / "deep" / "b.MP4")
    (media / "deep" / "broken.mov").write_bytes(clips[2].read_bytes()[:700])
    (media / "notes.txt").write_text("not media")
    out = emojax(
        place, "predict", str(media), "--model", str(model), "--subtitle", "well hello", "--json"
    )
    assert out.returncode == 3, out.stderr
    answers = [json.loads(line) for line in out.stdout.splitlines()]
    assert [Path(a["path"]).name for a in answers] == ["a.mp4", "b.MP4", "broken.mov"]
    for a in answers[:2]:
        assert a["error"] is None and a["label"] == max(
            a["probabilities"], key=a["probabilities"].get
        )
        assert (
            sum(a["probabilities"].values()) == pytest.approx(1, abs=1e-6)
            and len(a["probabilities"]) == 9
        )
        assert "text" in a["modalities"] and a["seconds"] > 0 and isinstance(a["reason"], str)
    bad = answers[2]
    assert (
        bad["label"] is None
        and bad["probabilities"] == {}
        and bad["error"].strip()
        and "\n" not in bad["error"]
    )
    out = emojax(place, "predict", str(media / "a.mp4"), "--model", str(model))
    assert out.returncode == 0 and "a.mp4" in out.stdout


def test_confidence_contract(place, model):
    """Calibration is saved with a model and used; unsure answers abstain; contributions exist."""
    own = place / "calibrated"
    shutil.copytree(model, own)
    manifest = str(place / "corpus" / "manifest.csv")
    assert not (own / "calibration.json").exists()  # nine validation clips are too few
    out = emojax(place, "calibrate", str(own), "--manifest", manifest, "--split", "train")
    assert out.returncode == 0 and "calibrated on 21 clips: temperature" in out.stdout, (
        out.stderr + out.stdout
    )
    temperature = json.loads((own / "calibration.json").read_text())["temperature"]
    clip = str(sorted((place / "corpus" / "clips").glob("test_*.mp4"))[0])
    words = [
        "predict",
        clip,
        "--subtitle",
        "well hello",
        "--json",
        "--contributions",
        "--abstain",
        "1",
    ]
    raw, new = (json.loads(emojax(place, *words, "--model", str(m)).stdout) for m in (model, own))
    powers = np.array(list(raw["probabilities"].values())) ** (1 / temperature)
    assert list(new["probabilities"].values()) == pytest.approx(powers / powers.sum(), abs=1e-5)
    assert (raw["calibrated"], new["calibrated"]) == (False, True)
    best = sorted(new["probabilities"], key=lambda k: -new["probabilities"][k])
    assert new["label"] == "cannot tell" and new["leading"] == best[:2] == raw["leading"]
    assert set(new["contributions"]) == set(new["modalities"]) and any(
        new["contributions"].values()
    )
    other = json.loads(emojax(place, *words, "--model", str(own), "--labels", "happy,sad").stdout)
    assert not other["calibrated"]  # it was fitted for nine labels
    out = run_command(place, "calibrate", str(own), "--manifest", manifest)
    assert "9 clips of split 'val' cannot calibrate" in out.stderr and out.returncode == 2
    words = ("predict", clip, "--model", str(own), "--abstain", "2")
    assert run_command(place, *words).returncode == 2


def test_one_speaker_normalizes_audio_over_the_files(place, model):
    clips = [str(p) for p in sorted((place / "corpus" / "clips").glob("test_*.mp4"))[:3]]

    def probs(*words):
        out = emojax(place, "predict", *clips, "--model", str(model), "--json", *words)
        assert out.returncode == 0, out.stderr
        return [
            list(json.loads(line)["probabilities"].values()) for line in out.stdout.splitlines()
        ]

    apart, together = probs(), probs("--one-speaker")
    assert np.abs(np.subtract(apart, together)).max() > 1e-6
    facts = json.loads((model / "speaker.json").read_text())
    assert len(facts["mean"]) == len(facts["std"]) == 80 and facts["clips"] > 0
    plain = place / "plain"
    shutil.copytree(model, plain)
    (plain / "speaker.json").unlink()
    out = emojax(place, "predict", *clips, "--model", str(plain), "--one-speaker")
    assert out.returncode == 2 and "was not trained with config.data.speaker_norm" in out.stderr


def test_a_closed_pipe_and_an_interrupt_end_quietly(place, model):
    clips = [str(p) for p in sorted((place / "corpus" / "clips").glob("t*.mp4"))[:9]]
    with start(place, "predict", *clips, "--model", str(model), "--json") as process:
        assert json.loads(process.stdout.readline())["error"] is None
        process.stdout.close()  # as `| head -1` does
        assert process.wait() == 0 and "Traceback" not in process.stderr.read()
    manifest = str(place / "corpus" / "manifest.csv")
    with start(
        place, "train", "--manifest", manifest, "--out", str(place / "cut"), "--preset", "tiny:test"
    ) as process:
        for line in process.stdout:
            if "parameters" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert (
            process.returncode == 130
            and "which is saved; run the same command again to continue" in err
            and "stopping after this step, which is saved first" in out
            and "Traceback" not in err
        )


def test_wrong_usage(place):
    assert run_command(place, "predict").returncode == 2
    assert run_command(place, "nonsense").returncode == 2
    out = run_command(place, "predict", "x.mp4", cwd=place)
    assert out.returncode == 2 and out.stderr.count("\n") >= 4
    for command in ("emojax demo", "emojax train --manifest", "--model DIR"):
        assert command in out.stderr
    out = run_command(place, "train", "--manifest", "none.csv", "--out", str(place / "x"))
    assert out.returncode == 2 and "there is no manifest 'none.csv'" in out.stderr
    manifest = str(place / "corpus" / "manifest.csv")
    out = run_command(
        place, "train", "--manifest", manifest, "--out", str(place / "x"), "--preset", "huge"
    )
    assert out.returncode == 2 and "no preset 'huge'" in out.stderr
    out = run_command(
        place, "train", "--manifest", manifest, "--out", str(place / "[x]"), "--preset", "tiny:test"
    )
    assert out.returncode == 2 and "must not contain any of [ ] * ?" in out.stderr
    for word, message in (
        ("--config.stage.perception.stepz=5", "stepz"),
        ("--bogus=1", "bogus"),
        ("--out=", "has no name"),
    ):
        out = emojax(place, "train", f"--config={ROOT}/configs/tiny.py:test", word)
        assert out.returncode == 2 and message in out.stderr and "Traceback" not in out.stderr, (
            out.stderr
        )
    (place / "file").write_text("")
    out = run_command(
        place,
        "train",
        "--manifest",
        manifest,
        "--out",
        str(place / "file"),
        "--preset",
        "tiny:test",
    )
    assert out.returncode == 2 and "exists already and is a file" in out.stderr
    # A run that could not start does not create its folder.
    out = run_command(
        place, "train", "--manifest", manifest, "--out", str(place / "v2"), "--preset", "v2"
    )
    assert out.returncode == 2 and "tokenizer_path" in out.stderr and not (place / "v2").exists()
    (place / "damaged").mkdir()
    (place / "damaged" / "model.json").write_text("{}")
    out = run_command(place, "predict", "x.mp4", "--model", str(place / "damaged"))
    assert (
        out.returncode == 2
        and "model.json is damaged" in out.stderr
        and "Traceback" not in out.stderr
    )


def test_a_run_folder_of_other_settings_is_refused(place, model):
    manifest = str(place / "corpus" / "manifest.csv")
    words = ("train", "--manifest", manifest, "--out", str(model), "--preset", "tiny:test")
    out = run_command(place, *words, "--seed", "4")
    assert out.returncode == 2 and "holds a run with another config.json (seed)" in out.stderr
    assert json.loads((model / "evaluation.json").read_text())["test"]["n"] == 9

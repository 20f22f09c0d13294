"""Commands keep what earlier calls made, and leave training clips out of comparisons."""

import json

import numpy as np
import pytest
from commands import run_command

from data_pipeline.io import keep_earlier
from emojax.bundle.calibration import (
    Calibration,
    fit_temperature,
    held_out_probs,
    load_calibration,
)
from emojax.cli.manifest_options import labels_to_choose_from
from emojax.config import load_config, resolve
from emojax.reports import training_page
from emojax.workflows import demo, score


def test_earlier_files_get_the_first_free_name(tmp_path):
    assert keep_earlier(tmp_path / "a.json") is None
    for expected in ("a-1.json", "a-2.json"):
        (tmp_path / "a.json").write_text(expected)
        assert keep_earlier(tmp_path / "a.json") == tmp_path / expected
    assert (tmp_path / "a-1.json").read_text() == "a-1.json"
    (tmp_path / "run").mkdir()
    assert keep_earlier(tmp_path / "run") == tmp_path / "run-1"


def test_the_page_of_a_run_replaces_only_its_own(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.jsonl").write_text(json.dumps({"stage": "one", "step": 1, "loss": 2.0}) + "\n")
    config = resolve(load_config("tiny:test")).raw
    (run / "config.json").write_text(json.dumps(config))
    (run / "report.html").write_text("<!doctype html><title>evaluation</title>")
    page = run / "training.html"
    for _ in range(2):
        assert training_page.write_html(str(run)) == str(page)
    assert (run / "report.html").read_text().endswith("<title>evaluation</title>")
    with pytest.raises(ValueError, match="report.html exists .*--out, or --overwrite"):
        training_page.write_html(str(run), out=run / "report.html")
    training_page.write_html(str(run), out=run / "report.html", overwrite=True)
    assert (run / "report.html").read_text() == page.read_text()


def test_an_earlier_calibration_is_kept(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")

    class Bundle:
        labels = ("a", "b")

    items = [(type("Record", (), {"label": "ab"[i % 2]}), None) for i in range(20)]
    probs = np.tile([0.8, 0.2], (20, 1))
    monkeypatch.setattr(score, "load_bundle", lambda folder: None)
    monkeypatch.setattr(score.dataclasses, "replace", lambda bundle, **_: Bundle)
    monkeypatch.setattr(score, "items_of", lambda source, bundle: items)
    monkeypatch.setattr(score, "label_probabilities", lambda *_, **__: probs)
    first = Calibration(temperature=2.0, n=30, nll_before=1.0, nll_after=0.5, source="mine")
    first.save(tmp_path)
    for _ in range(2):  # the second one is the same, and needs no copy
        fitted = score.calibrate(tmp_path, items, name="new", keep=True)
    assert load_calibration(tmp_path) == fitted
    assert "calibration-1.json; to have it back, rename it to calibration.json" in caplog.text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["calibration-1.json", "calibration.json"]
    (tmp_path / "calibration-1.json").rename(tmp_path / "calibration.json")
    assert load_calibration(tmp_path) == first


def test_the_demo_makes_room_without_deleting(tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "demo"
    out.mkdir()
    (out / "config.json").write_text("{}")
    demo._make_room(out, overwrite=False)
    assert "continuing the demo" in caplog.text and out.exists()
    (out / "evaluation.json").write_text('{"ablations": {}}')
    demo._make_room(out, overwrite=False)
    assert not out.exists() and (tmp_path / "demo-1" / "evaluation.json").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="other files than those of the demo.*--out$"):
        demo._make_room(mine, overwrite=True)
    (mine / "config.json").write_text("{}")
    (mine / "evaluation.json").write_text('{"test": {}}')
    with pytest.raises(ValueError, match="--overwrite to replace this run"):
        demo._make_room(mine, overwrite=False)
    demo._make_room(mine, overwrite=True)
    assert not mine.exists()


def test_training_clips_are_not_compared_unasked(tmp_path):
    for name, wrong in (("one", 3), ("two", 5)):
        rows = [
            {"video_id": f"{part}{i}", "answer": "happy", "set": part}
            | {"response": "sad" if i % wrong == 0 else "happy"}
            for part in ("train", "test")
            for i in range(12)
        ]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = ("--metric", "single", "--labels", "happy,sad", "--resamples", "0")
        out = run_command(
            tmp_path, "evaluate", "--predictions", str(path), "--out", str(tmp_path / name), *words
        )
        assert out.returncode == 0, out.stdout
    runs = [str(tmp_path / name) for name in ("one", "two")]

    def compared(*words):
        place = str(tmp_path / "c")
        out = run_command(
            tmp_path, "compare", *runs, "--permutations", "20", "--out", place, *words
        )
        found = json.loads((tmp_path / "c" / "comparison.json").read_text())
        return out, [c["set"] for c in found["comparisons"]]

    out, sets = compared()
    assert sets == ["test"] and "not compared: train (--sets" in out.stdout
    out, sets = compared("--sets", "train,test")
    assert sets == ["train", "test"] and "the comparison in" in out.stdout
    out, _ = compared("--sets", "dev")
    assert out.returncode == 2 and "no set 'dev' in common; they have" in out.stderr


@pytest.mark.parametrize(
    ("right", "probability", "expected"),
    [
        # of 20 clips 10 are right: probabilities of 0.9 are flattened to 0.5
        (10, 0.9, "temperature 20.00 is the highest that is tried"),
        (20, 0.6, "temperature 0.05 is the lowest that is tried"),
        # a share of 15 / 20 at probabilities of 0.9: ln(0.9 / 0.1) / ln(0.75 / 0.25) = 2.0
        (15, 0.9, "temperature 2.00; ECE 0.150 before"),
    ],
)
def test_a_temperature_at_its_bound_is_noted(right, probability, expected, caplog):
    caplog.set_level("INFO")
    probs = np.tile([probability, 1 - probability], (20, 1))
    truth = np.array([int(i >= right) for i in range(20)])
    fitted = fit_temperature(probs, truth)
    score._log_calibration(fitted, probs, truth)
    assert expected in caplog.text
    assert ("is tried" in caplog.text) == fitted.is_at_bound == ("tried" in expected)


def test_the_error_of_calibrated_probabilities_is_of_clips_not_fitted_on():
    """One wrong clip: where it is held out, the others are all right, and it is 0.999 sure."""
    probs, truth = np.tile([0.9, 0.1], (20, 1)), np.zeros(20, int)
    truth[7] = 1
    held_out = held_out_probs(probs, truth)
    assert fit_temperature(probs, truth).apply(probs).max() < 0.96
    assert held_out[7, 0] > 0.999 and held_out[2, 0] == held_out[7, 0] > held_out[0, 0]


def test_labels_to_choose_from_are_spelled_as_the_models(caplog):
    caplog.set_level("INFO")
    own = ("angry", "happy", "sad")
    assert labels_to_choose_from(None, own) is labels_to_choose_from("", own) is None
    assert labels_to_choose_from("Anger, happy,bored", own) == ["angry", "happy", "bored"]
    assert caplog.messages == ["note: --labels: 'Anger' is read as 'angry', the model's label"]
    with pytest.raises(ValueError, match="at least two different labels"):
        labels_to_choose_from("Anger,angry", own)


def test_a_report_of_no_folder_names_the_folder(tmp_path):
    out = run_command(tmp_path, "report", str(tmp_path / "nope"))
    assert out.returncode == 2 and f"there is no folder '{tmp_path}/nope'" in out.stderr
    out = run_command(tmp_path, "report", str(tmp_path))
    assert out.returncode == 2 and "contains no training run" in out.stderr

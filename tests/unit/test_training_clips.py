"""A model knows the clips that it was trained on: their splits are kept, other uses are noted."""

import json
import shutil

import pytest

from data_pipeline.datasets.manifest import read_manifest
from emojax.bundle.training_clips import FILE, clip_key, load_training_clips, save_training_clips
from emojax.workflows.score import read_labelled_clips

LABELS = ("x", "y")


@pytest.fixture
def trained(tmp_path, caplog):
    """A model folder after training on a manifest without splits, and the split of each clip."""
    caplog.set_level("INFO")
    (tmp_path / "model").mkdir()
    clips = tmp_path / "data" / "clips"
    clips.mkdir(parents=True)
    lines = ["path,label"]
    for number in range(10):
        (clips / f"{number}.mp4").write_bytes(b"\0" * (number + 1))
        lines.append(f"clips/{number}.mp4,{LABELS[number % 2]}")
    (tmp_path / "data" / "m.csv").write_text("\n".join(lines))
    records = read_manifest(tmp_path / "data" / "m.csv", seed=5)
    save_training_clips(tmp_path / "model", records)
    return {r.path.rpartition("/")[2]: r.split for r in records}


def splits_of(records):
    return {r.path.rpartition("/")[2]: r.split for r in records}


def test_clips_keep_the_split_of_the_training(tmp_path, trained, caplog):
    assert sorted(trained.values()) == ["train"] * 8 + ["val"] * 2
    shutil.move(tmp_path / "data", tmp_path / "moved")  # a data set may be moved as a whole
    manifest = tmp_path / "moved" / "m.csv"
    read = read_labelled_clips(tmp_path / "model", str(manifest), labels=LABELS)
    assert splits_of(read) == trained
    assert "the splits of 10 clips are those of the model's training (train 8, val 2)" in (
        caplog.text
    )
    assert "was trained on" not in caplog.text
    held_out = read_labelled_clips(
        tmp_path / "model", str(manifest), labels=LABELS, splits=("val", "test")
    )
    assert splits_of(held_out) == {k: v for k, v in trained.items() if v == "val"}


def test_other_clips_of_a_manifest_without_splits_are_test(tmp_path, trained):
    clips = tmp_path / "data" / "clips"
    (clips / "new.mp4").write_bytes(b"new")
    (clips / "0.mp4").write_bytes(b"another clip of the same name")
    manifest = tmp_path / "data" / "m.csv"
    manifest.write_text(manifest.read_text() + "\nclips/new.mp4,x")
    read = read_labelled_clips(tmp_path / "model", str(manifest), labels=LABELS)
    assert splits_of(read) == trained | {"new.mp4": "test", "0.mp4": "test"}
    (tmp_path / "model" / FILE).unlink()  # imported models have none
    read = read_labelled_clips(tmp_path / "model", str(manifest), labels=LABELS)
    assert {r.split for r in read} == {"test"}
    with pytest.raises(ValueError, match="no row of split val, only of test .*without a column"):
        read_labelled_clips(tmp_path / "model", str(manifest), labels=LABELS, splits=("val",))


def test_a_split_column_counts_and_training_clips_in_it_are_noted(tmp_path, trained, caplog):
    own = tmp_path / "data" / "own.csv"
    rows = (f"clips/{n}.mp4,{LABELS[n % 2]},test\n" for n in range(10))
    own.write_text("path,label,split\n" + "".join(rows))
    read = read_labelled_clips(tmp_path / "model", str(own), labels=LABELS)
    assert {r.split for r in read} == {"test"}
    assert "the model was trained on 8 of the 10 clips of test; their scores" in caplog.text


def test_spans_of_a_file_are_clips_of_their_own(tmp_path, trained):
    whole = read_manifest(tmp_path / "data" / "m.csv")[0]
    span = type(whole).from_json(json.dumps({**json.loads(whole.to_json()), "start": 1.0}))
    assert clip_key(whole) != clip_key(span) and len(load_training_clips(tmp_path / "model")) == 10
    (tmp_path / "model" / FILE).write_text("[]")
    with pytest.raises(ValueError, match="is damaged"):
        load_training_clips(tmp_path / "model")

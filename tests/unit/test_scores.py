"""Scores by arithmetic done by hand."""

import pytest

from emojax.evaluate.report import confusion_png, tick_names
from emojax.evaluate.scores import ABLATIONS, closed_set, clue_scores


def test_closed_set_by_hand():
    truth = ["a", "a", "a", "b", "b", "c"]
    predicted = ["a", "a", "b", "b", "c", "c"]
    s = closed_set(truth, predicted, ("a", "b", "c", "d"))
    assert s["n"] == 6 and s["accuracy"] == s["war"] == pytest.approx(4 / 6)
    assert s["uar"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)  # d never occurs and does not count
    f1 = {"a": 2 * 1 * (2 / 3) / (1 + 2 / 3), "b": 0.5, "c": 2 * 0.5 * 1 / 1.5}
    assert s["macro_f1"] == pytest.approx(sum(f1.values()) / 3)
    assert s["weighted_f1"] == pytest.approx((3 * f1["a"] + 2 * f1["b"] + f1["c"]) / 6)
    assert s["confusion"] == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_unknown_truth_is_an_error():
    with pytest.raises(ValueError, match=r"\['x'\]"):
        closed_set(["x"], ["a"], ("a",))
    with pytest.raises(ValueError, match="no clip"):
        closed_set([], [], ("a",))


def test_clue_scores_by_hand():
    named = [{"video": ["smile", "brow"], "audio": ["loud"]}, {"text": ["hello"]}]
    true = [{"video": ["smile"], "audio": [], "text": ["x"]}, {"text": ["hello"], "audio": ["soft"]}]
    s = clue_scores(named, true)
    assert s["precision"] == pytest.approx(2 / 4) and s["recall"] == pytest.approx(2 / 4)
    assert s["absent_named"] == 1  # clip 0 names a voice that is not there


def test_confusion_picture_of_labels_of_any_script_and_length(tmp_path):
    labels = ("happy", "悲しい", "x" * 200, "a$b$_")
    assert tick_names(labels) == ["happy", "label 2", "x" * 23 + "…", "a$b$_"]
    confusion_png([[1, 0, 0, 0]] * 4, labels, tmp_path / "c.png", "test")  # a glyph that is missing would warn
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_ablations_cover_every_modality():
    assert ABLATIONS["fused"] == ("video", "audio", "text")
    assert ABLATIONS["without_audio"] == ("video", "text") and ABLATIONS["only_text"] == ("text",)
    assert len(ABLATIONS) == 7

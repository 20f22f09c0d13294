"""Clue scores computed by hand; the confusion picture."""

import pytest

from emojax.evaluate.clue_scores import ABLATIONS, clue_scores
from emojax.reports.confusion_plot import save_confusion, tick_names


def test_clue_scores_by_hand():
    named = [{"video": ["smile", "brow"], "audio": ["loud"]}, {"text": ["hello"]}]
    true = [
        {"video": ["smile"], "audio": [], "text": ["x"]},
        {"text": ["hello"], "audio": ["soft"]},
    ]
    s = clue_scores(named, true)
    assert s["precision"] == pytest.approx(2 / 4) and s["recall"] == pytest.approx(2 / 4)
    assert s["absent_named"] == 1  # clip 0 names evidence of a voice without clues


def test_confusion_picture_of_labels_of_any_script_and_length(tmp_path):
    labels = ("happy", "悲しい", "x" * 200, "a$b$_")
    assert tick_names(labels) == ["happy", "label 2", "x" * 23 + "…", "a$b$_"]
    save_confusion(
        [[1, 0, 0, 0]] * 4, labels, tmp_path / "c.png", "test"
    )  # a glyph that is missing would warn
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_ablations_cover_every_modality():
    assert ABLATIONS["fused"] == ("video", "audio", "text")
    assert ABLATIONS["without_audio"] == ("video", "text") and ABLATIONS["only_text"] == ("text",)
    assert len(ABLATIONS) == 7

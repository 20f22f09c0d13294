"""Temperature and Shapley values: by hand and on known truths; labels that reasons conclude."""

import json

import numpy as np
import pytest
from random_model import LABELS, random_bundle
from recording import record

from emojax.bundle.calibration import Calibration, fit_temperature, load_calibration, scale_probs
from emojax.infer import predict
from emojax.infer.attribution import contributions, shapley_values


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_scaling_by_hand():
    got = scale_probs(np.array([[0.8, 0.2]]), 2.0)
    assert got == pytest.approx(np.array([[2 / 3, 1 / 3]]))  # roots: 2 to 1
    assert scale_probs(np.array([[0.8, 0.2]]), 1.0) == pytest.approx(np.array([[0.8, 0.2]]))
    assert scale_probs(np.array([1.0, 0.0]), 0.5).sum() == 1.0


def test_a_known_temperature_is_found():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 5)) * 2
    truth = np.array([rng.choice(5, p=p) for p in softmax(logits)])
    for sharpness in (3.0, 0.4):  # overconfident and underconfident probabilities
        found = fit_temperature(softmax(sharpness * logits), truth, source="made")
        assert found.temperature == pytest.approx(sharpness, rel=0.05)
        assert found.nll_after < found.nll_before and (found.n, found.source) == (20_000, "made")
    assert fit_temperature(softmax(logits), truth).temperature == pytest.approx(1.0, rel=0.05)
    with pytest.raises(ValueError, match="no clip"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))


def test_the_order_of_labels_stays():
    probs = softmax(np.random.default_rng(1).normal(size=(50, 6)))
    for temperature in (0.2, 5.0):
        new = Calibration(temperature=temperature, n=1, nll_before=0.0, nll_after=0.0).apply(probs)
        assert (new.argsort(axis=1) == probs.argsort(axis=1)).all()
        assert new.sum(axis=1) == pytest.approx(np.ones(50))


def test_it_is_kept_with_the_model(tmp_path):
    assert load_calibration(tmp_path) is None
    kept = Calibration(
        temperature=0.7,
        n=150,
        nll_before=0.5,
        nll_after=0.4,
        source="m.csv, val",
        labels=("happy", "sad"),
    )
    kept.save(tmp_path)
    assert load_calibration(tmp_path) == kept
    for text in (
        "{",
        json.dumps({"temperature": 1.0}),
        json.dumps({**vars(kept), "temperature": 0.0}),
    ):
        (tmp_path / "calibration.json").write_text(text)
        with pytest.raises(ValueError, match="calibration.json is damaged"):
            load_calibration(tmp_path)


def test_shapley_values_by_hand():
    value = {frozenset(): -2.0, frozenset("a"): -1.0, frozenset("b"): -1.5, frozenset("ab"): -0.2}
    got = shapley_values(value, ["a", "b"])
    # a adds 1 alone and 1.3 to b; b adds 0.5 alone and 0.8 to a
    assert got == pytest.approx({"a": 1.15, "b": 0.65})
    assert sum(got.values()) == pytest.approx(-0.2 + 2.0)


def test_only_modalities_of_a_clip_contribute():
    weights = {"video": 0.5, "audio": 0.3, "text": 0.1}

    def score(shown):
        total = 0.1 + sum(weights[m] for m in shown)
        return np.array([[total, 1 - total], [0.5, 0.5]])

    first, second = contributions(score, np.array([0, 0]), [("video", "audio", "text"), ("audio",)])
    assert sum(first.values()) == pytest.approx(np.log(1.0) - np.log(0.1))
    assert first["video"] > first["audio"] > first["text"] > 0
    assert second == {"audio": 0.0}


@pytest.mark.parametrize(
    ("offered", "written", "concluded"),
    [
        (LABELS, "a smile, so it is happy", "happy"),
        (("sad", "ennui"), "a smile, so it is happy", "happy"),  # a label that was not offered
        (("sad", "ennui"), "a tear, so it is sad", None),
        (LABELS, "a smile", None),
    ],
)
def test_a_reason_that_concludes_another_label_is_noted(
    tmp_path, monkeypatch, offered, written, concluded
):
    path = record(tmp_path / "clip.mp4", [(1.0, 1)], [(0.1, 0.9)])
    at = offered.index("sad")
    probs = np.full((1, len(offered)), 0.1)
    probs[0, at] = 0.9
    monkeypatch.setattr(predict, "label_probabilities", lambda *_, **__: probs)
    monkeypatch.setattr(predict, "reasons", lambda *_, **__: [written])
    (answer,) = predict.predict(random_bundle(), [str(path)], labels=offered)
    notes = [n for n in answer.notes if "concludes" in n]
    assert answer.label == "sad"
    note = f"the written reason concludes '{concluded}', the probabilities 'sad'"
    assert notes == ([note] if concluded else [])
    untrained = [n for n in answer.notes if "not trained on" in n]
    assert [n.split(":")[0] for n in untrained] == (
        ["the model was not trained on 'ennui'"] if "ennui" in offered else []
    )

"""Valence and arousal of labels: published values (Russell & Mehrabian 1977), means by hand."""

import pytest

from emojax.infer.valence_arousal import valence_arousal


@pytest.mark.parametrize(
    ("label", "valence", "arousal"),
    [
        ("angry", -0.51, 0.59),
        ("happy", 0.81, 0.51),
        ("joy", 0.76, 0.48),
        ("sad", -0.63, -0.27),
        ("fear", -0.64, 0.60),
        ("surprise", 0.40, 0.67),
        ("disgust", -0.60, 0.35),
        ("neutral", 0.0, 0.0),
        ("boredom", -0.65, -0.62),
        ("worried", 0.01, 0.59),  # as anxious
        ("excited", 0.62, 0.75),
    ],
)
def test_one_label(label, valence, arousal):
    assert valence_arousal({label: 1.0}) == (valence, arousal, 1.0)


def test_a_mixture_is_the_mean_by_probability():
    """Valence 0.75 * -0.63 + 0.25 * -0.51, arousal 0.75 * -0.27 + 0.25 * 0.59."""
    assert valence_arousal({"sad": 0.75, "angry": 0.25}) == (-0.6, -0.055, 1.0)


def test_labels_without_coordinates_do_not_count():
    """Only sad has coordinates; below half of the probability there is no value."""
    assert valence_arousal({"sad": 0.6, "contempt": 0.4}) == (-0.63, -0.27, 0.6)
    assert valence_arousal({"sad": 0.5, "contempt": 0.5}) == (-0.63, -0.27, 0.5)
    assert valence_arousal({"sad": 0.4, "contempt": 0.6}) == (None, None, 0.4)

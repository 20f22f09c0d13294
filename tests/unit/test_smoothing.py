"""Smoothing, the label path and its changes by hand and against all paths; valence and arousal."""

import itertools
import math

import numpy as np
import pytest

from emojax.infer.smoothing import label_changes, smooth, viterbi_path
from emojax.infer.valence_arousal import valence_arousal

STARTS, ENDS = np.array([0.0, 2.0, 4.0]), np.array([2.0, 4.0, 6.0])


def test_smoothing_by_hand():
    p = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    out = smooth(p, STARTS, ENDS, seconds=2.0)
    near, far = math.exp(-0.5), math.exp(-2.0)  # one and two standard deviations away
    assert out[0, 0] == pytest.approx((1 + far) / (1 + near + far))
    assert out[1, 1] == pytest.approx(1 / (1 + 2 * near))
    np.testing.assert_allclose(out.sum(axis=1), 1)
    np.testing.assert_array_equal(smooth(p, STARTS, ENDS, seconds=0), p)
    # A segment of 6 s has three times the weight of one of 2 s. The middles are 4 s apart, which is
    # two standard deviations.
    uneven = smooth(p[:2], np.array([0.0, 2.0]), np.array([2.0, 8.0]), seconds=2.0)
    assert uneven[0, 1] == pytest.approx(3 * far / (1 + 3 * far))


def test_the_path_is_the_best_of_all_paths():
    rng = np.random.default_rng(0)
    for _ in range(30):
        n, labels, penalty = 6, 3, rng.uniform(0, 3)
        p = rng.dirichlet([0.5] * labels, n)
        ends = np.cumsum(rng.uniform(0.5, 5, n))
        starts = np.concatenate([[0.0], ends[:-1]])
        weight = np.minimum(ends - starts, 3.0)

        loss = -np.log(np.maximum(p, 1e-6)) * weight[:, None]
        costs = {
            path: sum(loss[i, k] for i, k in enumerate(path))
            + penalty * sum(a != b for a, b in itertools.pairwise(path))
            for path in itertools.product(range(labels), repeat=n)
        }
        best = tuple(viterbi_path(p, starts, ends, switch_penalty=penalty).tolist())
        assert costs[best] == pytest.approx(min(costs.values()))


def test_changes_say_when_and_how_sure():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    path = viterbi_path(p, STARTS, ENDS, switch_penalty=1.0)
    assert path.tolist() == [0, 1, 1]
    (one,) = label_changes(path, p, STARTS, ENDS, ["sad", "happy"])
    assert (one.time, one.before, one.after) == (2.0, "sad", "happy")
    assert one.gain == pytest.approx(2 * math.log(4) + 2 * math.log(9), abs=1e-3)
    assert viterbi_path(p, STARTS, ENDS, switch_penalty=50.0).tolist() == [1, 1, 1], (
        "a high penalty: one label for all"
    )


def test_valence_and_arousal_are_weighted_means_of_published_points():
    valence, arousal, covered = valence_arousal({"angry": 0.75, "happy": 0.25})
    assert (valence, arousal, covered) == (
        pytest.approx(0.75 * -0.51 + 0.25 * 0.81),
        pytest.approx(0.75 * 0.59 + 0.25 * 0.51),
        1.0,
    )
    assert valence_arousal({"questioning": 0.7, "sad": 0.3}) == (None, None, 0.3)
    assert valence_arousal({"neutral": 1.0}) == (0.0, 0.0, 1.0)

"""Intervals of classes, and of scores at the ends of their scale, against values by hand."""

import numpy as np
import pytest
from scipy import stats

from emojax.evaluate.emotion_wheels import builtin_tables
from emojax.evaluate.predictions import Prediction
from emojax.evaluate.scorer import score_set
from emojax.evaluate.single_label_scores import class_statistics, single_label_statistics
from emojax.evaluate.statistics import interval_of_mean, intervals, paired_test, wilson_interval
from emojax.reports.evaluation_tables import markdown


def score(pairs, metric="single", **more):
    rows = [
        Prediction(clip=f"c{i}", answer=truth, response=answer, **more)
        for i, (truth, answer) in enumerate(pairs)
    ]
    return score_set(rows, metric, builtin_tables(), resamples=300)


@pytest.mark.parametrize(("right", "n"), [(0, 4), (6, 6), (20, 20), (9, 20), (1, 1)])
def test_wilsons_interval_is_that_of_scipy(right, n):
    reference = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    assert wilson_interval(right / n, n) == pytest.approx([reference.low, reference.high])


@pytest.mark.parametrize("metric", ["single", "hit_rate", "last_word", "multi_label"])
@pytest.mark.parametrize("swap", [False, True])
def test_no_interval_of_a_few_clips_has_no_width(metric, swap):
    truth = ["happy", "sad", "angry"] * 2
    answers = truth[1:] + truth[:1] if swap else truth
    result = score(zip(truth, answers, strict=True), metric).result
    found = [*result["intervals"].values(), *result["released"]["intervals"].values()]
    found += [span for row in result["per_class"] for span in row["intervals"].values()]
    assert len(found) > 12 and all(high - low > 0.1 for low, high in found)
    if metric == "single" and not swap:
        # six of six: 1 / (1 + z^2 / 6); the mean of three recalls of two of two each
        assert result["intervals"]["accuracy"] == pytest.approx([0.60967, 1], abs=1e-5)
        assert result["intervals"]["uar"] == pytest.approx([1 - 0.65762 / 3**0.5, 1], abs=1e-5)


def test_a_rare_class_widens_the_mean_of_recalls():
    truth = ["happy"] * 100 + ["sad"]
    result = score(zip(truth, truth, strict=True)).result
    recalls = {row["label"]: row["intervals"]["recall"] for row in result["per_class"]}
    assert recalls["happy"] == pytest.approx([0.96301, 1], abs=1e-5)
    assert recalls["sad"] == pytest.approx([0.20654, 1], abs=1e-5)
    assert result["intervals"]["uar"][0] == pytest.approx(0.6028, abs=1e-3)
    assert result["intervals"]["accuracy"][0] == pytest.approx(0.96337, abs=1e-4)
    # all of one class, none of the other: resamples differ only where a class is missing
    halves = score([("happy", "happy")] * 15 + [("sad", "happy")] * 15).result["intervals"]
    assert halves["uar"] == pytest.approx([0.5 - 0.20388 / 2, 0.5 + 0.20388 / 2], abs=1e-4)
    assert interval_of_mean([1.0, 1.0], [[0.9, 1], [0.9, 1]]) == [1 - 0.1 / 2**0.5, 1.0]


def test_classes_have_intervals_where_they_are_defined():
    truth = ["happy", "sad", "angry"] * 20
    answers = ["happy", "sad", "sad", "happy", "sad", "sad"] * 10
    scored = score(zip(truth, answers, strict=True))
    by_label = {row["label"]: row["intervals"] for row in scored.result["per_class"]}
    assert by_label["happy"]["recall"] == pytest.approx([0.83887, 1], abs=1e-5)
    low, high = by_label["sad"]["precision"]  # 20 of 40
    assert 0.25 < low < 0.4 and 0.6 < high < 0.75
    assert "precision" not in by_label["angry"]  # nobody answered it
    page = markdown({"test": scored.result})
    assert "| happy | 20 | 1.000 [0.839, 1.000] | 1.000 [0.839, 1.000] |" in page


def test_intervals_of_a_class_cover_a_known_recall():
    rng = np.random.default_rng(0)
    covered, runs, recall = 0, 200, 0.9
    for seed in range(runs):
        truth = ["a"] * 12 + ["b"] * 60
        answers = [("a",) if rng.random() < recall else ("b",) for _ in range(12)] + [("b",)] * 60
        sums = class_statistics(single_label_statistics(truth, answers, ("a", "b")), ("a", "b"))
        found = intervals(sums, [""] * 72, resamples=200, seed=seed, own_groups=True)
        low, high = found["recall:a"]
        covered += low <= recall <= high
    assert covered / runs >= 0.93


def test_equal_runs_may_still_differ_elsewhere():
    truth = ["a", "b"] * 10
    sums = single_label_statistics(truth, [(t,) for t in truth], ("a", "b"))
    low, high = paired_test(sums, sums, [""] * 20, permutations=20)["interval"]
    assert (low, high) == pytest.approx((-0.16113, 0.16113), abs=1e-5)

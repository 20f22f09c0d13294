"""Intervals, paired tests, calibration: known answers, and simulations with a known truth."""

import numpy as np
import pytest
from scipy import stats

from emojax.evaluate.confidence_scores import calibration, risk_coverage
from emojax.evaluate.emotion_wheels import builtin_tables
from emojax.evaluate.hit_rate import hit_rate_statistics
from emojax.evaluate.open_vocabulary_score import set_overlap_statistics
from emojax.evaluate.single_label_scores import single_label_statistics
from emojax.evaluate.statistics import holm, interval_widening, intervals, mcnemar, paired_test

LABELS = ("a", "b", "c", "d")
PRIOR = (0.4, 0.3, 0.2, 0.1)


def draw(rng, speakers, clips, skill=(4, 2)):
    """Speakers of differing difficulty: (truth, answers, speaker of each clip)."""
    easy = np.repeat(rng.beta(*skill, speakers), clips)
    truth = rng.choice(4, speakers * clips, p=PRIOR)
    answers = np.where(rng.random(len(truth)) < easy, truth, rng.integers(4, size=len(truth)))
    names = [str(s) for s in np.repeat(np.arange(speakers), clips)]
    return [LABELS[t] for t in truth], [(LABELS[s],) for s in answers], names


@pytest.mark.parametrize(("speakers", "clips"), [(12, 20), (60, 8), (200, 2)])
def test_intervals_cover_a_known_truth(speakers, clips):
    rng = np.random.default_rng(1)
    truth, answers, _ = draw(rng, 200_000, 2)
    known = single_label_statistics(truth, answers, LABELS).scores()
    hits = dict.fromkeys(("accuracy", "uar", "weighted_f1", "macro_f1"), 0)
    runs = 1000
    for seed in range(runs):
        truth, answers, names = draw(rng, speakers, clips)
        found = intervals(
            single_label_statistics(truth, answers, LABELS), names, resamples=400, seed=seed
        )
        for name in hits:
            hits[name] += found[name][0] <= known[name] <= found[name][1]
    for name, count in hits.items():
        assert 0.93 <= count / runs <= 0.97, (name, count / runs)


def test_intervals_over_clips_of_one_speaker_are_too_narrow():
    rng = np.random.default_rng(2)
    truth, answers, names = draw(rng, 30, 40, skill=(1, 1))
    sums = single_label_statistics(truth, answers, LABELS)
    clustered, alone = (
        intervals(sums, g, resamples=1000)["accuracy"] for g in (names, [""] * len(names))
    )
    assert clustered[1] - clustered[0] > 2.5 * (alone[1] - alone[0])


def test_accuracy_interval_is_that_of_a_share():
    truth, answers = ["a"] * 400, [("a",)] * 300 + [("b",)] * 100
    low, high = intervals(
        single_label_statistics(truth, answers, ("a", "b")), [""] * 400, resamples=4000
    )["accuracy"]
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.006)


def test_intervals_need_two_groups_and_stay_inside_the_scale():
    sums = single_label_statistics(["a", "b"], [("a",), ("b",)], ("a", "b"))
    assert intervals(sums, ["s", "s"]) == {}
    # Wilson's for two of two: from 1 / (1 + 1.96^2 / 2) to 1
    assert intervals(sums, ["s", "t"])["accuracy"] == pytest.approx([0.34238, 1.0], abs=1e-5)
    assert interval_widening(["s", "t"]) == pytest.approx(
        np.sqrt(2) * 12.706 / 1.95996, rel=1e-3
    )  # Student's t of one degree


def test_intervals_of_wheels():
    tables = builtin_tables()
    truth = ["happy", "sad"] * 40
    answers = [["happy"]] * 80
    found = intervals(hit_rate_statistics(truth, answers, tables, truth), [""] * 80, resamples=500)
    assert found["hit_rate"][0] < 0.5 < found["hit_rate"][1]
    both = intervals(
        set_overlap_statistics([[{"x"}]] * 20, [[{"x"}]] * 10 + [[{"y"}]] * 10),
        [""] * 20,
        resamples=500,
    )
    assert both["f_s"][0] < 0.5 < both["f_s"][1]


def test_paired_test_of_equal_runs_and_of_different_ones():
    rng = np.random.default_rng(4)
    truth, answers, names = draw(rng, 50, 6)
    worse = [s if rng.random() < 0.7 else ("a",) for s in answers]
    a, b = (
        single_label_statistics(truth, answers, LABELS),
        single_label_statistics(truth, worse, LABELS),
    )
    same = paired_test(a, a, names, permutations=500)
    assert same["difference"] == 0 and same["p_value"] == 1.0
    found = paired_test(a, b, names, score="accuracy", permutations=2000)
    assert found["difference"] == pytest.approx(b.scores()["accuracy"] - a.scores()["accuracy"])
    assert found["p_value"] < 0.01 and found["interval"][1] < 0 and found["groups"] == 50
    back = paired_test(b, a, names, score="accuracy", permutations=2000)
    assert back["difference"] == -found["difference"] and back["p_value"] == pytest.approx(
        found["p_value"], abs=0.005
    )
    with pytest.raises(ValueError, match="same clips"):
        paired_test(a, single_label_statistics(truth[:-1], answers[:-1], LABELS), names)


def test_paired_test_is_exact_where_swaps_can_be_counted():
    # 6 clips, all right in one run and wrong in the other: only two of 64 swaps are as extreme
    a, b = (
        single_label_statistics(["a"] * 6, [("a",)] * 6, ("a", "b")),
        single_label_statistics(["a"] * 6, [("b",)] * 6, ("a", "b")),
    )
    p = paired_test(a, b, [""] * 6, score="accuracy", permutations=20_000)["p_value"]
    assert p == pytest.approx(2 / 64, abs=0.005)


def test_paired_test_keeps_its_level():
    rng = np.random.default_rng(7)
    small = 0
    for seed in range(300):
        truth, answers, names = draw(rng, 25, 4)
        other = [(LABELS[rng.integers(4)],) if rng.random() < 0.3 else s for s in answers]
        mirror = [(LABELS[rng.integers(4)],) if rng.random() < 0.3 else s for s in answers]
        a, b = (
            single_label_statistics(truth, other, LABELS),
            single_label_statistics(truth, mirror, LABELS),
        )
        small += (
            paired_test(a, b, names, score="accuracy", permutations=200, seed=seed)["p_value"]
            <= 0.05
        )
    assert small / 300 < 0.09


def test_mcnemar_by_hand():
    a, b = [True] * 8 + [False] * 2 + [True] * 5, [False] * 8 + [True] * 2 + [True] * 5
    found = mcnemar(a, b)
    assert (found["only_first"], found["only_second"]) == (8, 2)
    assert found["p_value"] == pytest.approx(2 * stats.binom.cdf(2, 10, 0.5))
    assert mcnemar(a, a)["p_value"] == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_calibration_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    found = calibration(probs, np.array([0, 1, 0, 1]), bins=10)
    # two clips at 0.9, half right; two at 0.6, both right
    assert found["ece"] == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    assert found["brier"] == pytest.approx((0.02 + 1.62 + 0.32 + 0.32) / 4)
    assert [b["n"] for b in found["bins"]] == [2, 2]
    sure = calibration(np.array([[1.0, 0.0]]), np.array([0]))
    assert sure["ece"] == 0.0 and sure["bins"][0]["to"] == 1.0


def test_risk_against_coverage_by_hand():
    confidence, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1.0, 1.0, 0.0, 0.0])
    found = risk_coverage(confidence, right)
    assert found["aurc"] == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)
    risks = {p["coverage"]: p["risk"] for p in found["curve"]}
    assert risks[0.5] == 0.0 and risks[1.0] == 0.5
    tied = [risk_coverage(np.full(4, 0.5), np.array(r)) for r in ([1.0, 1, 0, 0], [0.0, 0, 1, 1])]
    assert tied[0] == tied[1] and tied[0]["aurc"] == 0.5

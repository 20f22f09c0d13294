"""The strict scores: by hand, against scikit-learn, and matrices and tables of the papers."""

import dataclasses
import json
import time

import numpy as np
import pytest
from sklearn import metrics

from data_pipeline.datasets.benchmarks import BENCHMARKS
from emojax.evaluate.emotion_wheels import builtin_tables
from emojax.evaluate.label_space import guess_metric, to_label_space
from emojax.evaluate.multi_label_scores import multi_label_statistics
from emojax.evaluate.open_vocabulary_score import set_overlap_statistics
from emojax.evaluate.predictions import Prediction
from emojax.evaluate.scorer import score_set
from emojax.evaluate.single_label_scores import scores_from_confusion, single_label_statistics
from emojax.evaluate.subgroups import interval_method
from emojax.evaluate.valence_scores import valence_statistics

SIX = ("angry", "happy", "neutral", "sad", "surprise", "worried")
MER2023_SEMI = [
    [179, 1, 2, 1, 0, 0],
    [2, 152, 7, 4, 3, 1],
    [10, 10, 134, 6, 2, 4],
    [2, 2, 1, 250, 0, 2],
    [1, 0, 3, 1, 6, 3],
    [4, 1, 3, 2, 1, 34],
]
MER2024_NOISE = [
    [224, 0, 5, 2, 4, 1],
    [1, 213, 16, 0, 2, 1],
    [23, 24, 128, 17, 11, 29],
    [3, 2, 5, 284, 0, 1],
    [6, 1, 2, 0, 42, 4],
    [2, 0, 6, 2, 3, 106],
]
# Published recall per class (happy, sad, neutral, angry, surprise, disgust, fear) and UAR, of the
# rows where they agree.
DFEW = {
    "Qwen-Audio": ((25.97, 12.93, 67.04, 29.20, 6.12, 0, 35.36), 25.23),
    "LLaVA-NEXT": ((57.46, 79.42, 38.95, 0, 0, 0, 0), 25.12),
    "MiniGPT-v2": ((84.25, 47.23, 22.28, 20.69, 2.04, 0, 0.55), 25.29),
    "Video-LLaVA (video)": ((51.94, 39.84, 29.78, 58.85, 0, 0, 2.76), 26.17),
    "Video-LLaMA": ((20.25, 67.55, 80.15, 5.29, 4.76, 0, 9.39), 26.77),
    "Emotion-LLaMA, zero-shot": ((71.98, 76.25, 61.99, 71.95, 33.67, 0, 3.31), 45.59),
    "EC-STFL": ((79.18, 49.05, 57.85, 60.98, 46.15, 2.76, 21.51), 45.35),
    "Former-DFER": ((84.05, 62.57, 67.52, 70.03, 56.43, 3.45, 31.78), 53.69),
    "IAL": ((87.95, 67.21, 70.10, 76.06, 62.22, 0, 26.44), 55.71),
    "MAE-DFER": ((92.92, 77.46, 74.56, 76.94, 60.99, 18.62, 42.35), 63.41),
    "VideoMAE": ((93.09, 78.78, 71.75, 78.74, 63.44, 17.93, 41.46), 63.60),
    "S2D": ((93.62, 80.25, 77.14, 81.09, 64.53, 1.38, 34.71), 61.82),
    "S2D, oversampled": ((93.95, 78.35, 70.25, 78.00, 61.88, 25.52, 50.22), 65.45),
    "Emotion-LLaMA, tuned": ((93.05, 79.42, 72.47, 84.14, 72.79, 3.45, 44.20), 64.21),
}


def rows_of(confusion, labels):
    return [
        Prediction(clip=f"{t}{p}{k}", answer=t, response=p)
        for t, row in zip(labels, confusion, strict=True)
        for p, n in zip(labels, row, strict=True)
        for k in range(n)
    ]


def score(rows, metric="single", asked=(), **more):
    return score_set(
        rows, metric, builtin_tables(), asked=asked, resamples=more.pop("resamples", 0), **more
    ).result


@pytest.mark.parametrize(
    ("confusion", "weighted", "macro", "uar"),
    [(MER2023_SEMI, 0.9036, 0.8134, 0.8069), (MER2024_NOISE, 0.8458, 0.8221, 0.8387)],
)
def test_published_confusion_matrices(confusion, weighted, macro, uar):
    s = score(rows_of(confusion, SIX), "last_word", SIX)
    assert s["n"] == np.sum(confusion) and s["confusion"] == confusion
    assert [round(s[k], 4) for k in ("weighted_f1", "macro_f1", "uar")] == [weighted, macro, uar]
    assert s["released"]["weighted_f1"] == pytest.approx(weighted, abs=5e-5)


@pytest.mark.parametrize("system", DFEW)
def test_dfew_rows_give_their_uar(system):
    cells, printed = DFEW[system]
    confusion = np.zeros((7, 8))
    for i, cell in enumerate(cells):
        confusion[i, i], confusion[i, 7] = cell, 100 - cell
    assert 100 * scores_from_confusion(confusion)["uar"] == pytest.approx(printed, abs=0.01)


def test_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(3)
    labels = ["a", "b", "c", "d"]
    truth = [str(x) for x in rng.choice(labels[:3], 200)]
    answers = [str(x) for x in rng.choice([*labels, "else"], 200)]
    got = single_label_statistics(truth, [(s,) for s in answers], labels).scores()
    present = labels[:3]
    assert got["accuracy"] == pytest.approx(metrics.accuracy_score(truth, answers))
    assert got["uar"] == pytest.approx(
        metrics.recall_score(truth, answers, labels=present, average="macro", zero_division=0)
    )
    for name in ("weighted", "macro"):
        want = metrics.f1_score(truth, answers, labels=present, average=name, zero_division=0)
        assert got[f"{name}_f1"] == pytest.approx(want)


def test_a_list_of_labels_counts_in_parts_and_unparsable_answers_are_wrong():
    rows = [
        Prediction(clip="1", answer="happy", response="happy"),
        Prediction(clip="2", answer="happy", response="happy, sad"),
        Prediction(clip="3", answer="sad", response="happy, sad, angry, worried"),
        Prediction(clip="4", answer="sad", response="no idea what this is"),
        Prediction(
            clip="5", answer="neutral", response="<think>sad?</think><answer>Neutral.</answer>"
        ),
        Prediction(clip="6", answer="angry", response="contempt"),
    ]
    s = score(rows, "hit_rate", SIX)
    assert s["accuracy"] == pytest.approx((1 + 0.5 + 0.25 + 0 + 1 + 0) / 6)
    assert s["uar"] == pytest.approx((0.75 + 0.125 + 1 + 0) / 4)
    assert s["confusion"][1] == pytest.approx([0, 1.5, 0, 0.5, 0, 0])
    assert s["answers"] == {
        "read_as": {"ambiguous": 2, "label": 2, "outside": 1, "unparsable": 1},
        "unparsable": 2,
        "labels_per_answer": (1 + 2 + 4 + 1) / 4,
        "several_labels": 2,
    }
    assert s["unparsable_by_class"] == [1, 0, 0, 1, 0, 0]
    # official: the tagged answer and the neutral truth drop out, lists cost nothing
    assert s["released"]["by_wheel"][0] == {
        "n": 5,
        "hit_rate": 0.6,
        "mscore": pytest.approx((1 + 0.5 + 1 / 3) / 5),
    }
    # of the labels that were read, with neutral as a cluster: three hits and the neutral clip
    assert s["hit_rate_with_neutral"] == pytest.approx(4 / 6)


def test_labels_of_truth_and_question_are_brought_together():
    space, truth = to_label_space(["Excited", "anger", "HAPPY", "Neutral"], ("Anger", "Happiness"))
    assert space == ("Anger", "Happiness", "Excited", "Neutral")
    assert truth == ["Excited", "Anger", "Happiness", "Neutral"]
    space, truth = to_label_space(["happy", "Happy", "sad"], ())
    assert len(space) == 2 and truth[0] == truth[1]


def test_multi_label_by_hand():
    truth, answers = [("a", "b"), ("c",)], [("a",), ("c", "x")]
    got = multi_label_statistics(truth, answers, ("a", "b", "c")).scores()
    assert got["f1_micro"] == pytest.approx(
        2 * 2 / (2 * 2 + 1 + 1)
    )  # x is a false one though no class
    assert got["f1_samples"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert got["example_accuracy"] == pytest.approx(0.5)
    assert got["f1_macro"] == pytest.approx((1 + 0 + 1) / 3)
    assert got["map"] == pytest.approx(
        (1 + 0.5 + 1) / 3
    )  # of b: a constant score, its share of clips


def test_average_precision_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    true, answers = rng.random((50, 3)) < 0.4, rng.random((50, 3)) < 0.5
    names = ("a", "b", "c")
    as_sets = lambda m: [tuple(n for n, x in zip(names, row, strict=True) if x) for row in m]
    got = multi_label_statistics(as_sets(true), as_sets(answers), names).scores()
    want = np.mean([metrics.average_precision_score(true[:, i], answers[:, i]) for i in range(3)])
    assert got["map"] == pytest.approx(want)
    assert got["f1_micro"] == pytest.approx(metrics.f1_score(true, answers, average="micro"))
    assert got["f1_macro"] == pytest.approx(metrics.f1_score(true, answers, average="macro"))


def test_multi_label_rows():
    rows = [
        Prediction(clip="1", answer="Anger;Fear", response="anger, banana"),
        Prediction(clip="2", answer="fear", response="The person shows fear and disgust."),
    ]
    s = score(rows, "multi_label", ("anger", "disgust", "fear"))
    # truth {anger, fear}, {fear}; read {anger, banana}, {fear, disgust}
    assert s["f1_micro"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))
    assert s["released"]["f1_micro"] == pytest.approx(
        2 * 1 / (2 * 1 + 0 + 2)
    )  # a sentence is one unknown label
    assert s["answers"]["true_labels_per_clip"] == 1.5


def test_open_vocabulary_counts_neutral_and_unknown_words():
    rows = [
        Prediction(clip="1", answer="['happy', 'glorp']", response="happy"),
        Prediction(clip="2", answer="['neutral']", response="neutral, zorb"),
    ]
    s = score(rows, "open_vocabulary")
    # clip 1: {happy cluster, =glorp} against {happy cluster}
    # clip 2: {=neutral} against {=neutral, =zorb}
    p, r = (1 + 0.5) / 2, (0.5 + 1) / 2
    assert (s["precision"], s["recall"]) == pytest.approx((p, r)) and s["f_s"] == pytest.approx(
        2 * p * r / (p + r)
    )
    assert s["answers"]["unknown_words"] == 1
    assert (
        s["released"]["f_s"] == 1.0 and s["released"]["by_wheel"][0]["n"] == 1
    )  # neutral and unknown drop out


def test_f_s_is_the_harmonic_mean():
    """Precision 1 and recall 1/2: 2 * 0.5 / 1.5."""
    found = set_overlap_statistics([[{"a", "b"}]], [[{"a"}]]).scores()
    assert (found["precision"], found["recall"]) == (1.0, 0.5)
    assert found["f_s"] == pytest.approx(2 / 3)


def test_set_overlap_of_nothing_in_common_is_zero():
    assert set_overlap_statistics([[{"a"}]], [[{"b"}]]).scores()["f_s"] == 0.0


def test_sentiment_counts_neutral():
    rows = [
        Prediction(clip="1", answer="Positive", response="positive"),
        Prediction(clip="2", answer="Neutral", response="Neutral"),
        Prediction(clip="3", answer="Negative", response="positive"),
    ]
    s = score(rows, "two_class", ("Neutral", "Negative", "Positive"))
    assert s["accuracy"] == pytest.approx(2 / 3) and s["n"] == 3
    assert s["released"]["accuracy"] == 0.5 and s["released"]["n"] == 2
    only = score(rows[1:2], "two_class", ("Neutral", "Negative", "Positive"))
    assert only["released"]["n"] == 0 and only["accuracy"] == 1.0


def test_agreement_by_hand():
    x, y = [1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 4.0, 4.0]
    got = valence_statistics(x, y).scores()
    assert got["mae"] == 0.5
    cov, vx, vy, gap = 1.0, 1.25, 1.0, 0.5
    assert got["ccc"] == pytest.approx(2 * cov / (vx + vy + gap**2))
    assert got["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    shifted = valence_statistics([v + 1e6 for v in x], [v + 1e6 for v in y]).scores()
    assert shifted["ccc"] == pytest.approx(got["ccc"], rel=1e-9)


def test_valence_of_rows():
    rows = [
        Prediction(clip=str(i), answer="happy", response="happy", valence=v, valence_answer=a)
        for i, (v, a) in enumerate([(1, 1), (2, 2), (0, 0)])
    ]
    assert score([*rows, Prediction(clip="x", answer="sad", response="sad")])["valence"] == {
        "n": 3,
        "ccc": 1.0,
        "mae": 0.0,
        "pearson": 1.0,
    }


def test_subgroups():
    rows = [
        Prediction(
            clip="1",
            answer="happy",
            response="happy",
            modalities=("video", "audio"),
            duration=1.0,
            language="en",
        ),
        Prediction(
            clip="2",
            answer="sad",
            response="happy",
            modalities=("audio", "video"),
            duration=3.0,
            language="zh",
        ),
        Prediction(
            clip="3", answer="sad", response="sad", modalities=(), duration=31.0, language="zh"
        ),
    ]
    by = score(rows)["by"]
    assert {k: v["n"] for k, v in by["modalities"].items()} == {"audio+video": 2, "none": 1}
    assert {k: v["accuracy"] for k, v in by["duration"].items()} == {
        "0 to 2 s": 1.0,
        "2 to 5 s": 0.0,
        "over 30 s": 1.0,
    }
    assert by["language"]["zh"]["accuracy"] == 0.5


def test_intervals_of_subgroups_are_over_people_too():
    # whole people are right or wrong: forty clips of each of twelve say no more than twelve clips
    rows = [
        Prediction(
            clip=f"{p}_{i}",
            answer="happy",
            response="happy" if p % 2 else "sad",
            speaker=f"s{p}",
            duration=1.0,
        )
        for p in range(12)
        for i in range(40)
    ]
    low, high = score(rows, resamples=400)["by"]["duration"]["0 to 2 s"]["intervals"]["accuracy"]
    assert high - low > 0.5
    assert high - low == pytest.approx(
        np.diff(score(rows, resamples=400)["intervals"]["accuracy"])[0], abs=0.06
    )


def test_few_people_are_named_by_speaker():
    rows = [
        Prediction(clip=str(i), answer="happy", response="happy", video="v", speaker=f"s{i % 2}")
        for i in range(6)
    ]
    assert "; only 2 people, so nothing follows for other people" in interval_method(rows, 10)
    videos = [dataclasses.replace(r, speaker="", video=f"v{i % 2}") for i, r in enumerate(rows)]
    assert interval_method(videos, 10) == (
        "bootstrap over 6 clips, 95 %, 10 resamples, percentiles widened for few groups; "
        "Wilson's where all resamples are equal"
    ), "videos are not people"


def test_metric_of_rows_without_a_set():
    of = lambda *answers: guess_metric(
        [Prediction(clip=str(i), answer=a, response="x") for i, a in enumerate(answers)]
    )
    assert of("happy", "sad") == "single"
    assert of("Positive", "neutral") == "two_class"
    assert of("anger,fear", "fear") == "multi_label"
    assert of("['a', 'b']", "['c']") == "open_vocabulary"
    with pytest.raises(ValueError, match="no row has an 'answer'"):
        of("", " ")


def test_order_and_names_do_not_matter():
    rng = np.random.default_rng(5)
    rows = [
        Prediction(
            clip=str(i),
            answer=str(rng.choice(SIX)),
            response=str(rng.choice(SIX)),
            speaker=str(i % 9),
        )
        for i in range(120)
    ]
    first = score(rows, "single", SIX)
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    again = score(shuffled, "single", SIX)
    new = dict(zip(SIX, ("qa", "qb", "qc", "qd", "qe", "qf"), strict=True))
    renamed = [
        Prediction(clip=r.clip, answer=new[r.answer], response=new[r.response], speaker=r.speaker)
        for r in rows
    ]
    other = score(renamed, "single", tuple(new.values()))
    for name in ("uar", "accuracy", "weighted_f1", "macro_f1"):
        assert (
            first[name]
            == pytest.approx(again[name], abs=1e-12)
            == pytest.approx(other[name], abs=1e-12)
        )
    assert first["confusion"] == again["confusion"] == other["confusion"]


def test_a_further_label_never_lowers_the_hit_rate_and_costs_in_the_strict_score():
    rng = np.random.default_rng(6)
    for _ in range(30):
        truth = [str(x) for x in rng.choice([s for s in SIX if s != "neutral"], 12)]
        lists = [
            [str(x) for x in rng.choice(SIX, rng.integers(1, 4), replace=False)] for _ in truth
        ]
        longer = [
            [*answers, next(s for s in rng.permutation(SIX) if s not in answers)]
            for answers in lists
        ]
        rows = lambda answers, truth=truth: [
            Prediction(clip=str(i), answer=t, response=", ".join(a))
            for i, (t, a) in enumerate(zip(truth, answers, strict=True))
        ]
        one, two = score(rows(lists), "hit_rate", SIX), score(rows(longer), "hit_rate", SIX)
        assert two["released"]["hit_rate"] >= one["released"]["hit_rate"]
        wrong = [
            [*answers, next(s for s in SIX if s not in answers and s != t)]
            for answers, t in zip(lists, truth, strict=True)
        ]
        three = score(rows(wrong), "hit_rate", SIX)
        assert three["accuracy"] < one["accuracy"] or one["accuracy"] == 0


def test_rows_without_a_truth_are_named():
    with pytest.raises(ValueError, match="clip 'b' has no 'answer'"):
        score(
            [
                Prediction(clip="a", answer="x", response="x"),
                Prediction(clip="b", answer="", response="x"),
            ]
        )
    with pytest.raises(ValueError, match="no clip to score"):
        score([])


def test_results_are_json():
    rows = [
        Prediction(
            clip="1", answer="happy", response="happy", probabilities={"happy": 0.9, "sad": 0.1}
        ),
        Prediction(clip="2", answer="sad", response="?"),
    ]
    text = json.dumps(score(rows, resamples=50))
    assert "NaN" not in text


def test_36000_predictions_with_intervals_in_a_minute():
    rng = np.random.default_rng(0)
    begin = time.monotonic()
    for benchmark in BENCHMARKS.values():
        pick = lambda k, b=benchmark: [str(x) for x in rng.choice(b.labels, k, replace=False)]
        several = benchmark.metric in ("multi_label", "open_vocabulary")
        rows = [
            Prediction(
                clip=f"c{i}",
                answer=str(pick(2))
                if benchmark.metric == "open_vocabulary"
                else ", ".join(pick(1 + several)),
                response=f"The person is {pick(1)[0]}." if i % 2 else ", ".join(pick(1 + several)),
                speaker=f"s{i % 300}" if i % 3 else "",
                duration=float(i % 40),
            )
            for i in range(2000)
        ]
        found = score_set(rows, benchmark.metric, builtin_tables(), asked=benchmark.labels).result
        assert found["n"] == 2000 and found["intervals"][found["primary"]]
    assert time.monotonic() - begin < 60  # a few seconds

"""The official scores: every published case, and the official word tables."""

import json

import numpy as np
import pytest
from conftest import DATA

from emojax.evaluate.emotion_wheels import builtin_tables, official_tables
from emojax.evaluate.hit_rate import official_hit_rate
from emojax.evaluate.multi_label_scores import official_multi_label
from emojax.evaluate.official_parsing import item_list, label_set, last_word, response_items
from emojax.evaluate.open_vocabulary_score import official_open_vocabulary
from emojax.evaluate.single_label_scores import official_single_label, official_two_class

CASES = json.loads((DATA / "v2_metric_examples.json").read_text())
TABLES = "annotations/emotion_llama_v2_evaluation"
CHECKSUMS = (
    "759d8f13c8c3ecf2b8eb0c55f21ede521f13457646e555055e72b45b64ad761d",
    "410b85051ec3fbc9b2589743d906c270a726f1459058a865c6f2630ba086d1bf",
    "10012bf7b049618df584c87a64a9ba552e46575ff2999ebf4f5153e64a2296ce",
    "e2ae70551145ff3025449a0ab56ebfeec90a0306485eb12f6277bdcc93ffcd70",
    "170df3ab7a0150640c37637849995b4e40f008428eb13f93dc3fd24063ce7c1c",
)


def ids(cases):
    return [c.get("name", c.get("word", c.get("input"))) for c in cases]


@pytest.fixture(scope="module")
def tables(real_data):
    return official_tables(real_data / TABLES / "emotion_wheel")


@pytest.mark.parametrize("case", CASES["string_to_list"], ids=ids(CASES["string_to_list"]))
def test_items_of_a_response(case):
    assert item_list(case["input"]) == case["output"]


def test_official_tables_are_the_published_ones(tables):
    assert tuple(tables.checksum(w) for w in range(1, 6)) == CHECKSUMS
    stats = CASES["mapping_statistics"]
    assert len(tables.known) == stats["format_keys"]
    for number, wheel in enumerate(stats["per_wheel"].values()):
        assert len(tables.clusters[number]) == wheel["format_keys_that_map_to_a_cluster"]
        assert sorted(set(tables.clusters[number].values())) <= wheel["level1"]


@pytest.mark.parametrize(
    "case", CASES["word_to_level1_cluster"], ids=ids(CASES["word_to_level1_cluster"])
)
def test_cluster_of_a_word(tables, case):
    assert {f"wheel{w}": tables.cluster(case["word"], w) for w in range(1, 6)} == case["clusters"]


@pytest.mark.parametrize("case", CASES["hit_rate"], ids=ids(CASES["hit_rate"]))
def test_hit_rate(tables, case):
    rows = [r for r in case["input"]["jsonl"] if r["mode"] == case["input"]["mode"]]
    got = official_hit_rate(
        case["input"]["gt"], {r["video_id"]: r["response"] for r in rows}, tables
    )
    want = case["output"]
    for found, expected in zip(
        got["by_wheel"], want["per_wheel_[hitrate,mscore]"].values(), strict=True
    ):
        assert [found["hit_rate"], found["mscore"]] == pytest.approx(expected, abs=1e-9)
    assert got["hit_rate"] == pytest.approx(want["final_hitrate"], abs=1e-9)
    assert got["mscore"] == pytest.approx(want["final_mscore"], abs=1e-9)


@pytest.mark.parametrize("case", CASES["ov_wheel"], ids=ids(CASES["ov_wheel"]))
def test_open_vocabulary(tables, case):
    from data_pipeline.datasets.open_vocabulary import word_list

    truth = {clip: word_list(text) for clip, text in case["input"]["gt"].items()}
    got = official_open_vocabulary(truth, case["input"]["pred_response"], tables)
    for found, expected in zip(got["by_wheel"], case["output"]["per_wheel"].values(), strict=True):
        for name, value in expected.items():
            assert found[name] == pytest.approx(
                np.nan if value is None else value, abs=1e-9, nan_ok=True
            )
    final = case["output"]["final_avg_f"]
    assert got["f_s"] == pytest.approx(np.nan if final is None else final, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", ["single_label", "sentiment_no_neutral"])
def test_equal_strings(name):
    score = {
        "single_label": official_single_label,
        "sentiment_no_neutral": official_two_class,
    }[name]
    for case in CASES[name]:
        split = case["input"]["split"]
        rows = [r for r in case["input"]["jsonl"] if split is None or r["mode"] == split]
        got = score(
            [r["answer"] for r in rows], [r.get("new_response", r["response"]) for r in rows]
        )
        want = case["output"]
        assert (got["n"], got["labels"], got["confusion"]) == (
            want["n"],
            want["labels"],
            want["confusion_rows_true"],
        )
        assert got["accuracy"] == pytest.approx(want["accuracy"], abs=1e-9), case["name"]
        assert got["weighted_f1"] == pytest.approx(want["weighted_f1"], abs=1e-9), case["name"]


@pytest.mark.parametrize("case", CASES["multi_label"], ids=ids(CASES["multi_label"]))
def test_multi_label(case):
    rows, want = case["input"]["jsonl"], case["output"]
    assert [label_set(r["response"]) for r in rows] == want["pred_sets"]
    got = official_multi_label([r["answer"] for r in rows], [r["response"] for r in rows])
    for ours, theirs in {
        "f1_micro": "f1_micro",
        "f1_samples": "f1_samples",
        "map": "map_macro",
        "example_accuracy": "jaccard_example_accuracy",
    }.items():
        assert got[ours] == pytest.approx(want[theirs], abs=1e-9), ours
    assert got["average_precision"] == pytest.approx(want["ap_per_label"], abs=1e-9)


SCORED = {
    "mer2023_test1": (323, 323, 323, 323, 305),
    "mer2024_semi_other": (968, 968, 968, 968, 885),
    "iemocap_Session5": (1110,) * 5,
    "meld_emotion_test": (1354, 1354, 1286, 1354, 1005),
}


@pytest.mark.parametrize("name", SCORED)
def test_clips_scored_per_wheel(tables, real_data, name):
    with np.load(real_data / TABLES / "hitrate_gt" / f"gt_{name}.npz") as file:
        truth = {clip: str(file[clip]) for clip in file.files}
    got = official_hit_rate(truth, truth, tables)
    assert tuple(w["n"] for w in got["by_wheel"]) == SCORED[name]
    assert got["hit_rate"] == 1.0


def test_clips_scored_of_ov_merd_plus(tables, real_data):
    import csv

    from data_pipeline.datasets.open_vocabulary import word_list

    with (real_data / TABLES / "check-result-openset-chi-translate.csv").open(
        encoding="utf-8"
    ) as file:
        truth = {row["name"]: word_list(row["openset"]) for row in csv.DictReader(file)}
    got = official_open_vocabulary(truth, dict.fromkeys(truth, "happy"), tables)
    assert [w["n"] for w in got["by_wheel"]] == [518, 519, 511, 525, 501]


def test_a_changed_table_is_refused(real_data, tmp_path):
    for path in (real_data / TABLES / "emotion_wheel").iterdir():
        (tmp_path / path.name).write_bytes(
            path.read_bytes() + (b" " if path.name == "format.csv" else b"")
        )
    with pytest.raises(ValueError, match="format.csv is not the official file"):
        official_tables(tmp_path)
    (tmp_path / "wheel3.xlsx").unlink()
    (tmp_path / "format.csv").unlink()
    with pytest.raises(ValueError, match="has no format.csv; `emojax fetch mer-unibench`"):
        official_tables(tmp_path)


def test_builtin_words_stand_in_and_are_named():
    tables = builtin_tables()
    got = official_hit_rate(
        {"a": "happy", "b": "worried", "c": "neutral"},
        {"a": "joyful, sad", "b": "sad", "c": ""},
        tables,
    )
    assert got["words"] == "emojax built-in lexicon"
    assert (got["hit_rate"], got["mscore"]) == (
        0.5,
        0.5,
    )  # `sad` is no cluster of this truth: it costs nothing here
    assert [w["n"] for w in got["by_wheel"]] == [2] * 5  # neutral has no cluster
    assert tables.cluster("SAD", 1) != tables.cluster("angry", 1)


def test_a_clip_without_a_prediction_is_an_error():
    with pytest.raises(ValueError, match="clip 'b' has no prediction"):
        official_hit_rate({"a": "sad", "b": "happy"}, {"a": "sad"}, builtin_tables())


def test_brackets_of_an_answer_stay():
    """The official scorer adds a pair of brackets to the response and removes it again."""
    assert response_items("[happy]") == ["[happy]"] and response_items("['happy', 'sad']") == [
        "[",
        "happy",
        "sad",
        "]",
    ]
    assert response_items("happy, sad") == ["happy", "sad"]
    assert official_hit_rate({"a": "happy"}, {"a": "[happy]"}, builtin_tables())["hit_rate"] == 0.0


def test_v1_reads_the_last_word():
    labels = ("angry", "happy", "neutral", "sad", "surprise", "worried")
    read = [last_word(t, labels) for t in ("the emotion is sad", "sad", "sad.", "fear", "", "Sad")]
    assert read == ["sad", "sad", "neutral", "neutral", "neutral", "neutral"]

"""The published scorer cases, from a predictions file to evaluation.json: as users do."""

import json

import numpy as np
import pytest
from conftest import DATA
from prediction_rows import jsonl

from emojax.evaluate.emotion_wheels import builtin_tables, official_tables
from emojax.evaluate.reader_differences import write_reader_differences
from emojax.evaluate.score_files import ScoringOptions, read_files, score_predictions

CASES = json.loads((DATA / "v2_metric_examples.json").read_text())


def released(tmp_path, rows, metric, mode="", tables=None):
    path = tmp_path / "preds.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    options = ScoringOptions(
        tables=tables or builtin_tables(), resamples=0, metric=metric, mode=mode or ""
    )
    return score_predictions(None, read_files(path), options)[0]["released"]


@pytest.mark.parametrize("case", CASES["hit_rate"], ids=[c["name"] for c in CASES["hit_rate"]])
def test_hit_rate(real_data, tmp_path, case):
    tables = official_tables(real_data / "annotations/emotion_llama_v2_evaluation/emotion_wheel")
    truth = case["input"]["gt"]
    rows = [{**r, "answer": truth[r["video_id"]]} for r in case["input"]["jsonl"]]
    got = released(tmp_path, rows, "hit_rate", case["input"]["mode"], tables)
    assert got["hit_rate"] == pytest.approx(case["output"]["final_hitrate"], abs=1e-9)
    assert got["mscore"] == pytest.approx(case["output"]["final_mscore"], abs=1e-9)


@pytest.mark.parametrize("case", CASES["ov_wheel"], ids=[c["name"] for c in CASES["ov_wheel"]])
def test_open_vocabulary(real_data, tmp_path, case):
    tables = official_tables(real_data / "annotations/emotion_llama_v2_evaluation/emotion_wheel")
    responses = case["input"]["pred_response"]
    rows = [
        {"video_id": c, "answer": t, "response": responses[c]}
        for c, t in case["input"]["gt"].items()
    ]
    want = case["output"]["final_avg_f"]
    got = released(tmp_path, rows, "open_vocabulary", "", tables)["f_s"]
    assert got == pytest.approx(np.nan if want is None else want, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "metric"), [("single_label", "single"), ("sentiment_no_neutral", "two_class")]
)
def test_labels(tmp_path, name, metric):
    for case in CASES[name]:
        got = released(tmp_path, case["input"]["jsonl"], metric, case["input"]["split"])
        want = case["output"]
        assert (got["n"], got["labels"], got["confusion"]) == (
            want["n"],
            want["labels"],
            want["confusion_rows_true"],
        )
        assert [got["accuracy"], got["weighted_f1"]] == pytest.approx(
            [want["accuracy"], want["weighted_f1"]], abs=1e-9
        )


@pytest.mark.parametrize(
    "case", CASES["multi_label"], ids=[c["name"] for c in CASES["multi_label"]]
)
def test_multi_label(tmp_path, case):
    got, want = released(tmp_path, case["input"]["jsonl"], "multi_label"), case["output"]
    assert [
        got["f1_micro"],
        got["f1_samples"],
        got["map"],
        got["example_accuracy"],
    ] == pytest.approx(
        [want["f1_micro"], want["f1_samples"], want["map_macro"], want["jaccard_example_accuracy"]],
        abs=1e-9,
    )


PUBLISHED = [
    (case, metric)
    for name, metric in (("single_label", "single"), ("sentiment_no_neutral", "two_class"))
    for case in CASES[name]
] + [(case, "multi_label") for case in CASES["multi_label"]]
# case: answers that our reader reads otherwise than the script, by hand
READ_OTHERWISE = {
    "single1_basic": [],
    "single2_split_and_out_of_vocabulary": ["joyful", "angry", "the person is neutral"],
    "single3_answer_case_trap": ["Happy", "sad"],  # the script does not lower truths
    "single4_no_split": [],
    "sent1_basic": [],
    "sent2_neutral_prediction": [],
    "sent3_case_and_space": [],
    "multi1_basic": [],
    "multi2_semicolon_case_unknown": ["doubt confusion"],
    "multi3_duplicates_and_sentence": ["The person looks neutral"],
}


@pytest.mark.parametrize(("case", "metric"), PUBLISHED, ids=[c["name"] for c, _ in PUBLISHED])
def test_both_readers(tmp_path, case, metric):
    rows = [{"video_id": str(i), **r} for i, r in enumerate(case["input"]["jsonl"])]
    path = jsonl(tmp_path / "preds.jsonl", *rows)
    options = ScoringOptions(
        tables=builtin_tables(), resamples=0, metric=metric, mode=case["input"].get("split") or ""
    )
    results, scored = score_predictions(None, read_files(path), options)
    want = case["output"].get("weighted_f1", case["output"].get("f1_micro"))
    score = results["readers"]["official_score"]
    assert score["released_reader"] == pytest.approx(want, abs=1e-9)
    differences = next(iter(scored.values())).differences
    assert [d.row.final_response for d in differences] == READ_OTHERWISE[case["name"]]
    assert results["readers"]["differ"] == len(differences)
    write_reader_differences(tmp_path, scored)
    listed = tmp_path / "reader_differences.csv"
    assert listed.is_file() == bool(differences)

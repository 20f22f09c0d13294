"""Predictions of other systems: every format; faults name file, row and field."""

import dataclasses
import json

import numpy as np
import pytest
from prediction_rows import jsonl, row

from emojax.evaluate.prediction_files import read_predictions, read_references, read_truth
from emojax.evaluate.predictions import Prediction, PredictionError, parse_prediction
from emojax.types import Answer


def test_rows_of_emotion_llama_v2(tmp_path):
    path = jsonl(
        tmp_path / "p.jsonl",
        row("a", new_response="sad", extra=1),
        {"name": "b", "response": ["x", "y"]},
    )
    a, b = read_predictions(path)
    assert (a.clip, a.answer, a.response, a.final_response, a.mode) == (
        "a",
        "happy",
        "happy",
        "sad",
        "test",
    )
    assert (b.clip, b.response, b.final_response) == ("b", "x, y", "x, y")
    assert parse_prediction(json.loads(a.to_json())) == a
    (tmp_path / "list.json").write_text(json.dumps([row("a"), row("b")]))
    assert len(read_predictions(tmp_path / "list.json")) == 2


def test_every_field_survives_a_file():
    full = Prediction(
        clip="c",
        answer="happy",
        response="sad",
        mode="test",
        set="caer",
        new_response="sad.",
        probabilities={"happy": 0.25, "sad": 0.75},
        speaker="s",
        video="v",
        modalities=("video",),
        duration=1.5,
        language="en",
        path="/p.mp4",
        start=1.0,
        end=2.5,
        subtitle="words",
        reason="because",
        valence=0.1,
        valence_answer=0.2,
        error="refused: x",
    )
    assert all(getattr(full, f.name) not in (f.default, None, "") for f in dataclasses.fields(full))
    assert parse_prediction(json.loads(full.to_json())) == full


def test_npz_of_affectgpt(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        name2reason=np.array({"c1": "she smiles", "c2": "he frowns"}, dtype=object),
    )
    assert [(r.clip, r.response) for r in read_predictions(tmp_path / "a.npz")] == [
        ("c1", "she smiles"),
        ("c2", "he frowns"),
    ]
    np.savez(
        tmp_path / "b.npz",
        filenames=np.array(["c1", "c2"]),
        fileitems=np.array(["[happy, sad]", "[]"]),
    )
    assert [r.response for r in read_predictions(tmp_path / "b.npz")] == ["[happy, sad]", "[]"]
    lists = np.empty(2, dtype=object)
    lists[:] = [["happy", "sad"], ["calm"]]
    np.savez(tmp_path / "c.npz", filenames=np.array(["c1", "c2"]), fileitems=lists)
    assert [r.response for r in read_predictions(tmp_path / "c.npz")] == ["happy, sad", "calm"]
    np.savez(tmp_path / "d.npz", other=np.array([1]))
    with pytest.raises(PredictionError, match="contains other; expected 'name2reason'"):
        read_predictions(tmp_path / "d.npz")


def test_csv_of_emer(tmp_path):
    (tmp_path / "e.csv").write_text("names,chi_reasons\nsample_1,she smiles\n")
    assert read_predictions(tmp_path / "e.csv") == [
        Prediction(clip="sample_1", response="she smiles")
    ]
    (tmp_path / "f.csv").write_text("who,what\na,b\n")
    with pytest.raises(PredictionError, match="has the columns who, what: none is known as"):
        read_predictions(tmp_path / "f.csv")


WRONG = "a,happy,sad\nb,sad,happy\nc,happy,happy\n"  # clip, truth, prediction


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("name,label,pred", {}),
        ("video_id,y_true,y_pred", {}),
        ("File Name,Emotion,Predicted Emotion", {}),
        ("clip,ground_truth,model_output", {}),
        ("id,answer,prediction", {}),
        ("who,gold_standard,mine", {"clip": "who", "response": "mine", "answer": "gold_standard"}),
        ("name,label,answer", {"response": "answer", "answer": "label"}),
    ],
)
def test_columns_of_any_name(tmp_path, header, columns):
    expected = [("a", "happy", "sad"), ("b", "sad", "happy"), ("c", "happy", "happy")]
    for suffix, mark in ((".csv", ","), (".csv", ";"), (".tsv", "\t")):
        path = tmp_path / f"p{suffix}"
        path.write_text(f"{header}\n{WRONG}".replace(",", mark))
        rows = read_predictions(path, columns=columns)
        assert [(r.clip, r.answer, r.response) for r in rows] == expected
    names = header.split(",")
    lines = [dict(zip(names, line.split(","), strict=True)) for line in WRONG.split()]
    rows = read_predictions(jsonl(tmp_path / "p.jsonl", *lines), columns=columns)
    assert [(r.clip, r.answer, r.response) for r in rows] == expected


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("name,label,mine", "'label' may hold the truth, so it is not read as the response"),
        ("name,answer,reason2", "--columns clip=name,response=reason2,answer=answer"),
        ("name,answer,label", "'answer' may hold the truth"),
        ("who,label,pred", "none is known as the clip"),
        ("name,response,prediction", "response and prediction may each hold the response; name"),
    ],
)
def test_the_truth_is_never_the_response(tmp_path, header, fault):
    (tmp_path / "p.csv").write_text(f"{header}\n{WRONG}")
    with pytest.raises(PredictionError, match=fault):
        read_predictions(tmp_path / "p.csv")


def test_a_reason_is_no_response_beside_a_prediction(tmp_path):
    (tmp_path / "p.csv").write_text("video_id,answer,reason,pred\na,sad,looks happy,sad\n")
    assert read_predictions(tmp_path / "p.csv") == [
        Prediction(clip="a", answer="sad", response="sad", reason="looks happy")
    ]
    with pytest.raises(PredictionError, match="there is no column 'nope' among video_id, answer"):
        read_predictions(tmp_path / "p.csv", columns={"response": "nope"})
    with pytest.raises(
        PredictionError, match="no field of predictions 'clpi'; did you mean 'clip'"
    ):
        read_predictions(tmp_path / "p.csv", columns={"clpi": "pred"})


def test_answers_of_predict(tmp_path):
    answer = Answer(
        path="films/a.mp4",
        label="happy",
        probabilities={"happy": 0.75, "sad": 0.25},
        reason="she looks sad at first",
        modalities=("video", "audio"),
        seconds=1.0,
        duration=2.5,
    )
    refused = dataclasses.replace(
        answer, path="films/b.mp4", label=None, probabilities={}, error="the file is empty"
    )
    path = jsonl(tmp_path / "p.jsonl", answer.to_json(), refused.to_json())
    first, second = read_predictions(path, truth={"a": "sad", "b": "happy"})
    assert first == Prediction(
        clip="a",
        answer="sad",
        response="happy",
        probabilities={"happy": 0.75, "sad": 0.25},
        reason="she looks sad at first",
        modalities=("video", "audio"),
        duration=2.5,
        path="films/a.mp4",
    )
    assert (second.response, second.error) == ("", "refused: the file is empty")
    gold = jsonl(tmp_path / "g.jsonl", answer.to_json() | {"gold": "sad"})
    assert read_predictions(gold, columns={"answer": "gold"})[0].answer == "sad"


def test_truths_are_found_by_file_name(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("file,pred\nx/a.mp4,sad\ny/b.mp4,happy\n")
    for truth in ({"a": "sad", "b": "sad"}, {"z/a.mp4": "sad", "z/b.mp4": "sad"}):
        assert [r.answer for r in read_predictions(path, truth=truth)] == ["sad", "sad"]
    path.write_text("file,pred\nx/a.mp4,sad\ny/a.mp4,happy\n")
    with pytest.raises(PredictionError, match="no clip in common"):
        read_predictions(path, truth={"a": "sad"})


def test_objects_of_responses_by_clip(tmp_path):
    path = tmp_path / "p.json"
    for value in (
        {"a": "sad", "b": "happy"},
        {"a": {"response": "sad"}, "b": {"response": "happy"}},
        {"model": "m", "results": [{"id": "a", "pred": "sad"}, {"id": "b", "pred": "happy"}]},
    ):
        path.write_text(json.dumps(value, indent=1))
        assert [(r.clip, r.response) for r in read_predictions(path)] == [
            ("a", "sad"),
            ("b", "happy"),
        ]


def test_truth_from_elsewhere(tmp_path):
    np.savez(tmp_path / "gt.npz", a=np.array("happy"), b=np.array("sad"))
    (tmp_path / "gt.csv").write_text("name,openset\na,\"['happy']\"\n")
    jsonl(tmp_path / "gt.jsonl", row("a"))
    assert read_truth(tmp_path / "gt.npz") == {"a": "happy", "b": "sad"}
    assert read_truth(tmp_path / "gt.csv") == {"a": "['happy']"}
    assert read_truth(tmp_path / "gt.jsonl") == {"a": "happy"}
    path = jsonl(
        tmp_path / "p.jsonl", {"video_id": "a", "response": "x"}, {"video_id": "z", "response": "y"}
    )
    assert [r.answer for r in read_predictions(path, truth={"a": "happy"})] == ["happy"]
    absent = read_predictions(path, truth={"a": "happy", "b": "sad"})[1]
    assert (absent.clip, absent.answer, absent.response) == ("b", "sad", "")
    assert absent.error.startswith("no prediction")
    with pytest.raises(PredictionError, match="no clip in common"):
        read_predictions(path, truth={"q": "happy"})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"video_id": "a"}', "row 1: has the columns video_id: none is known as the response"),
        ('{"video_id": "a", "response": "x"}\n{broken', "line 2: not valid JSON"),
        (
            '{"video_id": "a", "response": "x"}\n{"video_id": "a", "response": "y"}',
            "clip 'a' occurs twice .rows 1 and 2",
        ),
        (
            '{"video_id": "a", "response": "x", "duration": "long"}',
            "row 1: duration is 'long', needs a number",
        ),
        (
            '{"video_id": "a", "response": "x", "probabilities": {"a": -1}}',
            "row 1: 'probabilities' add up to -1",
        ),
        (
            '{"video_id": "a", "response": "x", "probabilities": [1]}',
            "needs an object of label: number",
        ),
        ('{"video_id": "a", "response": {"x": 1}}', "row 1: 'response' is .*needs text"),
        ("[1]", "row 1: needs a JSON object"),
        ("", "contains no prediction"),
    ],
)
def test_faults_of_rows(tmp_path, text, fault):
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(PredictionError, match=fault):
        read_predictions(tmp_path / "p.jsonl")


def test_faults_of_files(tmp_path):
    for name, fault in (
        ("none.jsonl", "there is no predictions file"),
        ("p.xlsx", "are read from .jsonl"),
    ):
        (tmp_path / "p.xlsx").write_bytes(b"x")
        with pytest.raises(PredictionError, match=fault):
            read_predictions(tmp_path / name)
    for name, fault in (
        ("l.jsonl", "l.jsonl is not UTF-8"),
        ("l.csv", "l.csv is not a CSV file in UTF-8"),
        ("l.npz", "l.npz: "),
    ):
        (tmp_path / name).write_bytes(b"\xff\xfe")
        for read in (read_predictions, read_truth, read_references):
            if (read, name) != (read_references, "l.npz"):
                with pytest.raises(PredictionError, match=fault):
                    read(tmp_path / name)


def test_a_table_without_reference_texts_is_told_the_names_of_columns(tmp_path):
    (tmp_path / "r.csv").write_text("path,label\na.mp4,sad\n")
    with pytest.raises(PredictionError, match="path, label; it needs .*.reference, "):
        read_references(tmp_path / "r.csv")

"""Places where a released model's result depends on a detail of its official programs."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest
from dataset_layouts import merged, one_file, read_one, write_fixture
from random_model import random_bundle

from data_pipeline.loader.tokens import LlamaTokenizer, make_row
from emojax.evaluate.emotion_wheels import builtin_tables
from emojax.evaluate.prediction_files import read_predictions
from emojax.evaluate.predictions import PredictionError
from emojax.evaluate.scorer import score_set
from emojax.infer.sample import Sampler, next_tokens

EOS = 2
KEYS = jax.random.split(jax.random.key(0), 1)


def chosen(logits: list[float], ids: tuple[int, ...] = (), **options: float) -> int:
    """The token that is chosen after the tokens `ids`."""
    padded = jnp.array([[*ids, *[EOS] * (4 - len(ids))]])
    length = jnp.array([len(ids)])
    sampler = Sampler(max_tokens=4, **options)
    out = next_tokens(jnp.array([logits]), length, KEYS, ids=padded, sampler=sampler, eos=EOS)
    return int(out[0])


def test_an_answer_may_be_empty():
    """`min_length=1` of the official runs counts the BOS token, so it forbids nothing."""
    assert chosen([0.0, 1.0, 2.0, 1.5]) == EOS
    assert chosen([0.0, 1.0, 2.0, 1.5], min_tokens=1) == 3
    assert chosen([0.0, 1.0, 2.0, 1.5], ids=(3,), min_tokens=1) == EOS


def test_repetition_penalty_of_transformers():
    """Positive logits of tokens in the answer are divided by it, negative ones multiplied."""
    assert chosen([1.9, 2.0, -9.0, 1.0], ids=(1,)) == 1
    assert chosen([1.9, 2.0, -9.0, 1.0], ids=(1,), repetition_penalty=1.05) == 1  # 1.9048
    assert chosen([1.91, 2.0, -9.0, 1.0], ids=(1,), repetition_penalty=1.05) == 0
    assert chosen([-2.0, -1.9, -9.0, -8.0], ids=(1,), repetition_penalty=1.1) == 0  # -2.09
    assert chosen([1.9, 2.0, -9.0, 1.0], ids=(3,), repetition_penalty=2.0) == 1
    # Places after the end of the answer are filled up with the end token, which is no repetition.
    assert chosen([1.9, 1.0, 2.0, 1.0], ids=(1,), repetition_penalty=2.0) == EOS


@pytest.mark.parametrize(
    ("style", "layout", "tokens"),
    [("perception", "released_eval", 200), ("v1", "released_eval", 500), ("v1", "train", 900)],
)
def test_answers_end_with_those_of_the_official_runs(style, layout, tokens):
    bundle = random_bundle()
    data = dataclasses.replace(bundle.settings.data, layout=layout, max_answer=900)
    settings = dataclasses.replace(bundle.settings, data=data)
    assert dataclasses.replace(bundle, settings=settings, style=style).answer_tokens == tokens


@pytest.mark.parametrize(
    ("cell", "subtitle"),
    [
        (" Excuse  me. ", " Excuse  me. "),
        ("two\nlines", "two\nlines"),
        ("N/A", ""),
        ("None", ""),
        ("null", ""),
        ("", ""),
        ("none", "none"),
        ("nan, she said", "nan, she said"),
    ],
)
def test_subtitles_are_read_as_pandas_reads_them(tmp_path, cell, subtitle):
    text = merged("session,text,official_label", f'Ses01F_impro01_M000,Session1,"{cell}",Excited')
    first = ("Ses01F_impro01_M000", "train", "Excited")
    fixture = one_file(
        "iemocap", "IEMOCAP/IEMOCAP_merged.csv", text, clip="-", first=first, malformed=("", "", "")
    )
    contents, _ = read_one(write_fixture(fixture, tmp_path, None), "iemocap")
    assert [r.subtitle for r in contents.records] == [subtitle]


def test_the_legacy_flag_of_the_tokenizer_is_read(real_data, tmp_path):
    """Ids of `[INST]` after <s>: with its leading space 518, without it 29961."""
    model = tmp_path / "tokenizer.model"
    model.write_bytes((real_data / "tokenizer" / "llama2" / "tokenizer.model").read_bytes())

    def first_id(**options: bool) -> int:
        tokenizer = LlamaTokenizer(model, **options)
        row = make_row(tokenizer, "<s>[INST] <VideoHere>", None, [("<VideoHere>", 4)], special=True)
        return row.ids[2]

    assert first_id() == 518  # as transformers without a configuration
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"legacy": False}))
    assert first_id() == 29961
    assert first_id(legacy=True) == 518


def test_one_video_of_e3_has_several_rows(tmp_path):
    """The official script compares row by row: 2 of 3 are right."""
    rows = [
        {"video_id": "v", "mode": "test", "answer": a, "response": r}
        for a, r in (("happy", "happy"), ("sad", "shy"), ("shy", "shy"))
    ]
    text = "\n".join(map(json.dumps, rows))
    (tmp_path / "e3.jsonl").write_text(text)
    read = read_predictions(tmp_path / "e3.jsonl")
    assert [r.clip for r in read] == ["v", "v#2", "v#3"]
    scored = score_set(read, "single", builtin_tables(), resamples=0)
    assert scored.result["released"]["accuracy"] == pytest.approx(2 / 3)
    (tmp_path / "dfew.jsonl").write_text(text)
    with pytest.raises(PredictionError, match="clip 'v' occurs twice"):
        read_predictions(tmp_path / "dfew.jsonl")


def test_a_truth_without_prediction_has_no_official_score(tmp_path):
    """The official script stops at it; strict scores count it as wrong."""
    row = {"video_id": "a", "mode": "test1", "response": "happy"}
    (tmp_path / "mer2023.jsonl").write_text(json.dumps(row))
    read = read_predictions(tmp_path / "mer2023.jsonl", truth={"a": "happy", "b": "sad"})
    result = score_set(read, "hit_rate", builtin_tables(), resamples=20).result
    assert result["n"] == 2 and result["accuracy"] == 0.5 and result["without_prediction"] == 1
    assert result["released"]["hit_rate"] is None
    assert "such as 'b'" in result["released"]["note"]

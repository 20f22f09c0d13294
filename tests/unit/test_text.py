"""Tokens, prompts, answers, rows: equal to those of the original (v2_misc_examples.json)."""

import numpy as np
import pytest

from data_pipeline.datasets.labels import normalize_answer
from data_pipeline.loader import prompts
from data_pipeline.loader.tokens import (
    IGNORE,
    LlamaTokenizer,
    Row,
    SmallTokenizer,
    collate_rows,
    make_row,
)

SUBTITLE, QUESTION = "hello there.", "Which?"


def test_normaliser(misc_examples):
    for case in misc_examples["answer_normaliser"]:
        assert normalize_answer(case["input"]) == case["output"], case


def test_normaliser_cuts_at_200_words(misc_examples):
    case = misc_examples["answer_normaliser_truncation"]
    words = " ".join(f"w{i}" for i in range(199))
    out = normalize_answer(f"<think>{words} e.g.</think><answer>happy</answer>")
    assert len(out.split(" ")) == case["output_word_count"] and out.endswith(case["output_tail"])


def test_prompt_strings(misc_examples):
    want = misc_examples["prompt_strings_for_subtitle_[hello there.]_question_[Which?]"]
    got = {
        "train_stage1_emotion": prompts.train_prompt(SUBTITLE, "emotion", QUESTION, "perception"),
        "train_stage2_emotion": prompts.train_prompt(SUBTITLE, "emotion", QUESTION, "cognition"),
        "train_e3_think_person_Tom_both_stages": prompts.train_prompt(
            SUBTITLE, "think", QUESTION, "cognition", person="Tom"
        ),
        "eval_mer2023_mer2024": prompts.released_eval_prompt(
            SUBTITLE, "emotion", QUESTION, dataset="mer2023"
        ),
        "eval_other_16": prompts.released_eval_prompt(SUBTITLE, "emotion", QUESTION),
        "eval_ov_merd+": prompts.released_eval_prompt(
            SUBTITLE, "multi-label", QUESTION, dataset="ov_merd+"
        ),
    }
    assert got == {k: want[k] for k in got}
    chat = misc_examples["conversation_prompts"]
    assert prompts.conversation_prompt([("[emotion] What emotion?", None)]) == chat["single_turn"]
    turns = [("[emotion] What emotion?", "happy"), ("Why?", None)]
    assert prompts.conversation_prompt(turns) == chat["two_turns"]


@pytest.fixture(scope="module")
def llama_tokenizer(real_data):
    return LlamaTokenizer(real_data / "tokenizer" / "llama2" / "tokenizer.model")


@pytest.mark.parametrize("legacy", [True, False])
def test_llama_token_ids(misc_examples, llama_tokenizer, legacy):
    want = misc_examples["token_ids"][f"legacy_{str(legacy).lower()}"]
    strings = misc_examples["prompt_strings_for_subtitle_[hello there.]_question_[Which?]"]
    for key, text in (
        ("train_stage1", "train_stage1_emotion"),
        ("train_stage2", "train_stage2_emotion"),
    ):
        before, after = strings[text].split("<VideoHere>")
        assert [llama_tokenizer.encode(before), llama_tokenizer.encode(after)] == list(
            want[key].values()
        )
    for key, text in (
        ("eval_common", strings["eval_other_16"]),
        ("eval_mer2023_and_mer2024", strings["eval_mer2023_mer2024"]),
        ("inference_or_demo", misc_examples["conversation_prompts"]["single_turn"]),
    ):
        row = make_row(
            llama_tokenizer, text, None, [("<VideoHere>", 4)], special=True, legacy=legacy
        )
        start = row.soft[0][0]
        assert [row.ids[:start], row.ids[start + 4 :]] == list(want[key].values()), key
    for answer in ("happy", "<think>he smiles</think><answer>happy</answer>"):
        assert [*llama_tokenizer.encode(answer), 2] == want[f"answer {answer}</s>"]
    assert (
        llama_tokenizer.pad_id
        == misc_examples["token_ids"]["pad_id"]
        == llama_tokenizer.encode("a$$")[-1]
    )


def test_label_layout(misc_examples):
    """The example of the official code: prompts of 479 and 481 without BOS, answers of 2 and 5."""
    case = misc_examples["label_layout"]
    rows = []
    for length, target in zip(case["cond_lengths_without_bos"], case["targets"], strict=True):
        answer = [t for t in target if t != IGNORE]
        rows.append(Row([1] + [7] * length + answer, ((8, 448),), 1 + length))
    out = collate_rows(rows, 3997, [(case["total_length"], 5)])
    assert out["labels"].tolist() == case["targets"]
    assert out["valid"][0].sum() == 482 and out["valid"][1].sum() == 487
    # logits at 479 (the last prompt position) predict the answer's first token at 480
    assert out["answer_at"][0, :2].tolist() == [479, 480]
    assert (
        out["soft_index"][0, 8:456].tolist() == list(range(448))
        and (out["soft_index"][0, 456:] == -1).all()
    )
    assert out["positions"][0].tolist() == list(range(487))


def test_soft_tokens_of_two_placeholders_are_counted_on():
    out = collate_rows([Row([1, 0, 0, 5, 0, 6, 9], ((1, 2), (4, 1)), 6)], 3, [(8, 2)])
    assert out["soft_index"][0].tolist() == [-1, 0, 1, -1, 2, -1, -1, -1]
    assert out["valid"][0].tolist() == [True] * 7 + [False]


def test_padding_id_inside_an_answer_is_not_a_label():
    out = collate_rows([Row([1, 5, 9, 3997, 2], ((1, 1),), 2)], 3997, [(8, 4)])
    assert out["labels"][0].tolist() == [9, IGNORE, 2, IGNORE]


def test_the_error_for_too_long_text_names_the_setting():
    with pytest.raises(ValueError, match="config.data.buckets"):
        collate_rows([Row([1] * 9, ((1, 1),), 2)], 3, [(8, 16)])
    with pytest.raises(ValueError, match="<VideoHere> once"):
        make_row(SmallTokenizer.train(["a"], 300), "no place", None, [("<VideoHere>", 4)])


def test_small_tokenizer_keeps_every_text():
    tokenizer = SmallTokenizer.train(
        ["the picture shows lowered brows", "<think>the sound</think>"], 400
    )
    again = SmallTokenizer(tokenizer.to_text())
    for text in (
        "the picture shows the sound",
        "<think>a</think><answer>b</answer>",
        "ünï 日本 🙂",
        "a, b and c",
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert again.encode(text) == tokenizer.encode(text)
    row = make_row(
        tokenizer, "[INST] <Vid><VideoHere></Vid> x [/INST]", "happy", [("<VideoHere>", 4)]
    )
    assert (
        row.ids[0] == 1
        and row.ids[-1] == 2
        and row.ids[row.soft[0][0] : row.soft[0][0] + 4] == [0] * 4
    )
    assert tokenizer.decode(row.ids[row.prompt :]) == "happy"
    assert max(np.max(tokenizer.encode("the picture")), 3) < tokenizer.vocab_size <= 400

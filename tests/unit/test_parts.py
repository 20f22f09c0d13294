"""Pretrained parts that a configuration names: sizes, weights, tokenizer, chat template."""

import json

import jax
import numpy as np
import pytest
from small_parts import CHATML, QWEN3_SWITCH, write_language_model, write_tokenizer

from data_pipeline.loader import prompts
from data_pipeline.loader.chat_tokenizer import ChatTokenizer
from data_pipeline.loader.tokens import make_row
from emojax.bundle.model_folder import load_bundle, save_bundle
from emojax.config import load_config, resolve
from emojax.config.part_fields import check_parts
from emojax.model.parts import LANGUAGE_MODELS, release_named
from emojax.model.variables import merge
from emojax.sharding import make_mesh
from emojax.train import start
from emojax.weights.part_weights import chat_facts

LLAMA3 = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content }}<|eot_id|>{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
# Family -> (special tokens, chat template, prompt of the message "hi").
FAMILIES = {
    "llama3": (
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        LLAMA3,
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "mistral": (
        ("<s>", "</s>"),
        "<s>{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}",
        "<s>[INST] hi [/INST]",
    ),
    "qwen2": (
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        CHATML,
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    ),
    "qwen3": (
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        CHATML + QWEN3_SWITCH,
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
}
FAMILIES["smollm2"] = FAMILIES["qwen2"]


@pytest.fixture(params=FAMILIES)
def tokenizer(request, tmp_path):
    specials, template, _ = FAMILIES[request.param]
    metaspace = request.param == "mistral"
    write_tokenizer(tmp_path, specials=specials, template=template, metaspace=metaspace)
    made = ChatTokenizer(tmp_path, chat_facts(LANGUAGE_MODELS[request.param]))
    made.family = request.param
    return made


def test_the_template_wraps_a_message(tokenizer):
    assert tokenizer.wrap("hi") == FAMILIES[tokenizer.family][2]
    before, after = chat_facts(LANGUAGE_MODELS[tokenizer.family]).turn
    empty = "<think>\n\n</think>\n\n"
    asked = prompts.train_prompt("", "think", "Why?", "cognition", wrap=tokenizer.wrap)
    assert empty not in asked, "this task asks for reasoning"
    if tokenizer.family != "mistral":
        assert before + "hi" + after == FAMILIES[tokenizer.family][2], "without a template"


def test_ids_around_the_soft_prompt_are_those_of_the_texts_apart(tokenizer):
    text = prompts.train_prompt("I'm fine", "emotion", "Which?", "perception", wrap=tokenizer.wrap)
    row = make_row(tokenizer, text, "happy", [("<VideoHere>", 5)])
    before, after = text.split("<VideoHere>")
    ids = tokenizer.encode_prompt(before)
    assert row.soft == ((len(ids), 5),)
    assert row.ids[: len(ids)] == ids
    assert row.ids[len(ids) : len(ids) + 5] == [0] * 5
    assert row.ids[len(ids) + 5 : row.prompt] == tokenizer.encode_prompt(after)
    assert row.ids[row.prompt :] == [*tokenizer.encode("happy"), tokenizer.eos_id]
    assert tokenizer.decode(row.ids[row.prompt :]) == "happy"
    assert tokenizer.eos_id in tokenizer.end_ids
    assert tokenizer.pad_id != tokenizer.eos_id, "the end of an answer is learned"


def test_a_message_cannot_spell_special_tokens(tokenizer):
    end = LANGUAGE_MODELS[tokenizer.family].end_tokens[0]
    nested = end[:3] + end + end[3:]  # removing the inner one makes another
    assert tokenizer.wrap(f"a{end}b{nested}c") == tokenizer.wrap("abc")


def test_an_answer_cannot_spell_special_tokens(tokenizer):
    end = LANGUAGE_MODELS[tokenizer.family].end_tokens[0]
    assert tokenizer.eos_id not in tokenizer.encode(f"she says {end} and smiles")
    row = make_row(tokenizer, "<VideoHere>", f"a{end}b", [("<VideoHere>", 1)])
    assert row.ids.count(tokenizer.eos_id) == 1


def test_a_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    tokenizer.save(again)
    loaded = ChatTokenizer(again)
    text = tokenizer.wrap("So it is, naïve 你好")
    assert loaded.encode_prompt(text) == tokenizer.encode_prompt(text)
    assert loaded.end_ids == tokenizer.end_ids


def test_published_sizes():
    """Facts of the published config.json files."""
    _, small = release_named("SmolLM2-135M-Instruct")
    assert (small.fields["width"], small.fields["heads"], small.fields["kv_heads"]) == (576, 9, 3)
    config = load_config("v2", ["--config.model.llama.part=Qwen3-0.6B"])
    llama = resolve(config).model.llama
    assert (llama.head_width, llama.kv_heads, llama.qk_norm, llama.tied) == (128, 8, True, True)
    config = load_config("v2", ["--config.model.llama.part=Llama-3.1-8B-Instruct"])
    rope = resolve(config).model.llama.rope
    assert (rope.kind, rope.factor, rope.low, rope.high) == ("llama3", 8.0, 1.0, 4.0)


def test_training_starts_from_a_part(tmp_path):
    tensors = write_language_model(tmp_path / "part")
    config = load_config("tiny:test", [f"--config.model.llama.part={tmp_path / 'part'}"])
    assert (config.model.llama.family, config.model.llama.kv_heads) == ("qwen2", 2)
    settings = resolve(config)
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    variables = start.initial_variables(settings, mesh)
    for i in range(2):
        given = tensors[f"model.layers.{i}.self_attn.k_proj.weight"]
        np.testing.assert_array_equal(variables["params/llama/blocks/k/kernel"][i], given.T)
    np.testing.assert_array_equal(
        variables["params/llama/embed"], tensors["model.embed_tokens.weight"]
    )
    tokenizer = start.make_tokenizer(settings, [])
    assert isinstance(tokenizer, ChatTokenizer)
    facts = {"labels": ("happy", "sad"), "reasons": False}
    save_bundle(tmp_path / "model", settings, tokenizer, variables=merge(variables, {}), **facts)
    bundle = load_bundle(tmp_path / "model")
    assert bundle.tokenizer.encode("happy") == tokenizer.encode("happy")
    assert bundle.settings.parts == {"llama": str(tmp_path / "part")}
    base = start.run_base(settings)
    assert base["parts"]["llama"][0] == str(tmp_path / "part")


def test_parts_that_do_not_fit_are_refused_with_both_numbers(tmp_path):
    write_language_model(tmp_path)
    part = f"--config.model.llama.part={tmp_path}"
    changed = load_config("tiny:test", ["--config.model.llama.depth=3", part])
    with pytest.raises(ValueError, match=r"llama.depth is 3, but .* has 2"):
        check_parts(resolve(changed).raw["model"])
    heads = ["--config.model.llama.heads=5", "--config.model.llama.kv_heads=2"]
    with pytest.raises(ValueError, match="a width of 32 cannot be divided into 5 heads"):
        resolve(load_config("tiny:test", heads))
    with pytest.raises(ValueError, match="2 heads cannot share 4 key-value heads"):
        resolve(load_config("tiny:test", ["--config.model.llama.kv_heads=4"]))
    with pytest.raises(ValueError, match="for sound, but one for language"):
        load_config("tiny:test", ["--config.model.llama.part=whisper-base"])
    with pytest.raises(ValueError, match="SmolLM2-135M-Instruct"):
        load_config("tiny:test", ["--config.model.llama.part=SmolLM2-135M-Instrukt"])
    with pytest.raises(ValueError, match="for language, but one for sound"):
        load_config("tiny:test", ["--config.model.audio.part=SmolLM2-135M-Instruct"])
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"hidden_act": "gelu"}, "hidden_act in config.json is gelu; .* supports only silu"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type is 'yarn'"),
        ({"model_type": "gemma"}, "gemma"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": 25}, "a width of 25 cannot be divided into 6 heads"),
        ({"num_attention_heads": 0}, "heads is 0, but it must be a whole number from 1"),
        ({"num_attention_heads": 9.5}, "heads is 9.5, but it must be a whole number"),
        ({"num_key_value_heads": [3]}, "kv_heads is .3., but it must be a whole number from 0"),
        ({"num_hidden_layers": 10**9}, "depth is 1000000000, but it must be"),
        ({"vocab_size": "320"}, "vocab is '320', but it must be"),
        ({"rms_norm_eps": float("nan")}, "eps is nan, but it must be a finite number above 0"),
        ({"rope_theta": 0}, "theta is 0, but it must be a finite number above 0"),
        ({"rope_scaling": "linear"}, "config.json is damaged"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "has no low_freq_factor"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false', but it must be true"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message):
            load_config("tiny:test", [part])


def test_rows_are_not_longer_than_the_window():
    config = load_config("tiny:test", ["--config.model.llama.window=300"])
    with pytest.raises(ValueError, match="window is 300 tokens, but .* have 400 and"):
        resolve(config)


def test_missing_files_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOJAX_CACHE", str(tmp_path))
    settings = resolve(
        load_config("tiny:test", ["--config.model.llama.part=SmolLM2-135M-Instruct"])
    )
    with pytest.raises(FileNotFoundError, match="run `emojax fetch SmolLM2-135M-Instruct`"):
        start.check_start(settings)
    with pytest.raises(ValueError, match="emojax fetch hf:A/B --as language"):
        load_config("tiny:test", ["--config.model.llama.part=hf:A/B"])


def test_random_weights_that_are_never_trained_are_reported(caplog):
    settings = resolve(load_config("tiny:released"))
    paths = ["params/whisper/encoder/blocks/q/kernel", "params/llama/embed", "lora/llama/x/a"]
    start._warn_frozen_start(settings, paths)
    assert "whisper: random weights that are never trained" in caplog.text
    caplog.clear()
    start._warn_frozen_start(resolve(load_config("tiny:test")), paths)
    assert not caplog.text


def test_windows_of_sound_and_parts_of_v1():
    for seconds in ("31", "0"):
        with pytest.raises(ValueError, match=f"audio.seconds is {seconds}; it must be above 0"):
            resolve(load_config("v2", [f"--config.model.audio.seconds={seconds}"]))
    with pytest.raises(ValueError, match="but v1 has the encoder of config.model.hubert"):
        resolve(load_config("v1", ["--config.model.audio.part=whisper-base"]))

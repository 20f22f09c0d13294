"""GGUF: names, values, order of rows, sizes, tokenizer; damaged files are refused at once."""

import struct
import tracemalloc

import numpy as np
import pytest
from gguf_writer import HEAD, HEADS, KV_HEADS, LAYERS, VOCAB, WIDTH, tensors, write_gguf

from emojax.config.part_fields import read_part
from emojax.formats.gguf_config import gguf_config, write_tokenizer
from emojax.formats.gguf_files import open_gguf
from emojax.weights.tensor_files import open_tensors


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_tensors_come_back_under_the_names_of_transformers(tmp_path, architecture):
    values = tensors(architecture, tied=architecture == "qwen3")
    write_gguf(tmp_path / "m.gguf", architecture, values)
    readers = open_tensors(tmp_path)
    assert set(readers) == set(values)
    for name, value in values.items():
        np.testing.assert_array_equal(readers[name](), value, err_msg=name)


def test_attention_of_interleaved_rows_equals_that_of_the_rows_that_are_read(tmp_path):
    """The scores of llama.cpp's RoPE on the stored rows: an oracle that permutes nothing."""
    write_gguf(tmp_path / "m.gguf", "llama", tensors("llama"))
    stored, readers = open_gguf(tmp_path / "m.gguf").tensors, open_tensors(tmp_path / "m.gguf")
    x = np.random.default_rng(1).standard_normal((5, WIDTH))
    angle = np.arange(5)[:, None] * 10_000.0 ** -(np.arange(HEAD // 2) / (HEAD // 2))
    turn = np.exp(1j * angle)[:, None]

    def scores(q, k, pairs):
        q, k = (pairs(x @ w.T, n) * turn for w, n in ((q, HEADS), (k, KV_HEADS)))
        k = np.repeat(k, HEADS // KV_HEADS, axis=1)
        return np.einsum("qnc,knc->nqk", q, k.conj()).real

    def neighbours(y, heads):
        y = y.reshape(5, heads, HEAD // 2, 2)
        return y[..., 0] + 1j * y[..., 1]

    def halves(y, heads):
        y = y.reshape(5, heads, 2, HEAD // 2)
        return y[:, :, 0] + 1j * y[:, :, 1]

    ours = [readers[f"model.layers.0.self_attn.{p}_proj.weight"]() for p in "qk"]
    theirs = [stored[f"blk.0.attn_{p}.weight"].read() for p in "qk"]
    assert not np.array_equal(ours[1], theirs[1])
    np.testing.assert_allclose(scores(*ours, halves), scores(*theirs, neighbours), atol=1e-5)


@pytest.mark.parametrize(("stored", "bits"), [("F16", 11), ("BF16", 8), ("Q8_0", 7), ("Q4_1", 3)])
def test_stored_types_are_within_their_step(tmp_path, stored, bits):
    values = tensors("qwen2")
    write_gguf(tmp_path / "m.gguf", "qwen2", values, stored=stored)
    readers = open_tensors(tmp_path / "m.gguf")
    for name, value in values.items():
        read = readers[name]()
        assert read.dtype == np.float32 and read.shape == value.shape
        if value.ndim == 2:
            assert 0 < np.abs(read - value).max() <= 2 * np.abs(value).max() / 2**bits, name


def test_the_metadata_becomes_a_config(tmp_path):
    write_gguf(tmp_path / "m.gguf", "llama", tensors("llama"))
    found = gguf_config(tmp_path / "m.gguf")
    expected = {
        "model_type": "llama",
        "name": "small thing",
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-05,
        "rope_theta": 100_000.0,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "eos_token_id": 2,
    }
    assert {k: found[k] for k in expected} == expected
    untied = tensors("qwen3", tied=False)
    write_gguf(tmp_path / "n.gguf", "qwen3", untied, head=16)
    found = gguf_config(tmp_path / "n.gguf")
    assert not found["tie_word_embeddings"] and found["head_dim"] == 16


def test_a_folder_with_nothing_else_is_a_part(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", "qwen3", tensors("qwen3"), head=16)
    family, fields = read_part(str(tmp_path), "language")
    assert family.name == "qwen3" and fields["qk_norm"] and fields["tied"]
    assert (fields["width"], fields["kv_heads"], fields["head_width"]) == (WIDTH, KV_HEADS, 16)
    with pytest.raises(ValueError, match=r"m\.gguf is a file: name its folder"):
        read_part(str(path), "language")
    write_gguf(tmp_path / "n.gguf", "qwen3", tensors("qwen3"))
    with pytest.raises(ValueError, match="has 2 files with weights: leave one there"):
        read_part(str(tmp_path), "language")


def test_rope_scaling_is_read_or_refused(tmp_path):
    values = tensors("llama")
    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    path = write_gguf(tmp_path / "a.gguf", "llama", values, extra=linear)
    assert gguf_config(path)["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}
    path = write_gguf(
        tmp_path / "b.gguf", "llama", values, extra={"llama.rope.scaling.type": "yarn"}
    )
    with pytest.raises(ValueError, match="scales RoPE by 'yarn'; none, linear and llama3"):
        gguf_config(path)
    # theta 100,000, head 8: wavelengths 6.3, 111.7, 1987 and 35333; over 8192 all is slowed by 8,
    # under 2048 nothing.
    path = write_gguf(tmp_path / "c.gguf", "llama", values, rope=np.array([1, 1, 1, 8.0]))
    scaling = gguf_config(path)["rope_scaling"]
    assert scaling["rope_type"] == "llama3" and scaling["factor"] == 8.0
    assert scaling["original_max_position_embeddings"] == 8192
    assert "rope_freqs" not in " ".join(open_tensors(path))
    path = write_gguf(tmp_path / "d.gguf", "llama", values, rope=np.array([1, 2, 4, 8.0]))
    with pytest.raises(ValueError, match="by factors of its own"):
        gguf_config(path)


def test_the_tokenizer_is_one_of_transformers(tmp_path):
    from transformers import AutoTokenizer

    write_gguf(tmp_path / "m.gguf", "llama", tensors("llama"))
    write_tokenizer(tmp_path / "m.gguf", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = "the small  cat<|im_end|>é 1998"
    ids = tokenizer(text)["input_ids"]
    assert ids.count(2) == 1 and tokenizer.decode(ids) == text
    digits = tokenizer.convert_ids_to_tokens(ids)[-4:]
    assert digits == ["1", "9", "9", "8"], "this tokenizer splits numbers"
    turn = [{"role": "user", "content": "cat"}]
    assert tokenizer.apply_chat_template(turn, tokenize=False) == "<|im_start|>cat<|im_end|>"
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id) == (2, 1)


def test_damaged_files_are_refused_without_large_allocations(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", "llama", tensors("llama"))
    whole = path.read_bytes()
    lies = {
        f"cut at {n}": whole[:n] for n in (0, 3, 20, 100, 2000, len(whole) // 2, len(whole) - 40)
    }
    for at, what in ((8, "tensors"), (16, "entries of metadata"), (24, "bytes of a key")):
        lies[what] = whole[:at] + struct.pack("<Q", 1 << 60) + whole[at + 8 :]
    merges = whole.index(b"tokenizer.ggml.merges") + len("tokenizer.ggml.merges") + 8
    lies["merges"] = whole[:merges] + struct.pack("<Q", 1 << 40) + whole[merges + 8 :]
    types = whole.index(b"tokenizer.ggml.token_type") + len("tokenizer.ggml.token_type") + 8
    lies["token_type"] = whole[:types] + struct.pack("<Q", 1 << 62) + whole[types + 8 :]
    shape = whole.index(b"output_norm.weight") + len("output_norm.weight") + 4
    lies["output_norm.weight"] = whole[:shape] + struct.pack("<Q", 1 << 50) + whole[shape + 8 :]
    place = shape + 12
    lies["place"] = whole[:place] + struct.pack("<Q", (1 << 64) - 32) + whole[place + 8 :]
    for what, data in lies.items():
        path.write_bytes(data)
        tracemalloc.start()
        with pytest.raises(ValueError, match="damaged|truncated|empty|not a GGUF"):
            open_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 5e6, what
        tracemalloc.stop()


def test_what_is_not_supported_is_named(tmp_path):
    values = tensors("llama")
    path = write_gguf(tmp_path / "a.gguf", "falcon", values)
    with pytest.raises(ValueError, match="of the architecture 'falcon'; llama, qwen2, qwen3"):
        open_tensors(path)
    path = write_gguf(tmp_path / "b.gguf", "llama", values, extra={"split.count": 3})
    with pytest.raises(ValueError, match=r"one of 3 parts: join them with llama-gguf-split"):
        open_tensors(path)
    for key, value in (("attention.key_length", "8"), ("rope.scaling.factor", "4")):
        extra = {"llama.rope.scaling.type": "linear", f"llama.{key}": value}
        path = write_gguf(tmp_path / "d.gguf", "llama", values, extra=extra)
        with pytest.raises(ValueError, match=f"no (whole )?number .*in llama.{key}"):
            gguf_config(path)
    (tmp_path / "c.gguf").write_bytes(b"<html>" + bytes(100))
    with pytest.raises(ValueError, match="is not a GGUF file"):
        open_tensors(tmp_path / "c.gguf")

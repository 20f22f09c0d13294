"""Whisper in CTranslate2's layout: names, stacked projections, int8, special tokens; damage."""

import json
import struct

import numpy as np
import pytest
import whisper_release as release

from emojax.formats.part_config import part_config, part_generation
from emojax.infer.transcribe import open_transcriber
from emojax.weights.tensor_files import open_tensors

TYPES = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}
LAYER = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
STACKED = {
    "self_attention/linear_0": [f"self_attn.{p}_proj" for p in "qkv"],
    "attention/linear_1": [f"encoder_attn.{p}_proj" for p in "kv"],
}


def text(value: str) -> bytes:
    data = value.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def variable(name: str, x: np.ndarray) -> bytes:
    shape = struct.pack(f"<B{x.ndim}I", x.ndim, *x.shape)
    return text(name) + shape + struct.pack("<BI", TYPES[x.dtype.name], x.nbytes) + x.tobytes()


def whole_release(seed: int = 0) -> dict[str, np.ndarray]:
    """The decoder of whisper_release and an encoder, under the names of transformers."""
    draw = np.random.default_rng(seed + 1)
    make = lambda *shape: draw.standard_normal(shape).astype(np.float32)
    decoder = release.random_tensors(seed)
    mine = {n: x for n, x in decoder.items() if "encoder_attn" not in n and ".embed_" not in n}
    encoder = {n.replace("decoder", "encoder"): make(*x.shape) for n, x in mine.items()}
    width = release.WIDTH
    encoder["model.encoder.embed_positions.weight"] = make(20, width)
    for i, channels in ((1, 8), (2, width)):
        encoder[f"model.encoder.conv{i}.weight"] = make(width, channels, 3)
        encoder[f"model.encoder.conv{i}.bias"] = make(width)
    return decoder | encoder


def variables(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}

    def put(name: str, stem: str) -> None:
        normal = "norm" in name
        out[f"{name}/{'gamma' if normal else 'weight'}"] = tensors[f"{stem}.weight"]
        out[f"{name}/{'beta' if normal else 'bias'}"] = tensors[f"{stem}.bias"]

    for half in ("encoder", "decoder"):
        out[f"{half}/num_heads"] = np.int16(release.HEADS)
        positions = tensors[f"model.{half}.embed_positions.weight"]
        out[f"{half}/position_encodings/encodings"] = positions
        put(f"{half}/layer_norm", f"model.{half}.layer_norm")
        for i in range(release.DEPTH):
            theirs, ours = f"{half}/layer_{i}", f"model.{half}.layers.{i}"
            for name, stem in LAYER.items():
                if half == "decoder" or not name.startswith("attention/"):
                    put(f"{theirs}/{name}", f"{ours}.{stem}")
            for name, stems in STACKED.items():
                if half == "encoder" and name.startswith("attention/"):
                    continue
                weights = [tensors[f"{ours}.{s}.weight"] for s in stems]
                zeros = np.zeros(release.WIDTH, np.float32)
                biases = [tensors.get(f"{ours}.{s}.bias", zeros) for s in stems]
                out[f"{theirs}/{name}/weight"] = np.concatenate(weights)
                out[f"{theirs}/{name}/bias"] = np.concatenate(biases)
    for i in (1, 2):
        put(f"encoder/conv{i}", f"model.encoder.conv{i}")
    out["decoder/embeddings/weight"] = tensors["model.decoder.embed_tokens.weight"]
    return out


def write(path, values: dict[str, np.ndarray]) -> None:
    head = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(values))
    body = b"".join(variable(n, np.asarray(x)) for n, x in values.items())
    alias = text("decoder/projection/weight") + text("decoder/embeddings/weight")
    path.write_bytes(head + body + struct.pack("<I", 1) + alias)


@pytest.fixture
def folder(tmp_path):
    """A release of Whisper whose config.json and tensors are those of CTranslate2."""
    release.write_release(tmp_path)
    for name in ("model.safetensors", "generation_config.json"):
        (tmp_path / name).unlink()
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    spelled = {
        release.END: "<|endoftext|>",
        release.START: "<|startoftranscript|>",
        release.EN: "<|en|>",
        release.DE: "<|de|>",
        release.TRANSCRIBE: "<|transcribe|>",
        release.TRANSLATE: "<|translate|>",
        release.NO_TIMES: "<|notimestamps|>",
    }
    for token in tokenizer["added_tokens"]:
        old, token["content"] = token["content"], spelled.get(token["id"], token["content"])
        tokenizer["model"]["vocab"][token["content"]] = tokenizer["model"]["vocab"].pop(old)
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    facts = release.generation()
    theirs = {
        "lang_ids": [release.EN, release.DE],
        "suppress_ids": facts["suppress_tokens"],
        "suppress_ids_begin": facts["begin_suppress_tokens"],
    }
    (tmp_path / "config.json").write_text(json.dumps(theirs))
    write(tmp_path / "model.bin", variables(whole_release()))
    return tmp_path


def test_all_tensors_come_back_under_the_names_of_transformers(folder):
    expected, readers = whole_release(), open_tensors(folder)
    assert set(readers) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(readers[name](), value, err_msg=name)


def test_sizes_and_special_tokens(folder):
    assert part_config(folder) == {
        "model_type": "whisper",
        **release.config(),
        "encoder_layers": release.DEPTH,
        "encoder_attention_heads": release.HEADS,
        "encoder_ffn_dim": release.MLP,
        "max_source_positions": 20,
        "num_mel_bins": 8,
    }
    expected = release.generation()
    del expected["max_initial_timestamp_index"]  # 50 where it is not given
    assert part_generation(folder) == expected


def test_the_decoder_writes_the_same_text(folder, tmp_path):
    states = np.random.default_rng(0).standard_normal((2, 20, release.WIDTH)).astype(np.float32)
    theirs = open_transcriber(release.write_release(tmp_path / "released"))
    found, expected = (t(states, max_tokens=12) for t in (open_transcriber(folder), theirs))
    assert [h.text for h in found] == [h.text for h in expected] and found[0].text


def test_int8_is_divided_by_the_scale_of_its_row(folder):
    values = variables(whole_release())
    name = "decoder/layer_0/self_attention/linear_0/weight"
    weight = values[name]
    scale = 127 / np.abs(weight).max(axis=1)
    values[name] = np.round(weight * scale[:, None]).astype(np.int8)
    values[f"{name}_scale"] = scale.astype(np.float32)
    write(folder / "model.bin", values)
    readers = open_tensors(folder)
    for p, part in zip("qkv", np.split(weight, 3), strict=True):
        read = readers[f"model.decoder.layers.0.self_attn.{p}_proj.weight"]()
        error = np.abs(read - part).max()
        assert read.dtype == np.float32 and 0 < error <= np.abs(weight).max() / 254 + 1e-6


def test_damaged_files_are_refused(folder):
    path = folder / "model.bin"
    whole, values = path.read_bytes(), variables(whole_release())
    for end in (19, 40, 1000, len(whole) // 2):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="damaged or truncated"):
            open_tensors(folder)
    path.write_bytes(whole[:22] + struct.pack("<I", 1 << 31) + whole[26:])
    with pytest.raises(ValueError, match="announces 2,147,483,648 variables"):
        open_tensors(folder)
    shape = whole.index(b"decoder/embeddings/weight\0") + 26 + 1
    path.write_bytes(whole[:shape] + struct.pack("<I", 1 << 30) + whole[shape + 4 :])
    with pytest.raises(ValueError, match=r"embeddings/weight \[1073741824, 16\] has .* bytes, not"):
        open_tensors(folder)
    path.write_bytes(struct.pack("<I", 9) + whole[4:])
    with pytest.raises(ValueError, match="version 9; WhisperSpec up to version 6 can be read"):
        open_tensors(folder)
    write(path, values | {"decoder/layer_0/moe/gate": np.zeros((2, 2), np.float32)})
    with pytest.raises(ValueError, match="a variable 'decoder/layer_0/moe/gate' that Whisper does"):
        open_tensors(folder)
    name = "decoder/layer_1/attention/linear_1/bias"
    write(path, values | {name: np.ones(2 * release.WIDTH, np.float32)})
    with pytest.raises(ValueError, match="has a bias of keys, which Whisper has not"):
        open_tensors(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="lack special tokens of Whisper"):
        part_generation(folder)

"""Importing tensors: differences are named with a likely cause; exports are bit-equal."""

import json
import math

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from emojax.config import load_config, resolve
from emojax.model import variables
from emojax.model.weight_rules import LINEAR, Table, conv1d, flatten, linear, rule
from emojax.weights.load_tensors import WeightsError, load_tensors, save_tensors
from emojax.weights.tables import emotion_llama_v1, emotion_llama_v2
from emojax.weights.tensor_files import open_tensors

TABLE = Table(
    "toy",
    flatten(
        [
            linear("fc", "fc"),
            conv1d("conv", "conv", bias=False),
            linear("layers.{i}.q", "blocks/q", bias=False),
            rule("low.weight", "low", LINEAR, "low.default.weight"),
        ]
    ),
    ((r"head\..*", "not used"),),
)
LEAVES = {
    "fc/kernel": np.zeros((3, 2), np.float32),
    "fc/bias": np.zeros(2, np.float32),
    "conv/kernel": np.zeros((5, 3, 2), np.float32),
    "blocks/q/kernel": np.zeros((2, 4, 3), np.float32),
    "low": np.zeros((3, 2), np.float32),
}


def tensors() -> dict:
    rng = np.random.default_rng(0)
    shapes = {
        "fc.weight": (2, 3),
        "fc.bias": (2,),
        "conv.weight": (2, 3, 5),
        "low.weight": (2, 3),
        "head.weight": (7,),
    }
    shapes |= {"layers.0.q.weight": (3, 4), "layers.1.q.weight": (3, 4)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def load(folder, state, table=TABLE, leaves=LEAVES):
    save_file(state, folder / "w.safetensors")
    return load_tensors(table, open_tensors(folder / "w.safetensors"), leaves)


def test_tensors_are_loaded_and_saved_bit_equal(tmp_path):
    state = tensors()
    out = load(tmp_path, state)
    assert set(out) == set(LEAVES)
    np.testing.assert_array_equal(out["fc/kernel"], state["fc.weight"].T)
    np.testing.assert_array_equal(out["blocks/q/kernel"][1], state["layers.1.q.weight"].T)
    assert out["conv/kernel"][4, 2, 1] == state["conv.weight"][1, 2, 4]
    back = save_tensors(TABLE, out)
    assert set(back) == set(state) - {"head.weight"}
    for name, value in back.items():
        np.testing.assert_array_equal(value, state[name])


def test_both_spellings_of_peft(tmp_path):
    state = tensors()
    state["low.default.weight"] = state.pop("low.weight")
    np.testing.assert_array_equal(load(tmp_path, state)["low"], state["low.default.weight"].T)
    with pytest.raises(WeightsError, match=r"1 unexpected: low\.default\.weight"):
        load(tmp_path, state | {"low.weight": state["low.default.weight"]})


def test_differences_are_named(tmp_path):
    renamed = tensors()
    renamed["layers.1.k.weight"] = renamed.pop("layers.1.q.weight")
    with pytest.raises(
        WeightsError,
        match=r"(?s)missing: layers\.1\.q\.weight.*unexpected: layers\.1\.k\.weight.*renamed",
    ):
        load(tmp_path, renamed)
    dropped = tensors()
    del dropped["fc.bias"]
    with pytest.raises(WeightsError, match=r"(?s)1 missing: fc\.bias.*incomplete"):
        load(tmp_path, dropped)
    turned = tensors()
    turned["fc.weight"] = np.ascontiguousarray(turned["fc.weight"].T)
    with pytest.raises(
        WeightsError, match=r"(?s)fc\.weight \[3, 2\] does not make \[3, 2\] \(transposed\?\)"
    ):
        load(tmp_path, turned)
    with pytest.raises(WeightsError, match=r"(?s)1 unexpected: layers\.2\.q\.weight.*larger"):
        load(tmp_path, tensors() | {"layers.2.q.weight": np.zeros((3, 4), np.float32)})
    with pytest.raises(WeightsError, match="names with another prefix"):
        load(tmp_path, {f"model.{name}": value for name, value in tensors().items()})


def test_bfloat16_shards_and_damaged_files(tmp_path):
    state = {name: value.astype(ml_dtypes.bfloat16) for name, value in tensors().items()}
    names = sorted(state)
    for number, part in enumerate((names[:3], names[3:])):
        save_file({n: state[n] for n in part}, tmp_path / f"m-{number}.safetensors")
    index = {n: f"m-{int(i >= 3)}.safetensors" for i, n in enumerate(names)}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    readers = open_tensors(tmp_path)
    assert set(readers) == set(state)
    np.testing.assert_array_equal(readers["fc.weight"](), state["fc.weight"])
    data = (tmp_path / "m-0.safetensors").read_bytes()
    (tmp_path / "m-0.safetensors").write_bytes(data[:-5])
    with pytest.raises(ValueError, match="truncated"):
        open_tensors(tmp_path)
    (tmp_path / "m-0.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="not a safetensors file"):
        open_tensors(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_tensors(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("preset", "table", "tensors", "parameters"),
    [
        ("v2:stage1", emotion_llama_v2(), 166, 71_536_387),
        ("v1", emotion_llama_v1(), 138, 74_993_664),
    ],
)
def test_a_stage_checkpoint_fills_what_the_stage_trains(preset, table, tensors, parameters):
    """The published counts, for exactly the leaves that the full-size configuration trains."""
    settings = resolve(load_config(preset))
    leaves = variables.flatten(variables.unbox(variables.abstract_variables(settings.model)))
    trained = {
        path
        for path, learns in variables.select_trainable(list(leaves), settings.trainable).items()
        if learns
    }
    rules = [r for r in table.rules if not r.optional]
    assert {path for r in rules for path in r.paths} == trained
    assert sum(math.prod(leaves[path].shape) for path in trained) == parameters
    names = [n for r in rules for n in r.names]
    assert sum(settings.model.llama.depth if "{i}" in n else 1 for n in names) == tensors


def test_kernels_with_a_scale_are_imported_as_int8(tmp_path):
    leaves = {
        **LEAVES,
        "blocks/q/kernel": np.zeros((2, 4, 3), np.int8),
        "blocks/q/kernel_scale": np.zeros((2, 3), "f4"),
    }
    state = tensors()
    out = load(tmp_path, state, leaves=leaves)
    assert out["blocks/q/kernel"].dtype == np.int8 and np.abs(out["blocks/q/kernel"]).max() == 127
    for layer in range(2):
        expected = state[f"layers.{layer}.q.weight"].T
        scale = out["blocks/q/kernel_scale"][layer]
        np.testing.assert_allclose(scale, np.abs(expected).max(axis=0) / 127, rtol=1e-6)
        assert (np.abs(out["blocks/q/kernel"][layer] * scale - expected) <= scale / 2 * 1.001).all()
    assert out["fc/kernel"].dtype == np.float32


def test_values_that_are_not_finite_are_refused(tmp_path):
    state = tensors()
    state["layers.1.q.weight"][0, 0] = np.nan
    with pytest.raises(WeightsError, match=r"layers\.1\.q\.weight has values that are not finite"):
        load(tmp_path, state)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b.bin", "C:\\b", "..", 3])
def test_indices_name_files_of_their_own_folder_only(tmp_path, name, monkeypatch):
    path = tmp_path / "m.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": name}}))
    monkeypatch.setattr("emojax.weights.tensor_files._readers", lambda path: pytest.fail(str(path)))
    with pytest.raises(ValueError, match=r"index\.json names .*not the name of a file next to it"):
        open_tensors(path)


@pytest.mark.parametrize("error", [IndexError, KeyError, UnicodeDecodeError, AttributeError])
def test_whatever_torch_raises_is_a_sentence(tmp_path, monkeypatch, error):
    torch = pytest.importorskip("torch")
    (tmp_path / "m.pth").write_bytes(b"damaged")

    def load(*_args, **_options):
        raise error("utf-8", b"", 0, 1, "bad") if error is UnicodeDecodeError else error("x")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(ValueError, match=r"m\.pth cannot be read as tensors only: it is damaged"):
        open_tensors(tmp_path / "m.pth")


def test_types_that_numpy_lacks_are_named(tmp_path):
    header = json.dumps({"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"ab")
    with pytest.raises(ValueError, match=r"m\.safetensors: x is of type F8_E4M3, which cannot"):
        open_tensors(path)["x"]()


def test_invalid_indices_are_refused(tmp_path):
    path = tmp_path / "m.safetensors.index.json"
    for text in ("{", "[]", '{"weights": 3}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"index\.json is not an index of shards"):
            open_tensors(path)
    path.write_text('{"weight_map": {"a": "gone.safetensors"}}')
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors, which is not next to it"):
        open_tensors(path)

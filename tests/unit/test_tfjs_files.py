"""Weights of TensorFlow.js: values by hand, and manifests that are damaged or do not fit."""

import json
import struct

import numpy as np
import pytest

from emojax.weights.tensor_files import open_tensors, tensor_files
from emojax.weights.tfjs_files import open_tfjs

QUANTIZED = {
    "name": "a/filters",
    "shape": [2, 3],
    "dtype": "float32",
    "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0},
}
PLAIN = {"name": "a/bias", "shape": [2], "dtype": "float32"}
CONTENT = bytes([0, 1, 2, 3, 4, 255]) + struct.pack("<2f", 1.25, -3.0)


def write(folder, *, groups=None, entries=(QUANTIZED, PLAIN), content=CONTENT):
    folder.mkdir(exist_ok=True)
    (folder / "net.bin").write_bytes(content)
    manifest = folder / "net-weights_manifest.json"
    usual = [{"paths": ["net.bin"], "weights": list(entries)}]
    manifest.write_text(json.dumps(usual if groups is None else groups))
    return manifest


def test_values_by_hand(tmp_path):
    manifest = write(tmp_path)
    for tensors in (open_tfjs(manifest), open_tensors(tmp_path)):
        values = {name: read() for name, read in tensors.items()}
        assert list(values) == ["a/filters", "a/bias"]
        np.testing.assert_array_equal(
            values["a/filters"], np.array([[-1, -0.5, 0], [0.5, 1, 126.5]], np.float32)
        )
        np.testing.assert_array_equal(values["a/bias"], np.array([1.25, -3], np.float32))
        assert {v.dtype for v in values.values()} == {np.dtype(np.float32)}
    assert [f.name for f in tensor_files(tmp_path)] == [manifest.name, "net.bin"]


def test_a_weight_may_reach_over_two_files(tmp_path):
    (tmp_path / "1.bin").write_bytes(CONTENT[:8])
    (tmp_path / "2.bin").write_bytes(CONTENT[8:])
    groups = [{"paths": ["1.bin", "2.bin"], "weights": [QUANTIZED, PLAIN]}]
    values = open_tfjs(write(tmp_path, groups=groups))
    assert values["a/bias"]().tolist() == [1.25, -3.0]


def changed(entry, **fields):
    return {**entry, **fields}


def quantized(**fields):
    return changed(QUANTIZED, quantization={**QUANTIZED["quantization"], **fields})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"groups": {}}, "groups are not a list"),
        ({"groups": [7]}, "no field 'paths'"),
        ({"groups": [{"paths": ["net.bin"]}]}, "no field 'weights'"),
        ({"groups": [{"paths": ["../net.bin"], "weights": [PLAIN]}]}, "not the name of a file"),
        ({"groups": [{"paths": [], "weights": [PLAIN]}]}, "paths are not a list, or are none"),
        ({"entries": [changed(PLAIN, shape=[-2])]}, "expected sizes of at least 1"),
        ({"entries": [changed(PLAIN, shape=[True, 2])]}, "expected sizes of at least 1"),
        ({"entries": [changed(PLAIN, shape="2")]}, "expected sizes of at least 1"),
        ({"entries": [changed(PLAIN, dtype="int32")]}, "only float32 can be read"),
        ({"entries": [changed(PLAIN, name=3)]}, "3 is not a name"),
        ({"entries": [quantized(dtype="uint16")]}, "only uint8 and float32"),
        ({"entries": [quantized(scale=float("nan"))]}, "the scale nan"),
        ({"entries": [quantized(scale=0)]}, "the scale 0"),
        ({"entries": [quantized(min="x")]}, "the minimum x"),
        ({"entries": [QUANTIZED, PLAIN, PLAIN]}, "a/bias occurs twice"),
        ({"content": CONTENT[:-1]}, "13 bytes.* need 14"),
        ({"content": CONTENT + b"x"}, "15 bytes.* need 14"),
        ({"entries": [changed(PLAIN, shape=[10**30])]}, "14 bytes"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path, files, message):
    with pytest.raises(ValueError, match=message) as refused:
        open_tfjs(write(tmp_path, **files))
    assert "net-weights_manifest.json" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_absent_and_unreadable_files(tmp_path):
    manifest = write(tmp_path, groups=[{"paths": ["gone.bin"], "weights": [PLAIN]}])
    with pytest.raises(FileNotFoundError, match=r"names gone.bin, which is not next to it"):
        open_tfjs(manifest)
    for content in (b"[{", b"\xff\xfe\x00", b"[" * 100_000, b""):
        manifest.write_bytes(content)
        with pytest.raises(ValueError, match="is not a manifest of TensorFlow.js"):
            open_tfjs(manifest)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_tensors(tmp_path / "absent-weights_manifest.json")

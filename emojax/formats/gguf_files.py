"""Reads language models in GGUF, the format of llama.cpp, under the names of transformers.

The header is read here: the reader of the `gguf` package takes every count of a damaged file at its
word. The package dequantizes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from emojax.formats.cursor import Cursor

MAGIC = b"GGUF"
ARCHITECTURES = ("llama", "qwen2", "qwen3")
ROPE_FACTORS = "rope_freqs.weight"  # divides the RoPE frequencies; no parameter of the model

_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_TYPES = {t.value: t for t in gguf.GGMLQuantizationType}

_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """Where a tensor is in the file.

    Attributes:
      shape: as of torch, slowest axis first.
      type: how its values are stored.
      data: uint8[bytes], not read before it is used.
    """

    shape: tuple[int, ...]
    type: gguf.GGMLQuantizationType
    data: np.ndarray

    def read(self) -> np.ndarray:
        """float32[shape]."""
        try:
            values = gguf.quants.dequantize(self.data, self.type)
        except NotImplementedError as error:
            raise ValueError(f"tensors of the type {self.type.name} cannot be read") from error
        return np.ascontiguousarray(values, np.float32).reshape(self.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GgufFile:
    """The header of a GGUF file.

    Attributes:
      path: the file.
      metadata: {key: number, text, or list or array of them}.
      tensors: {name in the file: where it is}.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]

    @property
    def architecture(self) -> str:
        """Such as `llama`."""
        return str(self.metadata.get("general.architecture", ""))

    def fact(self, name: str, default: Any = None) -> Any:
        """A value of the metadata under the name of the architecture."""
        return self.metadata.get(f"{self.architecture}.{name}", default)

    def number(self, name: str) -> int:
        """A whole number of the metadata, under the name of the architecture.

        Raises:
          ValueError: it is missing, or differs from layer to layer.
        """
        value = self.fact(name)
        if isinstance(value, np.ndarray) and len(set(value.tolist())) == 1:
            value = value[0]
        if isinstance(value, (str, list, np.ndarray)) or not value or int(value) != value:
            raise ValueError(
                f"{self.path} has no whole number over 0 in {self.architecture}.{name}, but {value}"
            )
        return int(value)

    def decimal(self, name: str, default: float) -> float:
        """A number under the name of the architecture, as the shortest decimal of its float32.

        1e-05 rather than 9.999999747378752e-06.

        Raises:
          ValueError: it is not a number.
        """
        value = self.fact(name, default)
        if not isinstance(value, int | float):
            raise ValueError(f"{self.path} has no number in {self.architecture}.{name}")
        return float(str(np.float32(value)))


def open_gguf(path: Path) -> GgufFile:
    """Reads the header of a GGUF file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, big endian, one of several parts, or of an unknown version.
    """
    cursor = Cursor(path)
    if cursor.take(4, "the magic").tobytes() != MAGIC:
        raise ValueError(f"{path} is not a GGUF file: it does not begin with GGUF")
    version = int(cursor.number("I", "the version"))
    if version not in (2, 3):
        raise ValueError(f"{path} is GGUF of version {version}; versions 2 and 3 can be read")
    tensors = cursor.count("Q", "tensors", least=24)
    entries = cursor.count("Q", "entries of metadata", least=13)
    metadata: dict[str, Any] = {}
    for _ in range(entries):
        key = cursor.text("Q", "a key of the metadata")
        metadata[key] = _value(cursor, int(cursor.number("I", "a type")), key)
    if metadata.get("split.count", 1) not in (0, 1):
        raise ValueError(
            f"{path} is one of {metadata['split.count']} parts: join them with llama-gguf-split "
            "--merge"
        )
    return GgufFile(path=path, metadata=metadata, tensors=_tensors(cursor, tensors, metadata))


def _value(cursor: Cursor, kind: int, key: str) -> Any:
    if kind in _NUMBERS:
        return cursor.number(_NUMBERS[kind], key)
    if kind == _STRING:
        return cursor.text("Q", key)
    if kind != _ARRAY:
        raise ValueError(f"{cursor.path} is damaged: {key} is of the unknown type {kind}")
    kind = int(cursor.number("I", key))
    if kind == _STRING:
        count = cursor.count("Q", f"entries of {key}", least=8)
        return [cursor.text("Q", key) for _ in range(count)]
    if kind not in _NUMBERS:
        raise ValueError(f"{cursor.path} is damaged: {key} is a list of the unknown type {kind}")
    dtype = np.dtype(_NUMBERS[kind]).newbyteorder("<")
    count = cursor.count("Q", f"entries of {key}", least=dtype.itemsize)
    return cursor.take(count * dtype.itemsize, key).view(dtype)


def _tensors(cursor: Cursor, count: int, metadata: Mapping[str, Any]) -> dict[str, GgufTensor]:
    places: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for _ in range(count):
        name = cursor.text("Q", "the name of a tensor")
        axes = int(cursor.number("I", f"the axes of {name}"))
        if not 1 <= axes <= 4:
            raise ValueError(f"{cursor.path} is damaged: {name} has {axes} axes")
        shape = tuple(int(cursor.number("Q", f"the shape of {name}")) for _ in range(axes))
        kind = int(cursor.number("I", f"the type of {name}"))
        if name in places:
            raise ValueError(f"{cursor.path} is damaged: it has two tensors {name}")
        places[name] = shape[::-1], kind, int(cursor.number("Q", f"the place of {name}"))
    alignment = metadata.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"{cursor.path} is damaged: its alignment is {alignment}")
    start = -(-cursor.at // alignment) * alignment
    return {n: _tensor(cursor, n, place, start) for n, place in places.items()}


def _tensor(
    cursor: Cursor, name: str, place: tuple[tuple[int, ...], int, int], start: int
) -> GgufTensor:
    shape, kind, offset = place
    if kind not in _TYPES:
        raise ValueError(f"{cursor.path}: {name} is stored as the unknown type {kind}")
    block, size = gguf.GGML_QUANT_SIZES[_TYPES[kind]]
    if shape[-1] % block or not all(shape):
        raise ValueError(f"{cursor.path} is damaged: {name} has the shape {list(shape)}")
    cursor.at = min(start + offset, len(cursor.data))
    data = cursor.take(math.prod(shape) // block * size, f"{name} {list(shape)}")
    rows = math.prod(shape[:-1])
    return GgufTensor(shape=shape, type=_TYPES[kind], data=data.reshape(rows, -1))


def gguf_readers(path: Path) -> dict[str, Any]:
    """{name of transformers: function that reads the tensor as float32}.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or of an architecture that is not supported.
    """
    file = open_gguf(path)
    check_architecture(file)
    heads = {"attn_q": file.number("attention.head_count"), "attn_k": kv_heads(file)}
    readers = {}
    for name, tensor in file.tensors.items():
        if name == ROPE_FACTORS:
            continue  # see gguf_config
        part = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
        known = part and (_TOP if part[1] is None else _LAYER).get(part[2])
        if not part or not known:
            raise ValueError(f"{path} has a tensor '{name}' that is not of {file.architecture}")
        layer = "" if part[1] is None else f"model.layers.{part[1]}."
        turned = heads.get(part[2], 0) if file.architecture == "llama" else 0
        if turned and tensor.shape[0] % (2 * turned):
            raise ValueError(f"{path} is damaged: {name} has {tensor.shape[0]} rows")
        readers[f"{layer}{known}.{part[3]}"] = functools.partial(_read, tensor, turned)
    return readers


def check_architecture(file: GgufFile) -> None:
    """Raises ValueError unless the file is of a supported architecture."""
    if file.architecture not in ARCHITECTURES:
        raise ValueError(
            f"{file.path} is of the architecture '{file.architecture}'; "
            f"{', '.join(ARCHITECTURES)} can be read from GGUF"
        )


def kv_heads(file: GgufFile) -> int:
    """The number of key-value heads."""
    key = "attention.head_count_kv"
    return file.number(key if file.fact(key) is not None else "attention.head_count")


def _read(tensor: GgufTensor, heads: int) -> np.ndarray:
    """float32[shape].

    With `heads`, rows of interleaved RoPE (a pair is a row and the next one) are put into the order
    of transformers (a pair is a row and the one half a head further).
    """
    values = tensor.read()
    if not heads:
        return values
    pairs = values.reshape(heads, -1, 2, *values.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)

"""Reads Whisper in CTranslate2's layout (model.bin) under the names of transformers."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from emojax.formats.cursor import Cursor
from emojax.formats.json_files import read_json

SPEC = "WhisperSpec"
VERSION = 6
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}

# Of a layer, and outside layers: CTranslate2's name -> transformers' names of equal parts of rows.
_LAYER: dict[str, tuple[str, ...]] = {
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
_OUTSIDE: dict[str, tuple[str, ...]] = {
    "conv1": ("conv1",),
    "conv2": ("conv2",),
    "layer_norm": ("layer_norm",),
    "position_encodings": ("embed_positions",),
    "embeddings": ("embed_tokens",),
}
_KINDS = {
    "weight": "weight",
    "gamma": "weight",
    "encodings": "weight",
    "bias": "bias",
    "beta": "bias",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variable:
    """Where a variable is in the file.

    Attributes:
      shape: its shape.
      data: array[values], not read before it is used.
    """

    shape: tuple[int, ...]
    data: np.ndarray

    def read(self) -> np.ndarray:
        """array[shape]."""
        return np.array(self.data).reshape(self.shape)


def is_ctranslate2(path: Path) -> bool:
    """Whether a file begins as Whisper in CTranslate2's layout."""
    with path.open("rb") as file:
        head = file.read(4 + 2 + len(SPEC) + 1)
    return head[6:] == SPEC.encode() + b"\0"


def open_ctranslate2(path: Path) -> dict[str, Variable]:
    """Reads the list of variables of a model.bin.

    Returns:
      {name in the file: where it is}.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged or of another version.
    """
    cursor = Cursor(path)
    version = int(cursor.number("I", "the version"))
    spec = cursor.text("H", "the name of the specification").rstrip("\0")
    if spec != SPEC or version > VERSION:
        raise ValueError(
            f"{path} is {spec!r} of CTranslate2's version {version}; {SPEC} up to version "
            f"{VERSION} can be read"
        )
    cursor.number("I", "the revision")
    variables = {}
    for _ in range(cursor.count("I", "variables", least=9)):
        name = cursor.text("H", "the name of a variable").rstrip("\0")
        axes = int(cursor.number("B", f"the axes of {name}"))
        shape = tuple(int(cursor.number("I", f"the shape of {name}")) for _ in range(axes))
        kind = int(cursor.number("B", f"the type of {name}"))
        if kind not in _TYPES:
            raise ValueError(f"{path}: {name} is stored as the unknown type {kind}")
        data = cursor.take(int(cursor.number("I", f"the bytes of {name}")), name)
        dtype = np.dtype(_TYPES[kind]).newbyteorder("<")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(
                f"{path} is damaged: {name} {list(shape)} has {len(data):,} bytes, not "
                f"{math.prod(shape) * dtype.itemsize:,}"
            )
        variables[name] = Variable(shape=shape, data=data.view(dtype))
    return variables


def ctranslate2_readers(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """{name of transformers: function that reads the tensor}; int8 becomes float32.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged or has variables that Whisper does not have.
    """
    variables = open_ctranslate2(path)
    readers: dict[str, Callable[[], np.ndarray]] = {}
    for name, variable in variables.items():
        if not variable.shape or name.endswith("_scale"):
            continue  # settings; scales are read with their weight
        part = re.fullmatch(r"(encoder|decoder)/(?:layer_(\d+)/)?([\w/]+)/(\w+)", name)
        known = part and (_OUTSIDE if part[2] is None else _LAYER).get(part[3])
        if not part or not known or part[4] not in _KINDS:
            raise ValueError(f"{path} has a variable '{name}' that Whisper does not have")
        layer = "" if part[2] is None else f"layers.{part[2]}."
        if len(variable.shape) < 1 or variable.shape[0] % len(known):
            raise ValueError(f"{path} is damaged: {name} has the shape {list(variable.shape)}")
        scale = variables.get(f"{name}_scale")
        for i, ours in enumerate(known):
            read = functools.partial(_read, variable, scale, part=i, parts=len(known))
            if ours.endswith("k_proj") and part[4] == "bias":
                if np.any(read()):
                    raise ValueError(f"{path}: {name} has a bias of keys, which Whisper has not")
                continue
            readers[f"model.{part[1]}.{layer}{ours}.{_KINDS[part[4]]}"] = read
    return readers


def _read(variable: Variable, scale: Variable | None, *, part: int, parts: int) -> np.ndarray:
    rows = variable.shape[0] // parts
    here = slice(part * rows, (part + 1) * rows)
    values = np.array(variable.data.reshape(variable.shape)[here])
    if scale is None:
        return values
    by_row = np.array(scale.data).reshape(-1)
    divisor = by_row[here] if len(by_row) == variable.shape[0] else by_row[:1]
    divided: np.ndarray = values.astype(np.float32)
    divided /= divisor.reshape(-1, *[1] * (values.ndim - 1))
    return divided


def ctranslate2_config(path: Path) -> dict[str, Any]:
    """The sizes of a model.bin as the content of a config.json of transformers.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or a variable that gives a size is missing.
    """
    variables = open_ctranslate2(path)
    try:
        conv = variables["encoder/conv1/weight"].shape
        embed = variables["decoder/embeddings/weight"].shape
        side: dict[str, int] = {}
        for half in ("encoder", "decoder"):
            layers = {n.split("/")[1] for n in variables if n.startswith(f"{half}/layer_")}
            side[f"{half}_layers"] = len(layers - {"layer_norm"})
            side[f"{half}_attention_heads"] = int(variables[f"{half}/num_heads"].data[0])
            side[f"{half}_ffn_dim"] = variables[f"{half}/layer_0/ffn/linear_0/bias"].shape[0]
        lengths = [
            variables[f"{half}/position_encodings/encodings"].shape[0]
            for half in ("encoder", "decoder")
        ]
        mels = conv[1]
    except (KeyError, IndexError) as error:
        raise ValueError(f"{path} is not a whole Whisper: {error} is missing") from error
    return {
        "model_type": "whisper",
        "vocab_size": embed[0],
        "d_model": conv[0],
        "num_mel_bins": mels,
        "max_source_positions": lengths[0],
        "max_target_positions": lengths[1],
        **side,
    }


def ctranslate2_generation(folder: Path) -> dict[str, Any]:
    """The special tokens of a folder of CTranslate2 as a generation_config.json of transformers.

    Args:
      folder: has tokenizer.json and CTranslate2's own config.json.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged or lacks a token.
    """
    facts, tokenizer = (read_json(folder / name) for name in ("config.json", "tokenizer.json"))
    try:
        ids = {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
        by_id = {i: text for text, i in ids.items()}
        return {
            "decoder_start_token_id": ids["<|startoftranscript|>"],
            "eos_token_id": ids["<|endoftext|>"],
            "no_timestamps_token_id": ids["<|notimestamps|>"],
            "task_to_id": {t: ids[f"<|{t}|>"] for t in ("transcribe", "translate")},
            "lang_to_id": {by_id[i]: i for i in facts.get("lang_ids", [])},
            "suppress_tokens": facts.get("suppress_ids", []),
            "begin_suppress_tokens": facts.get("suppress_ids_begin", []),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder}: config.json and tokenizer.json lack special tokens of Whisper ({error})"
        ) from error

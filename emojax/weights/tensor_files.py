"""Reads tensor files one tensor at a time.

safetensors, sharded or not; torch's .bin and .pth; GGUF; Whisper in CTranslate2's layout; weights
of TensorFlow.js.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from emojax.formats.ctranslate2_files import ctranslate2_readers, is_ctranslate2
from emojax.formats.gguf_files import gguf_readers
from emojax.weights.tfjs_files import MANIFEST, open_tfjs, tfjs_shards

Reader = Callable[[], np.ndarray]

# Keys under which training scripts put the weights of a checkpoint.
_NESTED = ("model", "module", "state_dict", "model_state_dict")


def open_tensors(path: Path) -> Mapping[str, Reader]:
    """Opens tensor files; a tensor is read when its reader is called.

    Args:
      path: a .safetensors, .gguf, .bin, .pth or .pt file, an index `*.index.json`, or a folder with
        one of them.

    Returns:
      {name: function that reads the tensor}; of GGUF and CTranslate2 the names of transformers.

    Raises:
      FileNotFoundError: there is no such file, or the index names a missing file.
      ValueError: the file is damaged or has no tensors.
    """
    readers: dict[str, Reader] = {}
    for file in tensor_files(path):
        if file.name.endswith(MANIFEST):
            return open_tfjs(file)
        readers.update(_readers(file))
    return readers


def _readers(path: Path) -> Mapping[str, Reader]:
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".gguf":
        return gguf_readers(path)
    if path.suffix == ".bin" and is_ctranslate2(path):
        return ctranslate2_readers(path)
    return _torch(path)


def tensor_files(path: Path) -> list[Path]:
    """The tensor files of a file, index or folder; raises as `open_tensors` does."""
    if path.is_dir():
        path = _in_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.name.endswith(MANIFEST):
        return [path, *tfjs_shards(path)]
    if not path.name.endswith(".index.json"):
        return [path]
    shards = shard_names(path)
    if absent := [s for s in shards if not (path.parent / s).exists()]:
        raise FileNotFoundError(f"{path} names {', '.join(absent)}, which is not next to it")
    return [path.parent / s for s in shards]


def shard_names(index: Path) -> list[str]:
    """The files that an index `*.index.json` names, which are next to it.

    Raises:
      ValueError: the file is damaged, or names a file in another folder.
    """
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{index} is not an index of shards ({type(error).__name__}: {error})"
        ) from error
    for name in shards:
        # Windows' rules are the stricter ones: both slashes and drives.
        plain = isinstance(name, str) and PureWindowsPath(name).name == name
        if not plain or name in ("", ".."):
            raise ValueError(f"{index} names {name!r}, which is not the name of a file next to it")
    return sorted(shards)


def _in_folder(folder: Path) -> Path:
    for pattern in (
        "model.safetensors",  # what transformers reads, of a folder with more
        "*.safetensors.index.json",
        "*.safetensors",
        "*.gguf",
        f"*{MANIFEST}",
        "*.bin.index.json",
        "*.bin",
        "*.pth",
        "*.pt",
    ):
        files = sorted(folder.glob(pattern))
        if len(files) == 1:
            return files[0]
        if files:
            raise ValueError(
                f"{folder} has {len(files)} files {pattern} and no index: name one of them"
            )
    raise FileNotFoundError(f"{folder} has no .safetensors, .gguf, .bin, .pth or .pt file")


def _safetensors(path: Path) -> dict[str, Reader]:
    try:
        file: Any = safe_open(path, "np")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is truncated ({error})") from error

    def read(name: str) -> np.ndarray:
        try:
            tensor: np.ndarray = file.get_tensor(name)
        except (AttributeError, TypeError, SafetensorError) as error:
            kind = file.get_slice(name).get_dtype()
            raise ValueError(
                f"{path}: {name} is of type {kind}, which cannot be read: store it as float32, "
                "float16 or bfloat16"
            ) from error
        return tensor

    return {name: functools.partial(read, name) for name in file.keys()}


def _torch(path: Path) -> dict[str, Reader]:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"{path} is a torch file: pip install -e '.[parity]' to read it"
        ) from error
    try:
        # Files of torch before 1.6 are not zip files and cannot be memory-mapped. Training scripts
        # store their options next to the tensors: a Namespace holds values and runs no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except Exception as error:  # damaged files also raise IndexError, KeyError and others
        unknown = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it contains code ({unknown[1]})" if unknown else "it is damaged"
        raise ValueError(
            f"{path} cannot be read as tensors only: {why}. "
            "If you trust it, save only its tensors again"
        ) from error
    while not isinstance(state, dict) or not any(
        isinstance(v, torch.Tensor) for v in state.values()
    ):
        inner = [state[k] for k in _NESTED if k in state] if isinstance(state, dict) else []
        if not inner:
            keys = (
                f"its keys are {sorted(map(str, state))[:8]}"
                if isinstance(state, dict)
                else "it is not a dictionary"
            )
            raise ValueError(f"{path} has no named tensors; {keys}")
        state = inner[0]

    def reader(tensor: Any) -> Reader:
        def read() -> np.ndarray:
            if tensor.dtype == torch.bfloat16:
                return np.array(tensor.contiguous().view(torch.int16).numpy()).view(
                    ml_dtypes.bfloat16
                )
            return np.array(tensor.detach().numpy())

        return read

    return {name: reader(value) for name, value in state.items() if isinstance(value, torch.Tensor)}

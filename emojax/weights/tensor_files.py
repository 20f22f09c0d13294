"""Tensor files, read one tensor at a time: safetensors (one file or a sharded index), torch's .bin and .pth."""

from __future__ import annotations

import argparse
import functools
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

Reader = Callable[[], np.ndarray]

# Where training scripts put the weights of a checkpoint that holds more.
_NESTED = ("model", "module", "state_dict", "model_state_dict")


def open_tensors(path: Path) -> Mapping[str, Reader]:
    """{name: function that reads this tensor}; nothing is read before it is asked for.

    Args:
      path: a .safetensors, .bin, .pth or .pt file, an index `*.index.json`, or a folder that holds one of them.

    Raises:
      FileNotFoundError: nothing of the kind is there, or the index names a file that is not.
      ValueError: the file is damaged or holds no tensors.
    """
    found: dict[str, Reader] = {}
    for file in tensor_files(path):
        found.update(_safetensors(file) if file.suffix == ".safetensors" else _torch(file))
    return found


def tensor_files(path: Path) -> list[Path]:
    """The files that hold the tensors of a file, index or folder; raises as `open_tensors` does."""
    if path.is_dir():
        path = _in_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if not path.name.endswith(".index.json"):
        return [path]
    try:
        shards = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no index of shards ({type(error).__name__}: {error})"
        ) from error
    if absent := [s for s in shards if not (path.parent / s).exists()]:
        raise FileNotFoundError(f"{path} names {', '.join(absent)}, which is not beside it")
    return [path.parent / s for s in shards]


def _in_folder(folder: Path) -> Path:
    for pattern in (
        "*.safetensors.index.json",
        "*.safetensors",
        "*.bin.index.json",
        "*.bin",
        "*.pth",
        "*.pt",
    ):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{folder} holds {len(found)} files {pattern} and no index: name one of them"
            )
    raise FileNotFoundError(f"{folder} holds no .safetensors, .bin, .pth or .pt file")


def _safetensors(path: Path) -> dict[str, Reader]:
    try:
        file = safe_open(path, "np")
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or cut off ({error})") from error
    return {name: functools.partial(file.get_tensor, name) for name in file.keys()}


def _torch(path: Path) -> dict[str, Reader]:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"{path} is a file of torch: pip install 'emojax[parity]' to read it"
        ) from error
    try:
        # Files of torch before 1.6 are no zip and can not be mapped.
        # Training scripts keep their options beside the tensors: a Namespace holds values and runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        unknown = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it holds code ({unknown[1]})" if unknown else "it is damaged"
        raise ValueError(
            f"{path} can not be read as tensors alone: {why}. Where you trust it, save its tensors alone again"
        ) from error
    while not isinstance(state, dict) or not any(
        isinstance(v, torch.Tensor) for v in state.values()
    ):
        inner = [state[k] for k in _NESTED if k in state] if isinstance(state, dict) else []
        if not inner:
            keys = (
                f"its keys are {sorted(map(str, state))[:8]}"
                if isinstance(state, dict)
                else "it is no dictionary"
            )
            raise ValueError(f"{path} holds no tensors by name; {keys}")
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

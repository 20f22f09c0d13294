"""Reads weights of TensorFlow.js: NAME-weights_manifest.json and the binary files that it names.

The manifest is a list of groups. The files of a group, joined, hold its weights one after another,
little endian: float32, or uint8 with a scale and a minimum (value = scale * stored + minimum).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MANIFEST = "-weights_manifest.json"  # end of a manifest's name


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Weight:
    """One entry of a manifest: values are `scale * stored + low`, float32 where scale is None."""

    name: str
    shape: tuple[int, ...]
    scale: float | None = None
    low: float = 0.0

    @property
    def size(self) -> int:
        return math.prod(self.shape) * (4 if self.scale is None else 1)


def open_tfjs(manifest: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Opens the weights of a manifest; a tensor is converted when its reader is called.

    Args:
      manifest: NAME-weights_manifest.json, next to its binary files.

    Returns:
      {name: function that makes the float32 tensor, in TensorFlow's layout}.

    Raises:
      FileNotFoundError: the manifest or a file that it names does not exist.
      ValueError: the manifest is damaged, or does not fit its files.
    """
    readers: dict[str, Callable[[], np.ndarray]] = {}
    for files, weights in _groups(manifest):
        needed, there = sum(w.size for w in weights), sum(f.stat().st_size for f in files)
        if needed != there:
            raise ValueError(
                f"{', '.join(f.name for f in files)}: {there} bytes, but the {len(weights)} "
                f"weights that {manifest} lists need {needed}; it is cut off, or of another model"
            )
        content = memoryview(b"".join(f.read_bytes() for f in files))
        start = 0
        for weight in weights:
            stored = content[start : start + weight.size]
            readers[weight.name] = functools.partial(_values, stored, weight)
            start += weight.size
    return readers


def tfjs_shards(manifest: Path) -> list[Path]:
    """The binary files that a manifest names; raises as `open_tfjs` does."""
    return [file for files, _ in _groups(manifest) for file in files]


def _groups(manifest: Path) -> list[tuple[list[Path], list[_Weight]]]:
    """(files, weights) of each group of a manifest."""
    try:
        groups = [
            (
                _files(manifest.parent, _field(group, "paths")),
                [_weight(entry) for entry in _list(_field(group, "weights"), "weights")],
            )
            for group in _list(json.loads(manifest.read_text(encoding="utf-8")), "groups")
        ]
        names = collections.Counter(w.name for _, weights in groups for w in weights)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"{twice[0]} occurs twice")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{manifest} is not a manifest of TensorFlow.js: {error}") from error
    if absent := [f.name for files, _ in groups for f in files if not f.is_file()]:
        raise FileNotFoundError(f"{manifest} names {', '.join(absent)}, which is not next to it")
    return groups


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"its {name} are not a list, or are none")
    return value


def _field(entry: Any, name: str) -> Any:
    if not isinstance(entry, dict) or name not in entry:
        raise ValueError(f"an entry has no field '{name}'")
    return entry[name]


def _weight(entry: Any) -> _Weight:
    name, shape = _field(entry, "name"), _field(entry, "shape")
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is not a name")
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise ValueError(f"{name} has the shape {shape}, expected sizes of at least 1")
    if _field(entry, "dtype") != "float32":
        raise ValueError(f"{name} is of {entry['dtype']}, only float32 can be read")
    if "quantization" not in entry:
        return _Weight(name=name, shape=tuple(shape))
    stored, scale, low = (_field(entry["quantization"], key) for key in ("dtype", "scale", "min"))
    if stored != "uint8":
        raise ValueError(f"{name} is stored as {stored}, only uint8 and float32 can be read")
    numbers = [x for x in (scale, low) if type(x) in (int, float) and math.isfinite(x)]
    if len(numbers) < 2 or scale <= 0:
        raise ValueError(f"{name} has the scale {scale} and the minimum {low}")
    return _Weight(name=name, shape=tuple(shape), scale=float(scale), low=float(low))


def _files(folder: Path, paths: Any) -> list[Path]:
    """The files of a group, which are next to the manifest."""
    for name in _list(paths, "paths"):
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{name!r} is not the name of a file next to it")
    return [folder / name for name in paths]


def _values(content: memoryview, weight: _Weight) -> np.ndarray:
    if weight.scale is None:
        values = np.frombuffer(content, "<f4").astype(np.float32)
    else:
        stored = np.frombuffer(content, np.uint8).astype(np.float64)
        values = (stored * weight.scale + weight.low).astype(np.float32)
    return values.reshape(weight.shape)

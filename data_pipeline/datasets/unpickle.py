"""Reads pickled annotation files without running any code in them.

This unpickler is our own for security: it creates only plain values. NumPy's arrays and scalars are
read by stand-ins, because NumPy's classes import no code, but a forged dtype makes them read memory
outside the array.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.io import refuse_device

_DTYPE = re.compile(r"O8?|[biuf][1248]|[US]\d+")


class _DType:
    """Stand-in for numpy.dtype: name and byte order."""

    def __init__(self, name: str, *_: Any):
        if not isinstance(name, str) or not _DTYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"it contains values of the type {name!r}")
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">", "|") else "="

    def read(self, raw: bytes, count: int) -> Any:
        if self.name.startswith("O"):
            raise pickle.UnpicklingError("it contains an object instead of a number")
        order = self.order if self.order != "|" else "="
        return np.frombuffer(raw, np.dtype(order + self.name), count=count)


class _Array:
    """Stand-in for an array, which becomes a list of objects or an array of numbers."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, _, content = state
        size = math.prod(shape)
        if dtype.name.startswith("O"):
            if not isinstance(content, list) or len(content) != size:
                raise pickle.UnpicklingError("an array of objects does not match its shape")
            self.value = content[0] if shape == () else content
        else:
            array = dtype.read(content, size)
            self.value = array[0].item() if shape == () else array.reshape(shape)


class _Marker:
    """Stand-in for the class numpy.ndarray, which pickles only refer to."""


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _Marker:
        raise pickle.UnpicklingError("it creates an array of another class")
    return _Array()


def _scalar(dtype: _DType, raw: bytes) -> Any:
    return dtype.read(raw, 1)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Marker,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = _reconstruct
    _ALLOWED[_module, "scalar"] = _scalar


class _PlainUnpickler(pickle.Unpickler):
    """Creates only plain values and the stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it uses {module}.{name}, which annotations do not need")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        del pid
        raise pickle.UnpicklingError("it refers to external objects")


def _unwrap(value: Any) -> Any:
    if isinstance(value, _Array):
        return _unwrap(value.value)
    if isinstance(value, dict):
        return {_unwrap(k): _unwrap(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_unwrap(v) for v in value)
    if isinstance(value, (_DType, type)):
        raise pickle.UnpicklingError("it contains a type instead of a value")
    return value


def _load(data: bytes) -> Any:
    errors = []
    for encoding in ("utf-8", "latin1"):  # of texts written by Python 2
        try:
            return _unwrap(_PlainUnpickler(io.BytesIO(data), encoding=encoding).load())
        except UnicodeDecodeError as error:
            errors.append(error)
        except Exception as error:  # a damaged stream raises arbitrary errors
            raise ValueError(f"the pickle is refused ({error})") from error
    raise ValueError(f"the pickle is refused ({errors[-1]})")


def load_plain_pickle(path: Path) -> Any:
    """Loads a pickle of plain values (dict, list, text, numbers, arrays of numbers).

    Raises:
      ValueError: the file is damaged, or uses anything else.
    """
    return _load(refuse_device(path).read_bytes())


def load_object_npz(path: Path) -> dict[str, Any]:
    """Loads an npz file; members of dtype object are unpickled as by `load_plain_pickle`.

    Returns:
      {member: value}; arrays without dimensions become their value.

    Raises:
      ValueError: the file is damaged or not an npz file, or a member is not of plain values.
    """
    out = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                stream = io.BytesIO(archive.read(name))
                version = np.lib.format.read_magic(stream)
                header = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = header(stream)
                if dtype.hasobject:
                    value = _load(stream.read())
                else:
                    stream.seek(0)
                    array = np.lib.format.read_array(stream, allow_pickle=False)
                    value = array.item() if shape == () else array
                out[name.removesuffix(".npy")] = value
    except (zipfile.BadZipFile, EOFError, KeyError, OSError) as error:
        raise ValueError(f"is not a readable npz file ({error})") from error
    return out

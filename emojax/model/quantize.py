"""Frozen kernels as int8 with one float32 scale per output channel: half the memory of bfloat16.

W [.., d_in, d_out] ~ q * scale with scale = max |W| over d_in / 127. Weights only: activations keep
their dtype.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

# Kernels of `Dense(quantizable=True)`: transformer blocks and LLaMA's output head.
INT8_KERNELS = re.compile(r"params/(.+/)?(blocks/\w+|llama/head)/kernel")
SCALE = "_scale"


def quantize_kernel(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float[.., d_in, d_out] -> (int8 of the same shape, float32[.., d_out])."""
    if kernel.ndim > 2:  # layer by layer, so that only one layer is in memory as float32
        quantized, scales = np.empty(kernel.shape, np.int8), []
        for i, layer in enumerate(kernel):
            quantized[i], scale = quantize_kernel(layer)
            scales.append(scale)
        return quantized, np.stack(scales)
    kernel = np.asarray(kernel, np.float32)
    scale = np.maximum(np.abs(kernel).max(axis=-2), np.finfo(np.float32).tiny) / 127
    return np.rint(kernel / scale[..., None, :]).astype(np.int8), scale


def dequantize_kernel(kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The inverse of `quantize_kernel` in float32, off by at most half a step."""
    out: np.ndarray = kernel.astype(np.float32) * scale[..., None, :]
    return out


def quantize_leaves(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """{path: array} of a model with float kernels -> the same model with `kernels` "int8"."""
    out = dict(leaves)
    for path in leaves:
        if INT8_KERNELS.fullmatch(path):
            out[path], out[path + SCALE] = quantize_kernel(np.asarray(leaves[path]))
    return out


def dequantize_leaves(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `quantize_leaves`; without int8 kernels nothing changes."""
    out = {p: x for p, x in leaves.items() if not p.endswith("/kernel" + SCALE)}
    for path in leaves:
        if path + SCALE in leaves:
            out[path] = dequantize_kernel(
                np.asarray(leaves[path]), np.asarray(leaves[path + SCALE])
            )
    return out

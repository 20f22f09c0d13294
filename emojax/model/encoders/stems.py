"""Initial patch kernels and positions for picture encoders that are trained from scratch."""

from __future__ import annotations

import numpy as np


def cosine_kernel(patch: int, width: int) -> np.ndarray:
    """A patch kernel of low 2-D cosines of brightness (3/4 of the width) and two colours.

    The power of natural images falls as about 1/f^2: each cosine is scaled by (1 + f)^2, so edges
    start with the same magnitude as the mean brightness of a patch.

    Args:
      patch: side of a patch, pixels.
      width: number of output channels.

    Returns:
      float32[patch^2 * 3, width].
    """
    n = np.arange(patch)
    order = sorted(
        ((u, v) for u in range(patch) for v in range(patch)), key=lambda uv: (sum(uv), uv)
    )
    colours = np.array([[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]])
    colours = colours / np.linalg.norm(colours, axis=1, keepdims=True)
    bright = width - 2 * (width // 8)
    columns = []
    for colour, count in zip(colours, (bright, width // 8, width // 8), strict=True):
        for u, v in order[:count]:
            wave = np.outer(
                np.cos(np.pi * (n + 0.5) * u / patch), np.cos(np.pi * (n + 0.5) * v / patch)
            )
            wave *= (1 + u + v) ** 2 / np.linalg.norm(wave)
            columns.append((wave[:, :, None] * colour).reshape(-1))
    assert len(columns) == width, (patch, width)
    return (np.stack(columns, axis=1) / (2 * patch)).astype(np.float32)


def grid_sinusoids(grid: int, width: int) -> np.ndarray:
    """float32[1, 1 + grid^2, width]: sines and cosines of row and column; class token zero."""
    frequency = 0.01 ** (np.arange(width // 4) / (width // 4))
    rows, columns = (axis.reshape(-1, 1) * frequency for axis in np.indices((grid, grid)))
    table = np.concatenate([np.sin(rows), np.cos(rows), np.sin(columns), np.cos(columns)], axis=1)
    return np.concatenate([np.zeros((1, width)), table])[None].astype(np.float32)

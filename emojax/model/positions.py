"""Resizes positional embeddings of image encoders to another number of patches, as torch does."""

from __future__ import annotations

import numpy as np


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel with a = -0.75 as in torch (jax.image.resize has a = -0.5)."""
    a, d = -0.75, np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def resize_matrix(old: int, new: int) -> np.ndarray:
    """float64[new, old]: torch's bicubic resize of one axis, align_corners False, no antialias.

    Written by hand to be exact: no library resizes with torch's kernel without torch.
    """
    source = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(source).astype(int) - 1
    matrix = np.zeros((new, old))
    for tap in range(4):
        index = first + tap
        np.add.at(matrix, (np.arange(new), np.clip(index, 0, old - 1)), _cubic(source - index))
    return matrix


def resize_positions(positions: np.ndarray, grid: int) -> np.ndarray:
    """Resizes a positional embedding to another grid; the class vector is copied.

    Args:
      positions: [1, 1 + old^2, D].
      grid: patches along one side of the new grid.

    Returns:
      [1, 1 + grid^2, D].

    Raises:
      ValueError: the old grid is not a square.
    """
    cls, table = positions[:, :1], positions[:, 1:]
    old = round(table.shape[1] ** 0.5)
    if old * old != table.shape[1]:
        raise ValueError(f"{table.shape[1]} positions are not a square grid")
    if old == grid:
        return positions
    square = table.reshape(old, old, -1).astype(np.float64)
    m = resize_matrix(old, grid)
    resized = np.einsum("ah,bw,hwd->abd", m, m, square).reshape(1, grid * grid, -1)
    return np.concatenate([cls, resized.astype(positions.dtype)], axis=1)

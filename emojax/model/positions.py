"""Resizes positional embeddings of image encoders to another number of patches, as torch does."""

from __future__ import annotations

import numpy as np


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic kernel."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def resize_matrix(old: int, new: int, *, antialias: bool = False) -> np.ndarray:
    """float64[new, old]: torch's bicubic resize of one axis, align_corners False.

    Written by hand to be exact: no library resizes with torch's kernels without torch. That of
    torch has a = -0.75, with `antialias` -0.5, and is then widened where the axis shrinks.
    """
    source = (np.arange(new) + 0.5) * old / new - 0.5
    if antialias:
        widened = max(1.0, old / new)
        matrix = _cubic((np.arange(old) - source[:, None]) / widened, -0.5)
        # Torch's window ends at whole positions.
        low = np.floor(np.maximum(source - 2 * widened + 1, 0)).astype(int)
        high = np.floor(np.minimum(source + 2 * widened + 1, old)).astype(int)
        inside = (np.arange(old) >= low[:, None]) & (np.arange(old) < high[:, None])
        matrix = np.where(inside, matrix, 0)
        normalised: np.ndarray = matrix / matrix.sum(axis=1, keepdims=True)
        return normalised
    first = np.floor(source).astype(int) - 1
    matrix = np.zeros((new, old))
    for tap in range(4):
        index = first + tap
        np.add.at(
            matrix, (np.arange(new), np.clip(index, 0, old - 1)), _cubic(source - index, -0.75)
        )
    return matrix


def resize_positions(
    positions: np.ndarray, grid: int, *, prefix: int = 1, antialias: bool = False
) -> np.ndarray:
    """Resizes a positional embedding to another grid; the first vectors are copied.

    Args:
      positions: [1, prefix + old^2, D].
      grid: patches along one side of the new grid.
      prefix: number of first vectors without a place: 1 for a class token.
      antialias: whether the kernel is widened where the grid shrinks.

    Returns:
      [1, prefix + grid^2, D].

    Raises:
      ValueError: the old grid is not a square.
    """
    first, table = positions[:, :prefix], positions[:, prefix:]
    old = round(table.shape[1] ** 0.5)
    if old * old != table.shape[1]:
        raise ValueError(f"{table.shape[1]} positions are not a square grid")
    if old == grid:
        return positions
    square = table.reshape(old, old, -1).astype(np.float64)
    m = resize_matrix(old, grid, antialias=antialias)
    resized = np.einsum("ah,bw,hwd->abd", m, m, square).reshape(1, grid * grid, -1)
    return np.concatenate([first, resized.astype(positions.dtype)], axis=1)

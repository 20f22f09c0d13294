"""Batches of rows to the devices."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from data_pipeline.loader.batches import NAMES
from emojax.sharding import put_batch


def to_device(batch: dict[str, Any]) -> dict[str, Any]:
    """The array fields that the model reads; under a mesh (`jax.set_mesh`) that divides them, their rows are spread."""
    skip = (NAMES, "labels", "answer_at", "row_tokens")
    arrays = {k: np.asarray(v) for k, v in batch.items() if k not in skip}
    mesh = jax.sharding.get_mesh()
    # With several processes each gives the same rows as NumPy, and jit spreads them.
    if mesh.empty or mesh.size == 1 or jax.process_count() > 1:
        return arrays
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    return arrays if len(arrays["ids"]) % parts else put_batch(arrays, mesh)

"""Moves batches to the devices."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from data_pipeline.loader.samples import NAMES
from emojax.sharding import put_batch


def to_device(batch: dict[str, Any]) -> dict[str, Any]:
    """The array fields that the model reads.

    Under a mesh (`jax.set_mesh`) whose data axes divide the batch size, the rows are spread over
    the devices.
    """
    skip = (NAMES, "labels", "answer_at", "row_tokens")
    arrays = {k: np.asarray(v) for k, v in batch.items() if k not in skip}
    mesh = jax.sharding.get_mesh()
    # With several processes each one passes the same rows as NumPy arrays, and jit spreads them.
    if mesh.empty or mesh.size == 1 or jax.process_count() > 1:
        return arrays
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    return arrays if len(arrays["ids"]) % shards else put_batch(arrays, mesh)

"""Loads the face nets of face-api: their weights, and where fetched ones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from data_pipeline.media.face_crops import CROP
from emojax.model.encoders.face_api import NAMES, FaceNetConfig, make_net, tables
from emojax.model.variables import flatten, merge
from emojax.weights.load_tensors import load_tensors
from emojax.weights.part_files import find_part_files
from emojax.weights.tensor_files import open_tensors


def load_face_net(config: FaceNetConfig, weights: Path | None = None) -> Any:
    """The variables of a face net.

    Args:
      config: which net.
      weights: its manifest of TensorFlow.js or a folder with one; None: as fetched.

    Returns:
      {"params": ...} for `make_net(config).apply`.

    Raises:
      FileNotFoundError: the weights are absent; the message says how to fetch them.
      ValueError: the weights are damaged or of another net.
    """
    files = find_part_files(NAMES[config.net]) if weights is None else weights
    crop = jnp.zeros((1, CROP, CROP, 3))
    net = make_net(config)
    shapes = jax.eval_shape(net.init, jax.random.key(0), crop)["params"]
    leaves = load_tensors(tables(config)[0], open_tensors(files), flatten(shapes))
    return merge({}, {f"params/{path}": jnp.asarray(leaf) for path, leaf in leaves.items()})

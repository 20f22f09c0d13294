"""The number formats of weights: converts them while a model folder is read, leaf by leaf."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from emojax.bundle.errors import first_line
from emojax.bundle.memory import buffer_gb
from emojax.config import Settings, resolve_saved
from emojax.model.quantize import INT8_KERNELS, SCALE, quantize_kernel
from emojax.model.variables import abstract_variables, flatten, merge, unbox
from emojax.sharding import shape_struct

# {name: fields of config.model that it sets}. fp16-parity: the format of the released runs, whose
# weights are float16; bfloat16 keeps three bits less of each.
FORMATS: dict[str, dict[str, str]] = {
    "bf16": {"param_dtype": "bfloat16", "compute_dtype": "bfloat16", "kernels": "float"},
    "int8": {"kernels": "int8"},
    "fp16-parity": {"param_dtype": "float16", "compute_dtype": "float16", "kernels": "float"},
}


def with_precision(settings: Settings, precision: str) -> Settings:
    """The settings of a saved model with its weights in another format.

    Args:
      settings: as saved.
      precision: a key of FORMATS; "": unchanged.

    Returns:
      `settings` itself if nothing changes, else new ones.

    Raises:
      ValueError: the stored weights have lost what this format would need.
    """
    model = settings.raw["model"]
    wanted = FORMATS[precision] if precision else {}
    if all(model[field] == value for field, value in wanted.items()):
        return settings
    stored = "int8" if model["kernels"] == "int8" else model["param_dtype"]
    if stored == "int8" or (precision == "fp16-parity" and stored == "bfloat16"):
        raise ValueError(
            f"the weights are stored as {stored}, from which --{precision} cannot be made: import "
            f"them again with --{precision}"
        )
    return resolve_saved({**settings.raw, "model": {**model, **wanted}})


def with_layout(settings: Settings, layout: str) -> Settings:
    """The settings of a saved model with another layout of prompts.

    Args:
      settings: as saved.
      layout: a value of `config.data.layout`; "": unchanged.

    Returns:
      `settings` itself if nothing changes, else new ones.

    Raises:
      ValueError: the model was trained here and knows only the prompts of its training.
    """
    data = settings.raw["data"]
    if layout in ("", data["layout"]):
        return settings
    if data["layout"] == "train":
        raise ValueError(
            f"--mode {layout} is for released weights, and this model was trained here"
        )
    return resolve_saved({**settings.raw, "data": {**data, "layout": layout}})


def stored_shapes(folder: Path) -> dict[str, Any]:
    """{path: shape and dtype} of the weights in a model folder; reads no values.

    Raises:
      FileNotFoundError: there are no weights.
      ValueError: they are damaged.
    """
    weights = folder.absolute() / "weights"
    if not (weights / "_METADATA").exists():
        raise FileNotFoundError(
            f"{folder}/weights is missing or damaged: copy the whole model folder again"
        )
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.metadata(weights).item_metadata.tree
        return {p: shape_struct(m.shape, m.dtype) for p, m in flatten(tree).items()}
    except Exception as error:  # Orbax raises many types for truncated, changed or missing files
        raise _damaged(weights, error) from error


def target_shapes(
    stored: Mapping[str, Any], *, saved: Settings, settings: Settings
) -> dict[str, Any]:
    """{path: shape and dtype} of the weights after conversion.

    Trained leaves are float32 in a folder whose other leaves are not, and stay float32.

    Args:
      stored: of `stored_shapes`.
      saved: the settings of the folder.
      settings: those of `with_precision`.
    """
    if settings is saved:
        return dict(stored)
    before, after = (flatten(unbox(abstract_variables(s.model))) for s in (saved, settings))
    out: dict[str, Any] = {}
    for path, leaf in stored.items():
        kept = path not in before or leaf.dtype != before[path].dtype
        out[path] = leaf if kept else shape_struct(leaf.shape, after[path].dtype)
    return out | {p: shape_struct(x.shape, x.dtype) for p, x in after.items() if p.endswith(SCALE)}


def restore_weights(
    folder: Path, shardings: Mapping[str, Any], *, saved: Settings, settings: Settings
) -> Any:
    """Reads the weights of a model folder in the format of `settings`.

    Kernels that become int8 are read one at a time, so that their floats are never all in memory.

    Args:
      folder: the model folder.
      shardings: {path: sharding}; by default leaves go to the first device.
      saved: the settings of the folder.
      settings: those of `with_precision`.

    Returns:
      Nested {params, lora}.

    Raises:
      FileNotFoundError: there are no weights.
      ValueError: they are damaged.
    """
    stored = stored_shapes(folder)
    target = target_shapes(stored, saved=saved, settings=settings)
    weights = folder.absolute() / "weights"
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def place(path: str) -> Any:
        return shardings.get(path, device)

    converted = [p for p in stored if target[p].dtype == jnp.int8 != stored[p].dtype]
    # Largest first: at the end, when most is in memory already, only small ones are converted.
    converted.sort(key=lambda p: -stored[p].size)
    out: dict[str, Any] = {}
    for path in converted:
        assert INT8_KERNELS.fullmatch(path), path
        leaf = {path: shape_struct(stored[path].shape, stored[path].dtype, place(path))}
        kernel, scale = quantize_kernel(np.asarray(_restore(weights, leaf)[path]))
        out[path] = jax.device_put(kernel, place(path))
        out[path + SCALE] = jax.device_put(scale, place(path + SCALE))
    rest = {
        p: shape_struct(x.shape, x.dtype, place(p))
        for p, x in target.items()
        if p in stored and p not in out
    }
    return merge(out | _restore(weights, rest), {})


def _restore(weights: Path, leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Some leaves of a checkpoint, in the dtypes and shardings of `leaves`."""
    tree = merge(dict(leaves), {})
    arguments = ocp.checkpoint_utils.construct_restore_args(tree)
    # Orbax holds a copy of what it reads: of a few leaves at a time.
    handler = ocp.PyTreeCheckpointHandler(restore_concurrent_gb=buffer_gb(leaves))
    try:
        with ocp.Checkpointer(handler) as checkpointer:
            return flatten(
                checkpointer.restore(
                    weights,
                    args=ocp.args.PyTreeRestore(tree, restore_args=arguments, partial_restore=True),
                )
            )
    except Exception as error:  # Orbax raises many types for truncated, changed or missing files
        raise _damaged(weights, error) from error


def _damaged(weights: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{weights} is damaged: import or train the model again ({first_line(error)})"
    )

"""Rematerialisation: which intermediate results a layer keeps for its backward pass, by name.

Everything else is computed again. The gradient of a frozen kernel is never needed, so its input is
not kept: "most" recomputes one small matmul and takes 84 KB per token and layer of LLaMA-2-7B in
bfloat16. Names are set by `checkpoint_name` in llama.py and attention.py; the splash kernel sets
its own.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax import ad_checkpoint

REMAT: dict[str, tuple[str, ...]] = {
    "full": (),
    "qkv": ("q", "k", "v"),
    "qkv_gate": ("q", "k", "v", "gate"),
    "most": ("q", "k", "v", "attention", "gate", "up"),
}
REMAT_POLICIES: dict[str, Callable[..., bool] | None] = {
    **{name: jax.checkpoint_policies.save_only_these_names(*kept) for name, kept in REMAT.items()},
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def checkpoint_name(x: jax.Array, name: str) -> jax.Array:
    """Names an intermediate result that a policy of REMAT may save."""
    named: jax.Array = ad_checkpoint.checkpoint_name(x, name)  # type: ignore[no-untyped-call]
    return named

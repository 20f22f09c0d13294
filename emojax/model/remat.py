"""Rematerialisation: which intermediate results a layer keeps for its backward pass, by name.

Everything else is computed again. The gradient of a frozen kernel is never needed, so its input is
not kept: "all" runs no matmul of a layer again but those of its adapters, and takes 92 KB per token
and layer of LLaMA-2-7B in bfloat16. Names are set by `checkpoint_name` in llama.py and in
attention.py; the splash kernel sets its own. cuDNN's kernel has no name: a policy that keeps
"attention" keeps its results, output and log-sum-exps, so that the backward pass does not run it
again. `emojax/train/step_memory.py` chooses a policy by memory in place of "auto".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import ad_checkpoint

REMAT: dict[str, tuple[str, ...]] = {
    "full": (),
    "qkv": ("q", "k", "v"),
    "qkv_gate": ("q", "k", "v", "gate"),
    "most": ("q", "k", "v", "attention", "gate", "up"),
    "all": ("q", "k", "v", "attention", "residual", "gate", "up"),
}
CUDNN = "dot_product_attention_fwd_wrapper"  # JAX's operation of cuDNN's forward pass


def _keep_cudnn(operation: Any, *_: Any, **__: Any) -> bool:
    """A policy of `jax.checkpoint`: keeps the results of cuDNN's attention."""
    return str(operation) == CUDNN


def _policy(kept: tuple[str, ...]) -> Callable[..., bool]:
    policies: Any = jax.checkpoint_policies
    by_name: Callable[..., bool] = policies.save_only_these_names(*kept)
    if "attention" not in kept:
        return by_name
    both: Callable[..., bool] = policies.save_from_both_policies(by_name, _keep_cudnn)
    return both


def remat_names(remat: str) -> tuple[str, ...]:
    """What a policy keeps: that of REMAT, or the names themselves, joined by commas.

    "none" (no rematerialisation) keeps everything that has a name, and the rest.
    """
    if remat in ("none", "dots"):
        return (*REMAT["all"], "rest")
    return REMAT[remat] if remat in REMAT else tuple(remat.split(","))


def remat_policy(remat: str) -> Callable[..., bool]:
    """The policy for `jax.checkpoint`: "dots", or as `remat_names`."""
    if remat == "dots":
        dots: Callable[..., bool] = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        return dots
    return _policy(remat_names(remat))


def checkpoint_name(x: jax.Array, name: str) -> jax.Array:
    """Names an intermediate result that a policy of REMAT may save."""
    named: jax.Array = ad_checkpoint.checkpoint_name(x, name)  # type: ignore[no-untyped-call]
    return named

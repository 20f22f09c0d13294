"""FLOPs of a training step: useful ones by formula, executed ones counted in the program.

Useful: a kernel of N entries costs 2 N per position in the forward pass, 2 N for the gradient of
its input, and 2 N for its own gradient. A frozen kernel has no gradient of its own, and a frozen
tower no backward pass; so LoRA training of a language model costs 4 N per token. Attention counts
the positions that a causal query sees, the output head only the answer positions. Recomputation and
padding inside kernels are not useful.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.extend

from emojax.model.attention import splash_tile
from emojax.model.build import ModelConfig
from emojax.model.layers import EncoderConfig
from emojax.model.remat import CUDNN
from emojax.model.variables import Flat

# JAX's operations of cuDNN's attention: matmuls over the visible part of the square
CUDNN_MATMULS = {CUDNN: 2, "dot_product_attention_bwd_wrapper": 5}
TILE = 128  # of cuDNN's causal kernel; tiles on the diagonal are computed completely


def clip_positions(config: ModelConfig) -> dict[str, int]:
    """Positions of one clip in each part of the model, by the name of the part in the tree."""
    return config.tower_positions | {
        f"project_{name}": tokens for name, tokens in config.spans.items()
    }


def step_flops(config: ModelConfig, trainable: Flat, frozen: Flat) -> tuple[float, float]:
    """FLOPs of kernels, forward and backward, without output head and attention.

    Args:
      config: the network.
      trainable: {path: array or shape} of trainable variables.
      frozen: the same of frozen ones.

    Returns:
      (FLOPs per token of a row, FLOPs per clip). A part without fixed positions counts as one.
    """
    positions = clip_positions(config)
    trainable_parts = {path.split("/")[1] for path in trainable}
    per_token = per_clip = 0.0
    for tree, gradient in ((trainable, 2), (frozen, 0)):
        for path, leaf in tree.items():
            part, name = path.split("/")[1], path.split("/")[-1]
            if name not in ("kernel", "a", "b") or path == "params/llama/head/kernel":
                continue
            size = math.prod(leaf.shape)
            if part == "llama":  # its input, the soft prompt, always needs a gradient
                per_token += (4 + gradient) * size
            else:
                each = 2 + 2 * (part in trainable_parts) + gradient
                per_clip += each * size * positions.get(part, 1)
    return per_token, per_clip


def useful_flops(
    config: ModelConfig,
    trainable: Flat,
    frozen: Flat,
    *,
    batch_size: int,
    length: int,
    answers: int,
) -> dict[str, float]:
    """Useful FLOPs of one step.

    Args:
      config: the network.
      trainable: {path: array or shape} of trainable variables.
      frozen: the same of frozen ones, without towers whose features are cached.
      batch_size: rows of the batch, over all devices.
      length: tokens per row.
      answers: answer positions per row.

    Returns:
      FLOPs of the parts llama, attention, head and clip.
    """
    per_token, per_clip = step_flops(config, trainable, frozen)
    llama = config.llama
    heads = llama.heads * llama.head_width  # grouped keys and values cost as much as whole ones
    head = 6 if "params/llama/head/kernel" in trainable else 4
    parts = {path.split("/")[1] for path in (*frozen, *trainable)}
    trainable_parts = {path.split("/")[1] for path in trainable}
    towers = sum(
        attention_flops(encoder, positions) * (3 if part in trainable_parts else 1) * count
        for part, (encoder, positions, count) in config.tower_attention.items()
        if part in parts
    )
    return {
        "llama": batch_size * length * per_token,
        "attention": batch_size * 3 * 2 * length**2 * heads * llama.depth,
        "head": batch_size * answers * head * llama.width * llama.vocab,
        "clip": batch_size * (per_clip + towers),
    }


def attention_flops(encoder: EncoderConfig, length: int) -> float:
    """Forward FLOPs of a tower's attention over `length` positions that all see each other."""
    return 4 * length**2 * encoder.width * encoder.depth


def executed_flops(closed: Any) -> float:
    """Matmul and convolution FLOPs of a traced program on all devices.

    Args:
      closed: `jitted.trace(...).jaxpr`.

    Returns:
      FLOPs; loops count with their length, attention kernels of TPUs and GPUs with their matmuls
      over the tiles that they visit.
    """
    return _count(closed.jaxpr, 1.0)


def _count(jaxpr: Any, times: float, scope: str = "") -> float:
    """FLOPs of a program that runs `times` times in named scopes `scope`."""
    total = 0.0
    for eqn in jaxpr.eqns:
        name, p, inside = eqn.primitive.name, eqn.params, f"{scope}/{eqn.source_info.name_stack}"
        if name == "dot_general":
            (contract, _), _ = p["dimension_numbers"]
            inner = math.prod(eqn.invars[0].aval.shape[d] for d in contract)
            total += times * 2 * math.prod(eqn.outvars[0].aval.shape) * inner
        elif name == "conv_general_dilated":
            out, kernel = eqn.outvars[0].aval.shape, eqn.invars[1].aval.shape
            features = p["dimension_numbers"].rhs_spec[0]
            total += times * 2 * math.prod(out) * math.prod(kernel) / kernel[features]
        elif name == "pallas_call":
            total += times * _kernel(eqn, inside)
        elif name in CUDNN_MATMULS:
            total += times * _cudnn(eqn)
        else:
            more = times
            if name == "scan":
                more *= p["length"]
            elif name == "shard_map":
                more *= math.prod(p["mesh"].shape.values())
            bodies = (
                p["branches"]
                if name == "cond"
                else jax.tree.leaves(list(p.values()), is_leaf=_is_jaxpr)
            )
            counted = [_count(getattr(b, "jaxpr", b), more, inside) for b in bodies if _is_jaxpr(b)]
            total += (max(counted) if name == "cond" else sum(counted)) if counted else 0.0
    return total


def _is_jaxpr(x: Any) -> bool:
    return isinstance(x, (jax.extend.core.Jaxpr, jax.extend.core.ClosedJaxpr))


def _kernel(eqn: Any, scope: str) -> float:
    """A splash kernel: 2 (forward), 3 (dq) or 4 (dk, dv) matmuls over the tiles that it visits."""
    name = str(eqn.params.get("name_and_src_info", eqn.params.get("name", "")))
    matmuls = 4 if "dkv" in name else 3 if "dq" in name else 2
    shape = max((v.aval.shape for v in eqn.invars if len(v.aval.shape) >= 3), key=math.prod)
    length, width = shape[-2:]
    causal = "splash_causal" in scope
    visited = length * (length + splash_tile(length)) / 2 if causal else length**2
    return float(matmuls * 2 * math.prod(shape[:-2]) * visited * width)


def _cudnn(eqn: Any) -> float:
    """Attention by cuDNN: q [B, T, N, H] to k [B, S, N, H], in tiles of TILE."""
    (batch, length, heads, width), keys = eqn.invars[0].aval.shape, eqn.invars[1].aval.shape[1]
    causal = "CAUSAL" in eqn.params["mask_type"].name
    visited = length * (length + TILE) / 2 if causal else length * keys
    return float(CUDNN_MATMULS[eqn.primitive.name] * 2 * batch * heads * visited * width)

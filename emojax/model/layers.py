"""Norms and the transformer encoder that all encoders share.

Letters as in emojax/types.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.attention import attention
from emojax.model.dense import FLOAT32, Dense, Precision
from emojax.model.remat import REMAT_POLICIES
from emojax.sharding import constrain, partitioned, platform

Array = jax.Array
TPU_ROWS = 16  # rows of bfloat16 in a register of a TPU


def gelu(x: Array) -> Array:
    """The exact GELU.

    On CPU by erf, as in torch; the form by erfc, which is more precise far below zero, takes twice
    as long there.
    """
    if platform() != "cpu":
        return nn.gelu(x, approximate=False)
    return 0.5 * x * (1 + jax.lax.erf(x * np.asarray(0.5**0.5, x.dtype)))


def fusion_barrier(x: Array) -> Array:
    """Prevents XLA:TPU from fusing the following operation into the matmul that made `x`.

    Fused with the sums of a norm, the matmul may take twice its time (XLA's own estimates).
    """
    if platform() != "tpu":
        return x
    out: Array = jax.lax.optimization_barrier(x)  # type: ignore[no-untyped-call]
    return out


class LayerNorm(nn.Module):
    """LayerNorm over the last axis, computed in float32, cast back to the input's dtype."""

    eps: float = 1e-6

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """float[..., D] -> float[..., D]."""
        width = x.shape[-1]
        scale = self.param("scale", partitioned(nn.initializers.ones, ("act_embed",)), (width,))
        bias = self.param("bias", partitioned(nn.initializers.zeros, ("act_embed",)), (width,))
        h = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        h = h - h.mean(axis=-1, keepdims=True)
        h = h * jax.lax.rsqrt(jnp.square(h).mean(axis=-1, keepdims=True) + self.eps)
        out: Array = (h * scale + bias).astype(x.dtype)
        return out


class RMSNorm(nn.Module):
    """LLaMA's RMSNorm, computed in float32, cast back before the scale (as transformers does)."""

    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """float[..., D] -> float[..., D]."""
        scale: Array = self.param(
            "scale", partitioned(nn.initializers.ones, ("act_embed",)), (x.shape[-1],)
        )
        h = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        h = h * jax.lax.rsqrt(jnp.square(h).mean(axis=-1, keepdims=True) + self.eps)
        return h.astype(x.dtype) * scale.astype(x.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of a transformer encoder; all encoders have the same layers otherwise.

    Attributes:
      width: D.
      depth: number of layers.
      heads: N.
      mlp: M.
      eps: of the norms.
      dropout: rate after attention and MLP.
      remat: "none" or a policy of remat.REMAT_POLICIES.
      unroll: layers per iteration of the scan, unrolled in the program (faster on CPU at small
        depth, same parameters).
      precision: number formats.
      key_bias: whether k has a bias (MAE, HuBERT), as q and v always have.
      post_norm: whether norms follow the sums (HuBERT base).
      unstacked_layers: whether each layer has arrays of its own (`unstack_layers`), for inference
        on CPU.
    """

    width: int
    depth: int
    heads: int
    mlp: int
    eps: float
    dropout: float = 0.0
    remat: str = "none"
    unroll: int = 1
    precision: Precision = FLOAT32
    key_bias: bool = False
    post_norm: bool = False
    unstacked_layers: bool = False


class EncoderBlock(nn.Module):
    """One layer: x + proj(attention(norm1 x)), then x + fc2(gelu(fc1(norm2 x))).

    With `post_norm`: norm1(x + ...), norm2(x + ...).
    """

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array, key_mask: Array | None, deterministic: bool) -> tuple[Array, None]:
        """(float[B, T, D], bool[B, T] as in `attention`) -> (float[B, T, D], None) for the scan."""
        c = self.config
        x = constrain(x, "batch", "length", "act_embed")

        def dense(
            name: str,
            features: int,
            axes: tuple[str, str],
            *,
            use_bias: bool = True,
            heads: int = 0,
        ) -> Dense:
            return Dense(
                features,
                axes,
                use_bias=use_bias,
                precision=c.precision,
                quantizable=True,
                heads=heads,
                name=name,
            )

        norm1, norm2 = LayerNorm(c.eps, name="norm1"), LayerNorm(c.eps, name="norm2")
        h = x if c.post_norm else norm1(x)
        q = dense("q", c.width, ("embed", "heads"), heads=c.heads)(h)
        k = dense("k", c.width, ("embed", "heads"), use_bias=c.key_bias, heads=c.heads)(h)
        v = dense("v", c.width, ("embed", "heads"), heads=c.heads)(h)
        h = attention(q, k, v, key_mask=key_mask).reshape(x.shape)
        h = dense("proj", c.width, ("heads", "embed"))(h)
        x = x + nn.Dropout(c.dropout)(h, deterministic=deterministic)
        x = norm1(x) if c.post_norm else x
        h = x if c.post_norm else norm2(x)
        h = gelu(dense("fc1", c.mlp, ("embed", "mlp"))(h))
        h = fusion_barrier(dense("fc2", c.width, ("mlp", "embed"))(h))
        x = x + nn.Dropout(c.dropout)(h, deterministic=deterministic)
        return (norm2(x) if c.post_norm else x), None


def scan_layers(block: Any, depth: int, *, num_inputs: int, remat: str, unroll: int) -> Any:
    """Lifts a block to `depth` layers over one stacked parameter tree (leading axis `layers`).

    Args:
      block: a module class with the call (carry, *inputs) -> (carry, output). Its last input is
        the static flag `deterministic`; every layer gets the same inputs.
      depth: number of layers.
      num_inputs: number of inputs besides the carry.
      remat: "none" or a policy of remat.REMAT_POLICIES.
      unroll: layers per iteration of the scan, unrolled in the program.

    Returns:
      The lifted module class.
    """
    if remat != "none":
        block = nn.remat(
            block, prevent_cse=False, policy=REMAT_POLICIES[remat], static_argnums=(num_inputs + 1,)
        )
    return nn.scan(
        block,
        variable_axes={"params": 0, "lora": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(nn.broadcast,) * num_inputs,
        length=depth,
        unroll=min(unroll, depth),
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


def unstack_layers(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Splits stacked layers into one array per layer, as `unstacked_layers` of the configs needs.

    XLA:CPU copies a layer's slice of a stack each time it is used; in decoding, for every token.

    Args:
      leaves: {path: array}; paths with /blocks/ are stacked, [L, ...].

    Returns:
      {path: array}: x/blocks/y becomes x/layers_0/y and so on.
    """
    out: dict[str, Any] = {}
    for path, array in leaves.items():
        if "/blocks/" in path:
            out |= {
                path.replace("/blocks/", f"/layers_{i}/"): array[i] for i in range(array.shape[0])
            }
        else:
            out[path] = array
    return out


class Encoder(nn.Module):
    """`depth` EncoderBlocks: float[B, T, D] -> float[B, T, D]."""

    config: EncoderConfig

    @nn.compact
    def __call__(
        self, x: Array, key_mask: Array | None = None, deterministic: bool = True
    ) -> Array:
        """Runs the layers; `key_mask` bool[B, T] as in `attention`."""
        c = self.config
        if c.unstacked_layers:
            for i in range(c.depth):
                x, _ = EncoderBlock(c, name=f"layers_{i}")(x, key_mask, deterministic)
            return x
        layers = scan_layers(EncoderBlock, c.depth, num_inputs=2, remat=c.remat, unroll=c.unroll)
        length = x.shape[1]
        # Padded to whole registers: 257 tokens as they are make every operation of a TPU slower.
        if extra := -length % TPU_ROWS if platform() == "tpu" else 0:
            key_mask = jnp.ones(x.shape[:2], bool) if key_mask is None else key_mask
            x, key_mask = (
                jnp.pad(x, ((0, 0), (0, extra), (0, 0))),
                jnp.pad(key_mask, ((0, 0), (0, extra))),
            )
        out: Array = layers(c, name="blocks")(x, key_mask, deterministic)[0][:, :length]
        return out


def pool_bins(length: Array | int, bins: int, steps: int) -> Array:
    """Torch's adaptive average pooling over the first `length` steps, as a matrix.

    Bin i averages steps floor(i n / bins) .. ceil((i + 1) n / bins) - 1 with n = length.

    Args:
      length: int or int[...], number of valid steps.
      bins: number of outputs.
      steps: number of inputs.

    Returns:
      float[..., bins, steps].
    """
    n = jnp.asarray(length)[..., None]
    i = jnp.arange(bins)
    low, high = (i * n) // bins, -((-(i + 1) * n) // bins)
    t = jnp.arange(steps)
    inside = (t >= low[..., None]) & (t < high[..., None])
    return inside / jnp.maximum(1, inside.sum(axis=-1, keepdims=True))


def pool_audio(states: Array, tokens: int, *, steps: Array | None = None) -> Array:
    """Adaptive average pooling over time.

    Args:
      states: float[B, S, D].
      tokens: number of outputs.
      steps: int[B], number of steps to average over; None: all.

    Returns:
      float[B, tokens, D].
    """
    length = states.shape[1] if steps is None else steps
    bins = jnp.broadcast_to(
        pool_bins(length, tokens, states.shape[1]), (states.shape[0], tokens, states.shape[1])
    )
    return jnp.einsum("bqs,bsd->bqd", bins.astype(states.dtype), states)

"""Norms and the transformer encoder that all encoders share.

Letters as in emojax/types.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.attention import attention
from emojax.model.dense import FLOAT32, Dense, Precision
from emojax.model.remat import remat_policy
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


def quick_gelu(x: Array) -> Array:
    """CLIP's approximation of GELU by the logistic function."""
    return x * jax.nn.sigmoid(1.702 * x)


def gelu_tanh(x: Array) -> Array:
    """GELU's approximation by the hyperbolic tangent."""
    return nn.gelu(x, approximate=True)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "quick_gelu": quick_gelu,
    "gelu_tanh": gelu_tanh,
}


def fusion_barrier(x: Any) -> Any:
    """Prevents XLA:TPU from fusing the following operation into the matmul that made `x`.

    Fused with the sums of a norm, the matmul may take twice its time (XLA's own estimates).
    """
    if platform() != "tpu":
        return x
    out: Any = jax.lax.optimization_barrier(x)  # type: ignore[no-untyped-call]
    return out


@jax.custom_vjp
def gradient_barrier(x: Any) -> Any:
    """The identity; its gradient is not fused with the operations before and after (on TPU).

    Args:
      x: an array or a tree of arrays.

    Returns:
      `x`.
    """
    return x


gradient_barrier.defvjp(lambda x: (x, None), lambda _, grad: (fusion_barrier(grad),))


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
      remat: "none", or a policy as of `remat_policy`.
      unroll: layers per iteration of the scan, unrolled in the program (faster on CPU at small
        depth, same parameters).
      precision: number formats.
      key_bias: whether k has a bias (MAE, HuBERT), as q and v always have.
      post_norm: whether norms follow the sums (HuBERT base).
      activation: of the MLP, a key of ACTIVATIONS.
      layer_scale: whether what a layer adds is scaled per channel (DINOv2).
      gated_bias: whether a gate made of the layer's input scales the position bias of each head.
      layer_weights: whether the output is the sum of the layers' outputs, weighted by the softmax
        of one learned number per layer.
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
    activation: Literal["gelu", "quick_gelu", "gelu_tanh"] = "gelu"
    layer_scale: bool = False
    gated_bias: bool = False
    layer_weights: bool = False
    unstacked_layers: bool = False


class EncoderBlock(nn.Module):
    """One layer: x + proj(attention(norm1 x)), then x + fc2(gelu(fc1(norm2 x))).

    With `post_norm`: norm1(x + ...), norm2(x + ...).

    Attributes:
      config: the encoder's.
      keep_states: whether the second result is the layer's output.
    """

    config: EncoderConfig
    keep_states: bool = False

    @nn.compact
    def __call__(
        self,
        carry: Any,
        weight: Array | None,
        key_mask: Array | None,
        position_bias: Array | None,
        deterministic: bool,
    ) -> tuple[Any, Array | None]:
        """Runs the layer.

        Args:
          carry: x float[B, T, D]; with `layer_weights` (x, weighted sum of the layers so far).
          weight: of this layer's output, with `layer_weights`; else None.
          key_mask: bool[B, T] as in `attention`.
          position_bias: float[N, T, T], added to the scores.
          deterministic: False enables dropout.

        Returns:
          (carry, the output where `keep_states`), as a scan needs it.
        """
        c = self.config
        x = carry[0] if c.layer_weights else carry
        x = constrain(x, "batch", "length", "act_embed")
        norm1, norm2 = LayerNorm(c.eps, name="norm1"), LayerNorm(c.eps, name="norm2")
        h = x if c.post_norm else norm1(x)
        q = self._dense("q", c.width, ("embed", "heads"), heads=c.heads)(h)
        k = self._dense("k", c.width, ("embed", "heads"), use_bias=c.key_bias, heads=c.heads)(h)
        v = self._dense("v", c.width, ("embed", "heads"), heads=c.heads)(h)
        bias = self._gated(position_bias, h) if c.gated_bias else position_bias
        h = attention(q, k, v, key_mask=key_mask, bias=bias).reshape(x.shape)
        h = self._scaled("scale1", self._dense("proj", c.width, ("heads", "embed"))(h))
        x = x + nn.Dropout(c.dropout)(h, deterministic=deterministic)
        x = norm1(x) if c.post_norm else x
        h = x if c.post_norm else norm2(x)
        h = ACTIVATIONS[c.activation](self._dense("fc1", c.mlp, ("embed", "mlp"))(h))
        h = fusion_barrier(self._dense("fc2", c.width, ("mlp", "embed"))(h))
        x = x + nn.Dropout(c.dropout)(self._scaled("scale2", h), deterministic=deterministic)
        x = norm2(x) if c.post_norm else x
        kept = x if self.keep_states else None
        if c.layer_weights:
            assert weight is not None
            total = carry[1]
            return (x, total + weight * x.astype(total.dtype)), kept
        return x, kept

    def _dense(
        self,
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
            precision=self.config.precision,
            quantizable=True,
            heads=heads,
            name=name,
        )

    def _scaled(self, name: str, h: Array) -> Array:
        """DINOv2's layer scale, where the encoder has it."""
        if not self.config.layer_scale:
            return h
        init = partitioned(nn.initializers.ones, ("act_embed",))
        scale: Array = self.param(name, init, (self.config.width,))
        return h * scale.astype(h.dtype)

    def _gated(self, position_bias: Array | None, h: Array) -> Array:
        """The position bias, scaled by a gate of each query and head: float[B, N, T, T]."""
        c = self.config
        assert position_bias is not None
        gate = Dense(8, (None, None), precision=c.precision, quantizable=True, name="gate")
        parts = gate(h.reshape(*h.shape[:2], c.heads, -1))
        first, second = jnp.split(parts.astype(jnp.float32), 2, axis=-1)
        reset, update = (jax.nn.sigmoid(x.sum(axis=-1)) for x in (first, second))
        scale = self.param("gate_scale", partitioned(nn.initializers.ones, (None,)), (c.heads,))
        factor = reset * (update * scale - 1) + 2
        scaled: Array = factor.transpose(0, 2, 1)[..., None] * position_bias
        return scaled


def scan_layers(
    block: Any, depth: int, *, num_inputs: int, remat: str, unroll: int, per_layer: int = 0
) -> Any:
    """Lifts a block to `depth` layers over one stacked parameter tree (leading axis `layers`).

    Args:
      block: a module class with the call (carry, *inputs) -> (carry, output). Its last input is
        the static flag `deterministic`; every layer gets the same inputs but the first `per_layer`.
      depth: number of layers.
      num_inputs: number of inputs besides the carry.
      remat: "none", or a policy as of `remat_policy`.
      unroll: layers per iteration of the scan, unrolled in the program.
      per_layer: number of first inputs that have one slice per layer.

    Returns:
      The lifted module class.
    """
    if remat not in ("none", "auto"):  # "auto" stays where nothing is trained
        block = nn.remat(
            block, prevent_cse=False, policy=remat_policy(remat), static_argnums=(num_inputs + 1,)
        )
    return nn.scan(
        block,
        variable_axes={"params": 0, "lora": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(0,) * per_layer + (nn.broadcast,) * (num_inputs - per_layer),
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
    """`depth` EncoderBlocks: float[B, T, D] -> float[B, T, D].

    The output of every layer is sown as `states` float[L, B, T, D] where the caller keeps the
    collection "intermediates".
    """

    config: EncoderConfig

    @nn.compact
    def __call__(
        self,
        x: Array,
        key_mask: Array | None = None,
        deterministic: bool = True,
        *,
        position_bias: Array | None = None,
    ) -> Array:
        """Runs the layers; `key_mask` bool[B, T] and `position_bias` as in `EncoderBlock`."""
        c, length = self.config, x.shape[1]
        keep = self.is_mutable_collection("intermediates")
        # Padded to whole registers: 257 tokens as they are make every operation of a TPU slower.
        extra = -length % TPU_ROWS if platform() == "tpu" and not c.unstacked_layers else 0
        if extra:
            key_mask = jnp.ones(x.shape[:2], bool) if key_mask is None else key_mask
            x = jnp.pad(x, ((0, 0), (0, extra), (0, 0)))
            key_mask = jnp.pad(key_mask, ((0, 0), (0, extra)))
            if position_bias is not None:
                position_bias = jnp.pad(position_bias, ((0, 0), (0, extra), (0, extra)))
        weights: Array | None = None
        carry: Any = x
        if c.layer_weights:
            init = partitioned(nn.initializers.zeros, (None,))
            weights = jax.nn.softmax(self.param("layer_weights", init, (c.depth,)))
            carry = x, jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32))
        inputs = key_mask, position_bias, deterministic
        if c.unstacked_layers:
            kept: Any = []
            for i in range(c.depth):
                weight = None if weights is None else weights[i]
                carry, state = EncoderBlock(c, keep, name=f"layers_{i}")(carry, weight, *inputs)
                kept.append(state)
            kept = jnp.stack(kept) if keep else None
        else:
            layers = scan_layers(
                EncoderBlock, c.depth, num_inputs=4, remat=c.remat, unroll=c.unroll, per_layer=1
            )
            carry, kept = layers(c, keep, name="blocks")(carry, weights, *inputs)
        if keep:
            self.sow("intermediates", "states", kept[:, :, :length])
        out: Array = carry[1].astype(x.dtype) if c.layer_weights else carry
        return out[:, :length]


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

"""Building blocks shared by every tower: Dense with LoRA, norms, attention, encoder blocks, scan.

Letters as in emojax/types.py. Mathematics stands in plain functions, modules hold the parameters.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from emojax.model.attention import attention
from emojax.sharding import constrain, gather_embed, partitioned, platform

Array = jax.Array

# What a layer keeps for its backward pass, by name; the rest is computed again. A frozen kernel's gradient is never asked
# for, so its input need not be kept: `most` recomputes one small matmul, at 84 KB a token and layer of LLaMA-2-7B in bfloat16.
# Names are set by `keep` in llama.py and, for the output of attention, by its kernel (attention.py).
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
keep = (
    checkpoint_name  # keep(x, name): marks an intermediate result that a policy of REMAT may save
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters: y = W x + (alpha / rank) B A dropout(x).

    `targets` are regular expressions, each matched against a projection's whole name
    (q, k, v, o, gate, up, down). Rank 0 means none. Defaults: Emotion-LLaMA v1 and v2.
    """

    rank: int = 64
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q", "v")

    def covers(self, projection: str) -> bool:
        """True when the projection of this name carries an adapter."""
        return self.rank > 0 and any(re.fullmatch(t, projection) for t in self.targets)


@dataclasses.dataclass(frozen=True)
class Precision:
    """compute: dtype of activations and matmuls. params: dtype at rest. Norms, softmax and loss: float32.

    `kernels` "int8": kernels of transformer blocks and the output head rest as int8 with a float32 scale for each
    output channel (weights only; see emojax/model/quantize.py). Such kernels can not learn.
    """

    compute: str = "float32"
    params: str = "float32"
    kernels: Literal["float", "int8"] = "float"


def gelu(x: Array) -> Array:
    """The exact GELU, with erf as torch has it; by erfc, which is more precise far below zero, it takes twice as long on CPU."""
    if platform() != "cpu":
        return nn.gelu(x, approximate=False)
    return 0.5 * x * (1 + jax.lax.erf(x * np.asarray(0.5**0.5, x.dtype)))


def fusion_barrier(x: Array) -> Array:
    """On TPU keeps what follows a matmul out of it: fused with the sums of a norm it may take twice its time (XLA's own estimates)."""
    return jax.lax.optimization_barrier(x) if platform() == "tpu" else x


def torch_uniform(fan_in: int) -> Callable[..., Array]:
    """Torch's default of Linear and Conv1d, weight and bias alike: uniform in +-1/sqrt(fan_in)."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def murmur(x: Array) -> Array:
    """MurmurHash3's finaliser of uint32: every bit of the input reaches every bit of the output."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def random_words(key: Array, shape: tuple[int, ...]) -> Array:
    """uint32[shape] for masks on CPU: the number of each entry, hashed twice with the words of the key.

    XLA's generators write their words to memory, a tenth of a small step's time; this fuses with what reads it.
    """
    words = jax.random.key_data(
        key
    )  # two words, or four, of which the second two may repeat the first
    first, second = murmur(words[0]) + words[-2], murmur(words[1]) + words[-1]
    number = jax.lax.iota(jnp.uint32, int(np.prod(shape))).reshape(shape)
    return murmur(murmur(number + first) + second)


def dropout(x: Array, rate: float, key: Array) -> Array:
    """Dropout; `rate` is met to 1 / 65536: 16 random bits an entry, half of what a float32 draw takes."""
    if platform() == "cpu":
        kept = random_words(key, x.shape) >= np.uint32(round(rate * 65536) << 16)
    else:
        kept = jax.random.bits(key, x.shape, jnp.uint16) >= round(rate * 65536)
    return jnp.where(kept, x * np.asarray(1 / (1 - rate), x.dtype), 0)


def _random_int8(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    return jax.random.randint(key, shape, -127, 128, dtype)


class Dense(nn.Module):
    """float[..., D_in] -> float[..., features], or with `heads` N float[..., N, features / N]; optional LoRA in collection `lora`.

    `axes` are the logical axes of the kernel [D_in, features]. `init_kind` is "normal" (0.02-like, scaled to
    the fan-in) for towers trained from scratch or "torch" for the projectors and the fusion; `kernel_init`
    replaces it. `base`: the kernel is of a base model and rests as `precision.kernels` says.
    """

    features: int
    axes: tuple[str | None, str | None] = ("embed", None)
    use_bias: bool = True
    precision: Precision = Precision()
    lora: LoraConfig | None = None
    init_kind: str = "normal"
    kernel_init: Callable[..., Any] | None = None
    base: bool = False
    heads: int = 0

    @nn.compact
    def __call__(self, x: Array, deterministic: bool = True) -> Array:
        dtype, rest = jnp.dtype(self.precision.compute), jnp.dtype(self.precision.params)
        d_in, split = (
            x.shape[-1],
            (self.heads, self.features // self.heads) if self.heads else (self.features,),
        )
        kernel_init = (
            torch_uniform(d_in) if self.init_kind == "torch" else nn.initializers.lecun_normal()
        )
        kernel_init = self.kernel_init or kernel_init
        x = x.astype(dtype)

        def times(x: Array, kernel: Array) -> Array:
            if self.heads and platform() == "tpu":
                # Heads straight out of the matmul: split off afterwards they cost a copy of everything.
                return jnp.einsum("...d,dnh->...nh", x, kernel.reshape(-1, *split))
            y = x @ kernel
            return y.reshape(*y.shape[:-1], *split)

        if self.base and self.precision.kernels == "int8":
            kernel = self.param(
                "kernel", partitioned(_random_int8, self.axes), (d_in, self.features), jnp.int8
            )
            flat = nn.initializers.constant(3 * d_in**-0.5 / 127)
            scale = self.param("kernel_scale", partitioned(flat, (self.axes[1],)), (self.features,))
            y = times(x, gather_embed(kernel, self.axes).astype(dtype)) * scale.astype(
                dtype
            ).reshape(split)
        else:
            kernel = self.param(
                "kernel", partitioned(kernel_init, self.axes), (d_in, self.features), rest
            )
            y = times(x, gather_embed(kernel.astype(dtype), self.axes))
        lora = self.lora
        if lora is not None:
            ends = [
                "embed" if axis == "embed" else "adapter" for axis in self.axes
            ]  # both are split under FSDP
            a_init = partitioned(torch_uniform(d_in), (ends[0], "rank"))
            b_init = partitioned(nn.initializers.zeros, ("rank", ends[1]))
            key = self.make_rng("params") if self.is_initializing() else None
            a = self.variable(
                "lora", "a", lambda: a_init(key, (d_in, lora.rank), jnp.float32)
            ).value
            b = self.variable(
                "lora", "b", lambda: b_init(key, (lora.rank, self.features), jnp.float32)
            ).value
            a, b = (
                gather_embed(a.astype(dtype), (self.axes[0], None)),
                gather_embed(b.astype(dtype), (None, self.axes[1])),
            )
            if lora.dropout and not deterministic:
                x = dropout(x, lora.dropout, self.make_rng("dropout"))
            y = y + times(x @ a, b) * (lora.alpha / lora.rank)
        if self.use_bias:
            bias_init = torch_uniform(d_in) if self.init_kind == "torch" else nn.initializers.zeros
            bias = self.param(
                "bias", partitioned(bias_init, (self.axes[1],)), (self.features,), rest
            )
            y = y + bias.astype(dtype).reshape(split)
        return y


class LayerNorm(nn.Module):
    """LayerNorm over the last axis, computed in float32, cast back to the input's dtype."""

    eps: float = 1e-6

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        scale = self.param("scale", partitioned(nn.initializers.ones, ("act_embed",)), (width,))
        bias = self.param("bias", partitioned(nn.initializers.zeros, ("act_embed",)), (width,))
        h = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        h = h - h.mean(axis=-1, keepdims=True)
        h = h * jax.lax.rsqrt(jnp.square(h).mean(axis=-1, keepdims=True) + self.eps)
        return (h * scale + bias).astype(x.dtype)


class RMSNorm(nn.Module):
    """LLaMA's RMSNorm, computed in float32, cast back before the scale (as transformers does)."""

    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param(
            "scale", partitioned(nn.initializers.ones, ("act_embed",)), (x.shape[-1],)
        )
        h = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        h = h * jax.lax.rsqrt(jnp.square(h).mean(axis=-1, keepdims=True) + self.eps)
        return h.astype(x.dtype) * scale.astype(x.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """A transformer encoder; the towers differ in nothing else.

    `key_bias`: k has a bias (MAE, HuBERT), as q and v always have. `post_norm`: norms follow the sums (HuBERT base).
    `remat` is none or a policy of REMAT_POLICIES; `unroll` is how many layers of the scan are laid out (faster on
    CPU at small depth, same parameters). `separate`: each layer has arrays of its own (`separate_layers`), for answers on CPU.
    """

    width: int
    depth: int
    heads: int
    mlp: int
    eps: float
    dropout: float = 0.0
    remat: str = "none"
    unroll: int = 1
    precision: Precision = Precision()
    key_bias: bool = False
    post_norm: bool = False
    unstacked_layers: bool = False


class EncoderBlock(nn.Module):
    """x + proj(attention(norm1 x)), then x + fc2(gelu(fc1(norm2 x))); with `post_norm` norm1(x + ...), norm2(x + ...)."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array, keys: Array | None, deterministic: bool) -> tuple[Array, None]:
        c = self.config
        x = constrain(x, "batch", "length", "act_embed")

        def dense(
            features: int, axes: tuple[str, str], name: str, use_bias: bool = True, heads: int = 0
        ) -> Dense:
            return Dense(features, axes, use_bias, c.precision, base=True, heads=heads, name=name)

        norm1, norm2 = LayerNorm(c.eps, name="norm1"), LayerNorm(c.eps, name="norm2")
        h = x if c.post_norm else norm1(x)
        q = dense(c.width, ("embed", "heads"), "q", heads=c.heads)(h)
        k = dense(c.width, ("embed", "heads"), "k", c.key_bias, c.heads)(h)
        v = dense(c.width, ("embed", "heads"), "v", heads=c.heads)(h)
        h = attention(q, k, v, keys=keys).reshape(x.shape)
        h = dense(c.width, ("heads", "embed"), "proj")(h)
        x = x + nn.Dropout(c.dropout)(h, deterministic=deterministic)
        x = norm1(x) if c.post_norm else x
        h = x if c.post_norm else norm2(x)
        h = gelu(dense(c.mlp, ("embed", "mlp"), "fc1")(h))
        h = fusion_barrier(dense(c.width, ("mlp", "embed"), "fc2")(h))
        x = x + nn.Dropout(c.dropout)(h, deterministic=deterministic)
        return (norm2(x) if c.post_norm else x), None


def scan_layers(block: Any, depth: int, num_inputs: int, remat: str, unroll: int) -> Any:
    """Lifts a block to `depth` layers over one stacked parameter tree (leading axis `layers`).

    The block's call is (carry, *inputs) -> (carry, None), its last input the static flag
    `deterministic`; every layer sees the same inputs.
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


def merge_lora_kernel(kernel: Any, a: Any, b: Any, lora: LoraConfig) -> Any:
    """W + (alpha / rank) A B in float32, in the kernel's own number format: [..., d_in, d_out], [..., d_in, R], [..., R, d_out]."""
    change = (lora.alpha / max(1, lora.rank)) * (a.astype(np.float32) @ b.astype(np.float32))
    return (kernel.astype(np.float32) + change).astype(kernel.dtype)


def unstack_layers(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """{path: array} of stacked layers -> that of `separate`: x/blocks/y [L, ...] becomes x/layers_0/y and so on.

    XLA for CPU copies a layer's part of a stack each time it is used: for every token, in decoding.
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
    """`depth` EncoderBlocks: float[B, T, D] -> float[B, T, D]; `keys` bool[B, T] as in `attention`."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array, keys: Array | None = None, deterministic: bool = True) -> Array:
        c = self.config
        if c.unstacked_layers:
            for i in range(c.depth):
                x, _ = EncoderBlock(c, name=f"layers_{i}")(x, keys, deterministic)
            return x
        layers = scan_layers(EncoderBlock, c.depth, 2, c.remat, c.unroll)
        length = x.shape[1]
        # A TPU holds 16 rows of bfloat16 in a register: 257 tokens, laid out as they are, make every operation slower.
        if extra := -length % 16 if platform() == "tpu" else 0:
            keys = jnp.ones(x.shape[:2], bool) if keys is None else keys
            x, keys = jnp.pad(x, ((0, 0), (0, extra), (0, 0))), jnp.pad(keys, ((0, 0), (0, extra)))
        return layers(c, name="blocks")(x, keys, deterministic)[0][:, :length]


def pool_bins(length: Array | int, bins: int, steps: int) -> Array:
    """float[..., bins, steps]: torch's adaptive average pooling as a matrix, over the first `length` steps.

    Bin i averages steps floor(i n / bins) .. ceil((i + 1) n / bins) - 1 with n = length.
    """
    n = jnp.asarray(length)[..., None]
    i = jnp.arange(bins)
    low, high = (i * n) // bins, -((-(i + 1) * n) // bins)
    t = jnp.arange(steps)
    inside = (t >= low[..., None]) & (t < high[..., None])
    return inside / jnp.maximum(1, inside.sum(axis=-1, keepdims=True))

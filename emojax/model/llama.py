"""LLaMA2 with LoRA: embeddings in, hidden states out; logits only where they are asked for.

Positions and key masks are given, so rows padded on the left and on the right are the same code. The
key-value cache travels in the scan's carry: as scan inputs and outputs XLA would keep two copies.
Source: transformers' LlamaForCausalLM (rotate-half RoPE layout).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from emojax.model.attention import attention
from emojax.model.layers import Dense, LoraConfig, Precision, RMSNorm, keep, scan_layers
from emojax.sharding import constrain, gathered, partitioned

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Sizes; LLaMA-2-7B: 32000, 4096, 32, 32, 11008. For remat and unroll see EncoderConfig; rows of more than `long_row`
    tokens train with `remat_long` (build.for_length)."""

    vocab: int
    width: int
    depth: int
    heads: int
    mlp: int
    eps: float = 1e-5
    theta: float = 10000.0
    dropout: float = 0.0
    lora: LoraConfig = LoraConfig()
    remat: str = "none"
    remat_long: str = "none"
    long_row: int = 2048
    unroll: int = 1
    precision: Precision = Precision()


class Cache(NamedTuple):
    """k, v: float[L, B, S, N, H]. valid: bool[B, S], slots that hold a real token. used: int[], slots written."""

    k: Array
    v: Array
    valid: Array
    used: Array


def make_cache(config: LlamaConfig, batch: int, slots: int) -> Cache:
    """An empty cache of `slots` tokens a row."""
    shape = (config.depth, batch, slots, config.heads, config.width // config.heads)
    zeros = jnp.zeros(shape, config.precision.compute)
    return Cache(zeros, zeros, jnp.zeros((batch, slots), bool), jnp.zeros((), jnp.int32))


def rope(x: Array, positions: Array, theta: float) -> Array:
    """Rotary embedding of float[B, T, N, H] at int[B, T], angles in float32, half-split layout."""
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, :, None, None].astype(jnp.float32) * frequency
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


class Block(nn.Module):
    """One decoder layer. Carry: (x[B, T, D], cache keys and values or None, layer number)."""

    config: LlamaConfig

    @nn.compact
    def __call__(self, carry, positions: Array, keys: Array, start: Array, deterministic: bool):  # type: ignore[no-untyped-def]
        c = self.config
        x, kv, layer = carry
        x = constrain(x, "batch", "length", "act_embed")

        def dense(name: str, features: int, axes: tuple[str, str]) -> Dense:
            lora, heads = c.lora if c.lora.covers(name) else None, c.heads if name in ("q", "k", "v") else 0
            return Dense(features, axes, False, c.precision, lora, base=True, heads=heads, name=name)

        h = RMSNorm(c.eps, name="norm1")(x)
        q = dense("q", c.width, ("embed", "heads"))(h, deterministic)
        k = dense("k", c.width, ("embed", "heads"))(h, deterministic)
        v = dense("v", c.width, ("embed", "heads"))(h, deterministic)
        q, k = rope(q, positions, c.theta), rope(k, positions, c.theta)
        q, k, v = keep(q, "q"), keep(k, "k"), keep(v, "v")
        if kv is not None:
            at = (layer, 0, start, 0, 0)
            kv = tuple(jax.lax.dynamic_update_slice(old, new[None], at) for old, new in zip(kv, (k, v), strict=True))
            k, v = (jax.lax.dynamic_index_in_dim(old, layer, keepdims=False) for old in kv)
        # With a cache `keys` is a whole mask [B, 1, T, S]: rows may have come in pieces.
        h = attention(q, k, v, keys, causal=True) if kv is None else attention(q, k, v, mask=keys)
        h = h.reshape(x.shape)
        x = x + nn.Dropout(c.dropout)(dense("o", c.width, ("heads", "embed"))(h, deterministic), deterministic)
        h = RMSNorm(c.eps, name="norm2")(x)
        gate = keep(dense("gate", c.mlp, ("embed", "mlp"))(h, deterministic), "gate")
        h = nn.silu(gate) * keep(dense("up", c.mlp, ("embed", "mlp"))(h, deterministic), "up")
        x = x + nn.Dropout(c.dropout)(dense("down", c.width, ("mlp", "embed"))(h, deterministic), deterministic)
        return (x, kv, layer + 1), None


class Llama(nn.Module):
    """Decoder; `embed` ids, call on embeddings, `logits` on the hidden states that need them."""

    config: LlamaConfig

    def setup(self) -> None:
        c = self.config
        init = partitioned(nn.initializers.normal(0.02), ("vocab_in", "embed"))
        self.table = self.param("embed", init, (c.vocab, c.width), jnp.dtype(c.precision.params))
        self.blocks = scan_layers(Block, c.depth, 4, c.remat, c.unroll)(c)
        self.norm = RMSNorm(c.eps)
        self.head = Dense(c.vocab, ("embed", "vocab"), use_bias=False, precision=c.precision, base=True)

    def embed(self, ids: Array) -> Array:
        """int[B, T] -> float[B, T, D]."""
        # Whole along its width: rows that lie in pieces over fsdp would have to be redistributed over the batch.
        return gathered(self.table, ("vocab_in", "embed"))[ids].astype(self.config.precision.compute)

    def __call__(
        self,
        x: Array,
        positions: Array,
        valid: Array,
        cache: Cache | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, Cache | None]:
        """Embeddings -> hidden states after the final norm.

        Args:
          x: float[B, T, D]. positions: int[B, T]. valid: bool[B, T], False on padding.
          cache: None to attend within x; else x follows what the cache holds and is written to it.

        Returns:
          (float[B, T, D], the cache with x in it or None).
        """
        steps = x.shape[1]
        if cache is None:
            keys, kv, start = valid, None, jnp.zeros((), jnp.int32)
        else:
            start = cache.used
            known = jax.lax.dynamic_update_slice(cache.valid, valid, (0, start))
            slot = jnp.arange(cache.valid.shape[1])
            keys = ((slot[None, None] <= start + jnp.arange(steps)[None, :, None]) & known[:, None, :])[:, None]
            kv = (cache.k, cache.v)
        carry = (x, kv, jnp.zeros((), jnp.int32))
        (x, kv, _), _ = self.blocks(carry, positions, keys, start, deterministic)
        if cache is not None:
            cache = Cache(kv[0], kv[1], known, start + steps)
        return self.norm(x), cache

    def logits(self, hidden: Array) -> Array:
        """float[..., D] -> float32[..., V]."""
        out = self.head(hidden)
        return out.astype(jnp.promote_types(out.dtype, jnp.float32))

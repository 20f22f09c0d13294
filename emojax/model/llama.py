"""LLaMA2 with LoRA: embeddings in, hidden states out; logits only where they are asked for.

Positions and key masks are given, so rows padded on the left and on the right are the same code. The
key-value cache travels in the scan's carry: as scan inputs and outputs XLA would keep two copies. Each row of it has its own
length, so rows of a batch may come and go (infer/engine.py).
Source: transformers' LlamaForCausalLM (rotate-half RoPE layout).
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from emojax.model.attention import attention, plain
from emojax.model.layers import Dense, LoraConfig, Precision, RMSNorm, keep, scan_layers
from emojax.sharding import constrain, gathered, partitioned

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Sizes; LLaMA-2-7B: 32000, 4096, 32, 32, 11008. For remat and unroll see EncoderConfig; rows of more than `long_row`
    tokens train with `remat_long` (build.for_length). `cache` "int8": keys and values rest as int8 with a float32 scale for each
    token and head."""

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
    cache: Literal["float", "int8"] = "float"


class Cache(NamedTuple):
    """k, v: float or int8[L, B, S, N, H], with k_scale, v_scale: float32[L, B, S, N] where they are int8, else None.

    valid: bool[B, S], slots that hold a real token. used: int[B], slots written: the next token of a row goes there.
    """

    k: Array
    v: Array
    valid: Array
    used: Array
    k_scale: Array | None = None
    v_scale: Array | None = None


def make_cache(config: LlamaConfig, batch: int, slots: int) -> Cache:
    """An empty cache of `slots` tokens a row."""
    shape = (config.depth, batch, slots, config.heads, config.width // config.heads)
    int8 = config.cache == "int8"
    zeros = jnp.zeros(shape, jnp.int8 if int8 else config.precision.compute)
    scale = jnp.zeros(shape[:-1], jnp.float32) if int8 else None
    return Cache(zeros, zeros, jnp.zeros((batch, slots), bool), jnp.zeros((batch,), jnp.int32), scale, scale)


def as_int8(x: Array) -> tuple[Array, Array]:
    """float[..., H] -> (int8[..., H], float32[...] scale): x ~ int8 * scale, to half a step of the largest / 127."""
    x = x.astype(jnp.float32)
    scale = jnp.maximum(jnp.abs(x).max(axis=-1), 1e-12) / 127
    return jnp.rint(x / scale[..., None]).astype(jnp.int8), scale


def write(old: Array, new: Array, layer: Array, start: Array) -> Array:
    """Puts [B, T, ...] into layer `layer` of [L, B, S, ...], row b at slot start[b]."""
    if new.shape[0] == 1:  # a scatter of one row is a slower way to say this
        return jax.lax.dynamic_update_slice(old, new[None], (layer, 0, start[0], *(0,) * (new.ndim - 2)))

    def row(o: Array, n: Array, s: Array) -> Array:
        return jax.lax.dynamic_update_slice(o, n[None], (layer, s, *(0,) * (n.ndim - 1)))

    return jax.vmap(row, in_axes=(1, 0, 0), out_axes=1)(old, new, start)


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
        if kv is None:
            h = attention(q, k, v, keys, causal=True)
        else:
            new = (*as_int8(k), *as_int8(v)) if c.cache == "int8" else (k, v)
            kv = tuple(write(old, part, layer, start) for old, part in zip(kv, new, strict=True))
            here = [jax.lax.dynamic_index_in_dim(old, layer, keepdims=False) for old in kv]
            # With a cache `keys` is a whole mask [B, 1, T, S]: rows may have come in pieces.
            if c.cache == "int8":
                h = plain(q, here[0].astype(q.dtype), here[2].astype(v.dtype), keys, here[1], here[3])
            else:
                h = attention(q, here[0], here[1], mask=keys)
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
        among: Array | None = None,
    ) -> tuple[Array, Cache | None]:
        """Embeddings -> hidden states after the final norm.

        Args:
          x: float[B, T, D]. positions: int[B, T]. valid: bool[B, T], False on padding.
          cache: None to attend within x; else x follows what the cache holds and is written to it.
          among: bool[T, T], with a cache: which tokens of x a token of x may look at; None: those before it and itself.

        Returns:
          (float[B, T, D], the cache with x in it or None).
        """
        c, steps = self.config, x.shape[1]
        if cache is None:
            keys, kv, start = valid, None, jnp.zeros((x.shape[0],), jnp.int32)
        else:
            start = cache.used
            known = write(cache.valid[None], valid, jnp.int32(0), start)[0]
            behind = jnp.arange(cache.valid.shape[1]) - start[:, None]  # [B, S]: which of the new tokens a slot holds
            if among is None:
                seen = behind[:, None] <= jnp.arange(steps)[None, :, None]
            else:
                own = among[:, jnp.clip(behind, 0, steps - 1)].swapaxes(0, 1) & (behind < steps)[:, None]
                seen = (behind < 0)[:, None] | own
            keys = (seen & known[:, None])[:, None]
            kv = tuple(x for x in (cache.k, cache.k_scale, cache.v, cache.v_scale) if x is not None)
        carry = (x, kv, jnp.zeros((), jnp.int32))
        (x, kv, _), _ = self.blocks(carry, positions, keys, start, deterministic)
        if cache is not None:
            stored = (kv[0], kv[2], kv[1], kv[3]) if c.cache == "int8" else (kv[0], kv[1], None, None)
            cache = Cache(stored[0], stored[1], known, start + steps, *stored[2:])
        return self.norm(x), cache

    def logits(self, hidden: Array) -> Array:
        """float[..., D] -> float32[..., V]."""
        out = self.head(hidden)
        return out.astype(jnp.promote_types(out.dtype, jnp.float32))

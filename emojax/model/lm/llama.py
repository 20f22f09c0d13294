"""LLaMA2 with LoRA: embeddings in, hidden states out; logits only where they are asked for.

Positions and key masks are given, so rows padded on the left and on the right are the same code. Layers read the
key-value cache and never change it: what is new is written once behind them, so XLA keeps one copy. Each row of it has its own
length, so rows of a batch may come and go (infer/engine.py).
Source: transformers' LlamaForCausalLM (rotate-half RoPE layout).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from emojax.model.attention import attention, cached_attention
from emojax.model.layers import Dense, LoraConfig, Precision, RMSNorm, checkpoint_name, scan_layers
from emojax.sharding import constrain, gather_embed, partitioned

Array = jax.Array
MAX_UNROLLED_ROWS = 16  # of a cache, written one by one


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Sizes; LLaMA-2-7B: 32000, 4096, 32, 32, 11008. For remat and unroll see EncoderConfig; rows of more than `long_row`
    tokens train with `remat_long` (build.for_length). `cache` "int8": keys and values rest as int8 with a float32 scale for each
    token and head. `separate`: as of EncoderConfig.
    """

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
    unstacked_layers: bool = False


class Cache(NamedTuple):
    """k, v: float or int8[L, B, N, S, H], with k_scale, v_scale: float32[L, B, N, S] where they are int8, else None; of `separate`
    layers tuples of L arrays without the first axis.

    Heads stand before slots: so a step reads what it needs as it lies.

    valid: bool[B, S], slots that hold a real token. used: int[B], slots written: the next token of a row goes there.
    """

    k: Array | tuple[Array, ...]
    v: Array | tuple[Array, ...]
    valid: Array
    used: Array
    k_scale: Array | tuple[Array, ...] | None = None
    v_scale: Array | tuple[Array, ...] | None = None


def make_cache(config: LlamaConfig, batch: int, slots: int) -> Cache:
    """An empty cache of `slots` tokens a row."""
    shape = (batch, config.heads, slots, config.width // config.heads)
    int8 = config.cache == "int8"

    def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
        if config.unstacked_layers:
            return tuple(jnp.zeros(shape, dtype) for _ in range(config.depth))
        return jnp.zeros((config.depth, *shape), dtype)

    k, v = (zeros(shape, jnp.int8 if int8 else config.precision.compute) for _ in range(2))
    scales = [zeros(shape[:-1], jnp.float32) if int8 else None for _ in range(2)]
    return Cache(k, v, jnp.zeros((batch, slots), bool), jnp.zeros((batch,), jnp.int32), *scales)


def map_rows(change: Callable[..., Array], *caches: Cache) -> Cache:
    """A cache of change(axis of the rows, arrays of the same place in each cache)."""

    def one(*arrays: Array) -> Array:
        # stacked layers stand before the rows
        return change(1 if stacked and arrays[0].ndim > 2 else 0, *arrays)

    stacked = not isinstance(caches[0].k, tuple)
    return jax.tree.map(one, *caches)


def quantize_per_token(x: Array) -> tuple[Array, Array]:
    """float[..., H] -> (int8[..., H], float32[...] scale): x ~ int8 * scale, to half a step of the largest / 127."""
    x = x.astype(jnp.float32)
    scale = jnp.maximum(jnp.abs(x).max(axis=-1), 1e-12) / 127
    return jnp.rint(x / scale[..., None]).astype(jnp.int8), scale


def update_cache(cache: Cache, made: Any, valid: Array, after: Array) -> Cache:
    """The cache with new keys and values behind what each row holds.

    Args:
      made: (k, v) [L, B, N, T, H], or such a pair without L for each separate layer.  valid: bool[B, T].
      after: float[B, T, D], what the layers made.
    """
    # The write waits for all reads, or XLA for CPU copies every cache before it changes it (half of a step's time).
    late = 0 * after[:, :1, :1, None]
    if isinstance(cache.k, tuple):
        pairs = [quantize_kv(cache, *(x + late.astype(x.dtype) for x in pair)) for pair in made]
        held: Any = [[getattr(cache, n)[i] for n in pairs[i]] for i in range(len(pairs))]
        put: dict[str, Any] = {
            n: tuple(
                write_slots(old[j], pair[n], cache.used, 0)
                for old, pair in zip(held, pairs, strict=True)
            )
            for j, n in enumerate(pairs[0])
        }
    else:
        put = {
            n: write_slots(getattr(cache, n), x, cache.used, 1)
            for n, x in quantize_kv(cache, *made).items()
        }
    known = write_slots(cache.valid[:, None], valid[:, None], cache.used, 0)[:, 0]
    return cache._replace(valid=known, used=cache.used + valid.shape[1], **put)


def quantize_kv(cache: Cache, k: Array, v: Array) -> dict[str, Array]:
    if cache.k_scale is None:
        return {"k": k, "v": v}
    (k, k_scale), (v, v_scale) = quantize_per_token(k), quantize_per_token(v)
    return {"k": k, "v": v, "k_scale": k_scale, "v_scale": v_scale}


def write_slots(old: Array, new: Array, start: Array, axis: int) -> Array:
    """Puts [..., B, N, T, ...] into [..., B, N, S, ...], row b from slot start[b] on; `axis`: that of the rows."""
    before, rest = (0,) * axis, (0,) * (new.ndim - axis - 3)
    if (
        new.shape[axis] <= MAX_UNROLLED_ROWS
    ):  # one after the other in place: XLA for CPU copies the whole of what it scatters into
        for b in range(new.shape[axis]):
            row = jax.lax.slice_in_dim(new, b, b + 1, axis=axis).astype(old.dtype)
            old = jax.lax.dynamic_update_slice(old, row, (*before, b, 0, start[b], *rest))
        return old

    def one(o: Array, n: Array, s: Array) -> Array:
        return jax.lax.dynamic_update_slice(o, n.astype(o.dtype), (*before, 0, s, *rest))

    return jax.vmap(one, in_axes=(axis, axis, 0), out_axes=axis)(old, new, start)


def rope(x: Array, positions: Array, theta: float) -> Array:
    """Rotary embedding of float[B, T, N, H] at int[B, T], angles in float32, half-split layout."""
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, :, None, None].astype(jnp.float32) * frequency
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


class Block(nn.Module):
    """One decoder layer. Carry: (x[B, T, D], layer number); out: with a cache, keys and values [B, N, T, H] of the new tokens.

    `kv`: the cache's arrays, which no layer changes: what is new is attended beside it and written once, behind all layers. `old`
    and `new` masks say what may be looked at of both; without a cache (None) or with an empty one (()) `old` is None and `new`
    bool[B, T] as in `attention`.
    """

    config: LlamaConfig

    @nn.compact
    def __call__(self, carry, positions: Array, kv, old, new: Array, deterministic: bool):  # type: ignore[no-untyped-def]
        c = self.config
        x, layer = carry
        x = constrain(x, "batch", "length", "act_embed")

        def dense(name: str, features: int, axes: tuple[str, str]) -> Dense:
            lora, heads = (
                c.lora if c.lora.covers(name) else None,
                c.heads if name in ("q", "k", "v") else 0,
            )
            return Dense(
                features, axes, False, c.precision, lora, base=True, heads=heads, name=name
            )

        h = RMSNorm(c.eps, name="norm1")(x)
        q = dense("q", c.width, ("embed", "heads"))(h, deterministic)
        k = dense("k", c.width, ("embed", "heads"))(h, deterministic)
        v = dense("v", c.width, ("embed", "heads"))(h, deterministic)
        q, k = rope(q, positions, c.theta), rope(k, positions, c.theta)
        q, k, v = checkpoint_name(q, "q"), checkpoint_name(k, "k"), checkpoint_name(v, "v")
        made = None if kv is None else (k.swapaxes(1, 2), v.swapaxes(1, 2))
        if not kv:
            h = attention(q, k, v, keys=new, causal=True)
        else:
            assert made is not None
            held = (
                kv
                if c.unstacked_layers
                else [jax.lax.dynamic_index_in_dim(x, layer, keepdims=False) for x in kv]
            )
            h = cached_attention(
                q,
                held[0],
                held[1],
                *made,
                cache_mask=old,
                self_mask=new,
                k_scale=held[2] if len(held) > 2 else None,
                v_scale=held[3] if len(held) > 2 else None,
            )
        h = h.reshape(x.shape)
        x = x + nn.Dropout(c.dropout)(
            dense("o", c.width, ("heads", "embed"))(h, deterministic), deterministic
        )
        h = RMSNorm(c.eps, name="norm2")(x)
        gate = checkpoint_name(dense("gate", c.mlp, ("embed", "mlp"))(h, deterministic), "gate")
        h = nn.silu(gate) * checkpoint_name(
            dense("up", c.mlp, ("embed", "mlp"))(h, deterministic), "up"
        )
        x = x + nn.Dropout(c.dropout)(
            dense("down", c.width, ("mlp", "embed"))(h, deterministic), deterministic
        )
        return (x, layer + 1), made


class Llama(nn.Module):
    """Decoder; `embed` ids, call on embeddings, `logits` on the hidden states that need them."""

    config: LlamaConfig

    def setup(self) -> None:
        c = self.config
        init = partitioned(nn.initializers.normal(0.02), ("vocab_in", "embed"))
        self.table = self.param("embed", init, (c.vocab, c.width), jnp.dtype(c.precision.params))
        if c.unstacked_layers:
            self.layers = [Block(c) for _ in range(c.depth)]
        else:
            self.blocks = scan_layers(Block, c.depth, 5, c.remat, c.unroll)(c)
        self.norm = RMSNorm(c.eps)
        self.head = Dense(
            c.vocab, ("embed", "vocab"), use_bias=False, precision=c.precision, base=True
        )

    def embed(self, ids: Array) -> Array:
        """int[B, T] -> float[B, T, D]."""
        # Whole along its width: rows that lie in pieces over fsdp would have to be redistributed over the batch.
        return gather_embed(self.table, ("vocab_in", "embed"))[ids].astype(
            self.config.precision.compute
        )

    def __call__(
        self,
        x: Array,
        positions: Array,
        valid: Array,
        cache: Cache | None = None,
        deterministic: bool = True,
        block_mask: Array | None = None,
        fresh: bool = False,
    ) -> tuple[Array, Cache | None]:
        """Embeddings -> hidden states after the final norm.

        Args:
          x: float[B, T, D]. positions: int[B, T]. valid: bool[B, T], False on padding.
          cache: None to attend within x; else x follows what the cache holds and is written to it.
          fresh: the cache holds nothing yet, so nothing is looked up in it.
          among: bool[T, T], with a cache: which tokens of x a token of x may look at; None: those before it and itself.

        Returns:
          (float[B, T, D], the cache with x in it or None).
        """
        c, steps = self.config, x.shape[1]
        kv: Any = None
        old, new = None, valid
        if cache is not None and fresh:
            kv = ()
        elif cache is not None:
            kv = tuple(x for x in (cache.k, cache.v, cache.k_scale, cache.v_scale) if x is not None)
            slots = jnp.arange(cache.valid.shape[1])
            old = (cache.valid & (slots < cache.used[:, None]))[:, None, None]
            order = jnp.tril(jnp.ones((steps, steps), bool)) if block_mask is None else block_mask
            new = (order & valid[:, None])[:, None]
        carry, made = (x, jnp.zeros((), jnp.int32)), None
        if c.unstacked_layers:
            made = []
            for i, layer in enumerate(self.layers):
                own = kv if not kv else tuple(x[i] for x in kv)
                carry, pair = layer(carry, positions, own, old, new, deterministic)
                made.append(pair)
        else:
            carry, made = self.blocks(carry, positions, kv, old, new, deterministic)
        if cache is not None:
            cache = update_cache(cache, made, valid, carry[0])
        return self.norm(carry[0]), cache

    def logits(self, hidden: Array) -> Array:
        """float[..., D] -> float32[..., V]."""
        out = self.head(hidden)
        return out.astype(jnp.promote_types(out.dtype, jnp.float32))

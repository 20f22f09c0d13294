"""Whisper's decoder: encoder states -> words. Its encoder is the audio tower (whisper.py), so a clip is heard once for both.

Source: openai whisper as transformers' WhisperDecoder computes it.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from emojax.model.attention import cached_attention
from emojax.model.layers import Dense, LayerNorm, Precision, gelu
from emojax.model.lm.llama import Cache, update_cache
from emojax.sharding import partitioned

Array = jax.Array
Cross = tuple[
    tuple[Array, Array], ...
]  # keys and values float[B, N, S, H] of the encoder's states, for each layer


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes; whisper-large-v3: 51866, 1280, 32, 20, 5120. positions: longest text in tokens."""

    vocab: int
    width: int
    depth: int
    heads: int
    mlp: int
    positions: int = 448
    eps: float = 1e-5
    precision: Precision = Precision()


def empty_cache(config: DecoderConfig, rows: int, slots: int) -> Cache:
    """A cache for `slots` tokens of text a row."""
    shape = (rows, config.heads, slots, config.width // config.heads)
    k, v = (
        tuple(jnp.zeros(shape, config.precision.compute) for _ in range(config.depth))
        for _ in range(2)
    )
    return Cache(k, v, jnp.zeros((rows, slots), bool), jnp.zeros((rows,), jnp.int32))


class DecoderLayer(nn.Module):
    """x + attention to what was written, then to what was heard, then the MLP; norms before each."""

    config: DecoderConfig

    def setup(self) -> None:
        c = self.config

        def dense(features: int, use_bias: bool = True, heads: int = 0) -> Dense:
            return Dense(features, ("embed", None), use_bias, c.precision, heads=heads)

        for name in ("self", "cross"):
            for letter in "qkv":
                setattr(self, f"{name}_{letter}", dense(c.width, letter != "k", c.heads))
            setattr(self, f"{name}_o", dense(c.width))
            setattr(self, f"{name}_norm", LayerNorm(c.eps))
        self.fc1, self.fc2, self.norm = dense(c.mlp), dense(c.width), LayerNorm(c.eps)

    def cross_keys_values(self, states: Array) -> tuple[Array, Array]:
        """float[B, S, D] -> keys and values float[B, N, S, H]."""
        return self.cross_k(states).swapaxes(1, 2), self.cross_v(states).swapaxes(1, 2)

    def __call__(  # type: ignore[no-untyped-def]
        self,
        x: Array,
        held: tuple[Array, Array],
        old: Array,
        new: Array,
        cross: tuple[Array, Array],
    ):
        h = self.self_norm(x)
        q, made = self.self_q(h), (self.self_k(h).swapaxes(1, 2), self.self_v(h).swapaxes(1, 2))
        x = x + self.self_o(
            cached_attention(q, *held, *made, cache_mask=old, self_mask=new).reshape(x.shape)
        )
        h = self.cross_norm(x)
        everything = jnp.ones((x.shape[0], 1, 1, cross[0].shape[2]), bool)
        none = cross[0][:, :, :0]
        seen = cached_attention(
            self.cross_q(h), *cross, none, none, cache_mask=everything, self_mask=new[..., :0]
        )
        x = x + self.cross_o(seen.reshape(x.shape))
        return x + self.fc2(gelu(self.fc1(self.norm(x)))), made


class WhisperDecoder(nn.Module):
    """`hear` the states once, then call on tokens; logits are products with the table of tokens."""

    config: DecoderConfig

    def setup(self) -> None:
        c = self.config
        init = partitioned(nn.initializers.normal(0.02), (None, "embed"))
        self.table = self.param("embed", init, (c.vocab, c.width), jnp.dtype(c.precision.params))
        self.position_table = self.param(
            "positions", init, (c.positions, c.width), jnp.dtype(c.precision.params)
        )
        self.layers = [DecoderLayer(c) for _ in range(c.depth)]
        self.norm = LayerNorm(c.eps)

    def encode_cross(self, states: Array) -> Cross:
        """float[B, S, D] states after the encoder's final norm -> what every layer attends to."""
        return tuple(
            layer.cross_keys_values(states.astype(self.config.precision.compute))
            for layer in self.layers
        )

    def __call__(self, ids: Array, cross: Cross, cache: Cache) -> tuple[Array, Cache]:
        """int[B, T] further tokens -> (float32[B, T, V], cache)."""
        steps = ids.shape[1]
        at = cache.used[:, None] + jnp.arange(steps)
        x = (self.table[ids] + self.position_table[at]).astype(self.config.precision.compute)
        old = (cache.valid & (jnp.arange(cache.valid.shape[1]) < cache.used[:, None]))[
            :, None, None
        ]
        new = jnp.broadcast_to(
            jnp.tril(jnp.ones((steps, steps), bool)), (ids.shape[0], 1, steps, steps)
        )
        made = []
        for i, layer in enumerate(self.layers):
            x, pair = layer(x, (cache.k[i], cache.v[i]), old, new, cross[i])
            made.append(pair)
        cache = update_cache(cache, made, jnp.ones(ids.shape, bool), x)
        logits = self.norm(x) @ self.table.astype(x.dtype).T
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), cache

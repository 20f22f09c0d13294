"""Whisper's decoder: encoder states -> text tokens.

Its encoder is the audio tower (encoders/whisper.py), so a clip is encoded once for both uses.
Source: openai whisper as transformers' WhisperDecoder computes it.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from emojax.model.attention import cached_attention
from emojax.model.dense import FLOAT32, Dense, Precision
from emojax.model.layers import LayerNorm, gelu
from emojax.model.lm import kv_cache
from emojax.model.lm.kv_cache import Cache, update_cache, written_slots
from emojax.sharding import partitioned

Array = jax.Array
# For each layer: keys and values float[B, N, S, H] of the encoder states.
Cross = tuple[tuple[Array, Array], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes; whisper-large-v3 has vocab 51866, width 1280, depth 32, heads 20, mlp 5120.

    Attributes:
      vocab: V.
      width: D.
      depth: L.
      heads: N.
      mlp: M.
      positions: longest text, in tokens.
      eps: of the norms.
      precision: number formats.
    """

    vocab: int
    width: int
    depth: int
    heads: int
    mlp: int
    positions: int = 448
    eps: float = 1e-5
    precision: Precision = FLOAT32


def make_cache(config: DecoderConfig, batch: int, slots: int) -> Cache:
    """An empty cache for `batch` rows of `slots` text tokens."""
    return kv_cache.empty_cache(
        config.depth,
        (batch, config.heads, slots, config.width // config.heads),
        dtype=config.precision.compute,
        unstacked=True,
    )


class DecoderLayer(nn.Module):
    """x + self-attention, + cross-attention to the encoder states, + MLP; a norm before each."""

    config: DecoderConfig

    def setup(self) -> None:
        """Makes the projections and norms."""
        c = self.config

        def dense(features: int, *, use_bias: bool = True, heads: int = 0) -> Dense:
            return Dense(
                features,
                ("embed", None),
                use_bias=use_bias,
                precision=c.precision,
                heads=heads,
            )

        for name in ("self", "cross"):
            for letter in "qkv":
                projection = dense(c.width, use_bias=letter != "k", heads=c.heads)
                setattr(self, f"{name}_{letter}", projection)
            setattr(self, f"{name}_o", dense(c.width))
            setattr(self, f"{name}_norm", LayerNorm(c.eps))
        self.fc1, self.fc2, self.norm = dense(c.mlp), dense(c.width), LayerNorm(c.eps)

    def cross_keys_values(self, states: Array) -> tuple[Array, Array]:
        """float[B, S, D] encoder states -> keys and values float[B, N, S, H]."""
        return self.cross_k(states).swapaxes(1, 2), self.cross_v(states).swapaxes(1, 2)

    def __call__(
        self,
        x: Array,
        kv: tuple[Array, Array],
        *,
        cache_mask: Array,
        self_mask: Array,
        cross: tuple[Array, Array],
    ) -> tuple[Array, tuple[Array, Array]]:
        """Runs the layer on further tokens.

        Args:
          x: float[B, T, D].
          kv: cached keys and values, float[B, N, S, H].
          cache_mask: bool[B, 1, 1, S], cached keys that may be attended to.
          self_mask: bool[B, 1, T, T] over the new tokens.
          cross: as of `cross_keys_values`.

        Returns:
          (float[B, T, D], new keys and values [B, N, T, H]).
        """
        h = self.self_norm(x)
        q, new_kv = self.self_q(h), (self.self_k(h).swapaxes(1, 2), self.self_v(h).swapaxes(1, 2))
        h = cached_attention(q, *kv, *new_kv, cache_mask=cache_mask, self_mask=self_mask)
        x = x + self.self_o(h.reshape(x.shape))
        h = self.cross_norm(x)
        everything = jnp.ones((x.shape[0], 1, 1, cross[0].shape[2]), bool)
        none = cross[0][:, :, :0]
        h = cached_attention(
            self.cross_q(h),
            *cross,
            none,
            none,
            cache_mask=everything,
            self_mask=self_mask[..., :0],
        )
        x = x + self.cross_o(h.reshape(x.shape))
        return x + self.fc2(gelu(self.fc1(self.norm(x)))), new_kv


class WhisperDecoder(nn.Module):
    """`encode_cross` once per clip, then call on tokens; logits reuse the token table."""

    config: DecoderConfig

    def setup(self) -> None:
        """Makes the tables and layers."""
        c = self.config
        init = partitioned(nn.initializers.normal(0.02), (None, "embed"))
        self.table = self.param("embed", init, (c.vocab, c.width), jnp.dtype(c.precision.params))
        self.position_table = self.param(
            "positions", init, (c.positions, c.width), jnp.dtype(c.precision.params)
        )
        self.layers = [DecoderLayer(c) for _ in range(c.depth)]
        self.norm = LayerNorm(c.eps)

    def encode_cross(self, states: Array) -> Cross:
        """Encoder states float[B, S, D], after the final norm -> every layer's keys and values."""
        return tuple(
            layer.cross_keys_values(states.astype(self.config.precision.compute))
            for layer in self.layers
        )

    def __call__(self, ids: Array, cross: Cross, cache: Cache) -> tuple[Array, Cache]:
        """int[B, T] further tokens -> (float32[B, T, V] logits, cache)."""
        steps = ids.shape[1]
        at = cache.used[:, None] + jnp.arange(steps)
        x = (self.table[ids] + self.position_table[at]).astype(self.config.precision.compute)
        cache_mask = written_slots(cache)
        self_mask = jnp.broadcast_to(
            jnp.tril(jnp.ones((steps, steps), bool)), (ids.shape[0], 1, steps, steps)
        )
        new_kv = []
        for i, layer in enumerate(self.layers):
            x, pair = layer(
                x,
                (cache.k[i], cache.v[i]),
                cache_mask=cache_mask,
                self_mask=self_mask,
                cross=cross[i],
            )
            new_kv.append(pair)
        cache = update_cache(cache, new_kv, valid=jnp.ones(ids.shape, bool), after=x)
        logits = self.norm(x) @ self.table.astype(x.dtype).T
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), cache

"""The decoder with LoRA: embeddings in, hidden states out; logits only where they are needed.

One decoder for all families (families.py): LLaMA-2, and what differs in others is data. Positions
and key masks are given, so rows padded on the left and on the right run the same code. Source:
transformers' LlamaForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM (rotate-half RoPE layout). The
key-value cache is in kv_cache.py.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.attention import attention, cached_attention, takes_row_lengths
from emojax.model.dense import FLOAT32, RELEASED_LORA, Dense, LoraConfig, Precision
from emojax.model.layers import RMSNorm, gradient_barrier, scan_layers
from emojax.model.lm.kv_cache import Cache, empty_cache, update_cache, written_slots
from emojax.model.remat import checkpoint_name
from emojax.sharding import constrain, gather_embed, kv_axis, partitioned

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How the rotary embedding is stretched for rows longer than those of pretraining.

    Attributes:
      kind: "none"; "linear": all frequencies are divided by `factor`; "llama3": those that turn
        less than `low` times in `original` positions are, those that turn more than `high` times
        are not, and between them the division fades in (transformers' `rope_type` "llama3").
      factor: see `kind`.
      low: `low_freq_factor`.
      high: `high_freq_factor`.
      original: positions of pretraining.
    """

    kind: Literal["none", "linear", "llama3"] = "none"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Sizes; LLaMA-2-7B has vocab 32000, width 4096, depth 32, heads 32, mlp 11008.

    Attributes:
      vocab: V.
      width: D.
      depth: L.
      heads: N.
      mlp: M.
      kv_heads: K, heads of keys and values; 0: as many as `heads`.
      head_width: H; 0: width / heads.
      qkv_bias: whether q, k and v have biases (Qwen2.5).
      qk_norm: whether q and k are normalised in each head (Qwen3).
      tied: whether the output head is the embedding table.
      eps: of the norms.
      theta: base of the rotary embedding.
      rope: how it is stretched.
      dropout: rate after attention and MLP.
      lora: the adapters.
      remat: "none", a policy as of `remat.remat_policy`, or "auto": chosen by memory where a step
        is made (train/step_memory.py).
      remat_long: the policy for rows of more than `long_row` tokens; "": as `remat`.
      long_row: tokens.
      unroll: layers per iteration of the scan, unrolled in the program.
      precision: number formats.
      cache: "int8" stores keys and values as int8 with a float32 scale per token and head.
      unstacked_layers: as of EncoderConfig.
    """

    vocab: int
    width: int
    depth: int
    heads: int
    mlp: int
    kv_heads: int = 0
    head_width: int = 0
    qkv_bias: bool = False
    qk_norm: bool = False
    tied: bool = False
    eps: float = 1e-5
    theta: float = 10000.0
    rope: RopeScaling = RopeScaling()
    dropout: float = 0.0
    lora: LoraConfig = RELEASED_LORA
    remat: str = "none"
    remat_long: str = ""
    long_row: int = 2048
    unroll: int = 1
    precision: Precision = FLOAT32
    cache: Literal["float", "int8"] = "float"
    unstacked_layers: bool = False

    def __post_init__(self) -> None:
        """Fills in the sizes that follow from others.

        Raises:
          ValueError: sizes do not fit each other.
        """
        if not self.head_width and self.width % self.heads:
            raise ValueError(f"a width of {self.width} cannot be divided into {self.heads} heads")
        object.__setattr__(self, "head_width", self.head_width or self.width // self.heads)
        object.__setattr__(self, "kv_heads", self.kv_heads or self.heads)
        if self.heads % self.kv_heads:
            raise ValueError(
                f"{self.heads} heads cannot share {self.kv_heads} key-value heads evenly"
            )
        if self.head_width % 2:
            raise ValueError(f"the head width is {self.head_width}; RoPE needs an even one")


def make_cache(config: LlamaConfig, batch: int, slots: int) -> Cache:
    """An empty cache for `batch` rows of `slots` tokens."""
    return empty_cache(
        config.depth,
        (batch, config.kv_heads, slots, config.head_width),
        dtype=config.precision.compute,
        int8=config.cache == "int8",
        unstacked=config.unstacked_layers,
    )


def rope_frequencies(width: int, theta: float, scaling: RopeScaling) -> np.ndarray:
    """float32[H / 2]: radians per position of each pair of a head of `width` H."""
    half = width // 2
    frequency = theta ** (-np.arange(half) / half)
    if scaling.kind == "none":
        return frequency.astype(np.float32)
    share = np.ones(half)  # of the divided frequency
    if scaling.kind == "llama3":
        turns = scaling.original * frequency / (2 * np.pi)
        share = np.clip((scaling.high - turns) / (scaling.high - scaling.low), 0, 1)
    scaled: np.ndarray = frequency * (share / scaling.factor + 1 - share)
    return scaled.astype(np.float32)


def rope(x: Array, positions: Array, frequency: np.ndarray) -> Array:
    """Rotary position embedding, half-split layout, angles in float32.

    Args:
      x: float[B, T, N, H].
      positions: int[B, T].
      frequency: of `rope_frequencies`.

    Returns:
      float[B, T, N, H].
    """
    half = x.shape[-1] // 2
    angle = positions[:, :, None, None].astype(jnp.float32) * frequency
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def reorder_tokens(x: Array, order: Array) -> Array:
    """Row b of the result holds x[b, order[b]].

    Args:
      x: [B, T, ...].
      order: int[B, T], a permutation of 0 .. T - 1 in each row.

    Returns:
      [B, T, ...].
    """
    # Unique indices: the gradient is written, not added up.
    out: Array = jax.vmap(
        lambda row, places: row.at[places].get(mode="promise_in_bounds", unique_indices=True)
    )(x, order)
    return out


class Block(nn.Module):
    """One decoder layer."""

    config: LlamaConfig

    @nn.compact
    def __call__(  # noqa: PLR0917 - nn.scan passes the inputs by position
        self,
        carry: Any,
        positions: Array,
        kv: Any,
        cache_mask: Array | None,
        self_mask: Array,
        deterministic: bool,
    ) -> Any:
        """Runs the layer.

        Args:
          carry: (x float[B, T, D], index of the layer).
          positions: int[B, T].
          kv: arrays of the cache (k, v and, for int8, their scales), which no layer changes; ()
            when the cache is still empty; None without a cache.
          cache_mask: bool[B, 1, 1, S], cached keys that may be attended to; None when `kv` is
            empty or None.
          self_mask: bool[B, 1, T, T] over the new tokens; bool[B, T] as `key_mask` of `attention`
            when `kv` is empty or None.
          deterministic: False enables dropout.

        Returns:
          (carry, new keys and values [B, K, T, H], or None without a cache).
        """
        c = self.config
        x, layer = carry
        x = constrain(x, "batch", "length", "act_embed")
        q, k, v = self._qkv(RMSNorm(c.eps, name="norm1")(x), positions, deterministic)
        q, k, v = checkpoint_name(q, "q"), checkpoint_name(k, "k"), checkpoint_name(v, "v")
        new_kv = None if kv is None else (k.swapaxes(1, 2), v.swapaxes(1, 2))
        if not kv:
            h = attention(q, k, v, key_mask=self_mask, causal=True)
        else:
            assert new_kv is not None
            assert cache_mask is not None
            if not c.unstacked_layers:
                kv = [jax.lax.dynamic_index_in_dim(x, layer, keepdims=False) for x in kv]
            h = cached_attention(
                q,
                kv[0],
                kv[1],
                *new_kv,
                cache_mask=cache_mask,
                self_mask=self_mask,
                k_scale=kv[2] if len(kv) > 2 else None,
                v_scale=kv[3] if len(kv) > 2 else None,
            )
        h = h.reshape(*x.shape[:2], -1)
        h = self._dense("o", c.width, ("heads", "embed"))(h, deterministic)
        x = checkpoint_name(x + nn.Dropout(c.dropout)(h, deterministic), "residual")
        h = RMSNorm(c.eps, name="norm2")(x)
        x = x + nn.Dropout(c.dropout)(self._mlp(h, deterministic), deterministic)
        return (x, layer + 1), new_kv

    @nn.nowrap
    def _qkv(self, h: Array, positions: Array, deterministic: bool) -> tuple[Array, Array, Array]:
        """Q [B, T, N, H], k and v [B, T, K, H] of normalised states, q and k turned by RoPE."""
        c = self.config
        kv = "heads" if c.kv_heads == c.heads else kv_axis(c.kv_heads)
        q = self._dense("q", c.heads * c.head_width, ("embed", "heads"))(h, deterministic)
        k = self._dense("k", c.kv_heads * c.head_width, ("embed", kv))(h, deterministic)
        v = self._dense("v", c.kv_heads * c.head_width, ("embed", kv))(h, deterministic)
        if c.qk_norm:
            q, k = RMSNorm(c.eps, name="q_norm")(q), RMSNorm(c.eps, name="k_norm")(k)
        frequency = rope_frequencies(c.head_width, c.theta, c.rope)
        return rope(q, positions, frequency), rope(k, positions, frequency), v

    @nn.nowrap
    def _mlp(self, x: Array, deterministic: bool) -> Array:
        c = self.config
        gate = self._dense("gate", c.mlp, ("embed", "mlp"))(x, deterministic)
        up = self._dense("up", c.mlp, ("embed", "mlp"))(x, deterministic)
        gate, up = checkpoint_name(gate, "gate"), checkpoint_name(up, "up")
        # SiLU's gradient is computed once, not in every tile of the two matmuls around it.
        gate, up = gradient_barrier((gate, up))
        h = gradient_barrier(nn.silu(gate) * up)
        out: Array = self._dense("down", c.width, ("mlp", "embed"))(h, deterministic)
        return out

    @nn.nowrap
    def _dense(self, name: str, features: int, axes: tuple[str, str]) -> Dense:
        c = self.config
        return Dense(
            features,
            axes,
            use_bias=c.qkv_bias and name in ("q", "k", "v"),
            precision=c.precision,
            lora=c.lora if c.lora.covers(name) else None,
            quantizable=True,
            heads={"q": c.heads, "k": c.kv_heads, "v": c.kv_heads}.get(name, 0),
            name=name,
        )


class Llama(nn.Module):
    """The decoder: `embed` ids, call on embeddings, `logits` on the hidden states needed."""

    config: LlamaConfig

    def setup(self) -> None:
        """Makes the embedding table, the layers and the output head."""
        c = self.config
        init = partitioned(nn.initializers.normal(0.02), ("vocab_in", "embed"))
        self.table = self.param("embed", init, (c.vocab, c.width), jnp.dtype(c.precision.params))
        if c.unstacked_layers:
            self.layers = [Block(c) for _ in range(c.depth)]
        else:
            self.blocks = scan_layers(Block, c.depth, num_inputs=5, remat=c.remat, unroll=c.unroll)(
                c
            )
        self.norm = RMSNorm(c.eps)
        if not c.tied:
            self.head = Dense(
                c.vocab, ("embed", "vocab"), use_bias=False, precision=c.precision, quantizable=True
            )

    def embed(self, ids: Array) -> Array:
        """int[B, T] -> float[B, T, D]."""
        # Gathered along its width: rows in pieces over fsdp would be redistributed over the batch.
        return gather_embed(self.table, ("vocab_in", "embed"))[ids].astype(
            self.config.precision.compute
        )

    def __call__(
        self,
        x: Array,
        positions: Array,
        valid: Array,
        *,
        cache: Cache | None = None,
        deterministic: bool = True,
        block_mask: Array | None = None,
        fresh: bool = False,
    ) -> tuple[Array, Cache | None]:
        """Embeddings -> hidden states after the final norm.

        Args:
          x: float[B, T, D].
          positions: int[B, T].
          valid: bool[B, T], False on padding.
          cache: None to attend within x; otherwise x follows the cached tokens and is appended.
          deterministic: False enables dropout.
          block_mask: bool[T, T], with a cache: which tokens of x each token of x may attend to; by
            default those before it and itself.
          fresh: whether the cache is still empty, so that it need not be read.

        Returns:
          (float[B, T, D], the cache with x in it, or None).
        """
        c, steps = self.config, x.shape[1]
        kv: Any = None
        cache_mask, self_mask = None, valid
        if cache is not None and fresh:
            kv = ()
        elif cache is not None:
            kv = tuple(x for x in (cache.k, cache.v, cache.k_scale, cache.v_scale) if x is not None)
            cache_mask = written_slots(cache)
            order = jnp.tril(jnp.ones((steps, steps), bool)) if block_mask is None else block_mask
            self_mask = (order & valid[:, None])[:, None]
        visible_first = None
        if not kv and takes_row_lengths(jnp.dtype(c.precision.compute)):
            visible_first = jnp.argsort(~valid, axis=1, stable=True)
            x, positions, valid = (reorder_tokens(a, visible_first) for a in (x, positions, valid))
            self_mask = valid
        inputs = (positions, kv, cache_mask, self_mask, deterministic)
        hidden, new_kv = self._run_layers(x, *inputs)
        if cache is not None:
            cache = update_cache(cache, new_kv, valid=valid, after=hidden)
        if visible_first is not None:
            hidden = reorder_tokens(hidden, jnp.argsort(visible_first, axis=1))
        return self.norm(hidden), cache

    @nn.nowrap
    def _run_layers(self, x: Array, positions: Array, kv: Any, *masks: Any) -> tuple[Array, Any]:
        """All layers, with the inputs of Block.__call__: the output, and new keys and values."""
        carry: Any = (x, jnp.zeros((), jnp.int32))
        if not self.config.unstacked_layers:
            carry, new_kv = self.blocks(carry, positions, kv, *masks)
            return carry[0], new_kv
        pairs = []
        for i, layer in enumerate(self.layers):
            layer_kv = kv if not kv else tuple(x[i] for x in kv)
            carry, pair = layer(carry, positions, layer_kv, *masks)
            pairs.append(pair)
        return carry[0], pairs

    def logits(self, hidden: Array) -> Array:
        """float[..., D] -> float32[..., V]."""
        if self.config.tied:
            table = gather_embed(self.table, ("vocab_in", "embed")).astype(hidden.dtype)
            precise = jnp.promote_types(hidden.dtype, jnp.float32)
            return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=precise)
        out: Array = self.head(hidden)
        return out.astype(jnp.promote_types(out.dtype, jnp.float32))

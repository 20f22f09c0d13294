"""One `attention()` for every tower; the form that runs depends on platform and length.

TPU: JAX's splash kernel. GPU: cuDNN for bfloat16 and float16, the dense form for float32. CPU:
blocks of queries (blocked_attention.py). Short rows: the dense form. The platform is that of the
mesh, so a program compiled for a TPU or GPU on another machine has its kernels. No other form for
long rows ever holds a [T, S] table of all heads; with a bias, which is such a table, the dense
form runs.

Keys and values may have fewer heads than queries (K divides N): query head n attends to key-value
head n // (N / K). They are never repeated in memory.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.blocked_attention import HIDDEN, LONG, blocked_attention, dense_mask
from emojax.model.remat import checkpoint_name
from emojax.sharding import is_divisible, platform, shard_over_heads

Array = jax.Array
LANES = 128  # the splash kernel needs lengths that are multiples of this
CUDNN_WIDTH = 128  # largest width of a head that cuDNN takes on every GPU
TILES = (512, 384, 256, LANES)  # rows and columns of one step of the splash kernel


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    key_mask: Array | None = None,
    causal: bool = False,
    bias: Array | None = None,
) -> Array:
    """Scaled dot-product attention; scores and softmax in float32.

    Args:
      q: float[B, T, N, H].
      k: float[B, S, K, H].
      v: float[B, S, K, H].
      key_mask: bool[B, S], False on hidden keys; None when all are visible. Where
        `takes_row_lengths`, hidden keys come after all visible ones.
      causal: whether query t attends to keys up to t only (T = S).
      bias: float[B, N, T, S], added to the scores; then the dense form runs everywhere.

    Returns:
      float[B, T, N, H]. The output of a query without any visible key differs between the forms:
      mask it.
    """
    (batch, length, heads), kv_heads, target = q.shape[:3], k.shape[2], platform()
    if bias is not None:
        mask = dense_mask(key_mask, causal, start=0, queries=length, length=k.shape[1])
        return checkpoint_name(dense_attention(q, k, v, mask=mask, bias=bias), "attention")
    if target == "tpu" and (causal or length >= LONG) and is_divisible(batch, heads, kv_heads):
        if key_mask is None:
            key_mask = jnp.ones(q.shape[:2], bool)
        kernel = functools.partial(splash_attention, causal=causal)
        return shard_over_heads(kernel, heads=heads, kv_heads=kv_heads)(q, k, v, key_mask)
    if takes_row_lengths(q.dtype) and q.shape[3] % 8 == 0 and q.shape[3] <= CUDNN_WIDTH:
        return cudnn_attention(q, k, v, key_mask, causal=causal)
    if target == "cpu" and (causal or length >= LONG):
        out = blocked_attention(q, k, v, key_mask, causal)
    else:
        mask = dense_mask(key_mask, causal, start=0, queries=length, length=k.shape[1])
        out = dense_attention(q, k, v, mask=mask)
    return checkpoint_name(out, "attention")


def takes_row_lengths(dtype: Any) -> bool:
    """Whether `attention` on arrays of this dtype needs hidden keys after all visible ones."""
    return platform() == "gpu" and dtype in (jnp.bfloat16, jnp.float16)


def cudnn_attention(q: Array, k: Array, v: Array, key_mask: Array | None, *, causal: bool) -> Array:
    """Attention by cuDNN's flash kernel for NVIDIA GPUs.

    cuDNN gets the number of visible keys of each row. A mask would be a bias, whose gradient it
    would compute although nothing needs it. Every query is computed, those on padding too, so
    that no output stays unwritten. Odd lengths are padded: JAX refuses them in training. The
    policies of remat.py save what the kernel gives its backward pass.

    Args:
      q: float[B, T, N, H], bfloat16 or float16.
      k: float[B, S, K, H].
      v: float[B, S, K, H].
      key_mask: bool[B, S], False on hidden keys, which come last; None when all are visible.
      causal: whether query t attends to keys up to t only.

    Returns:
      float[B, T, N, H]. A row without any visible key attends to its first one.
    """
    (batch, queries), keys = q.shape[:2], k.shape[1]
    lengths = None
    if key_mask is not None:
        lengths = jnp.maximum(key_mask.sum(axis=1, dtype=jnp.int32), 1)
    elif keys % 2:
        lengths = jnp.full((batch,), keys, jnp.int32)
    q, k, v = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v))
    out = jax.nn.dot_product_attention(
        q, k, v, key_value_seq_lengths=lengths, is_causal=causal, implementation="cudnn"
    )
    return out[:, :queries]


def group_heads(q: Array, kv_heads: int) -> Array:
    """[B, T, N, H] -> [B, T, K, N / K, H]: the queries of each key-value head."""
    return q.reshape(*q.shape[:2], kv_heads, -1, q.shape[3])


def dense_attention(
    q: Array, k: Array, v: Array, *, mask: Array | None, bias: Array | None = None
) -> Array:
    """The textbook form; a query without any visible key gets the mean of all values.

    Args:
      q: float[B, T, N, H].
      k: float[B, S, K, H].
      v: float[B, S, K, H].
      mask: bool[B or 1, 1, T, S]; None when every query attends to every key.
      bias: float[B, N, T, S], added to the scores.

    Returns:
      float[B, T, N, H].
    """
    precise = jnp.promote_types(q.dtype, jnp.float32)
    scaled = group_heads(q * q.shape[-1] ** -0.5, k.shape[2])
    scores = jnp.einsum("btkgh,bskh->bkgts", scaled, k, preferred_element_type=precise)
    if bias is not None:
        scores = scores + bias.reshape(scores.shape).astype(scores.dtype)
    if mask is not None:
        lowest: Any = jnp.finfo(scores.dtype)  # type: ignore[no-untyped-call]
        scores = jnp.where(mask[:, :, None], scores, lowest.min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgts,bskh->btkgh", weights, v).reshape(q.shape)


def cached_attention(
    q: Array,
    k: Array,
    v: Array,
    new_k: Array,
    new_v: Array,
    *,
    cache_mask: Array,
    self_mask: Array,
    k_scale: Array | None = None,
    v_scale: Array | None = None,
) -> Array:
    """Dense attention to a key-value cache and to new tokens that are not yet in it.

    Args:
      q: float[B, T, N, H].
      k: float or int8[B, K, S, H], cached keys.
      v: float or int8[B, K, S, H], cached values.
      new_k: float[B, K, T, H].
      new_v: float[B, K, T, H].
      cache_mask: bool[B, 1, 1, S], cached keys that may be attended to.
      self_mask: bool[B, 1, T, T], new keys that each new query may attend to.
      k_scale: float32[B, K, S], scales of int8 keys. They multiply the scores, so the int8 cache is
        never expanded to floats.
      v_scale: float32[B, K, S], scales of int8 values; they multiply the weights.

    Returns:
      float[B, T, N, H].
    """
    precise = jnp.promote_types(q.dtype, jnp.float32)
    shape, q = q.shape, group_heads(q * np.asarray(q.shape[-1] ** -0.5, q.dtype), k.shape[1])
    # Keys first, in their own layout: the other way round XLA:CPU transposes the cache per token.
    scores = jnp.einsum("bksh,btkgh->bksgt", k.astype(q.dtype), q, preferred_element_type=precise)
    scores = jnp.moveaxis(scores, 2, -1)
    if k_scale is not None:
        scores = scores * k_scale[:, :, None, None]
    new_scores = jnp.einsum("btkgh,bksh->bkgts", q, new_k, preferred_element_type=precise)
    visible, visible_new = cache_mask[:, :, None], self_mask[:, :, None]
    both = jnp.concatenate(
        [jnp.where(visible, scores, HIDDEN), jnp.where(visible_new, new_scores, HIDDEN)], axis=-1
    )
    weights = jax.nn.softmax(both, axis=-1)
    cached, new = weights[..., : k.shape[2]], weights[..., k.shape[2] :]
    if v_scale is not None:
        cached = cached * v_scale[:, :, None, None]
    out = jnp.einsum("bkgts,bksh->btkgh", cached.astype(q.dtype), v.astype(q.dtype))
    out = out + jnp.einsum("bkgts,bksh->btkgh", new.astype(q.dtype), new_v)
    return out.reshape(shape)


def splash_tile(length: int) -> int:
    """Rows and columns of one step of the splash kernel; `length` is a multiple of LANES."""
    return next(tile for tile in TILES if length % tile == 0)


def splash_attention(q: Array, k: Array, v: Array, key_mask: Array, *, causal: bool) -> Array:
    """Attention by JAX's splash kernel for TPU, on one shard.

    Hidden keys are put into a segment of their own. Lengths and head widths are padded to whole
    lanes. The kernel saves its output and log-sum-exps under the name `attention` (remat.py).

    Args:
      q: float[B, T, N, H].
      k: float[B, T, K, H].
      v: float[B, T, K, H].
      key_mask: bool[B, T], False on hidden keys.
      causal: whether query t attends to keys up to t only.

    Returns:
      float[B, T, N, H].
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as lib

    length, heads, width = q.shape[1:]
    scale = np.asarray(width**-0.5, q.dtype)
    rows, lanes = -length % LANES, -width % LANES
    q, k, v = (
        jnp.pad(x, ((0, 0), (0, rows), (0, 0), (0, lanes))).swapaxes(1, 2)
        for x in (q * scale, k, v)
    )
    segments = jnp.pad(key_mask.astype(jnp.int32), ((0, 0), (0, rows)))
    padded = (length + rows, length + rows)
    tile = splash_tile(padded[0])
    names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute", "q_dq", "kv_dq")
    sizes = lib.BlockSizes(**{f"block_{name}": tile for name in names})  # type: ignore[arg-type]
    mask = lib.CausalMask(padded) if causal else lib.FullMask(padded)
    kernel: Any = lib.make_splash_mha(
        lib.MultiHeadMask([mask] * heads),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name="attention",
    )
    # plan/hlo.py counts FLOPs by the names of these scopes.
    with jax.named_scope("splash_causal" if causal else "splash_full"):
        out: Array = jax.vmap(lambda a, b, c, s: kernel(a, b, c, lib.SegmentIds(s, s)))(
            q, k, v, segments
        )
    return out.swapaxes(1, 2)[:, :length, :, :width]

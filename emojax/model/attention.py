"""One `attention()` for every tower: splash on TPU, cuDNN on GPU, blocks of queries on CPU, a plain form for short rows.

Which one runs is read off the platform of the mesh, so a program that is compiled for a TPU on another machine has
the TPU's. None of the long forms ever holds a [T, S] table of all heads.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from emojax.sharding import divides, over_heads, platform

Array = jax.Array
LONG = 512  # queries from which tables of scores are not held whole
BLOCK = 256  # queries of a block on CPU: its scores stay in cache
LANES = 128  # splash wants lengths of whole lanes
TILES = (512, 384, 256, LANES)  # rows and columns that one step of the splash kernel takes


def attention(
    q: Array, k: Array, v: Array, keys: Array | None = None, causal: bool = False, mask: Array | None = None
) -> Array:
    """Scaled dot-product attention; scores and softmax in float32.

    Args:
      q: float[B, T, N, H]. k, v: float[B, S, N, H].
      keys: bool[B, S], False on keys that nobody may look at; None for all.
      causal: query t looks at keys up to t (T = S).
      mask: bool broadcastable to [B, N, T, S] in place of `keys` and `causal`: the plain form, for cached decoding.

    Returns:
      float[B, T, N, H]. Mask the output of a query that has no key to look at: it differs between the forms.
    """
    if mask is not None:
        return plain(q, k, v, mask)
    length, where = q.shape[1], platform()
    if where == "tpu" and (causal or length >= LONG) and divides(q.shape[0], q.shape[2]):
        if keys is None:
            keys = jnp.ones(q.shape[:2], bool)
        return over_heads(functools.partial(splash, causal=causal))(q, k, v, keys)
    if where == "gpu" and q.dtype in (jnp.bfloat16, jnp.float16):
        seen = None if keys is None else keys[:, None, None, :]
        out = jax.nn.dot_product_attention(q, k, v, mask=seen, is_causal=causal, implementation="cudnn")
    elif where == "cpu" and length >= LONG:
        out = blocked(q, k, v, keys, causal)
    else:
        out = plain(q, k, v, dense_mask(keys, causal, 0, length, k.shape[1]))
    return checkpoint_name(out, "attention")


def dense_mask(keys: Array | None, causal: bool, start: Array | int, queries: int, length: int) -> Array | None:
    """bool[B or 1, 1, queries, length] of the queries `start`, `start` + 1, ...; None where all may look at all."""
    seen = None if keys is None else keys[:, None, None, :]
    if causal:
        order = jnp.arange(length)[None, None, None] <= (start + jnp.arange(queries))[None, None, :, None]
        seen = order if seen is None else order & seen
    return seen


def plain(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
    """The textbook form; `mask` as in `attention`. A query without any key gets the mean of all values."""
    precise = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.einsum("btnh,bsnh->bnts", q * q.shape[-1] ** -0.5, k, preferred_element_type=precise)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bnts,bsnh->btnh", weights, v)


def blocked(q: Array, k: Array, v: Array, keys: Array | None, causal: bool) -> Array:
    """`plain`, one block of queries after the other; the backward pass makes each block's scores again."""
    batch, length, heads, width = q.shape
    count = -(-length // BLOCK)
    padded = jnp.pad(q, ((0, 0), (0, count * BLOCK - length), (0, 0), (0, 0)))
    blocks = padded.reshape(batch, count, BLOCK, heads, width).swapaxes(0, 1)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def one(queries: Array, number: Array) -> Array:
        return plain(queries, k, v, dense_mask(keys, causal, number * BLOCK, BLOCK, k.shape[1]))

    out = jax.lax.map(lambda pair: one(*pair), (blocks, jnp.arange(count)))
    return out.swapaxes(0, 1).reshape(batch, count * BLOCK, heads, width)[:, :length]


def splash(q: Array, k: Array, v: Array, keys: Array, causal: bool) -> Array:
    """Attention by JAX's splash kernel for TPU, on one shard; hidden keys are another segment.

    Lengths and head widths are filled up to whole lanes. Saves its output and the logarithms of its sums under the name
    `attention` (see layers.REMAT).
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as lib

    length, heads, width = q.shape[1:]
    scale = np.asarray(width**-0.5, q.dtype)
    rows, lanes = -length % LANES, -width % LANES
    q, k, v = (jnp.pad(x, ((0, 0), (0, rows), (0, 0), (0, lanes))).swapaxes(1, 2) for x in (q * scale, k, v))
    segments = jnp.pad(keys.astype(jnp.int32), ((0, 0), (0, rows)))
    whole = (length + rows, length + rows)
    tile = next(t for t in TILES if whole[0] % t == 0)
    names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute", "q_dq", "kv_dq")
    sizes = lib.BlockSizes(**{f"block_{name}": tile for name in names})  # type: ignore[arg-type]
    mask = lib.CausalMask(whole) if causal else lib.FullMask(whole)
    kernel = lib.make_splash_mha(
        lib.MultiHeadMask([mask] * heads),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name="attention",
    )
    with jax.named_scope("splash_causal" if causal else "splash_full"):  # train/hlo.py counts FLOPs by these names
        out = jax.vmap(lambda a, b, c, s: kernel(a, b, c, lib.SegmentIds(s, s)))(q, k, v, segments)
    return out.swapaxes(1, 2)[:, :length, :, :width]

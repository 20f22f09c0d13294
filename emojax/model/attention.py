"""One `attention()` for every tower: splash on TPU, cuDNN on GPU, blocks of queries on CPU, a plain form for short rows.

Which one runs is read off the platform of the mesh, so a program that is compiled for a TPU on another machine has
the TPU's. None of the long forms ever holds a [T, S] table of all heads.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from emojax.sharding import is_divisible, platform, shard_over_heads

Array = jax.Array
LONG = 512  # queries from which tables of scores are not held whole
HEAD_BLOCK = 1100  # queries of one head at once on CPU without a backward pass
HIDDEN = -1e30  # score of a key that may not be looked at
LANES = 128  # splash wants lengths of whole lanes
TILES = (512, 384, 256, LANES)  # rows and columns that one step of the splash kernel takes


def attention(
    q: Array, k: Array, v: Array, *, keys: Array | None = None, causal: bool = False
) -> Array:
    """Scaled dot-product attention; scores and softmax in float32.

    Args:
      q: float[B, T, N, H]. k, v: float[B, S, N, H].
      keys: bool[B, S], False on keys that nobody may look at; None for all.
      causal: query t looks at keys up to t (T = S).

    Returns:
      float[B, T, N, H]. Mask the output of a query that has no key to look at: it differs between the forms.
    """
    length, where = q.shape[1], platform()
    if where == "tpu" and (causal or length >= LONG) and is_divisible(q.shape[0], q.shape[2]):
        if keys is None:
            keys = jnp.ones(q.shape[:2], bool)
        return shard_over_heads(functools.partial(splash, causal=causal))(q, k, v, keys)
    if where == "gpu" and q.dtype in (jnp.bfloat16, jnp.float16):
        seen = None if keys is None else keys[:, None, None, :]
        out = jax.nn.dot_product_attention(
            q, k, v, mask=seen, is_causal=causal, implementation="cudnn"
        )
    elif where == "cpu" and (causal or length >= LONG):
        out = blocked(q, k, v, keys, causal)
    else:
        out = plain(q, k, v, dense_mask(keys, causal, 0, length, k.shape[1]))
    return checkpoint_name(out, "attention")


def dense_mask(
    keys: Array | None, causal: bool, start: Array | int, queries: int, length: int
) -> Array | None:
    """bool[B or 1, 1, queries, length] of the queries `start`, `start` + 1, ...; None where all may look at all."""
    seen = None if keys is None else keys[:, None, None, :]
    if causal:
        order = (
            jnp.arange(length)[None, None, None]
            <= (start + jnp.arange(queries))[None, None, :, None]
        )
        seen = order if seen is None else order & seen
    return seen


def plain(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
    """The textbook form; mask: bool broadcastable to [B, N, T, S]. A query without any key gets the mean of all values."""
    precise = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.einsum(
        "btnh,bsnh->bnts", q * q.shape[-1] ** -0.5, k, preferred_element_type=precise
    )
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bnts,bsnh->btnh", weights, v)


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
    """`plain` over a cache and new tokens beside it: float[B, T, N, H].

    Args:
      q: float[B, T, N, H]. k, v: float or int8[B, N, S, H], the cache. new_k, new_v: float[B, N, T, H].
      cache_mask: bool[B, 1, 1, S], which cached keys may be attended to. self_mask: bool[B, 1, T, T], which new ones.
      k_scale, v_scale: float32[B, N, S], by which the cache is to be multiplied; done on scores and weights, so that int8 is never
        held as floats.
    """
    precise = jnp.promote_types(q.dtype, jnp.float32)
    q = q * np.asarray(q.shape[-1] ** -0.5, q.dtype)
    # Keys first: as they lie. The other way round XLA for CPU turns the whole cache over for each token.
    scores = jnp.einsum(
        "bnsh,btnh->bnst", k.astype(q.dtype), q, preferred_element_type=precise
    ).swapaxes(2, 3)
    if k_scale is not None:
        scores = scores * k_scale[:, :, None]
    own = jnp.einsum("btnh,bnsh->bnts", q, new_k, preferred_element_type=precise)
    both = jnp.concatenate(
        [jnp.where(cache_mask, scores, HIDDEN), jnp.where(self_mask, own, HIDDEN)], axis=-1
    )
    weights = jax.nn.softmax(both, axis=-1)
    before, here = weights[..., : k.shape[2]], weights[..., k.shape[2] :]
    if v_scale is not None:
        before = before * v_scale[:, :, None]
    out = jnp.einsum("bnts,bnsh->btnh", before.astype(q.dtype), v.astype(q.dtype))
    return out + jnp.einsum("bnts,bnsh->btnh", here.astype(q.dtype), new_v)


def block_size(queries: int) -> int:
    """Queries of a block on CPU: their scores stay in cache."""
    return 64 if queries < 256 else 128


def parts_of(count: int, causal: bool) -> list[tuple[int, int]]:
    """(first block, last + 1) of parts that look at the same keys: a causal part never sees the keys behind it."""
    step = -(-count // 4) if causal else count
    return [(i, min(i + step, count)) for i in range(0, count, step)]


def in_blocks(x: Array, size: int, first: int, last: int) -> Array:
    """[B, N, T, H] -> [last - first, B, N, size, H], filled up with zeros."""
    x = jnp.pad(
        x[:, :, first * size : last * size],
        ((0, 0), (0, 0), (0, max(0, last * size - x.shape[2])), (0, 0)),
    )
    return x.reshape(*x.shape[:2], last - first, size, x.shape[3]).transpose(2, 0, 1, 3, 4)


def from_blocks(parts: list[Array], length: int) -> Array:
    """The parts' blocks [blocks, B, N, size, H] -> [B, N, length, H]."""
    joined = [x.transpose(1, 2, 0, 3, 4).reshape(*x.shape[1:3], -1, x.shape[4]) for x in parts]
    return jnp.concatenate(joined, axis=2)[:, :, :length]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked(q: Array, k: Array, v: Array, keys: Array | None, causal: bool) -> Array:
    """`plain`, one block of queries after the other; keeps the output and the logarithms of its sums, no scores.

    The backward pass is that of FlashAttention (Dao et al. 2022, algorithm 4). Without one, heads go one after the other.
    """
    if not causal and q.shape[1] >= LONG:
        return by_head(q, k, v, keys)
    return blocked_forward(q, k, v, keys, causal)[0]


def by_head(q: Array, k: Array, v: Array, keys: Array | None) -> Array:
    """`plain` for one head of one row after the other, in up to HEAD_BLOCK queries: fastest on CPU where nothing is differentiated."""
    rows, length, heads, width = q.shape
    precise = jnp.promote_types(q.dtype, jnp.float32)
    parts = -(-length // HEAD_BLOCK)
    size = -(-length // parts)
    q, k, v = (
        x.swapaxes(1, 2).reshape(rows * heads, length, width)
        for x in (q * np.asarray(width**-0.5, q.dtype), k, v)
    )
    q = jnp.pad(q, ((0, 0), (0, parts * size - length), (0, 0))).reshape(-1, size, width)

    def one(block: tuple[Array, Array]) -> Array:
        own, number = block
        head = number // parts
        scores = jnp.einsum("th,sh->ts", own, k[head], preferred_element_type=precise)
        scores = scores if keys is None else jnp.where(keys[head // heads][None], scores, HIDDEN)
        weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
        out = jnp.einsum(
            "ts,sh->th", weights.astype(v.dtype), v[head], preferred_element_type=precise
        )
        return (out / weights.sum(axis=-1, keepdims=True)).astype(v.dtype)

    out = jax.lax.map(one, (q, jnp.arange(len(q))))
    return out.reshape(rows, heads, parts * size, width)[:, :, :length].swapaxes(1, 2)


def blocked_forward(
    q: Array, k: Array, v: Array, keys: Array | None, causal: bool
) -> tuple[Array, tuple[Any, ...]]:
    """(output, what the backward pass wants): see `blocked`."""
    q, k, v = (x.swapaxes(1, 2) for x in (q * np.asarray(q.shape[-1] ** -0.5, q.dtype), k, v))
    length, size, precise = (
        q.shape[2],
        block_size(q.shape[2]),
        jnp.promote_types(q.dtype, jnp.float32),
    )
    outs, sums = [], []
    for first, last in parts_of(-(-length // size), causal):
        end = min(last * size, k.shape[2]) if causal else k.shape[2]
        seen, values, known = k[:, :, :end], v[:, :, :end], None if keys is None else keys[:, :end]

        def one(_: None, block: Any, seen=seen, values=values, known=known) -> Any:  # type: ignore[no-untyped-def]
            own, number = block
            scores = jnp.einsum("bnth,bnsh->bnts", own, seen, preferred_element_type=precise)
            mask = dense_mask(known, causal, number * size, size, seen.shape[2])
            scores = scores if mask is None else jnp.where(mask, scores, HIDDEN)
            top = scores.max(axis=-1, keepdims=True)
            weights = jnp.exp(scores - top)
            total = weights.sum(axis=-1, keepdims=True)
            out = jnp.einsum(
                "bnts,bnsh->bnth", weights.astype(v.dtype), values, preferred_element_type=precise
            )
            return None, ((out / total).astype(v.dtype), top + jnp.log(total))

        blocks = in_blocks(q, size, first, last), jnp.arange(first, last)
        _, (out, logs) = jax.lax.scan(one, None, blocks, unroll=last - first == 1)
        outs.append(out)
        sums.append(logs)
    whole = from_blocks(outs, length)
    return whole.swapaxes(1, 2), (q, k, v, keys, whole, from_blocks(sums, length))


def blocked_backward(
    causal: bool, kept: tuple[Any, ...], slope: Array
) -> tuple[Array, Array, Array, None]:
    """Slopes of q, k and v from that of the output.

    Tables are [keys, queries]: XLA's matmuls of a transposed left side are slow on CPU, and so only that of dq is one.
    """
    q, k, v, keys, out, sums = kept
    length, size, precise = q.shape[2], block_size(q.shape[2]), sums.dtype
    slope = slope.swapaxes(1, 2)
    shared = (slope * out).sum(axis=-1, keepdims=True, dtype=precise)
    dqs, dk, dv = [], jnp.zeros(k.shape, precise), jnp.zeros(v.shape, precise)
    for first, last in parts_of(-(-length // size), causal):
        end = min(last * size, k.shape[2]) if causal else k.shape[2]
        seen, values, known = k[:, :, :end], v[:, :, :end], None if keys is None else keys[:, :end]

        def one(carry: Any, block: Any, seen=seen, values=values, known=known) -> Any:  # type: ignore[no-untyped-def]
            own, pulled, logs, common, number = block
            scores = jnp.einsum("bnsh,bnth->bnst", seen, own, preferred_element_type=precise)
            mask = dense_mask(known, causal, number * size, size, seen.shape[2])
            scores = scores if mask is None else jnp.where(mask.swapaxes(2, 3), scores, HIDDEN)
            weights = jnp.exp(scores - logs.swapaxes(2, 3))
            pull = jnp.einsum("bnsh,bnth->bnst", values, pulled, preferred_element_type=precise)
            pull = (weights * (pull - common.swapaxes(2, 3))).astype(q.dtype)
            dk = carry[0] + jnp.einsum("bnst,bnth->bnsh", pull, own, preferred_element_type=precise)
            weights = weights.astype(v.dtype)
            dv = carry[1] + jnp.einsum(
                "bnst,bnth->bnsh", weights, pulled, preferred_element_type=precise
            )
            return (dk, dv), jnp.einsum("bnst,bnsh->bnth", pull, seen)

        blocks = tuple(in_blocks(x, size, first, last) for x in (q, slope, sums, shared))
        start = jnp.zeros(seen.shape, precise), jnp.zeros(values.shape, precise)
        (own_k, own_v), dq = jax.lax.scan(
            one, start, (*blocks, jnp.arange(first, last)), unroll=last - first == 1
        )
        dk, dv = dk.at[:, :, :end].add(own_k), dv.at[:, :, :end].add(own_v)
        dqs.append(dq)
    dq = from_blocks(dqs, length) * np.asarray(q.shape[-1] ** -0.5, q.dtype)
    return (
        dq.swapaxes(1, 2),
        dk.astype(k.dtype).swapaxes(1, 2),
        dv.astype(v.dtype).swapaxes(1, 2),
        None,
    )


blocked.defvjp(blocked_forward, blocked_backward)


def splash(q: Array, k: Array, v: Array, keys: Array, causal: bool) -> Array:
    """Attention by JAX's splash kernel for TPU, on one shard; hidden keys are another segment.

    Lengths and head widths are filled up to whole lanes. Saves its output and the logarithms of its sums under the name
    `attention` (see layers.REMAT).
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as lib

    length, heads, width = q.shape[1:]
    scale = np.asarray(width**-0.5, q.dtype)
    rows, lanes = -length % LANES, -width % LANES
    q, k, v = (
        jnp.pad(x, ((0, 0), (0, rows), (0, 0), (0, lanes))).swapaxes(1, 2)
        for x in (q * scale, k, v)
    )
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
    with jax.named_scope(
        "splash_causal" if causal else "splash_full"
    ):  # train/hlo.py counts FLOPs by these names
        out = jax.vmap(lambda a, b, c, s: kernel(a, b, c, lib.SegmentIds(s, s)))(q, k, v, segments)
    return out.swapaxes(1, 2)[:, :length, :, :width]

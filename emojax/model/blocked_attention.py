"""Attention on CPU, block by block of queries: no table of scores of a whole row is ever held.

Written by hand for speed: XLA:CPU has no attention kernel, and the dense form's [B, N, T, S] scores
leave the processor's caches. Blocks with a backward pass follow FlashAttention (Dao et al. 2022,
algorithm 4); without one, heads are computed one after the other.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
LONG = 512  # number of queries from which the table of scores is not held whole
HEAD_BLOCK = 1100  # queries of one head per block where no backward pass is needed
HIDDEN = -1e30  # score of a key that must not be attended to


def dense_mask(
    key_mask: Array | None, causal: bool, *, start: Array | int, queries: int, length: int
) -> Array | None:
    """The attention mask of consecutive queries.

    Args:
      key_mask: bool[B, S], False on hidden keys; None when all are visible.
      causal: whether query t attends to keys up to t only.
      start: index of the first query.
      queries: number of queries.
      length: number of keys, S.

    Returns:
      bool[B or 1, 1, queries, length]; None when every query attends to every key.
    """
    visible = None if key_mask is None else key_mask[:, None, None, :]
    if causal:
        order = (
            jnp.arange(length)[None, None, None]
            <= (start + jnp.arange(queries))[None, None, :, None]
        )
        visible = order if visible is None else order & visible
    return visible


def block_size(queries: int) -> int:
    """Number of queries in a block, small enough that their scores stay in cache."""
    return 64 if queries < 256 else 128


def causal_parts(blocks: int, causal: bool) -> list[tuple[int, int]]:
    """Groups of blocks that share one slice of keys; a causal group skips the keys after it.

    Args:
      blocks: number of blocks of queries.
      causal: False gives one group.

    Returns:
      (first block, last block + 1) of each group.
    """
    step = -(-blocks // 4) if causal else blocks
    return [(i, min(i + step, blocks)) for i in range(0, blocks, step)]


def to_blocks(x: Array, size: int, first: int, last: int) -> Array:
    """Cuts blocks out of a row and pads the last one with zeros.

    Args:
      x: [B, N, T, H].
      size: queries in a block.
      first: first block.
      last: last block + 1.

    Returns:
      [last - first, B, N, size, H].
    """
    x = jnp.pad(
        x[:, :, first * size : last * size],
        ((0, 0), (0, 0), (0, max(0, last * size - x.shape[2])), (0, 0)),
    )
    return x.reshape(*x.shape[:2], last - first, size, x.shape[3]).transpose(2, 0, 1, 3, 4)


def from_blocks(parts: list[Array], length: int) -> Array:
    """Joins groups of blocks [blocks, B, N, size, H] to [B, N, length, H]."""
    joined = [x.transpose(1, 2, 0, 3, 4).reshape(*x.shape[1:3], -1, x.shape[4]) for x in parts]
    return jnp.concatenate(joined, axis=2)[:, :, :length]


def by_group(x: Array, k: Array) -> Array:
    """[B, N, T, H] -> [B, K, N / K, T, H], for the K heads of `k` [B, K, S, H]."""
    return x.reshape(*x.shape[:1], k.shape[1], -1, *x.shape[2:])


def by_head(x: Array) -> Array:
    """The inverse of `by_group`."""
    return x.reshape(x.shape[0], -1, *x.shape[3:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked_attention(q: Array, k: Array, v: Array, key_mask: Array | None, causal: bool) -> Array:
    """Scaled dot-product attention that keeps its output and log-sum-exps, but no scores.

    Args:
      q: float[B, T, N, H].
      k: float[B, S, K, H].
      v: float[B, S, K, H].
      key_mask: bool[B, S], False on hidden keys; None when all are visible.
      causal: whether query t attends to keys up to t only.

    Returns:
      float[B, T, N, H].
    """
    if not causal and q.shape[1] >= LONG:
        return per_head_attention(q, k, v, key_mask)
    return blocked_forward(q, k, v, key_mask, causal)[0]


def per_head_attention(q: Array, k: Array, v: Array, key_mask: Array | None) -> Array:
    """Full attention, one head of one sample at a time; fastest on CPU without a backward pass.

    Args:
      q: float[B, T, N, H].
      k: float[B, T, K, H].
      v: float[B, T, K, H].
      key_mask: bool[B, T], False on hidden keys; None when all are visible.

    Returns:
      float[B, T, N, H].
    """
    batch, length, heads, width = q.shape
    group = heads // k.shape[2]
    precise = jnp.promote_types(q.dtype, jnp.float32)
    parts = -(-length // HEAD_BLOCK)
    size = -(-length // parts)
    q, k, v = (
        x.swapaxes(1, 2).reshape(-1, length, width)
        for x in (q * np.asarray(width**-0.5, q.dtype), k, v)
    )
    q = jnp.pad(q, ((0, 0), (0, parts * size - length), (0, 0))).reshape(-1, size, width)

    def attend(block: tuple[Array, Array]) -> Array:
        queries, number = block
        head = number // parts
        shared = head // group  # rows and heads in order: their groups are, too
        scores = jnp.einsum("th,sh->ts", queries, k[shared], preferred_element_type=precise)
        scores = (
            scores if key_mask is None else jnp.where(key_mask[head // heads][None], scores, HIDDEN)
        )
        weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
        out = jnp.einsum(
            "ts,sh->th", weights.astype(v.dtype), v[shared], preferred_element_type=precise
        )
        return (out / weights.sum(axis=-1, keepdims=True)).astype(v.dtype)

    out: Array = jax.lax.map(attend, (q, jnp.arange(len(q))))
    return out.reshape(batch, heads, parts * size, width)[:, :, :length].swapaxes(1, 2)


def _visible(
    k: Array, v: Array, key_mask: Array | None, end: int
) -> tuple[Array, Array, Array | None]:
    """The keys and values before `end`, and their mask."""
    return k[:, :, :end], v[:, :, :end], None if key_mask is None else key_mask[:, :end]


def blocked_forward(
    q: Array, k: Array, v: Array, key_mask: Array | None, causal: bool
) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass of `blocked_attention`.

    Args:
      q: float[B, T, N, H].
      k: float[B, S, K, H].
      v: float[B, S, K, H].
      key_mask: bool[B, S] or None.
      causal: as of `blocked_attention`.

    Returns:
      The output and the residuals of the backward pass.
    """
    q, k, v = (x.swapaxes(1, 2) for x in (q * np.asarray(q.shape[-1] ** -0.5, q.dtype), k, v))
    length = q.shape[2]
    size, precise = block_size(length), jnp.promote_types(q.dtype, jnp.float32)
    outs, sums = [], []
    for first, last in causal_parts(-(-length // size), causal):
        end = min(last * size, k.shape[2]) if causal else k.shape[2]
        part = _visible(k, v, key_mask, end)

        def attend(_: None, block: Any, *, part: Any = part) -> Any:
            part_k, part_v, part_mask = part
            queries, number = by_group(block[0], part_k), block[1]
            scores = jnp.einsum(
                "bkgth,bksh->bkgts", queries, part_k, preferred_element_type=precise
            )
            mask = dense_mask(
                part_mask, causal, start=number * size, queries=size, length=part_k.shape[2]
            )
            scores = scores if mask is None else jnp.where(mask[:, :, None], scores, HIDDEN)
            top = scores.max(axis=-1, keepdims=True)
            weights = jnp.exp(scores - top)
            total = weights.sum(axis=-1, keepdims=True)
            out = jnp.einsum(
                "bkgts,bksh->bkgth", weights.astype(v.dtype), part_v, preferred_element_type=precise
            )
            return None, (by_head((out / total).astype(v.dtype)), by_head(top + jnp.log(total)))

        blocks = to_blocks(q, size, first, last), jnp.arange(first, last)
        _, (out, logs) = jax.lax.scan(attend, None, blocks, unroll=last - first == 1)
        outs.append(out)
        sums.append(logs)
    whole = from_blocks(outs, length)
    return whole.swapaxes(1, 2), (q, k, v, key_mask, whole, from_blocks(sums, length))


def blocked_backward(
    causal: bool, residuals: tuple[Any, ...], grad: Array
) -> tuple[Array, Array, Array, None]:
    """The backward pass of `blocked_attention`.

    Tables are [keys, queries]: XLA:CPU's matmuls with a transposed left side are slow, and in this
    order only the matmul of dq has one.

    Args:
      causal: as of `blocked_attention`.
      residuals: as returned by `blocked_forward`.
      grad: float[B, T, N, H], gradient of the output.

    Returns:
      Gradients of q, k and v, and None for the mask.
    """
    q, k, v, key_mask, out, sums = residuals
    product = functools.partial(jnp.einsum, preferred_element_type=sums.dtype)
    length, size, precise = q.shape[2], block_size(q.shape[2]), sums.dtype
    grad = grad.swapaxes(1, 2)
    delta = (grad * out).sum(axis=-1, keepdims=True, dtype=precise)
    dqs, dk, dv = [], jnp.zeros(k.shape, precise), jnp.zeros(v.shape, precise)
    for first, last in causal_parts(-(-length // size), causal):
        end = min(last * size, k.shape[2]) if causal else k.shape[2]
        part = _visible(k, v, key_mask, end)

        def step(carry: Any, block: Any, *, part: Any = part) -> Any:
            part_k, part_v, part_mask = part
            queries, out_grad, logs, rows_delta = (by_group(x, part_k) for x in block[:-1])
            scores = product("bksh,bkgth->bkgst", part_k, queries)
            mask = dense_mask(
                part_mask, causal, start=block[-1] * size, queries=size, length=part_k.shape[2]
            )
            if mask is not None:
                scores = jnp.where(mask.swapaxes(2, 3)[:, :, None], scores, HIDDEN)
            weights = jnp.exp(scores - logs.swapaxes(3, 4))
            ds = product("bksh,bkgth->bkgst", part_v, out_grad)
            ds = (weights * (ds - rows_delta.swapaxes(3, 4))).astype(q.dtype)
            dk = carry[0] + product("bkgst,bkgth->bksh", ds, queries)
            weights = weights.astype(v.dtype)
            dv = carry[1] + product("bkgst,bkgth->bksh", weights, out_grad)
            return (dk, dv), by_head(jnp.einsum("bkgst,bksh->bkgth", ds, part_k))

        blocks = tuple(to_blocks(x, size, first, last) for x in (q, grad, sums, delta))
        start = jnp.zeros(part[0].shape, precise), jnp.zeros(part[1].shape, precise)
        (part_dk, part_dv), dq = jax.lax.scan(
            step, start, (*blocks, jnp.arange(first, last)), unroll=last - first == 1
        )
        dk, dv = dk.at[:, :, :end].add(part_dk), dv.at[:, :, :end].add(part_dv)
        dqs.append(dq)
    dq = from_blocks(dqs, length) * np.asarray(q.shape[-1] ** -0.5, q.dtype)
    return (
        dq.swapaxes(1, 2),
        dk.astype(k.dtype).swapaxes(1, 2),
        dv.astype(v.dtype).swapaxes(1, 2),
        None,
    )


blocked_attention.defvjp(blocked_forward, blocked_backward)

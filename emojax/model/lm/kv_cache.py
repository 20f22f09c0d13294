"""The key-value cache of the decoders.

Layers read the cache and never change it: new keys and values are written once after all layers, so
XLA keeps one copy. Each row has its own length, so rows of a batch may come and go
(infer/engine.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
MAX_UNROLLED_ROWS = 16  # batches up to this size are written row by row


class Cache(NamedTuple):
    """Keys and values of the tokens so far.

    Heads come before slots, so a step reads contiguous memory. Arrays of stacked layers have a
    leading axis L; unstacked layers have tuples of L arrays without it.

    Attributes:
      k: float or int8[L, B, K, S, H].
      v: float or int8[L, B, K, S, H].
      valid: bool[B, S], slots that hold a real token.
      used: int[B], number of written slots: a row's next token goes there.
      k_scale: float32[L, B, K, S] when k is int8, else None.
      v_scale: float32[L, B, K, S] when v is int8, else None.
    """

    k: Array | tuple[Array, ...]
    v: Array | tuple[Array, ...]
    valid: Array
    used: Array
    k_scale: Array | tuple[Array, ...] | None = None
    v_scale: Array | tuple[Array, ...] | None = None


def empty_cache(
    depth: int,
    shape: tuple[int, int, int, int],
    *,
    dtype: str,
    int8: bool = False,
    unstacked: bool = False,
) -> Cache:
    """A cache without tokens.

    Args:
      depth: number of layers, L.
      shape: (B, K, S, H) of one layer.
      dtype: of keys and values unless they are int8.
      int8: whether keys and values are int8 with scales.
      unstacked: whether each layer has arrays of its own.

    Returns:
      The cache, zeros everywhere.
    """

    def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
        if unstacked:
            return tuple(jnp.zeros(shape, dtype) for _ in range(depth))
        return jnp.zeros((depth, *shape), dtype)

    k, v = (zeros(shape, jnp.int8 if int8 else dtype) for _ in range(2))
    scales = [zeros(shape[:-1], jnp.float32) if int8 else None for _ in range(2)]
    batch, slots = shape[0], shape[2]
    return Cache(k, v, jnp.zeros((batch, slots), bool), jnp.zeros((batch,), jnp.int32), *scales)


def written_slots(cache: Cache) -> Array:
    """bool[B, 1, 1, S]: cached keys that may be attended to."""
    slots = jnp.arange(cache.valid.shape[1])
    return (cache.valid & (slots < cache.used[:, None]))[:, None, None]


def map_rows(change: Callable[..., Array], *caches: Cache) -> Cache:
    """Changes the rows of caches.

    Args:
      change: (axis of the rows, one array of each cache) -> array.
      *caches: caches of the same structure.

    Returns:
      The cache of the changed arrays.
    """
    stacked = not isinstance(caches[0].k, tuple)

    def one(*arrays: Array) -> Array:
        # stacked layers come before the rows
        return change(1 if stacked and arrays[0].ndim > 2 else 0, *arrays)

    changed: Cache = jax.tree.map(one, *caches)
    return changed


def quantize_per_token(x: Array) -> tuple[Array, Array]:
    """Int8 with one scale per vector: x ~ int8 * scale, off by at most half of the largest / 127.

    Args:
      x: float[..., H].

    Returns:
      (int8[..., H], float32[...] scale).
    """
    x = x.astype(jnp.float32)
    scale = jnp.maximum(jnp.abs(x).max(axis=-1), 1e-12) / 127
    return jnp.rint(x / scale[..., None]).astype(jnp.int8), scale


def update_cache(cache: Cache, new_kv: Any, *, valid: Array, after: Array) -> Cache:
    """Appends new keys and values to each row.

    Args:
      cache: the cache.
      new_kv: (k, v), each [L, B, K, T, H]; for unstacked layers a list of L such pairs without L.
      valid: bool[B, T], False on padding.
      after: float[B, T, D], output of the layers.

    Returns:
      The longer cache.
    """
    # The write must wait for all reads, or XLA:CPU copies every cache before changing it (half of
    # a step's time): adding a zero made of the output orders them.
    zero = 0 * after[:, :1, :1, None]
    if isinstance(cache.k, tuple):
        pairs = [quantize_kv(cache, *(x + zero.astype(x.dtype) for x in pair)) for pair in new_kv]
        layers: Any = [[getattr(cache, n)[i] for n in pairs[i]] for i in range(len(pairs))]
        arrays: dict[str, Any] = {
            n: tuple(
                write_slots(old[j], pair[n], cache.used, axis=0)
                for old, pair in zip(layers, pairs, strict=True)
            )
            for j, n in enumerate(pairs[0])
        }
    else:
        arrays = {
            n: write_slots(getattr(cache, n), x, cache.used, axis=1)
            for n, x in quantize_kv(cache, *new_kv).items()
        }
    slots = write_slots(cache.valid[:, None], valid[:, None], cache.used, axis=0)[:, 0]
    return cache._replace(valid=slots, used=cache.used + valid.shape[1], **arrays)


def quantize_kv(cache: Cache, k: Array, v: Array) -> dict[str, Array]:
    """{field of Cache: array}: keys and values in the cache's format, with scales when int8."""
    if cache.k_scale is None:
        return {"k": k, "v": v}
    (k, k_scale), (v, v_scale) = quantize_per_token(k), quantize_per_token(v)
    return {"k": k, "v": v, "k_scale": k_scale, "v_scale": v_scale}


def write_slots(old: Array, new: Array, start: Array, *, axis: int) -> Array:
    """Writes new slots into a cache array, row b from slot start[b] on.

    Args:
      old: [..., B, K, S, ...].
      new: [..., B, K, T, ...].
      start: int[B].
      axis: axis of the rows, B.

    Returns:
      [..., B, K, S, ...].
    """
    before, behind = (0,) * axis, (0,) * (new.ndim - axis - 3)
    # Row by row in place: XLA:CPU copies the whole array that it scatters into.
    if new.shape[axis] <= MAX_UNROLLED_ROWS:
        for b in range(new.shape[axis]):
            row = jax.lax.slice_in_dim(new, b, b + 1, axis=axis).astype(old.dtype)
            old = jax.lax.dynamic_update_slice(old, row, (*before, b, 0, start[b], *behind))
        return old

    def one(o: Array, n: Array, s: Array) -> Array:
        return jax.lax.dynamic_update_slice(o, n.astype(o.dtype), (*before, 0, s, *behind))

    return jax.vmap(one, in_axes=(axis, axis, 0), out_axes=axis)(old, new, start)

"""Dropout whose random bits are cheap: hashed where they are used, never stored."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def murmur_finalizer(x: Array) -> Array:
    """MurmurHash3's finaliser of uint32: every bit of the input affects every bit of the output."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def random_words(key: Array, shape: tuple[int, ...]) -> Array:
    """Random bits for masks: the index of each entry, hashed twice with the key.

    The hash is fused with the operation that reads it. XLA's generators write their bits to memory,
    and on a mesh every device draws those of the whole batch.

    Args:
      key: a jax random key.
      shape: of the result; beyond 2^32 entries the bits repeat.

    Returns:
      uint32[shape], the same on every mesh.
    """
    # A key has two words or four; the last two of four may repeat the first two.
    words = jax.random.key_data(key)
    first, second = murmur_finalizer(words[0]) + words[-2], murmur_finalizer(words[1]) + words[-1]
    index = jax.lax.iota(jnp.uint32, int(np.prod(shape))).reshape(shape)
    return murmur_finalizer(murmur_finalizer(index + first) + second)


def dropout(x: Array, rate: float, key: Array) -> Array:
    """Dropout with a rate that is exact to 1 / 65536.

    Args:
      x: float[...].
      rate: probability that an entry becomes zero.
      key: a jax random key.

    Returns:
      `x` with dropped entries zero and the others scaled by 1 / (1 - rate).
    """
    kept = random_words(key, x.shape) >= np.uint32(round(rate * 65536) << 16)
    return jnp.where(kept, x * np.asarray(1 / (1 - rate), x.dtype), 0)

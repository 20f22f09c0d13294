"""Dropout whose random bits are cheap: hashed on CPU, 16 per entry elsewhere."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from emojax.sharding import platform

Array = jax.Array


def murmur_finalizer(x: Array) -> Array:
    """MurmurHash3's finaliser of uint32: every bit of the input affects every bit of the output."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def random_words(key: Array, shape: tuple[int, ...]) -> Array:
    """Random bits for masks on CPU: the index of each entry, hashed twice with the key.

    XLA's generators write their bits to memory, a tenth of a small step's time; this is fused with
    the operation that reads it.

    Args:
      key: a jax random key.
      shape: of the result.

    Returns:
      uint32[shape].
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
      key: a jax random key. Off CPU 16 random bits per entry are drawn, half of a float32 draw.

    Returns:
      `x` with dropped entries zero and the others scaled by 1 / (1 - rate).
    """
    if platform() == "cpu":
        kept = random_words(key, x.shape) >= np.uint32(round(rate * 65536) << 16)
    else:
        kept = jax.random.bits(key, x.shape, jnp.uint16) >= round(rate * 65536)
    return jnp.where(kept, x * np.asarray(1 / (1 - rate), x.dtype), 0)

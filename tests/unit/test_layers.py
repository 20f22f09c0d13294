"""Single layers: RMSNorm and attention to an int8 cache, by hand."""

import jax.numpy as jnp
import numpy as np

from emojax.model.attention import cached_attention
from emojax.model.layers import LayerNorm, RMSNorm


def test_norms_of_small_values():
    """Mean square 2.5e-6 and variance 2.25e-6 are small against eps = 1e-5."""
    x = jnp.array([[0.002, -0.001]])
    scale = {"scale": jnp.array([1.0, 2.0])}
    rms = RMSNorm(1e-5).apply({"params": scale}, x)
    np.testing.assert_allclose(rms, [[0.002 / 1.25e-5**0.5, -0.002 / 1.25e-5**0.5]], rtol=1e-5)
    layer = LayerNorm(1e-5).apply({"params": {**scale, "bias": jnp.array([0.0, 1.0])}}, x)
    each = 0.0015 / 1.225e-5**0.5
    np.testing.assert_allclose(layer, [[each, 1 - 2 * each]], rtol=1e-5)


def test_attention_to_an_int8_cache():
    """Stored keys 40 and 20 with scales 1/40 and 1/10 are 1 and 2; values 50 and 30 are 5 and 6.

    The third key is hidden.
    """
    int8 = lambda *x: jnp.array(x, jnp.int8).reshape(1, 1, 3, 1)
    new = jnp.zeros((1, 1, 1, 1))
    out = cached_attention(
        jnp.ones((1, 1, 1, 1)),
        int8(40, 20, 120),
        int8(50, 30, 90),
        new,
        new,
        cache_mask=jnp.array([True, True, False]).reshape(1, 1, 1, 3),
        self_mask=jnp.zeros((1, 1, 1, 1), bool),
        k_scale=jnp.array([[[1 / 40, 1 / 10, 1 / 40]]]),
        v_scale=jnp.array([[[1 / 10, 1 / 5, 1 / 10]]]),
    )
    weight = np.e / (np.e + np.e**2)
    np.testing.assert_allclose(out.ravel(), [5 * weight + 6 * (1 - weight)], rtol=1e-5)

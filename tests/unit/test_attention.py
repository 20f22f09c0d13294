"""Forms of attention against the textbook, written out in NumPy; the TPU kernel in Pallas' interpreter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.ops.tpu import splash_attention as lib

from emojax.model import attention as ours


def textbook(q, k, v, keys, causal):
    out = np.zeros_like(q)
    for b in range(q.shape[0]):
        for n in range(q.shape[2]):
            for t in range(q.shape[1]):
                seen = [s for s in range(k.shape[1]) if keys[b, s] and (s <= t or not causal)]
                scores = np.array([q[b, t, n] @ k[b, s, n] for s in seen]) / np.sqrt(q.shape[-1])
                weights = np.exp(scores - scores.max())
                out[b, t, n] = (weights / weights.sum()) @ v[b, seen, n]
    return out


def inputs(batch=2, length=24, heads=2, width=8):
    rng = np.random.default_rng(0)
    q, k, v = (
        rng.standard_normal((batch, length, heads, width)).astype(np.float32) for _ in range(3)
    )
    keys = np.ones((batch, length), bool)
    keys[0, 5:9] = keys[1, -6:] = False
    return q, k, v, keys


@pytest.fixture
def sevens(monkeypatch):
    """Blocks of 7 queries: 24 are no whole number of them."""
    monkeypatch.setattr(ours, "block_size", lambda queries: 7)


def test_parts_of_a_causal_row():
    assert ours.parts_of(16, True) == [(0, 4), (4, 8), (8, 12), (12, 16)]
    assert ours.parts_of(6, True) == [(0, 2), (2, 4), (4, 6)]
    assert ours.parts_of(6, False) == [(0, 6)]


@pytest.mark.parametrize("causal", [True, False])
def test_plain_and_blocked(sevens, causal):
    q, k, v, keys = inputs()
    want = textbook(q, k, v, keys, causal)
    np.testing.assert_allclose(
        ours.attention(q, k, v, keys=jnp.asarray(keys), causal=causal), want, rtol=2e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        ours.blocked(q, k, v, jnp.asarray(keys), causal), want, rtol=2e-5, atol=1e-6
    )
    mask = np.tril(np.ones((24, 24), bool))[None] & keys[:, None] if causal else keys[:, None]
    heads_first = [x.swapaxes(1, 2) for x in (k, v)]
    nothing = [x[:, :, :0] for x in heads_first]
    cached = ours.cached_attention(
        q, *nothing, *heads_first, cache_mask=keys[:, None, None, :0], self_mask=mask[:, None]
    )
    np.testing.assert_allclose(cached, want, rtol=2e-5, atol=1e-6)
    if not causal:  # most of the keys from a cache
        old, new = [x[:, :, :20] for x in heads_first], [x[:, :, 20:] for x in heads_first]
        beside = np.broadcast_to(keys[:, None, None, 20:], (len(keys), 1, q.shape[1], 4))
        cached = ours.cached_attention(
            q, *old, *new, cache_mask=keys[:, None, None, :20], self_mask=beside
        )
        np.testing.assert_allclose(cached, want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_blocked_has_the_slopes_of_plain(sevens, causal):
    q, k, v, keys = inputs()
    mask = ours.dense_mask(jnp.asarray(keys), causal, 0, 24, 24)
    one = jax.grad(lambda *x: (ours.plain(*x, mask) ** 2).sum(), (0, 1, 2))(q, k, v)
    two = jax.grad(lambda *x: (ours.blocked(*x, jnp.asarray(keys), causal) ** 2).sum(), (0, 1, 2))(
        q, k, v
    )
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_splash_kernel_interpreted(monkeypatch, causal):
    """Lengths and heads that are no whole lanes, hidden keys: the kernel for TPU gives the textbook's values."""
    make = lib.make_splash_mha
    monkeypatch.setattr(lib, "make_splash_mha", lambda *a, **kw: make(*a, **kw, interpret=True))
    q, k, v, keys = inputs(length=40)
    keys[:, 0] = True
    want = textbook(q, k, v, keys, causal)
    found = ours.splash(jnp.asarray(q), jnp.asarray(k), jnp.asarray(v), jnp.asarray(keys), causal)
    for b in range(
        2
    ):  # queries that are hidden themselves are another segment: their output is nobody's
        np.testing.assert_allclose(found[b][keys[b]], want[b][keys[b]], rtol=2e-5, atol=2e-6)


def test_long_rows_hold_no_table_of_scores():
    """At 2048 tokens the CPU program's temporaries stay below one table of all heads (64 MiB)."""
    shape = jax.ShapeDtypeStruct((1, 2048, 4, 16), jnp.float32)
    keys = jax.ShapeDtypeStruct((1, 2048), bool)
    run = jax.jit(
        jax.grad(lambda q, k, v, s: ours.attention(q, k, v, keys=s, causal=True).sum(), (0, 1, 2))
    )
    used = run.lower(shape, shape, shape, keys).compile().memory_analysis().temp_size_in_bytes
    assert used < 0.6 * 2048 * 2048 * 4 * 4, used

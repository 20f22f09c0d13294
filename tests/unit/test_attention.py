"""Forms of attention against the textbook in NumPy; the TPU kernel runs in Pallas' interpreter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.ops.tpu import splash_attention as lib

from emojax.model import attention as ours
from emojax.model import blocked_attention as cpu
from emojax.model.lm.kv_cache import quantize_per_token


def textbook(q, k, v, keys, causal):
    """Query head n attends to key-value head n // (heads / key-value heads)."""
    out = np.zeros_like(q)
    k, v = (np.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    for b in range(q.shape[0]):
        for n in range(q.shape[2]):
            for t in range(q.shape[1]):
                visible = [s for s in range(k.shape[1]) if keys[b, s] and (s <= t or not causal)]
                scores = np.array([q[b, t, n] @ k[b, s, n] for s in visible]) / np.sqrt(q.shape[-1])
                weights = np.exp(scores - scores.max())
                out[b, t, n] = (weights / weights.sum()) @ v[b, visible, n]
    return out


def inputs(batch=2, length=24, heads=2, width=8, kv_heads=0):
    rng = np.random.default_rng(0)
    q, k, v = (
        rng.standard_normal((batch, length, n, width)).astype(np.float32)
        for n in (heads, kv_heads or heads, kv_heads or heads)
    )
    keys = np.ones((batch, length), bool)
    keys[0, 5:9] = keys[1, -6:] = False
    return q, k, v, keys


@pytest.fixture
def sevens(monkeypatch):
    """Blocks of 7 queries: 24 is not a multiple of 7."""
    monkeypatch.setattr(cpu, "block_size", lambda queries: 7)


def test_parts_of_a_causal_row():
    assert cpu.causal_parts(16, True) == [(0, 4), (4, 8), (8, 12), (12, 16)]
    assert cpu.causal_parts(6, True) == [(0, 2), (2, 4), (4, 6)]
    assert cpu.causal_parts(6, False) == [(0, 6)]


HEADS = [{}, {"heads": 6, "kv_heads": 2}]  # as many key-value heads, or one for three


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("causal", [True, False])
def test_dense_and_blocked(sevens, causal, heads):
    q, k, v, keys = inputs(**heads)
    expected = textbook(q, k, v, keys, causal)
    np.testing.assert_allclose(
        ours.attention(q, k, v, key_mask=jnp.asarray(keys), causal=causal),
        expected,
        rtol=2e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        cpu.blocked_attention(q, k, v, jnp.asarray(keys), causal), expected, rtol=2e-5, atol=1e-6
    )
    mask = np.tril(np.ones((24, 24), bool))[None] & keys[:, None] if causal else keys[:, None]
    heads_first = [x.swapaxes(1, 2) for x in (k, v)]
    nothing = [x[:, :, :0] for x in heads_first]
    cached = ours.cached_attention(
        q, *nothing, *heads_first, cache_mask=keys[:, None, None, :0], self_mask=mask[:, None]
    )
    np.testing.assert_allclose(cached, expected, rtol=2e-5, atol=1e-6)
    if not causal:  # most of the keys from a cache
        cached_kv, new_kv = [x[:, :, :20] for x in heads_first], [x[:, :, 20:] for x in heads_first]
        new_mask = np.broadcast_to(keys[:, None, None, 20:], (len(keys), 1, q.shape[1], 4))
        cached = ours.cached_attention(
            q, *cached_kv, *new_kv, cache_mask=keys[:, None, None, :20], self_mask=new_mask
        )
        np.testing.assert_allclose(cached, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("causal", [True, False])
def test_blocked_has_the_gradients_of_dense(sevens, causal, heads):
    q, k, v, keys = inputs(**heads)
    mask = cpu.dense_mask(jnp.asarray(keys), causal, start=0, queries=24, length=24)
    one = jax.grad(lambda *x: (ours.dense_attention(*x, mask=mask) ** 2).sum(), (0, 1, 2))(q, k, v)
    two = jax.grad(
        lambda *x: (cpu.blocked_attention(*x, jnp.asarray(keys), causal) ** 2).sum(), (0, 1, 2)
    )(q, k, v)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_one_head_at_a_time(monkeypatch):
    """The form for long rows without a backward pass, in three blocks of queries."""
    monkeypatch.setattr(cpu, "HEAD_BLOCK", 8)
    q, k, v, keys = inputs(heads=6, kv_heads=2)
    actual = cpu.per_head_attention(*map(jnp.asarray, (q, k, v, keys)))
    np.testing.assert_allclose(actual, textbook(q, k, v, keys, False), rtol=2e-5, atol=1e-6)


def test_int8_cache_of_grouped_heads():
    """Scales belong to key-value heads; the error is that of half a step of 1/127."""
    q, k, v, keys = inputs(heads=6, kv_heads=2)
    (k8, k_scale), (v8, v_scale) = (
        quantize_per_token(jnp.asarray(x.swapaxes(1, 2))) for x in (k, v)
    )
    nothing = jnp.zeros((2, 2, 0, 8))
    cached = ours.cached_attention(
        jnp.asarray(q),
        k8,
        v8,
        nothing,
        nothing,
        cache_mask=jnp.asarray(keys[:, None, None]),
        self_mask=jnp.zeros((2, 1, 24, 0), bool),
        k_scale=k_scale,
        v_scale=v_scale,
    )
    error = np.abs(cached - textbook(q, k, v, keys, False))
    assert 1e-5 < error.max() < 0.05


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("causal", [True, False])
def test_splash_kernel_interpreted(monkeypatch, causal, heads):
    """With padded lanes and hidden keys the TPU kernel gives the values of the textbook."""
    make = lib.make_splash_mha
    monkeypatch.setattr(lib, "make_splash_mha", lambda *a, **kw: make(*a, **kw, interpret=True))
    q, k, v, keys = inputs(length=40, **heads)
    keys[:, 0] = True
    expected = textbook(q, k, v, keys, causal)
    arrays = [jnp.asarray(x) for x in (q, k, v)]

    def splash(*arrays):
        out = ours.splash_attention(*arrays, jnp.asarray(keys), causal=causal)
        # Hidden queries are a segment of their own: their output is not used.
        return jnp.where(keys[:, :, None, None], out, 0)

    output = splash(*arrays)
    for b in range(2):
        np.testing.assert_allclose(output[b][keys[b]], expected[b][keys[b]], rtol=2e-5, atol=2e-6)
    if not causal or not heads:
        return
    mask = cpu.dense_mask(jnp.asarray(keys), causal, start=0, queries=40, length=40)

    def dense(*arrays):
        return jnp.where(keys[:, :, None, None], ours.dense_attention(*arrays, mask=mask), 0)

    gradients = (
        jax.grad(lambda *x, form=form: (form(*x) ** 2).sum(), (0, 1, 2))(*arrays)
        for form in (splash, dense)
    )
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_long_rows_hold_no_table_of_scores():
    """At 2048 tokens the CPU program's temporaries stay below one table of all heads (64 MiB)."""
    shape = jax.ShapeDtypeStruct((1, 2048, 4, 16), jnp.float32)
    keys = jax.ShapeDtypeStruct((1, 2048), bool)
    run = jax.jit(
        jax.grad(
            lambda q, k, v, s: ours.attention(q, k, v, key_mask=s, causal=True).sum(), (0, 1, 2)
        )
    )
    used = run.lower(shape, shape, shape, keys).compile().memory_analysis().temp_size_in_bytes
    assert used < 0.6 * 2048 * 2048 * 4 * 4, used

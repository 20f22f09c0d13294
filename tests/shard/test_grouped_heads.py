"""Fewer key-value heads than heads on meshes, also where the tensor axis exceeds them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shard.test_mesh import two_losses

from emojax.config import load_config, resolve
from emojax.model.attention import dense_attention
from emojax.model.blocked_attention import dense_mask
from emojax.model.variables import variable_shardings
from emojax.sharding import is_divisible, make_mesh, replication_note, shard_over_heads

FULL = pytest.mark.full


def settings(kv_heads):
    config = load_config("tiny:test")
    config.optim.ema = 0.0
    m = config.model
    m.llama.update({"heads": 8, "kv_heads": kv_heads, "qkv_bias": True, "qk_norm": True})
    m.llama.tied = True
    for tower in (m.image, m.video, m.audio, m.llama, m.fusion):
        tower.dropout = 0.0  # dropout bits depend on their layout over devices
    return resolve(config)


@functools.cache
def one_device(kv_heads):
    return two_losses(settings(kv_heads), (1, 1, 1), jax.devices()[:1])[0]


@pytest.mark.parametrize(
    ("shape", "kv_heads"),
    [
        pytest.param((8, 1, 1), 2, marks=FULL),
        pytest.param((1, 8, 1), 2, marks=FULL),
        pytest.param((2, 2, 2), 2, marks=FULL),
        pytest.param((1, 2, 4), 2, marks=FULL),  # each pair of devices shares a head
        # One head on both devices of the tensor axis.
        pytest.param((2, 2, 2), 1, marks=FULL),
    ],
)
def test_same_loss_on_every_mesh(shape, kv_heads):
    losses, _ = two_losses(settings(kv_heads), shape, jax.devices())
    np.testing.assert_allclose(losses, one_device(kv_heads), rtol=1e-5)
    assert losses[1] < losses[0]


def test_keys_and_values_are_split_or_replicated():
    for kv_heads, split in ((2, True), (1, False)):
        shardings = variable_shardings(settings(kv_heads).model, make_mesh(shape=(2, 2, 2)))
        assert ("tensor" in shardings["params/llama/blocks/k/kernel"].spec) == split
        assert "tensor" in shardings["params/llama/blocks/q/kernel"].spec
        assert bool(replication_note(2, kv_heads)) != split


@pytest.mark.parametrize(("shape", "kv_heads"), [((2, 2, 2), 4), ((1, 2, 4), 2), ((2, 1, 4), 1)])
def test_a_kernel_on_each_shard_has_its_key_value_head(shape, kv_heads):
    """Output and gradients are those of the same attention without a mesh."""
    rng = np.random.default_rng(0)
    q = jnp.asarray(rng.standard_normal((4, 5, 8, 6)), jnp.float32)
    k, v = (jnp.asarray(rng.standard_normal((4, 5, kv_heads, 6)), jnp.float32) for _ in range(2))
    keys = jnp.asarray(rng.random((4, 5)) < 0.8).at[:, 0].set(True)

    def kernel(q, k, v, key_mask):
        mask = dense_mask(key_mask, True, start=0, queries=5, length=5)
        return dense_attention(q, k, v, mask=mask)

    def loss(attend):
        return jax.grad(lambda *x: (attend(*x, keys) ** 2).sum(), (0, 1, 2))

    expected = kernel(q, k, v, keys), *loss(kernel)(q, k, v)
    with jax.set_mesh(make_mesh(shape=shape)):
        assert is_divisible(4, 8, kv_heads)
        sharded = shard_over_heads(kernel, heads=8, kv_heads=kv_heads)
        actual = jax.jit(sharded)(q, k, v, keys), *jax.jit(loss(sharded))(q, k, v)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_what_a_mesh_can_split():
    with jax.set_mesh(make_mesh(shape=(1, 2, 4))):
        assert is_divisible(2, 12, 4)
        assert not is_divisible(2, 12, 6), "a device's 3 heads would cross two groups of 2"
        assert not is_divisible(3, 12, 4)

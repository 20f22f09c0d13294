"""States of an encoder's layers, and their learned weighted sum, by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from emojax.model.layers import Encoder, EncoderConfig, unstack_layers
from emojax.model.variables import unbox

CONFIG = EncoderConfig(width=8, depth=3, heads=2, mlp=12, eps=1e-5, layer_weights=True)
FORMS = {
    "scan": {},
    "remat": {"remat": "full"},
    "unrolled": {"unroll": 3},
    "unstacked": {"unstacked_layers": True},
}


@functools.cache
def inputs():
    """(x, key_mask, params of CONFIG with random leaves)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 8)).astype(np.float32)
    mask = np.arange(5) < np.array([[5], [3]])
    shapes = jax.eval_shape(lambda: unbox(Encoder(CONFIG).init(jax.random.key(0), x, mask)))
    params = jax.tree.map(
        lambda leaf: 0.3 * rng.standard_normal(leaf.shape).astype(np.float32), shapes["params"]
    )
    return x, mask, params


def run(config, params, *, keep=True):
    x, mask, _ = inputs()
    if config.unstacked_layers:
        flat = unstack_layers(
            {f"/{k}": v for k, v in traverse_util.flatten_dict(params, sep="/").items()}
        )
        params = traverse_util.unflatten_dict({k[1:]: v for k, v in flat.items()}, sep="/")
    mutable = ["intermediates"] if keep else []
    out, kept = jax.jit(lambda p: Encoder(config).apply({"params": p}, x, mask, mutable=mutable))(
        params
    )
    return np.asarray(out), kept


@pytest.mark.parametrize("form", FORMS)
def test_the_output_is_the_weighted_sum_of_the_states(form):
    """Weights ln 1, ln 2 and ln 5: an eighth, a quarter and five eighths."""
    config = dataclasses.replace(CONFIG, **FORMS[form])
    params = inputs()[2] | {"layer_weights": np.log(np.array([1, 2, 5], np.float32))}
    out, kept = run(config, params)
    states = np.asarray(kept["intermediates"]["states"][0])
    assert states.shape == (3, 2, 5, 8)
    by_hand = states[0] / 8 + states[1] / 4 + states[2] * 5 / 8
    np.testing.assert_allclose(out, by_hand, rtol=1e-5, atol=1e-6)
    # The states are those of the layers: without weights the last one is the output.
    plain = dataclasses.replace(config, layer_weights=False)
    rest = {k: v for k, v in params.items() if k != "layer_weights"}
    last, kept = run(plain, rest)
    np.testing.assert_allclose(last, states[2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(kept["intermediates"]["states"][0], states, rtol=1e-5, atol=1e-6)


def test_weights_start_equal_and_learn():
    x, mask, _ = inputs()
    made = unbox(jax.jit(Encoder(CONFIG).init)(jax.random.key(0), x, mask))
    assert set(made) == {"params"}, "states are kept on request only"
    np.testing.assert_array_equal(made["params"]["layer_weights"], np.zeros(3))

    def loss(params):
        return jnp.square(Encoder(CONFIG).apply({"params": params}, x, mask)).sum()

    grad = np.asarray(jax.jit(jax.grad(loss))(inputs()[2])["layer_weights"])
    assert np.abs(grad).min() > 1e-3 and abs(grad.sum()) < 1e-3, "softmax: shifts change nothing"


def test_states_cost_nothing_unless_kept():
    """The program without the collection holds no array of all layers' states."""
    x, mask, params = inputs()
    plain = dataclasses.replace(CONFIG, layer_weights=False)
    rest = {k: v for k, v in params.items() if k != "layer_weights"}
    apply = lambda p: Encoder(plain).apply({"params": p}, x, mask)
    assert "[3,2,5,8]" not in str(jax.make_jaxpr(apply)(rest))
    assert run(plain, rest, keep=False)[1] == {}

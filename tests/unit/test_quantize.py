"""int8 kernels: errors of at most half a step, the same code path, not trainable."""

import jax.numpy as jnp
import numpy as np
import pytest
from random_model import random_variables

from emojax.config import load_config, resolve
from emojax.model import variables
from emojax.model.dense import Dense, LoraConfig, Precision
from emojax.model.quantize import (
    SCALE,
    dequantize_kernel,
    dequantize_leaves,
    quantize_kernel,
    quantize_leaves,
)


def test_the_error_is_half_a_step_of_each_channel():
    kernel = np.array([[1.0, -10.0, 0.0], [-2.54, 127.0, 0.0], [0.011, 0.4, 0.0]], np.float32)
    q, scale = quantize_kernel(kernel)
    np.testing.assert_allclose(scale[:2], [0.02, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(q, [[50, -10, 0], [-127, 127, 0], [1, 0, 0]])
    assert q.dtype == np.int8 and np.isfinite(dequantize_kernel(q, scale)).all()
    stack = np.random.default_rng(0).standard_normal((3, 40, 7)).astype(np.float32)
    q, scale = quantize_kernel(stack)
    assert scale.shape == (3, 7)
    assert (np.abs(dequantize_kernel(q, scale) - stack) <= scale[:, None] / 2 * 1.0001).all()


def test_dense_multiplies_by_dequantized_kernels():
    rng = np.random.default_rng(1)
    x, kernel = (
        rng.standard_normal((5, 16)).astype(np.float32),
        rng.standard_normal((16, 8)).astype(np.float32),
    )
    q, scale = quantize_kernel(kernel)
    lora = LoraConfig(rank=2, alpha=4.0, dropout=0.0, targets=("q",))
    int8 = Precision(kernels="int8")
    dense = Dense(8, use_bias=False, precision=int8, lora=lora, quantizable=True)
    low = {
        "a": rng.standard_normal((16, 2)).astype(np.float32),
        "b": rng.standard_normal((2, 8)).astype(np.float32),
    }
    ours = dense.apply(
        {"params": {"kernel": q, "kernel_scale": scale}, "lora": low}, jnp.asarray(x)
    )
    expected = x @ (q * scale) + 2.0 * x @ low["a"] @ low["b"]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("preset", ["tiny:test", "tiny:test_v1"])
def test_a_model_becomes_int8_and_back(preset):
    config = load_config(preset)
    float_model = resolve(config).model
    config.model.kernels = "int8"
    settings = resolve(config)
    shapes = variables.flatten(variables.unbox(variables.abstract_variables(settings.model)))
    leaves = random_variables(float_model)
    turned = quantize_leaves(leaves)
    assert {p: (x.shape, str(x.dtype)) for p, x in turned.items()} == {
        p: (x.shape, str(x.dtype)) for p, x in shapes.items()
    }
    kept = {p for p, x in turned.items() if str(x.dtype) == "int8"}
    assert len(kept) > 20 and not any("project" in p or "fusion" in p or "patch" in p for p in kept)
    back = dequantize_leaves(turned)
    assert set(back) == set(leaves)
    for path, x in leaves.items():
        error = np.abs(np.asarray(back[path]) - np.asarray(x))
        assert error.max() <= (
            np.asarray(turned[path + SCALE]).max() / 2 * 1.001 if path in kept else 0
        ), path
    with pytest.raises(ValueError, match="is stored as int8 and cannot be trained"):
        variables.split_trainable(turned, settings.trainable)
    frozen = ((r".*blocks.*|.*llama.*", "freeze"), (r".*", "train"))
    learned, _ = variables.split_trainable({p: jnp.asarray(x) for p, x in turned.items()}, frozen)
    assert learned


def test_the_config_word_is_checked():
    config = load_config("tiny:test")
    config.model.kernels = "int4"
    with pytest.raises(
        ValueError, match=r"config\.model\.kernels is 'int4'; it must be one of float, int8"
    ):
        resolve(config)

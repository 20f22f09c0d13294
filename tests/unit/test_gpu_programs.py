"""Every program of both full-size models is lowered for CUDA, without a GPU and without its plugin.

Abstract arrays of full size, scanned layers: nothing is allocated, compiled or run. That a GPU
executes the programs is not shown here.
"""

import functools
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from emojax import sharding
from emojax.config import load_config, resolve
from emojax.infer.sample import Sampler, advance, initial_state, prefill, score_cached_choices
from emojax.model import attention as forms
from emojax.model import variables as tree
from emojax.model.dense import Precision
from emojax.model.layers import Encoder, EncoderConfig
from emojax.model.lm import llama as lm
from emojax.plan import abstract_step
from emojax.train.flops import CUDNN_MATMULS, executed_flops

FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"
CLIPS, LENGTH, ANSWER, CHOICES = 2, 768, 128, 7
MEMORY = 80e9  # bytes of a card


@pytest.fixture
def for_gpu(monkeypatch):
    """The code traces for a GPU; JAX, which asks for cuDNN's version, gets 9.10."""
    asked = sharding.platform
    for name, module in list(sys.modules.items()):
        if name.startswith("emojax.") and getattr(module, "platform", None) is asked:
            monkeypatch.setattr(module, "platform", lambda: "gpu")
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)


def kernels(text):
    """{name: number} of cuDNN's calls in a lowered program."""
    names = re.findall(r"@(__cudnn\$\w+)\(", text)
    return {name: names.count(name) for name in names}


def lowered(fn, *args):
    return jax.jit(fn).trace(*args).lower(lowering_platforms=("cuda",)).as_text()


def lowered_step(config, *, cached, devices=1):
    """(text, FLOPs per device) of the first stage's step for `devices` GPUs."""
    settings = resolve(config)
    mesh = sharding.make_mesh(shape=(1, devices, 1), devices=jax.devices()[:devices])
    traced, *_ = abstract_step.trace_step(
        settings,
        settings.stages[0],
        mesh,
        batch_size=CLIPS * devices,
        bucket=(LENGTH, ANSWER),
        cached=cached,
        memory=MEMORY,
    )
    with jax.set_mesh(mesh):
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    return text, executed_flops(traced.jaxpr) / devices


def masked(name):
    """A configuration that hides absent streams: visible keys are not the first ones of a row."""
    config = load_config(name)
    config.model.missing, config.model.audio_span = "masked", "real"
    return config


def test_a_step_on_cached_features_runs_attention_once(for_gpu):
    """In 80 GB everything is kept, cuDNN's statistics too: nothing but adapters runs again."""
    text, flops = lowered_step(masked("v2:stage1"), cached=True)
    assert kernels(text) == {FORWARD: 1, BACKWARD: 1}
    # Attention of a causal row with tiles of 128: 2 matmuls forward, 5 backward, 32 layers.
    tokens = CLIPS * LENGTH
    attention = 32 * 7 * 2 * 4096 * tokens * (LENGTH + 128) / 2
    kernels_of_llama = tokens * (4 * 6.476e9 + 6 * 33.55e6)
    head = CLIPS * ANSWER * 4 * 4096 * 32000
    assert flops == pytest.approx(kernels_of_llama + head + attention, rel=0.01)


def test_a_step_with_grouped_heads(for_gpu):
    """cuDNN gets 28 query heads and 4 key-value heads: nothing is repeated."""
    config = load_config("v2:stage1", ["--config.model.llama.part=Qwen2.5-7B-Instruct"])
    text, _ = lowered_step(config, cached=True)
    assert kernels(text) == {FORWARD: 1, BACKWARD: 1}
    call = next(line for line in text.splitlines() if "@__cudnn$fmhaSoftmax(" in line)
    shapes = re.findall(r"tensor<2x768x(\d+)x128xbf16>", call.rpartition(" : ")[2])
    assert shapes[:3] == ["28", "4", "4"]


def test_a_step_with_the_encoders_of_v2_and_hidden_streams(for_gpu):
    text, _ = lowered_step(masked("v2:stage2"), cached=False)
    # EVA of the image, EVA of the frames and Whisper are frozen: forward only.
    assert kernels(text) == {FORWARD: 4, BACKWARD: 1}


def test_steps_of_v1_on_one_gpu_and_on_eight(for_gpu):
    text, _ = lowered_step(masked("v1:tune"), cached=False)
    # EVA, MAE, VideoMAE and HuBERT
    assert kernels(text) == {FORWARD: 5, BACKWARD: 1}
    text, _ = lowered_step(masked("v1:pretrain"), cached=True, devices=8)
    assert "mhlo.num_partitions = 8" in text


@pytest.mark.parametrize(("name", "towers"), [("v2:stage1", 3), ("v1:pretrain", 4)])
def test_inference(for_gpu, name, towers):
    """Encoders and prefill; decode; label scores with the mask of a block of answers."""
    settings = resolve(masked(name))
    model = settings.model
    variables = tree.unbox(tree.abstract_variables(model))
    mesh = sharding.make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    batch = {
        key: jax.ShapeDtypeStruct(x.shape, x.dtype)
        for key, x in abstract_step.abstract_batch(
            settings, mesh, batch_size=CLIPS, bucket=(LENGTH, ANSWER), cached=False
        ).items()
    }

    def start(variables, batch):
        return prefill(model, variables, batch, LENGTH + CHOICES * 8)

    assert kernels(lowered(start, variables, batch)) == {FORWARD: towers + 1}
    logits, cache = jax.eval_shape(start, variables, batch)
    options = {"sampler": Sampler(max_tokens=8), "eos": 2}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), CLIPS))
    state = jax.eval_shape(lambda *x: initial_state(*x, **options), logits, cache, keys)
    decode = lowered(
        lambda v, s, r: advance(model, v, s, r, **options, steps=8),
        variables,
        state,
        jax.ShapeDtypeStruct((), bool),
    )
    choices = jax.ShapeDtypeStruct((CHOICES, 8), jnp.int32)
    lengths = jax.ShapeDtypeStruct((CHOICES,), jnp.int32)
    scores = lowered(
        lambda v, x, c, a, n: score_cached_choices(model, v, x, c, choices=a, lengths=n),
        variables,
        logits,
        cache,
        choices,
        lengths,
    )
    assert kernels(decode) == kernels(scores) == {}  # attention to a cache is plain matmuls


@pytest.mark.parametrize("length", [257, 1025])
def test_a_tower_of_odd_length_that_learns(for_gpu, length):
    """JAX refuses odd lengths in training."""
    precision = Precision(compute="bfloat16")
    config = EncoderConfig(width=1408, depth=2, heads=16, mlp=6144, eps=1e-6, precision=precision)
    tower = Encoder(config)
    x = jax.ShapeDtypeStruct((CLIPS, length, 1408), jnp.bfloat16)
    keys = jax.ShapeDtypeStruct((CLIPS, length), bool)
    variables = tree.unbox(jax.eval_shape(tower.init, jax.random.key(0), x, keys))

    def loss(variables, x, keys):
        return tower.apply(variables, x, keys).astype(jnp.float32).sum()

    text = lowered(jax.grad(loss), variables, x, keys)
    assert kernels(text) == {FORWARD: 1, BACKWARD: 1}


@pytest.mark.parametrize("width", [12, 192])
def test_heads_that_cudnn_does_not_take(for_gpu, width):
    x = jax.ShapeDtypeStruct((CLIPS, 64, 4, width), jnp.bfloat16)
    assert kernels(lowered(forms.attention, x, x, x)) == {}


def test_float32_takes_the_dense_form(for_gpu):
    x = jax.ShapeDtypeStruct((CLIPS, 64, 4, 64), jnp.float32)
    assert kernels(lowered(forms.attention, x, x, x)) == {}


def test_flops_of_both_kernels_by_hand(for_gpu):
    """Causal: half of the square and the diagonal's tiles; cross attention: the whole rectangle."""
    q = jax.ShapeDtypeStruct((2, 256, 4, 64), jnp.bfloat16)
    k = jax.ShapeDtypeStruct((2, 100, 4, 64), jnp.bfloat16)

    def count(*args, causal):
        def loss(q, k):
            return forms.attention(q, k, k, causal=causal).astype(jnp.float32).sum()

        return executed_flops(jax.jit(jax.grad(loss, (0, 1))).trace(*args).jaxpr)

    assert sum(CUDNN_MATMULS.values()) == 7
    assert count(q, q, causal=True) == 7 * 2 * 2 * 4 * 256 * (256 + 128) / 2 * 64
    assert count(q, k, causal=False) == 7 * 2 * 2 * 4 * 256 * 100 * 64


def test_values_with_row_lengths(monkeypatch):
    """JAX's own program of the same interface stands in for cuDNN's kernel."""
    plain = jax.nn.dot_product_attention

    def instead(*args, implementation, **options):
        assert implementation == "cudnn"
        return plain(*args, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", instead)
    rng = np.random.default_rng(0)
    config = lm.LlamaConfig(vocab=50, width=32, depth=1, heads=2, mlp=64)
    model = lm.Llama(config)
    x = rng.standard_normal((3, 21, 32)).astype(np.float32)
    valid = np.ones((3, 21), bool)
    valid[0, 5:9] = valid[1, :4] = valid[1, -6:] = False  # holes; padding on both sides
    positions = np.tile(np.arange(21), (3, 1))
    variables = jax.jit(model.init)(jax.random.key(0), x, positions, valid)

    def run(x, cache=None):
        return model.apply(variables, x, positions, valid, cache=cache, fresh=cache is not None)

    def every(x):
        """Output, gradient, and the output of two tokens after the cached row."""
        whole, cache = run(x, lm.make_cache(config, 3, 24))
        args = x[:, :2], positions[:, :2] + 21, np.ones((3, 2), bool)
        after = model.apply(variables, *args, cache=cache)[0]
        weights = valid[:, :, None]
        grad = jax.grad(lambda x: (run(x)[0] ** 2 * weights).sum())(x)
        return whole * weights, grad, after

    expected = jax.jit(every)(x)
    for module in (forms, lm):
        monkeypatch.setattr(module, "takes_row_lengths", lambda dtype: True)
    # A new function, so that it is traced again.
    for one, other in zip(jax.jit(functools.partial(every))(x), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    # rows without anything visible stay finite
    nothing = forms.attention(*[jnp.asarray(x[:, :, None])] * 3, key_mask=jnp.zeros((3, 21), bool))
    assert np.isfinite(nothing).all()

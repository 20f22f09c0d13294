"""The comparisons of test_golden.py and more against live torch: `make test-parity`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax.model.dense import Precision
from emojax.model.encoders.vision_transformer import PictureConfig, VisionTransformer
from emojax.model.fusion import Fusion, FusionConfig
from emojax.model.layers import EncoderConfig, pool_bins
from emojax.model.positions import resize_positions
from parity import checks
from parity import torch_names as names

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
F64 = Precision("float64", "float64")


@pytest.fixture(scope="module")
def torch_side():
    pytest.importorskip("torch")
    from parity import torch_reference

    return torch_reference


@pytest.mark.parametrize("seed", [1, 2])
def test_whisper_encoder(torch_side, seed):
    checks.whisper(torch_side.whisper(seed), torch_side.WHISPER)


@pytest.mark.parametrize("seed", [1, 2])
def test_llama(torch_side, seed):
    checks.llama(torch_side.llama(seed), torch_side.LLAMA, torch_side.LORA)


@pytest.mark.parametrize(
    "sizes", [([12, 10, 10], 16, 8, 6, 7), ([1280, 1408, 1408], 512, 128, 256, 64)]
)
def test_conv_attention(torch_side, sizes):
    dims, hidden, width, out, steps = sizes
    state = torch_side.random_state(names.fusion_shapes(dims, hidden, width, out), 3)
    state = {n: v / np.sqrt(np.prod(v.shape[1:])) for n, v in state.items()}
    rng = np.random.default_rng(4)
    inputs = [rng.standard_normal((2, steps, d)) for d in dims]
    with jax.enable_x64(True):
        module = Fusion(
            FusionConfig(
                kind="conv_attention",
                hidden=hidden,
                width=width,
                out=out,
                blocks=4,
                dropout=0.1,
                precision=F64,
            )
        )
        ours = module.apply({"params": names.fusion_tree(state, 4)}, *map(jnp.asarray, inputs))
        np.testing.assert_allclose(
            ours, torch_side.conv_attention(state, inputs), rtol=1e-5, atol=1e-9
        )


@pytest.mark.parametrize("final_norm", [False, True])
def test_eva(torch_side, final_norm):
    shapes = names.eva_shapes(42, 14, 24, 3, 40) | {"norm.weight": (24,), "norm.bias": (24,)}
    state = torch_side.random_state(shapes, 5)
    pixels = np.random.default_rng(6).standard_normal((2, 3, 42, 42))
    theirs = torch_side.eva(state, pixels, 3, 4, eps=1e-6, final_norm=final_norm)
    with jax.enable_x64(True):
        encoder = EncoderConfig(width=24, depth=3, heads=4, mlp=40, eps=1e-6, precision=F64)
        module = VisionTransformer(
            PictureConfig(
                image_size=42,
                patch=14,
                encoder=encoder,
                final_norm=final_norm,
                mean=(0, 0, 0),
                std=(1, 1, 1),
            )
        )
        tree = {"params": names.eva_tree(state, 3, final_norm)}
        ours = module.apply(tree, jnp.asarray(pixels.transpose(0, 2, 3, 1)))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("old", "new"), [(16, 32), (16, 24), (7, 5), (2, 4)])
def test_positions(torch_side, old, new):
    table = np.random.default_rng(7).standard_normal((1, 1 + old * old, 12)).astype(np.float32)
    np.testing.assert_allclose(
        resize_positions(table, new), torch_side.resize(table, new), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("steps", "bins"), [(1500, 64), (100, 64), (125, 8), (5, 8)])
def test_adaptive_pooling(torch_side, steps, bins):
    x = np.random.default_rng(8).standard_normal((2, steps, 3))
    with jax.enable_x64(True):
        ours = jnp.einsum("qs,bsd->bqd", pool_bins(steps, bins, steps), jnp.asarray(x))
        np.testing.assert_allclose(ours, torch_side.adaptive_pool(x, bins), rtol=1e-5, atol=1e-9)

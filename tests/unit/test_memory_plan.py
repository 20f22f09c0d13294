"""Memory that answering needs, known before weights are read; number formats on the way in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import run_command
from random_model import random_bundle, save_random_model

from data_pipeline.loader.features import Features
from data_pipeline.loader.samples import feature_arrays
from emojax.bundle.model_folder import as_int8, load_bundle
from emojax.infer import memory_plan
from emojax.infer.encode_clips import BlankFeatures
from emojax.infer.prepare import clips_at_once, keeps_stacked_layers
from emojax.model.variables import flatten
from emojax.sharding import make_mesh, shape_struct
from emojax.workflows.model_answerer import load_on_mesh

GB = 1e9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_random_model(tmp_path_factory.mktemp("model"))


def leaves(layers: int, width: int, dtype: str) -> dict:
    return {
        "params/llama/blocks/q/kernel": shape_struct((layers, width, width), dtype),
        "params/llama/blocks/v/kernel": shape_struct((layers, width, width), dtype),
        "params/eva_image/blocks/q/kernel": shape_struct((2, 10, 10), dtype),
        "params/llama/head/kernel": shape_struct((width, 7), dtype),
        "params/llama/embed": shape_struct((7, width), dtype),
    }


def test_float32_copies_of_a_stack_are_those_of_one_layer():
    settings = random_bundle().settings
    # LLaMA-2-7B's q and v have 32 x 4096 x 4096 values: 4.3 GB of copies if unstacked.
    large = leaves(32, 4096, "int8")
    assert keeps_stacked_layers(large, settings.model.llama)
    copies = memory_plan._float32_copies(large, settings)
    assert copies == 4 * (4096 * 7 + 2 * 4096 * 4096)
    small = leaves(2, 64, "int8")
    assert not keeps_stacked_layers(small, settings.model.llama)
    unstacked = memory_plan._float32_copies(small, settings)
    assert unstacked == 4 * (64 * 7 + 2 * 2 * 64 * 64 + 2 * 100)
    # There are no copies of float32 kernels.
    assert memory_plan._float32_copies(leaves(32, 4096, "float32"), settings) == 0
    assert not keeps_stacked_layers(leaves(32, 4096, "float32"), settings.model.llama)


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(memory_plan, "free_memory", lambda: 0.5 * GB)
    out = run_command(tmp_path, "predict", "clip.mp4", "--model", str(folder))
    assert out.returncode == 2
    assert "needs about 0.8 GB of memory, 0.5 GB are free" in out.stderr
    assert "With --int8 it needs about 0.8 GB, which does not fit either" in out.stderr


def test_kernels_become_int8_while_they_are_read(folder):
    read = flatten(load_bundle(folder, precision="int8").variables)
    expected = flatten(as_int8(load_bundle(folder)).variables)
    assert {p: x.dtype for p, x in read.items()} == {p: x.dtype for p, x in expected.items()}
    for path, x in expected.items():
        np.testing.assert_array_equal(read[path], x, err_msg=path)
    assert sum(x.dtype == jnp.int8 for x in read.values()) > 10
    mesh = make_mesh(shape=(1, 2, 1), devices=jax.devices()[:2])
    placed = flatten(load_on_mesh(folder, mesh, int8=True).variables)
    for path, x in placed.items():
        assert len(x.sharding.device_set) == 2, path
        np.testing.assert_array_equal(x, expected[path], err_msg=path)
    kernel = placed["params/llama/blocks/q/kernel"]
    assert kernel.nbytes == 2 * kernel.addressable_shards[0].data.nbytes


def test_other_formats(folder, tmp_path):
    half = load_bundle(folder, precision="bf16")
    kernel = "params/llama/blocks/q/kernel"
    assert flatten(half.variables)[kernel].dtype == jnp.bfloat16
    assert half.settings.model.llama.precision.compute == "bfloat16"
    assert flatten(load_bundle(folder, precision="fp16-parity").variables)[kernel].dtype == (
        jnp.float16
    )


def test_precision_that_is_lost_is_not_made_up():
    from emojax.bundle.precision import with_precision

    settings = random_bundle().settings
    int8, bf16 = (with_precision(settings, p) for p in ("int8", "bf16"))
    with pytest.raises(ValueError, match="stored as int8, from which --bf16 cannot be made"):
        with_precision(int8, "bf16")
    with pytest.raises(ValueError, match="stored as bfloat16, from which --fp16-parity"):
        with_precision(bf16, "fp16-parity")
    assert with_precision(int8, "int8") is int8 and with_precision(int8, "") is int8


def test_a_blank_clip_is_encoded_only_where_a_picture_is_hidden():
    image, video = np.ones(3, np.float32), np.ones(2, np.float32)
    features = Features({"image": image, "video": video}, True, False)
    blank = BlankFeatures(random_bundle(), ["image", "video"])
    seen = feature_arrays(features, blank, streams=("image",))
    assert seen["feature_image"] is image and not seen["feature_video"].any()
    hidden = feature_arrays(features, blank, streams=("video",), zero_hidden=False)
    assert not hidden["feature_image"].any()
    assert "_arrays" not in vars(blank)


def test_small_models_answer_four_clips_at_once():
    assert clips_at_once(random_bundle()) == 4

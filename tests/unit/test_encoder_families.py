"""The registry of parts: sizes of releases, refusals of what does not fit, where a family is named.

Numbers of parameters are those of transformers' modules at the published sizes.
"""

import dataclasses
import hashlib
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_model import random_variables

from emojax.config import load_config, resolve
from emojax.config.fields import ModelFields
from emojax.infer.encode_clips import encode
from emojax.model import variables
from emojax.model.build import make_model
from emojax.model.layers import EncoderConfig
from emojax.model.parts import ENCODERS, all_families, family_of_config, release_named, tree_name
from emojax.model.quantize import INT8_KERNELS, SCALE

ROOT = Path(__file__).parents[2]
POSITIONS_518 = 37**2 - 16**2  # rows of the released tables that pictures of 224 pixels do not have
WAVE_EXTRAS = 768 + 128  # of base: the masked vector, and lengths of the weight norm
LARGE_EXTRAS = 1024 + 128


def shapes_of(name: str):
    """Abstract parameters of a release."""
    family, release = release_named(name)
    stream = "audio" if family.kind == "sound" else "image"
    fields = dataclasses.replace(
        getattr(ModelFields(), stream), family=family.name, **release.fields
    )
    sizes = {k: getattr(fields, k) for k in ("width", "depth", "heads", "mlp")}
    config = family.make(fields, EncoderConfig(eps=1.0, **sizes))
    view = config.view_shape if stream == "audio" else (config.image_size, config.image_size, 3)
    module = family.module(config)
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *view)))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("clip-vit-base-patch32", 87_456_000),
        ("clip-vit-base-patch16", 85_799_424),
        ("clip-vit-large-patch14", 303_179_776),
        ("siglip-base-patch16-224", 92_884_224),
        ("dinov2-small", 22_056_576 - 384 * (1 + POSITIONS_518)),
        ("dinov2-base", 86_580_480 - 768 * (1 + POSITIONS_518)),
        ("dinov2-with-registers-base", 86_580_480 - 768 * (1 + POSITIONS_518) + 4 * 768),
        ("vit-base-patch16-224", 85_798_656),
        ("whisper-base", 20_590_592),
        ("hubert-base", 94_371_712 - WAVE_EXTRAS),
        ("wav2vec2-large-lv60", 315_438_720 - LARGE_EXTRAS),
        ("wavlm-base-plus", 94_381_936 - WAVE_EXTRAS),
        ("wavlm-large", 315_453_120 - LARGE_EXTRAS),
    ],
)
def test_releases_have_their_published_size(name, parameters):
    counted = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes_of(name)))
    assert counted == parameters


def test_every_release_resolves_and_names_are_unique():
    releases = [r for f in all_families() for r in f.releases]
    assert max(Counter(r.name for r in releases).values()) == 1
    for family in ENCODERS.values():
        if family.kind not in ("picture", "sound"):
            continue
        stream = "audio" if family.kind == "sound" else "image"
        for release in family.releases:
            fields = dataclasses.replace(
                getattr(ModelFields(), stream), family=family.name, **release.fields
            )
            config = family.make(fields, EncoderConfig(eps=1, width=8, depth=1, heads=1, mlp=8))
            assert config.steps > 1 if family.kind == "sound" else config.grid > 1
    with pytest.raises(ValueError, match=r"no part 'whisper-bas'; did you mean 'whisper-base'"):
        release_named("whisper-bas")
    assert release_named("openai/whisper-base")[1].name == "whisper-base"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"model_type": "wavlm", "num_buckets": 64}, "num_buckets in config.json is 64; of WavLM"),
        ({"model_type": "hubert", "conv_dim": [512] * 6 + [256]}, "conv_dim in config.json is"),
        ({"model_type": "wav2vec2", "add_adapter": True}, "add_adapter in config.json is True"),
        ({"model_type": "dinov2", "use_swiglu_ffn": True}, "use_swiglu_ffn in config.json is True"),
        (
            {"model_type": "siglip", "vision_config": {"vision_use_head": False}},
            "vision_use_head in config.json is False; of SigLIP emojax supports only True",
        ),
        (
            {"model_type": "clip", "vision_config": {"hidden_act": "relu"}},
            "hidden_act in config.json is relu; of CLIP emojax supports only quick_gelu or gelu",
        ),
        ({"model_type": "vit", "layer_norm_eps": 1e-6}, "layer_norm_eps in config.json is 1e-06"),
        ({"model_type": "whisper", "activation_function": "relu"}, "activation_function"),
        ({"model_type": "wavml"}, "no model type 'wavml'; did you mean 'wavlm'"),
        ({}, "config.json has no model_type"),
    ],
)
def test_what_a_family_does_not_have_is_refused(raw, message):
    with pytest.raises(ValueError, match=message):
        family_of_config(raw).read_config(raw)


SMALL = {"width": 16, "depth": 2, "heads": 2, "mlp": 24}


def other_families(**changes):
    """Settings of a small v2 with other encoders than the released ones."""
    config = load_config("tiny:test")
    m = config.model
    m.image.update({"family": "clip", "size": 32, "patch": 8, "final_norm": True, **SMALL})
    m.video.update({"family": "siglip", "size": 32, "patch": 8, "mean": (), "std": (), **SMALL})
    m.audio.update({"family": "wavlm", "mels": 0, "seconds": 0.5, "layer_weights": True, **SMALL})
    m.audio.update({"conv_width": 8, "position_kernel": 8, "position_groups": 4})
    m.stem, m.word_heads, m.audio_span = "random", False, "window"
    config.update_from_flattened_dict({f"model.{k}": v for k, v in changes.items()})
    return resolve(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image.patch": 32}, r"makes 1 x 1 = 1 patches, but 4 of them .* for example to 64"),
        (
            {"image.patch": 7},
            r"pictures of 32 pixels cannot be cut into patches of 7: use 28 or 35",
        ),
        ({"video_pool": 3}, r"makes 4 x 4 patches, which config.model.video_pool=3 does not"),
        ({"audio.mels": 80}, r"mels is 80, but wavlm reads the waveform"),
        ({"audio.family": "whisper"}, r"mels is 0, but whisper reads log-mel"),
        ({"version": "v1"}, r"family is clip, but version v1 runs EVA-ViT only"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        other_families(**changes)


def test_v2_runs_other_families():
    """Names of the trees, shapes, and padding that is hidden from an encoder of waveforms."""
    settings = other_families()
    model, config = make_model(settings.model), settings.model
    flat = random_variables(config)
    tree = variables.merge(flat, {})
    tops = {p.split("/")[1] for p in flat if p.startswith("params/")}
    assert {"clip_image", "siglip_video", "wavlm"} <= tops and "ln_vision" not in tops
    assert "params/wavlm/encoder/layer_weights" in flat
    assert variables.is_encoder_path("params/clip_image/pre_norm/scale")
    rules = resolve(load_config("v2")).trainable
    trained = variables.select_trainable(list(flat), rules)
    assert trained["params/wavlm/encoder/layer_weights"] and trained["params/project_audio/kernel"]
    assert not any(v for p, v in trained.items() if "/blocks/" in p and p.startswith("params"))
    assert settings.views.sound_shape == config.view_shapes["sound"] == (8000, 1)
    rng = np.random.default_rng(0)
    batch = {k: rng.integers(0, 255, (1, *config.view_shapes[k])) for k in ("image", "frames")}
    sound = rng.standard_normal((1, 8000, 1)).astype(np.float32)
    batch |= {"audio_frames": np.array([4000]), "has_image": np.array([True])}
    run = jax.jit(lambda b: model.apply(tree, b, method="encode"))
    one = run(batch | {"sound": sound})
    noisy = np.where(np.arange(8000)[:, None] < 4000, sound, 9.0)
    two = run(batch | {"sound": noisy})
    tokens = config.stream_tokens
    assert one["image"].shape == (1, 17, 16) and one["video"].shape == (1, tokens, 16)
    np.testing.assert_allclose(one["audio"], two["audio"], rtol=1e-5, atol=1e-5)
    assert np.isfinite(one["audio"]).all() and np.abs(one["audio"]).max() > 0


def test_words_are_transcribed_from_states_of_whisper_only():
    def check(settings):
        encode(SimpleNamespace(name="mine", settings=settings), [], keep_encoder_states=True)

    with pytest.raises(ValueError, match="mine encodes audio with WavLM: words can only be"):
        check(other_families())
    with pytest.raises(ValueError, match="mine encodes audio with HuBERT"):
        check(resolve(load_config("tiny:test_v1")))
    averaged = load_config("tiny:test", ["--config.model.audio.layer_weights=True"])
    with pytest.raises(ValueError, match="mine averages the layers of Whisper's encoder"):
        check(resolve(averaged))


def test_int8_kernels_of_other_families():
    """Quantizing a model folder makes the leaves that the int8 configuration expects."""
    paths, expected = (
        set(variables.flatten(variables.abstract_variables(other_families(kernels=k).model)))
        for k in ("float", "int8")
    )
    assert paths | {p + SCALE for p in paths if INT8_KERNELS.fullmatch(p)} == expected


RELEASED_TREES = {"v2": "cd88c8924fc551ab", "v1": "73a5afec23eeae97"}  # of commit 7e290d7


@pytest.mark.parametrize("preset", RELEASED_TREES)
def test_released_trees_are_unchanged(preset):
    """The same paths and shapes, so old model folders stay readable."""
    model = resolve(load_config(preset)).model
    flat = variables.flatten(variables.unbox(variables.abstract_variables(model)))
    text = "\n".join(f"{p} {x.shape}" for p, x in sorted(flat.items()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == RELEASED_TREES[preset]


@pytest.mark.parametrize(
    ("name", "file", "others"),
    [
        ("wavlm", "encoders/wavlm.py", set()),
        # Names of bases whose adapters do not fit LLaMA-2, and of architectures in GGUF files.
        ("mistral", "lm/mistral.py", {"weights/adapter_config.py", "formats/gguf_config.py"}),
    ],
)
def test_a_family_is_named_in_its_file_and_in_the_registry_alone(name, file, others):
    """The examples of docs/parts.md."""
    packages = ("emojax", "data_pipeline", "configs")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    named = {p.relative_to(ROOT).as_posix() for p in files if name in p.read_text().lower()}
    own = {f"emojax/model/{file}", "emojax/model/parts.py"}
    assert named == own | {f"emojax/{other}" for other in others}
    assert tree_name(ENCODERS["wavlm"], "audio") == "wavlm"

"""Every family of encoders against transformers: from a folder to the states of all layers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax.config import load_config, resolve
from emojax.model.encoders.wavlm import position_buckets
from emojax.sharding import make_mesh
from emojax.train import start
from parity import encoder_folders as folders

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
PICTURE = {"image_size": 32, "patch_size": 8, **SIZES}
SOUND = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
BASE = {**SOUND, **SIZES}
LARGE = {
    **BASE,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
TEXT = {**SIZES, "vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2}


def pixels(size, seed=0):
    return np.random.default_rng(seed).standard_normal((2, size, size, 3)).astype(np.float32)


def channels_first(x):
    return torch.from_numpy(x.transpose(0, 3, 1, 2))


def clip():
    return transformers.CLIPModel(
        transformers.CLIPConfig(vision_config=PICTURE, text_config=TEXT, projection_dim=8)
    )


def siglip():
    config = transformers.SiglipConfig(vision_config=PICTURE, text_config=TEXT)
    return transformers.SiglipModel(config)


def alone(make, name):
    """The vision model of a whole model, saved alone."""
    return lambda: getattr(transformers, name)(make().config.vision_config)


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (clip, 32),
        (alone(clip, "CLIPVisionModel"), 48),
        (alone(clip, "CLIPVisionModelWithProjection"), 32),
        (siglip, 32),
        (alone(siglip, "SiglipVisionModel"), 48),
    ],
)
def test_clip_and_siglip(tmp_path, make, size):
    """The whole model and its picture encoder; also at another size than that of pretraining."""
    model = folders.random_weights(make())
    module, variables = folders.from_folder(model, tmp_path, "image", size=size)
    ours, states = folders.apply(module, variables, jnp.asarray(pixels(size)))
    vision = getattr(model, "vision_model", model)
    theirs, theirs_states = folders.torch_states(
        vision.encoder.layers,
        lambda: vision(channels_first(pixels(size)), interpolate_pos_encoding=size != 32),
    )
    folders.close(states, theirs_states)
    folders.close(ours[:, 0], theirs.pooler_output)
    if module.config.cls:
        with torch.no_grad():
            folders.close(ours, vision.post_layernorm(theirs.last_hidden_state))
    else:
        folders.close(ours[:, 1:], theirs.last_hidden_state)


def test_clip_without_its_last_norm(tmp_path):
    model = folders.random_weights(alone(clip, "CLIPVisionModel")())
    module, variables = folders.from_folder(model, tmp_path, "image", final_norm=False)
    ours, _ = folders.apply(module, variables, jnp.asarray(pixels(32)))
    with torch.no_grad():
        folders.close(ours, model(channels_first(pixels(32))).last_hidden_state)


def vit():
    return transformers.ViTModel(transformers.ViTConfig(**PICTURE))


def vit_classifier():
    return transformers.ViTForImageClassification(transformers.ViTConfig(**PICTURE))


def dinov2(image_size=32):
    sizes = {k: v for k, v in PICTURE.items() if k != "intermediate_size"}
    sizes |= {"image_size": image_size}
    return transformers.Dinov2Model(transformers.Dinov2Config(**sizes))


def dinov2_classifier():
    return transformers.Dinov2ForImageClassification(dinov2().config)


def dinov2_registers():
    return transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**{**PICTURE, "image_size": 56})
    )


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (vit, 32),
        (vit_classifier, 32),
        (dinov2, 32),
        (lambda: dinov2(56), 32),  # as released: positions of a larger picture
        (dinov2_classifier, 32),
        (dinov2_registers, 32),
        (dinov2_registers, 72),
    ],
)
def test_vit_and_dinov2(tmp_path, make, size):
    model = folders.random_weights(make())
    module, variables = folders.from_folder(model, tmp_path, "video", size=size)
    ours, states = folders.apply(module, variables, jnp.asarray(pixels(size)))
    base = getattr(model, model.base_model_prefix, model)
    layers = base.layers if hasattr(base, "layers") else base.encoder.layer
    theirs, theirs_states = folders.torch_states(layers, lambda: base(channels_first(pixels(size))))
    folders.close(states, theirs_states)
    hidden = theirs.last_hidden_state
    if registers := module.config.registers:
        hidden = torch.cat([hidden[:, :1], hidden[:, 1 + registers :]], dim=1)
    folders.close(ours, hidden)


WAVES = (
    ("HubertModel", BASE),
    ("HubertForSequenceClassification", LARGE),
    ("Wav2Vec2Model", LARGE),
    ("Wav2Vec2ForCTC", BASE),
    ("Wav2Vec2ForPreTraining", BASE),
    ("WavLMModel", BASE),
    ("WavLMForXVector", {**LARGE, "conv_bias": False}),
)


def waveform_model(name, sizes):
    kind = getattr(transformers, name)
    return kind(kind.config_class(**sizes))


@pytest.mark.parametrize(("name", "sizes"), WAVES)
def test_waveforms(tmp_path, name, sizes):
    """Both variants; with padding every clip has the states that it has alone."""
    model = folders.random_weights(waveform_model(name, sizes))
    samples, valid = 40_000, (40_000, 9_000)  # 124 and 27 steps: near and far positions of WavLM
    module, variables = folders.from_folder(
        model, tmp_path, "audio", seconds=samples / 16_000, normalize=False
    )
    wave = np.random.default_rng(1).standard_normal((2, samples)).astype(np.float32)
    wave[1, valid[1] :] = 0
    ours, states = folders.apply(module, variables, jnp.asarray(wave)[..., None], jnp.array(valid))
    base = getattr(model, model.base_model_prefix, model)
    for row, length in enumerate(valid):
        clip = torch.from_numpy(wave[row : row + 1, :length])
        theirs, theirs_states = folders.torch_states(
            base.encoder.layers, lambda clip=clip: base(clip).last_hidden_state
        )
        steps = theirs.shape[1]
        assert steps == int(module.config.valid_steps(length))
        folders.close(states[:, row, :steps], theirs_states[:, 0])
        folders.close(ours[row, :steps], theirs[0])
    if sizes.get("do_stable_layer_norm"):  # transformers masks padding as well
        mask = torch.arange(samples)[None] < torch.tensor(valid)[:, None]
        with torch.no_grad():
            theirs = base(torch.from_numpy(wave), attention_mask=mask.long()).last_hidden_state
        folders.close(ours[1, :steps], theirs[1, :steps])


def test_normalised_waveforms(tmp_path):
    """The extractor of transformers normalises each clip by its own samples."""
    model = folders.random_weights(transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**BASE)))
    module, variables = folders.from_folder(model, tmp_path, "audio", seconds=0.5)
    wave = np.random.default_rng(2).standard_normal(5_000).astype(np.float32) * 0.1 + 0.3
    padded = np.zeros((1, 8_000, 1), np.float32)
    padded[0, :5_000, 0] = wave
    ours, _ = folders.apply(module, variables, jnp.asarray(padded), jnp.array([5_000]))
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    inputs = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        theirs = model(inputs).last_hidden_state
    folders.close(ours[:, : theirs.shape[1]], theirs)


def test_buckets_of_relative_positions():
    """Up to the 1499 steps of half a minute, none is off by one."""
    attention = (
        transformers.WavLMModel(transformers.WavLMConfig(**BASE)).encoder.layers[0].attention
    )
    at = torch.arange(1499)
    theirs = attention._relative_positions_bucket(at[None] - at[:, None])
    np.testing.assert_array_equal(position_buckets(1499), theirs.numpy())


@pytest.mark.parametrize("seconds", [0.4, 0.2])
def test_whisper_with_a_shorter_window(tmp_path, seconds):
    """0.4 s as pretrained; a window of 0.2 s uses the first half of the positions."""
    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=3,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        num_mel_bins=8,
        max_source_positions=20,
        vocab_size=60,
        pad_token_id=0,
        decoder_start_token_id=1,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = folders.random_weights(transformers.WhisperForConditionalGeneration(config))
    module, variables = folders.from_folder(model, tmp_path, "audio", seconds=seconds)
    frames = round(100 * seconds)
    logmel = np.random.default_rng(3).standard_normal((2, frames, 8)).astype(np.float32)
    ours, states = folders.apply(module, variables, jnp.asarray(logmel))
    encoder = model.model.encoder
    first = encoder.embed_positions.weight.data[: frames // 2]
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(first)
    encoder.config.max_source_positions = encoder.max_source_positions = frames // 2
    theirs, theirs_states = folders.torch_states(
        encoder.layers,
        lambda: encoder(torch.from_numpy(logmel.transpose(0, 2, 1))).last_hidden_state,
    )
    folders.close(states, theirs_states)
    folders.close(ours, theirs)


def test_training_starts_from_named_encoders(tmp_path):
    """Folders of transformers for all three streams, with the statistics of the pictures."""
    models = {"image": clip(), "video": dinov2(), "audio": waveform_model("WavLMModel", BASE)}
    for stream, model in models.items():
        folders.random_weights(model).save_pretrained(tmp_path / stream)
    view = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "crop_size": 48}
    (tmp_path / "image" / "preprocessor_config.json").write_text(json.dumps(view))
    words = [f"--config.model.{stream}.part={tmp_path / stream}" for stream in models]
    words += ["--config.model.audio.layer_weights=True", "--config.model.audio.seconds=0.5"]
    settings = resolve(load_config("tiny:test", words))
    assert settings.model.image.mean == (0.1, 0.2, 0.3) and settings.model.image.image_size == 48
    assert settings.model.video.mean == (0.485, 0.456, 0.406), "DINOv2's own"
    assert not settings.model.audio.normalize, "as the base models of WavLM"
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    variables = start.initial_variables(settings, mesh)
    for path, tensor in (
        ("clip_image", models["image"].vision_model.encoder.layers[1].self_attn.k_proj.weight),
        ("dinov2_video", models["video"].encoder.layer[1].attention.k_proj.weight),
        ("wavlm", models["audio"].encoder.layers[1].attention.k_proj.weight),
    ):
        kernel = variables[f"params/{path}/encoder/blocks/k/kernel"][1]
        np.testing.assert_array_equal(kernel, tensor.detach().numpy().T)
    np.testing.assert_array_equal(variables["params/wavlm/encoder/layer_weights"], np.zeros(3))

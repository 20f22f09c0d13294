"""Whisper base with its released weights against transformers: encoder, decoder, words."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from data_pipeline.media.clip import read_clip
from data_pipeline.media.views import log_mel
from emojax.formats.part_config import part_config, part_generation
from emojax.infer.transcribe import open_transcriber
from emojax.model.dense import FLOAT32, Precision
from emojax.model.layers import EncoderConfig
from emojax.model.lm.whisper_decoder import WhisperDecoder, make_cache
from emojax.model.variables import flatten, unbox
from emojax.weights.load_tensors import choose_table, load_tensors
from emojax.weights.part_files import identify_part
from emojax.weights.tensor_files import open_tensors

pytestmark = pytest.mark.real
torch = pytest.importorskip("torch")

ENGLISH = (
    "0y022OlZ3W0_4",
    "Ses05F_impro03_F000",
    "cM3Yna7AavY_1",
    "test_Anger_0001",
    "test_Surprise_0083",
    "train_Anger_0002",
)
SPOKEN = {"Ses05F_impro03_F000": "big news", "cM3Yna7AavY_1": "movie"}  # heard by people


@pytest.fixture(scope="module")
def folder(real_part):
    return real_part("whisper-base")


@pytest.fixture(scope="module")
def mels(real_data):
    """float32[clips, 3000, 80]."""
    clips = real_data / "clips" / "emotion_llama_v2"
    return np.stack(
        [log_mel(read_clip(clips / f"{name}.mp4").waveform, mels=80) for name in ENGLISH]
    )


@pytest.fixture(scope="module")
def theirs(folder):
    """Whisper of transformers with all tensors of the folder."""
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(**part_config(folder), pad_token_id=50257)
    model = WhisperForConditionalGeneration(config).eval()
    tensors = {n: torch.from_numpy(r().astype(np.float32)) for n, r in open_tensors(folder).items()}
    report = model.load_state_dict(tensors, strict=False)
    assert report.missing_keys == ["proj_out.weight"]
    assert not report.unexpected_keys
    model.tie_weights()
    facts = {**part_generation(folder), "pad_token_id": 50257, "max_length": 448}
    model.generation_config = GenerationConfig(**facts, is_multilingual=True)
    return model


def encode(folder, mels: np.ndarray, precision: Precision) -> np.ndarray:
    """The states of emojax's encoder with the tensors of the folder."""
    family, fields = identify_part(part_config(folder), "whisper-base", "sound")
    shared = {k: fields[k] for k in ("width", "depth", "heads", "mlp")}
    sizes = EncoderConfig(**shared, eps=0, precision=precision)  # the family sets eps
    config = family.make(types.SimpleNamespace(**fields), sizes)
    module, tensors = family.module(config), open_tensors(folder)
    view = jnp.zeros((1, *config.view_shape))
    leaves = flatten(unbox(jax.eval_shape(lambda: module.init(jax.random.key(0), view))["params"]))
    table = choose_table(family.tables(config), tensors)
    params = load_tensors(table, tensors, leaves, dtype=precision.params)
    tree = {"params": traverse_util.unflatten_dict(params, sep="/")}
    return np.asarray(jax.jit(module.apply)(tree, jnp.asarray(mels, precision.compute)))


def torch_states(theirs, mels: np.ndarray) -> np.ndarray:
    encoder = theirs.model.encoder
    with torch.no_grad():
        features = torch.from_numpy(mels.transpose(0, 2, 1).copy()).to(encoder.conv1.weight.dtype)
        return encoder(features).last_hidden_state.numpy()


def test_states_and_logits_equal_those_of_transformers(folder, mels, theirs):
    """In float64: float32 itself is 5e-4 off where states reach 20, in transformers, too."""
    exact = Precision(compute="float64", params="float64")
    ours = open_transcriber(folder)
    ids = np.random.default_rng(0).integers(0, 50257, (3, 12))
    ids[:, :3] = ours.rules.start, dict(ours.rules.languages)["en"], ours.rules.transcribe
    theirs.double()
    try:
        expected = torch_states(theirs, mels[:3])
        states = (torch.from_numpy(expected),)
        with torch.no_grad():
            their_logits = theirs(encoder_outputs=states, decoder_input_ids=torch.from_numpy(ids))
    finally:
        theirs.float()
    with jax.enable_x64(True):
        found = encode(folder, mels[:3], exact)
        config = dataclasses.replace(ours.config, precision=exact)
        variables = jax.tree.map(lambda x: np.asarray(x, np.float64), ours.variables)
        cache = make_cache(config, 3, 12)
        cache = cache._replace(used=cache.used.astype(jnp.int64))
        decoder = WhisperDecoder(config)
        cross = decoder.apply(variables, jnp.asarray(expected), method="encode_cross")
        logits, _ = decoder.apply(variables, ids, cross, cache)
    assert found.dtype == logits.dtype == np.float64
    assert np.abs(expected).max() > 10
    np.testing.assert_allclose(found, expected, atol=1e-8)
    np.testing.assert_allclose(logits, their_logits.logits.numpy(), atol=1e-8)


def test_words_equal_those_of_transformers(folder, mels, theirs):
    from transformers.modeling_outputs import BaseModelOutput

    states, expected = encode(folder, mels, FLOAT32), torch_states(theirs, mels)
    assert np.abs(states - expected).max() < 1e-4 * np.abs(expected).max()
    ours = open_transcriber(folder)
    found = ours(states, language="en", timestamps=False)
    encoded = BaseModelOutput(last_hidden_state=torch.from_numpy(expected))
    ids = theirs.generate(encoder_outputs=encoded, language="en", task="transcribe")
    for name, one, row in zip(ENGLISH, found, ids.tolist(), strict=True):
        text = ours.tokenizer.decode(row, skip_special_tokens=True)
        assert one.text == " ".join(text.split()), name
        assert SPOKEN.get(name, one.text[:1].lower()) in one.text.lower(), (name, one.text)

"""A model starts from the mirrors of its named parts: GGUF, CTranslate2."""

import jax
import numpy as np
import pytest

from data_pipeline.loader.chat_tokenizer import ChatTokenizer
from emojax.config import load_config, resolve
from emojax.sharding import make_mesh
from emojax.train import start
from emojax.weights.tensor_files import open_tensors

pytestmark = pytest.mark.real


def test_a_model_starts_from_fetched_mirrors(real_part):
    folders = {name: real_part(name) for name in ("whisper-base", "SmolLM2-135M-Instruct")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOJAX_CACHE", str(folders["whisper-base"].parents[1]))
        named = ("audio.part=whisper-base", "llama.part=SmolLM2-135M-Instruct")
        settings = resolve(load_config("tiny:test", [f"--config.model.{n}" for n in named]))
        mesh = make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
        variables = start.initial_variables(settings, mesh)
        tokenizer = start.make_tokenizer(settings, [])
        origin = start.run_base(settings)["parts"]
    for name, path, tensor in (
        ("whisper-base", "params/whisper/encoder/blocks/fc1/kernel", "model.encoder.layers.5.fc1"),
        (
            "SmolLM2-135M-Instruct",
            "params/llama/blocks/k/kernel",
            "model.layers.5.self_attn.k_proj",
        ),
    ):
        given = open_tensors(folders[name])[f"{tensor}.weight"]().astype(np.float32)
        np.testing.assert_array_equal(variables[path][5], given.T)
    assert isinstance(tokenizer, ChatTokenizer)
    assert set(origin) == {"audio", "llama"}

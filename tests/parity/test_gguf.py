"""GGUF: tensors and config against those that transformers makes of the same file; tiny, random."""

import numpy as np
import pytest
from gguf_writer import tensors, write_gguf

from emojax.formats.gguf_config import gguf_config
from emojax.weights.tensor_files import open_tensors

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")


@pytest.mark.parametrize(
    ("architecture", "stored"), [("llama", "Q8_0"), ("qwen2", "F16"), ("qwen3", "Q4_1")]
)
def test_tensors_and_sizes_equal_those_of_transformers(tmp_path, architecture, stored):
    from transformers import AutoConfig, AutoModelForCausalLM

    path = tmp_path / "m.gguf"
    write_gguf(path, architecture, tensors(architecture), stored=stored, head=8)
    config = AutoConfig.from_pretrained(tmp_path, gguf_file="m.gguf")
    config.head_dim = 8  # transformers does not read it
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="m.gguf", config=config, dtype=torch.float32
    )
    expected, readers = theirs.state_dict(), open_tensors(path)
    assert set(expected) == {*readers, "lm_head.weight"}
    for name, read in readers.items():
        np.testing.assert_array_equal(read(), expected[name].numpy(), err_msg=name)
    config, their_config = gguf_config(path), theirs.config.to_dict()
    for key in ("model_type", "vocab_size", "hidden_size", "num_key_value_heads"):
        assert config[key] == their_config[key], key
    assert config["rope_theta"] == their_config["rope_parameters"]["rope_theta"]
    assert config["tie_word_embeddings"] and their_config["tie_word_embeddings"]

"""The GGUF file of SmolLM2-135M-Instruct: tensors and tokens as transformers makes of it."""

import numpy as np
import pytest

from emojax.weights.tensor_files import open_tensors

pytestmark = pytest.mark.real
torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")


def test_tensors_and_tokens_equal_those_of_transformers(real_part):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = real_part("SmolLM2-135M-Instruct")
    (file,) = folder.glob("*.gguf")
    options = {"gguf_file": file.name, "dtype": torch.float32}
    expected = AutoModelForCausalLM.from_pretrained(folder, **options).state_dict()
    readers = open_tensors(folder)
    assert set(expected) == {*readers, "lm_head.weight"} and len(readers) == 272
    for name, read in readers.items():
        np.testing.assert_array_equal(read(), expected[name].numpy(), err_msg=name)

    ours = AutoTokenizer.from_pretrained(folder)
    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    question = "How does she feel? 3 of 10 people can't tell: naïve, 你好"
    turns = [{"role": "user", "content": question}]
    text = ours.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system") and text.endswith("<|im_start|>assistant\n")
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.eos_token == "<|im_end|>" and len(ours) == 49_152

"""Adapters and merged language models of every family load in transformers and PEFT (1e-4)."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_parts import write_tokenizer

from emojax.bundle.model_folder import load_bundle, save_bundle
from emojax.config import load_config, resolve
from emojax.model.lm.families import LINEARS
from emojax.model.variables import merge
from emojax.sharding import make_mesh
from emojax.train import start
from emojax.weights.exporter import export_model
from parity.test_language_models import CASES, padded, run_decoder, their_logits, torch_model

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]


def trained(name, folder):
    """A model folder whose language model is a part with adapters on all projections."""
    vocab = CASES[name][1].get("vocab_size", 320)
    torch_model(name, vocab=vocab).save_pretrained(folder / "part")
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "</s>", "<|eot_id|>")
    write_tokenizer(folder / "part", specials=specials)
    words = [f"--config.model.llama.part={folder / 'part'}", "--config.model.lora.rank=3"]
    config = load_config("tiny:test", words)
    config.model.lora.targets = tuple(LINEARS)
    settings = resolve(config)
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    variables = start.initial_variables(settings, mesh)
    rng = np.random.default_rng(7)
    for path, x in variables.items():
        if path.startswith("lora/"):
            variables[path] = jnp.asarray(rng.standard_normal(x.shape) * 0.3, jnp.float32)
    save_bundle(
        folder / "model",
        settings,
        start.make_tokenizer(settings, []),
        variables=merge(variables, {}),
        labels=("happy", "sad"),
        reasons=False,
    )
    return folder / "model"


FULL = ("mistral", "qwen2-untied", "smollm2")


@pytest.mark.parametrize(
    "name",
    ["llama3", "qwen2", "qwen3", *(pytest.param(name, marks=pytest.mark.full) for name in FULL)],
)
def test_exports_of_a_family(name, tmp_path):
    model = trained(name, tmp_path)
    bundle = load_bundle(model)
    tree = {c: bundle.variables[c]["llama"] for c in ("params", "lora")}
    ids, mask, positions = padded(np.random.default_rng(8), "right")
    ours = run_decoder(bundle.settings.model.llama, tree, ids, mask, positions)
    export_model(model, "hf-merged", tmp_path / "merged")
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    theirs = their_logits(merged, ids, mask, positions)
    np.testing.assert_allclose(ours[mask], theirs[mask], rtol=1e-4, atol=1e-4)
    export_model(model, "peft", tmp_path / "adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "part")
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    theirs = their_logits(adapted, ids, mask, positions)
    np.testing.assert_allclose(ours[mask], theirs[mask], rtol=1e-4, atol=1e-4)
    written = json.loads((tmp_path / "merged" / "config.json").read_text())
    given = json.loads((tmp_path / "part" / "config.json").read_text())
    same = ("model_type", "architectures", "num_key_value_heads", "tie_word_embeddings")
    facts = types.SimpleNamespace(**written)
    assert [getattr(facts, n) for n in same] == [given[n] for n in same]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "merged")
    text = bundle.tokenizer.wrap("how are you?")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == bundle.tokenizer.encode_prompt(text)

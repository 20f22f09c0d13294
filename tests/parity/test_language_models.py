"""Language models of every family: transformers writes a folder, we read it, logits agree."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from emojax.config.fields import LlamaFields
from emojax.model.dense import LoraConfig, Precision
from emojax.model.lm.families import LINEARS
from emojax.model.lm.llama import Llama, make_cache
from emojax.model.parts import LANGUAGE_MODELS, family_of_config
from emojax.model.quantize import quantize_leaves
from emojax.model.variables import unbox
from emojax.weights.load_tensors import load_tensors, save_tensors
from emojax.weights.tensor_files import open_tensors

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

SMALL = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Original length 32 and rows of up to 100 positions: well beyond it.
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
CASES = {
    "llama2": ("Llama", {"num_key_value_heads": 6, "rms_norm_eps": 1e-5}),
    "llama2-linear": ("Llama", {"rope_parameters": LINEAR_ROPE}),
    "llama3": ("Llama", {"rope_parameters": LLAMA3_ROPE, "vocab_size": 128_256}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 8}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2-untied": ("Qwen2", {"tie_word_embeddings": False}),
    "qwen3": ("Qwen3", {"head_dim": 10, "tie_word_embeddings": True}),
    "smollm2": ("Llama", {"tie_word_embeddings": True, "vocab_size": 49_152}),
}


def torch_model(name, vocab=60):
    """Random weights; families of one model_type are told apart by a vocabulary too large here."""
    kind, options = CASES[name]
    sizes = SMALL | options | {"vocab_size": vocab}
    config = getattr(transformers, f"{kind}Config")(**sizes, attn_implementation="eager")
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise * 0.25 + (1.0 if p.ndim == 1 and p.shape[0] > 2 else 0.0))
    return model.eval()


def imported(name, folder, lora=0, **shared):
    """(configuration, variables) from the folder alone."""
    given = json.loads((folder / "config.json").read_text())
    vocab = CASES[name][1].get("vocab_size", given["vocab_size"])
    family = family_of_config(given | {"vocab_size": vocab})
    assert family.name == name.partition("-")[0]
    fields = types.SimpleNamespace(
        **(dataclasses.asdict(LlamaFields()) | family.read_config(given))
    )
    targets = tuple(LINEARS)
    config = family.make(
        fields, lora=LoraConfig(rank=lora, alpha=6.0, dropout=0.0, targets=targets), **shared
    )
    leaves = traverse_util.flatten_dict(shapes(config)["params"], sep="/")
    (table,) = family.tables(config)
    flat = load_tensors(table, open_tensors(folder), leaves)
    assert set(flat) == set(leaves), "a leaf without a rule would keep its random start"
    return config, flat, table


def shapes(config):
    module = Llama(config)

    def everything(model):
        x = model.embed(jnp.zeros((1, 2), jnp.int32))
        return model.logits(model(x, jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool))[0])

    return jax.eval_shape(lambda: unbox(module.init(jax.random.key(0), method=everything)))


def nest(flat):
    return traverse_util.unflatten_dict(flat, sep="/")


def padded(rng, side, length=9, short=4):
    ids = rng.integers(3, 60, (2, length))
    mask = np.ones((2, length), bool)
    mask[1, slice(0, short) if side == "left" else slice(length - short, None)] = False
    return ids, mask, np.maximum(0, np.cumsum(mask, axis=1) - 1)


def their_logits(model, ids, mask, positions):
    with torch.no_grad():
        return model(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(mask.astype(int)),
            position_ids=torch.from_numpy(positions),
        ).logits.numpy()


def run_decoder(config, tree, ids, mask, positions):
    module = Llama(config)

    def forward(tree, ids, mask, positions):
        x = module.apply(tree, ids, method="embed")
        hidden, _ = module.apply(tree, x, positions, mask)
        return module.apply(tree, hidden, method="logits")

    return np.asarray(jax.jit(forward)(tree, *map(jnp.asarray, (ids, mask, positions))))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(name):
        if name not in made:
            model = torch_model(name)
            path = tmp_path_factory.mktemp(name)
            model.save_pretrained(path)
            made[name] = model, path
        return made[name]

    return folder


@pytest.mark.parametrize("name", CASES)
def test_prefill_with_padding_and_export(folders, name):
    model, folder = folders(name)
    config, flat, table = imported(name, folder)
    rng = np.random.default_rng(1)
    for side in ("left", "right"):
        ids, mask, positions = padded(rng, side)
        ours = run_decoder(config, {"params": nest(flat)}, ids, mask, positions)
        theirs = their_logits(model, ids, mask, positions)
        np.testing.assert_allclose(ours[mask], theirs[mask], rtol=1e-4, atol=1e-4)
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    for tensor, value in save_tensors(table, flat).items():
        np.testing.assert_array_equal(value, state[tensor])


@pytest.mark.parametrize("name", CASES)
def test_64_greedy_tokens_from_the_cache(folders, name):
    """Beyond the original length of the stretched RoPE, and with an unstacked and stacked cache."""
    model, folder = folders(name)
    config, flat, _ = imported(name, folder)
    tree, module = {"params": nest(flat)}, Llama(config)
    prompt = np.random.default_rng(2).integers(3, 60, (1, 36))
    with torch.no_grad():
        theirs = model.generate(
            torch.from_numpy(prompt), max_new_tokens=64, do_sample=False, eos_token_id=-1
        )[0, 36:].tolist()

    @jax.jit
    def greedy(tree, prompt):
        at, ones = jnp.arange(36)[None], jnp.ones((1, 36), bool)
        x = module.apply(tree, prompt, method="embed")
        cache = make_cache(config, 1, 100)
        hidden, cache = module.apply(tree, x, at, ones, cache=cache, fresh=True)
        first = module.apply(tree, hidden[:, -1], method="logits").argmax(-1)

        def step(carry, t):
            token, cache = carry
            x = module.apply(tree, token[:, None], method="embed")
            valid = jnp.ones((1, 1), bool)
            hidden, cache = module.apply(tree, x, t[None, None], valid, cache=cache)
            following = module.apply(tree, hidden[:, -1], method="logits").argmax(-1)
            return (following, cache), token

        return jax.lax.scan(step, (first, cache), 36 + jnp.arange(64))[1][:, 0]

    assert greedy(tree, jnp.asarray(prompt)).tolist() == theirs


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_lora_on_all_projections(folders, name):
    """As PEFT computes it."""
    peft = pytest.importorskip("peft")
    _, folder = folders(name)
    model = torch_model(name)
    projections = [f"{p}_proj" for p in LINEARS]
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(r=3, lora_alpha=6, target_modules=projections)
    ).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for n, p in wrapped.named_parameters():
            if "lora_" in n:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    config, flat, _ = imported(name, folder, lora=3)
    adapters = {}
    for p, part in LINEARS.items():
        for side, leaf in (("A", "a"), ("B", "b")):
            layers = [
                wrapped.get_parameter(
                    f"base_model.model.model.layers.{i}.{part}.{p}_proj.lora_{side}.default.weight"
                )
                for i in range(2)
            ]
            adapters[f"blocks/{p}/{leaf}"] = np.stack([x.detach().numpy().T for x in layers])
    tree = {"params": nest(flat), "lora": nest(adapters)}
    ids, mask, positions = padded(np.random.default_rng(5), "right")
    ours = run_decoder(config, tree, ids, mask, positions)
    theirs = their_logits(wrapped, ids, mask, positions)
    np.testing.assert_allclose(ours[mask], theirs[mask], rtol=1e-4, atol=1e-4)
    without = tree | {"lora": nest({k: 0 * v for k, v in adapters.items()})}
    plain = run_decoder(config, without, ids, mask, positions)
    assert np.abs(plain - ours)[mask].max() > 0.1, "the adapters must matter"


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_int8_kernels_and_cache(folders, name):
    """The kernels are off by half of 1/127 of a channel's largest weight; logits follow."""
    model, folder = folders(name)
    config, flat, _ = imported(name, folder)
    renamed = {f"params/llama/{k}": v for k, v in flat.items()}
    small = {k.removeprefix("params/llama/"): v for k, v in quantize_leaves(renamed).items()}
    int8 = dataclasses.replace(config, precision=Precision(kernels="int8"))
    ids, mask, positions = padded(np.random.default_rng(6), "right")
    ours = run_decoder(int8, {"params": nest(small)}, ids, mask, positions)[mask]
    theirs = their_logits(model, ids, mask, positions)[mask]
    error = np.sqrt(np.square(ours - theirs).mean() / np.square(theirs).mean())
    assert 1e-4 < error < 0.03


def test_every_family_is_compared():
    assert {name.partition("-")[0] for name in CASES} == set(LANGUAGE_MODELS)

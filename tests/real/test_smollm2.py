"""SmolLM2-135M-Instruct, in 4 bits as its mirror has it, against transformers on the same file."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from data_pipeline.loader.chat_tokenizer import ChatTokenizer
from emojax.config.fields import LlamaFields
from emojax.model.dense import LoraConfig
from emojax.model.lm.llama import Llama, make_cache
from emojax.model.parts import release_named
from emojax.model.variables import flatten, merge, unbox
from emojax.weights.load_tensors import load_tensors
from emojax.weights.part_weights import chat_facts
from emojax.weights.tensor_files import open_tensors

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOKENS = 64
QUESTIONS = (
    "How does an angry voice sound?",
    "Name three signs of sadness in a face.",
    "Somebody says 'great, just great' with a sigh. What may the person feel?",
)


@pytest.fixture(scope="module")
def models(real_part):
    """(tokenizer, our decoder, its variables, transformers' model)."""
    folder = real_part("SmolLM2-135M-Instruct")
    family, release = release_named("SmolLM2-135M-Instruct")
    config = family.make(
        dataclasses.replace(LlamaFields(), **release.fields), lora=LoraConfig(rank=0)
    )
    module = Llama(config)

    def everything(model):
        x = model.embed(jnp.zeros((1, 2), jnp.int32))
        return model.logits(model(x, jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool))[0])

    shapes = jax.eval_shape(lambda: unbox(module.init(jax.random.key(0), method=everything)))
    (table,) = family.tables(config)
    tensors = load_tensors(table.under("", "params/"), open_tensors(folder), flatten(shapes))
    (file,) = folder.glob("*.gguf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file.name, dtype=torch.float32
    ).eval()
    return ChatTokenizer(folder, chat_facts(family)), module, merge(tensors, {}), theirs


@pytest.mark.parametrize("question", QUESTIONS)
def test_64_greedy_tokens(models, question):
    tokenizer, module, tree, theirs = models
    ids = tokenizer.encode_prompt(tokenizer.wrap(question))
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        expected = theirs.generate(
            prompt,
            # Otherwise transformers hides <|im_end|>, which is its padding token, in the prompt.
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=TOKENS,
            do_sample=False,
            eos_token_id=-1,
        )[0, len(ids) :].tolist()

    @jax.jit
    def greedy(tree, ids):
        length = ids.shape[1]
        x = module.apply(tree, ids, method="embed")
        cache = make_cache(module.config, 1, length + TOKENS)
        at, valid = jnp.arange(length)[None], jnp.ones((1, length), bool)
        hidden, cache = module.apply(tree, x, at, valid, cache=cache, fresh=True)
        first = module.apply(tree, hidden[:, -1], method="logits").argmax(-1)

        def step(carry, t):
            token, cache = carry
            x = module.apply(tree, token[:, None], method="embed")
            one = jnp.ones((1, 1), bool)
            hidden, cache = module.apply(tree, x, t[None, None], one, cache=cache)
            following = module.apply(tree, hidden[:, -1], method="logits").argmax(-1)
            return (following, cache), token

        return jax.lax.scan(step, (first, cache), length + jnp.arange(TOKENS))[1][:, 0]

    assert greedy(tree, jnp.asarray([ids])).tolist() == expected
    assert len(set(expected)) > 10, "a fluent answer does not repeat one token"

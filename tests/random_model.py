"""An untrained model of the smallest preset whose random weights answer differently per clip."""

import dataclasses
import functools
from pathlib import Path

import jax

from data_pipeline.loader.tokens import SmallTokenizer
from emojax.bundle.model_folder import Bundle, save_bundle
from emojax.config import load_config, resolve
from emojax.model.variables import init_flat, merge
from emojax.sharding import make_mesh

LABELS = ("happy", "sad", "angry", "surprise")
TEXTS = [
    "the picture shows a broad smile, the sound has loud voice, so it is happy",
    "which one is shown sad angry surprise",
]


@functools.cache
def random_bundle(preset: str = "tiny:test") -> Bundle:
    settings = resolve(load_config(preset))
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        flat = init_flat(settings.model, 1, mesh)
    # Adapters that are not zero, logits that differ clearly.
    key = jax.random.key(7)
    for path, x in flat.items():
        if path.startswith("lora/"):
            flat[path] = 0.3 * jax.random.normal(key, x.shape, x.dtype)
        elif path.startswith("params/llama/head"):
            flat[path] = 4 * x
    tokenizer = SmallTokenizer.train(TEXTS * 20, settings.model.llama.vocab)
    return Bundle(
        name="random",
        settings=settings,
        tokenizer=tokenizer,
        variables=merge(flat, {}),
        labels=LABELS,
        style="cognition",
        reason_task="reason",
    )


def save_random_model(folder: Path) -> Path:
    """The same as a model folder."""
    bundle = random_bundle()
    save_bundle(
        folder,
        bundle.settings,
        bundle.tokenizer,
        variables=bundle.variables,
        labels=LABELS,
        reasons=True,
    )
    return folder


def with_llama(bundle: Bundle, **fields) -> Bundle:
    """The same weights with other settings of the language model."""
    model = bundle.settings.model
    model = dataclasses.replace(model, llama=dataclasses.replace(model.llama, **fields))
    return dataclasses.replace(bundle, settings=dataclasses.replace(bundle.settings, model=model))

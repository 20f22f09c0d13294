"""An untrained model of the smallest preset whose random weights answer differently per clip."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.loader.tokens import SmallTokenizer
from emojax.bundle.model_folder import Bundle, save_bundle
from emojax.config import load_config, resolve
from emojax.model.variables import Flat, abstract_variables, flatten, init_flat, merge, unbox
from emojax.sharding import make_mesh

LABELS = ("happy", "sad", "angry", "surprise")
TEXTS = [
    "the picture shows a broad smile, the sound has loud voice, so it is happy",
    "which one is shown sad angry surprise",
]


def random_arrays(shapes: Mapping, seed: int = 0) -> Flat:
    """Random arrays of the paths and shapes of a module; its initializers compile slowly.

    Kernels have the variance 1 / fan-in, scales of norms are near 1, nothing is zero.
    """
    rng = np.random.default_rng(seed)
    arrays = {}
    for path, x in flatten(unbox(shapes)).items():
        layer = x.shape["/blocks/" in path : -1]  # without the axis of the stacked layers
        mean, deviation = float(path.endswith("/scale")), 0.1
        if path.endswith("/kernel") or path.startswith("lora/"):
            deviation = math.prod(layer) ** -0.5
        arrays[path] = jnp.asarray(rng.normal(mean, deviation, x.shape), x.dtype)
    return arrays


def random_variables(config, seed: int = 0) -> Flat:
    """Random arrays in the place of all variables of a model."""
    return random_arrays(abstract_variables(config), seed)


def initialized_variables(config) -> Flat:
    """Variables by the initializers, with adapters that are not zero and larger logits."""
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        flat = init_flat(config, 1, mesh)
    key = jax.random.key(7)
    for path, x in flat.items():
        if path.startswith("lora/"):
            flat[path] = 0.3 * jax.random.normal(key, x.shape, x.dtype)
        elif path.startswith("params/llama/head"):
            flat[path] = 4 * x
    return flat


@functools.cache
def random_bundle(preset: str = "tiny:test", *, initialized: bool = False) -> Bundle:
    settings = resolve(load_config(preset))
    if initialized:
        flat = initialized_variables(settings.model)
    else:
        flat = random_variables(settings.model)
        flat["params/llama/head/kernel"] *= 4  # logits that differ clearly
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
    """The same as a model folder, whose answers are whole characters in the tests that serve it."""
    bundle = random_bundle(initialized=True)
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

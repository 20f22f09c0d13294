"""Cached generation in one compiled loop, and log-probabilities of given answers."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from emojax.model.build import ModelConfig, make_model
from emojax.model.llama import Cache, make_cache
from emojax.types import Present, SoftPrompt

Array = jax.Array
Variables = dict[str, Any]  # nested {params, lora}


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Greedy when temperature is 0, else top-p sampling. Defaults: the released evaluation (greedy, 200 tokens)."""

    max_tokens: int = 200
    temperature: float = 0.0
    top_p: float = 0.9
    min_tokens: int = 1


class _State(NamedTuple):
    step: Array
    key: Array
    token: Array  # int[B], chosen but not yet written
    done: Array  # bool[B]
    ids: Array  # int[B, max_tokens]
    cache: Cache


def choose(logits: Array, sampler: Sampler, key: Array) -> Array:
    """float32[B, V] -> int[B]. Top-p keeps the smallest set of tokens whose probability reaches top_p."""
    if sampler.temperature == 0:
        return jnp.argmax(logits, axis=-1)
    scaled = logits / sampler.temperature
    order = jnp.sort(scaled, axis=-1)[:, ::-1]
    before = jnp.cumsum(jax.nn.softmax(order, axis=-1), axis=-1) - jax.nn.softmax(order, axis=-1)
    least = jnp.min(jnp.where(before < sampler.top_p, order, jnp.inf), axis=-1, keepdims=True)
    return jax.random.categorical(key, jnp.where(scaled >= least, scaled, -jnp.inf), axis=-1)


def soft_prompt_of(model: Any, variables: Variables, batch: dict[str, Array]) -> SoftPrompt:
    """Views or cached features in a batch -> SoftPrompt."""
    features = model.apply(variables, batch, method="features")
    present = Present(batch["has_image"], batch["has_video"], batch["has_audio"])
    return model.apply(variables, features, present, method="soft_prompt")


def prefill(
    config: ModelConfig, variables: Variables, batch: dict[str, Array], room: int
) -> tuple[Array, Cache, Array]:
    """Prompts into a fresh cache with `room` free slots: (float32[B, V] next-token logits, cache, int[B] lengths)."""
    model = make_model(config)
    rows, length = batch["ids"].shape
    cache = make_cache(config.llama, rows, length + room)
    soft = soft_prompt_of(model, variables, batch)
    logits, cache = model.apply(variables, batch, soft, cache, method="prefill")
    return logits, cache, batch["valid"].sum(axis=1)


def generate(
    config: ModelConfig, variables: Variables, batch: dict[str, Array], sampler: Sampler, eos: int, key: Array
) -> Array:
    """int[B, max_tokens] new tokens; after the end token a row holds end tokens only. Jit with config, sampler, eos static."""
    model = make_model(config)
    logits, cache, lengths = prefill(config, variables, batch, sampler.max_tokens)

    def pick(logits: Array, step: Array, key: Array) -> Array:
        blocked = (jnp.arange(logits.shape[-1]) == eos) & (step < sampler.min_tokens)
        return choose(jnp.where(blocked, -jnp.inf, logits), sampler, jax.random.fold_in(key, step)).astype(jnp.int32)

    first = pick(logits, jnp.int32(0), key)
    rows = first.shape[0]
    start = _State(jnp.int32(0), key, first, first == eos, jnp.full((rows, sampler.max_tokens), eos, jnp.int32), cache)

    def going(s: _State) -> Array:
        return (s.step < sampler.max_tokens) & ~jnp.all(s.done)

    def advance(s: _State) -> _State:
        ids = s.ids.at[:, s.step].set(jnp.where(s.done, eos, s.token))
        at = (lengths + s.step)[:, None]
        logits, cache = model.apply(
            variables, s.token[:, None], at, jnp.ones((rows, 1), bool), s.cache, method="extend"
        )
        token = pick(logits[:, 0], s.step + 1, s.key)
        token = jnp.where(s.done, eos, token)
        return _State(s.step + 1, s.key, token, s.done | (token == eos), ids, cache)

    return jax.lax.while_loop(going, advance, start).ids


def score_choices(
    config: ModelConfig, variables: Variables, batch: dict[str, Array], choices: Array, lengths: Array
) -> Array:
    """Length-normalised log-probability of each answer: float32[B, C].

    Args:
      batch: prompts. choices: int[C, A] answers with their end token, padded. lengths: int[C].

    The prompt is computed once; choices are scored one after another, so memory does not grow with C.
    """
    model = make_model(config)
    width = choices.shape[1]
    logits, cache, used = prefill(config, variables, batch, width)
    rows = logits.shape[0]

    def one(choice: tuple[Array, Array]) -> Array:
        ids, length = choice
        repeated = jnp.broadcast_to(ids, (rows, width))
        at = used[:, None] + jnp.arange(width)
        later, _ = model.apply(variables, repeated, at, jnp.ones((rows, width), bool), cache, method="extend")
        every = jnp.concatenate([logits[:, None], later[:, :-1]], axis=1)
        each = jnp.take_along_axis(jax.nn.log_softmax(every, axis=-1), repeated[:, :, None], axis=-1)[:, :, 0]
        return jnp.where(jnp.arange(width) < length, each, 0).sum(axis=1) / length

    return jax.lax.map(one, (choices, lengths)).T

"""Cached generation in one compiled loop, and log-probabilities of given answers."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from emojax.model.build import ModelConfig, make_model
from emojax.model.lm.kv_cache import Cache
from emojax.model.lm.llama import make_cache
from emojax.types import Present, SoftPrompt

Array = jax.Array
TOGETHER = 16  # answers whose probabilities are taken in one pass
Variables = dict[str, Any]  # nested {params, lora}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
    """Greedy when temperature is 0, else top-p sampling. Defaults: the released evaluation (greedy, 200 tokens)."""

    max_tokens: int = 200
    temperature: float = 0.0
    top_p: float = 0.9
    min_tokens: int = 1


class State(NamedTuple):
    """A batch that is being answered; rows are independent of each other.

    token: int[B], chosen but not yet written. made: int[B], tokens in `ids`. done: bool[B]. ids: int[B, max_tokens], end tokens
    where nothing is written yet. keys: one random key a row.
    """

    token: Array
    made: Array
    done: Array
    ids: Array
    keys: Array
    cache: Cache


def choose(logits: Array, sampler: Sampler, keys: Array) -> Array:
    """float32[B, V], a key a row -> int[B]. Top-p keeps the smallest set of tokens whose probability reaches top_p."""
    if sampler.temperature == 0:
        return jnp.argmax(logits, axis=-1)
    scaled = logits / sampler.temperature
    order = jnp.sort(scaled, axis=-1)[:, ::-1]
    before = jnp.cumsum(jax.nn.softmax(order, axis=-1), axis=-1) - jax.nn.softmax(order, axis=-1)
    least = jnp.min(jnp.where(before < sampler.top_p, order, jnp.inf), axis=-1, keepdims=True)
    return jax.vmap(jax.random.categorical)(keys, jnp.where(scaled >= least, scaled, -jnp.inf))


def pick(logits: Array, made: Array, keys: Array, sampler: Sampler, eos: int) -> Array:
    """int[B]: token number `made` of each row; what a row gets depends on its own key and logits alone."""
    blocked = (jnp.arange(logits.shape[-1]) == eos) & (made < sampler.min_tokens)[:, None]
    keys = jax.vmap(jax.random.fold_in)(keys, made)
    return choose(jnp.where(blocked, -jnp.inf, logits), sampler, keys).astype(jnp.int32)


def soft_prompt_of(model: Any, variables: Variables, batch: dict[str, Array]) -> SoftPrompt:
    """Views or cached features in a batch -> SoftPrompt."""
    features = model.apply(variables, batch, method="features")
    present = Present(batch["has_image"], batch["has_video"], batch["has_audio"])
    return model.apply(variables, features, present, method="soft_prompt")


def prefill(
    config: ModelConfig, variables: Variables, batch: dict[str, Array], slots: int
) -> tuple[Array, Cache]:
    """Prompts into a fresh cache of `slots` tokens a row: (float32[B, V] next-token logits, cache)."""
    model = make_model(config)
    cache = make_cache(config.llama, batch["ids"].shape[0], slots)
    soft = soft_prompt_of(model, variables, batch)
    return model.apply(variables, batch, soft, cache, method="prefill")


def begin(logits: Array, cache: Cache, sampler: Sampler, eos: int, keys: Array) -> State:
    """Logits behind each prompt -> a state with its first token chosen."""
    rows = logits.shape[0]
    nothing = jnp.zeros((rows,), jnp.int32)
    token = pick(logits, nothing, keys, sampler, eos)
    ids = jnp.full((rows, sampler.max_tokens), eos, jnp.int32)
    return State(token, nothing, token == eos, ids, keys, cache)


def advance(
    config: ModelConfig,
    variables: Variables,
    state: State,
    *,
    sampler: Sampler,
    eos: int,
    steps: int,
    refill: Array,
) -> State:
    """Up to `steps` tokens for every row, until all rows are done, or with `refill` (bool[]) until one more is.

    Jit with config, sampler, eos, steps static.
    """
    model = make_model(config)
    rows = state.token.shape[0]
    waiting = jnp.sum(state.done)

    def going(carry: tuple[Array, State]) -> Array:
        step, s = carry
        return (step < steps) & ~jnp.all(s.done) & ~(refill & (jnp.sum(s.done) > waiting))

    def one(carry: tuple[Array, State]) -> tuple[Array, State]:
        step, s = carry
        column = jnp.arange(sampler.max_tokens) == s.made[:, None]
        ids = jnp.where(column & ~s.done[:, None], s.token[:, None], s.ids)
        made = s.made + ~s.done
        at = s.cache.used[:, None]
        logits, cache = model.apply(
            variables, s.token[:, None], at, jnp.ones((rows, 1), bool), s.cache, method="extend"
        )
        # A row that is done waits where it is: nothing may run over the end of its cache.
        cache = cache._replace(used=jnp.where(s.done, s.cache.used, cache.used))
        token = jnp.where(s.done, eos, pick(logits[:, 0], made, s.keys, sampler, eos))
        done = s.done | (token == eos) | (made >= sampler.max_tokens)
        return step + 1, State(token, made, done, ids, s.keys, cache)

    return jax.lax.while_loop(going, one, (jnp.int32(0), state))[1]


def generate(
    config: ModelConfig,
    variables: Variables,
    batch: dict[str, Array],
    sampler: Sampler,
    eos: int,
    key: Array,
) -> Array:
    """int[B, max_tokens] new tokens; after the end token a row holds end tokens only. Jit with config, sampler, eos static."""
    rows, length = batch["ids"].shape
    logits, cache = prefill(config, variables, batch, length + sampler.max_tokens)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))
    state = begin(logits, cache, sampler, eos, keys)
    return advance(
        config,
        variables,
        state,
        sampler=sampler,
        eos=eos,
        steps=sampler.max_tokens,
        refill=jnp.zeros((), bool),
    ).ids


def score_choices(
    config: ModelConfig,
    variables: Variables,
    batch: dict[str, Array],
    choices: Array,
    lengths: Array,
) -> Array:
    """Length-normalised log-probability of each answer: float32[B, C].

    Args:
      batch: prompts. choices: int[C, A] answers with their end token, padded. lengths: int[C].
    """
    room = min(len(choices), TOGETHER) * choices.shape[1]
    logits, cache = prefill(config, variables, batch, batch["ids"].shape[1] + room)
    return choice_scores(config, variables, logits, cache, choices, lengths)


def choice_scores(
    config: ModelConfig,
    variables: Variables,
    logits: Array,
    cache: Cache,
    choices: Array,
    lengths: Array,
) -> Array:
    """`score_choices` of prompts that are in the cache already: `logits` follow each row's last token.

    Up to TOGETHER answers go through the model side by side, each of which sees the prompt and itself: one pass, as the
    weights are what takes the time. More come in groups, so memory does not grow with C.
    """
    model = make_model(config)
    rows, width = logits.shape[0], choices.shape[1]
    group = min(len(choices), TOGETHER)
    extra = -len(choices) % group
    choices = jnp.pad(choices, ((0, extra), (0, 0)))
    number, place = jnp.arange(group * width) // width, jnp.arange(group * width) % width
    block_mask = (number[:, None] == number[None]) & (place[None] <= place[:, None])
    at = cache.used[:, None] + place

    def one(ids: Array) -> Array:
        repeated = jnp.broadcast_to(ids.reshape(-1), (rows, group * width))
        later, _ = model.apply(
            variables,
            repeated,
            at,
            jnp.ones(repeated.shape, bool),
            cache,
            block_mask=block_mask,
            method="extend",
        )
        later = later.reshape(rows, group, width, -1)[:, :, :-1]
        first = jnp.broadcast_to(logits[:, None, None], (rows, group, 1, logits.shape[-1]))
        every = jax.nn.log_softmax(jnp.concatenate([first, later], axis=2), axis=-1)
        return jnp.take_along_axis(every, repeated.reshape(rows, group, width, 1), axis=3)[..., 0]

    each = jax.lax.map(one, choices.reshape(-1, group, width))  # [groups, B, group, A]
    each = each.swapaxes(0, 1).reshape(rows, -1, width)[:, : len(lengths)]
    return jnp.where(jnp.arange(width) < lengths[:, None], each, 0).sum(axis=2) / lengths

"""Cached generation in one compiled loop, and log-probabilities of given answers."""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from emojax.model.build import ModelConfig, make_model
from emojax.model.emotion import present_streams
from emojax.model.lm.kv_cache import Cache
from emojax.model.lm.llama import make_cache
from emojax.types import SoftPrompt

Array = jax.Array
CHOICES_PER_PASS = 16  # answers that are scored side by side in one forward pass
Variables = dict[str, Any]  # nested {params, lora}
Ends = int | tuple[int, ...]  # ids of the tokens that end an answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
    """How the next token is chosen. The defaults are those of the released evaluation.

    Attributes:
      max_tokens: most tokens of an answer.
      temperature: 0 decodes greedily; above 0, tokens are drawn by top-p (nucleus) sampling.
      top_p: the draw is among the smallest set of tokens whose probability reaches it.
      repetition_penalty: above 1, tokens that the answer already has become less probable (Keskar
        et al. 2019); tokens of the prompt do not count. 1 changes nothing.
      min_tokens: the end token is blocked before this many tokens. The released `min_length=1`
        blocks nothing, because it counts the BOS token.
    """

    max_tokens: int = 200
    temperature: float = 0.0
    top_p: float = 0.9
    repetition_penalty: float = 1.0
    min_tokens: int = 0


class State(NamedTuple):
    """Decoding state of a batch. Rows are independent of each other.

    Attributes:
      token: int[B], the chosen token, not yet in `ids` and `cache`.
      length: int[B], number of tokens in `ids`.
      done: bool[B], rows whose answer has ended.
      ids: int[B, max_tokens], filled up with end tokens.
      keys: one random key per row.
      cache: keys and values of the prompt and the answer so far.
    """

    token: Array
    length: Array
    done: Array
    ids: Array
    keys: Array
    cache: Cache


def _ends(eos: Ends) -> tuple[int, ...]:
    return (eos,) if isinstance(eos, int) else eos


def _is_end(token: Array, eos: Ends) -> Array:
    return functools.reduce(operator.or_, [token == end for end in _ends(eos)])


def sample_tokens(logits: Array, sampler: Sampler, keys: Array) -> Array:
    """Chooses one token per row, greedily or by top-p sampling.

    Args:
      logits: float32[B, V].
      sampler: temperature and top_p.
      keys: one random key per row; unused at temperature 0.

    Returns:
      int[B].
    """
    if sampler.temperature == 0:
        return jnp.argmax(logits, axis=-1)
    scaled = logits / sampler.temperature
    order = jnp.sort(scaled, axis=-1)[:, ::-1]
    before = jnp.cumsum(jax.nn.softmax(order, axis=-1), axis=-1) - jax.nn.softmax(order, axis=-1)
    least = jnp.min(jnp.where(before < sampler.top_p, order, jnp.inf), axis=-1, keepdims=True)
    return jax.vmap(jax.random.categorical)(keys, jnp.where(scaled >= least, scaled, -jnp.inf))


def next_tokens(
    logits: Array, length: Array, keys: Array, *, ids: Array, sampler: Sampler, eos: Ends
) -> Array:
    """Chooses token number `length` of each row from the row's own logits and key only.

    Args:
      logits: float32[B, V].
      length: int[B], tokens that each row has so far.
      keys: one random key per row.
      ids: int[B, max_tokens], the tokens so far; entries from `length` on are ignored.
      sampler: see Sampler.
      eos: id of the end token, or of several; the first one fills answers up.

    Returns:
      int32[B].
    """
    if sampler.repetition_penalty != 1:
        logits = _penalize(logits, length, ids, sampler.repetition_penalty)
    if sampler.min_tokens:
        ends = _is_end(jnp.arange(logits.shape[-1]), eos)
        blocked = ends & (length < sampler.min_tokens)[:, None]
        logits = jnp.where(blocked, -jnp.inf, logits)
    keys = jax.vmap(jax.random.fold_in)(keys, length)
    return sample_tokens(logits, sampler, keys).astype(jnp.int32)


def _penalize(logits: Array, length: Array, ids: Array, penalty: float) -> Array:
    """Logits of tokens in the answer so far: divided by the penalty, or times it if negative.

    Source: transformers' RepetitionPenaltyLogitsProcessor.
    """
    rows, vocabulary = logits.shape
    # Places after the answer's end count for no token.
    used = jnp.where(jnp.arange(ids.shape[1]) < length[:, None], ids, vocabulary)
    seen = jnp.zeros((rows, vocabulary), bool)
    seen = seen.at[jnp.arange(rows)[:, None], used].set(True, mode="drop")
    return jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)


def soft_prompt_of(model: Any, variables: Variables, batch: dict[str, Array]) -> SoftPrompt:
    """Views or cached features in a batch -> SoftPrompt."""
    features = model.apply(variables, batch, method="features")
    present = present_streams(batch)
    prompt: SoftPrompt = model.apply(variables, features, present, method="soft_prompt")
    return prompt


def prefill(
    config: ModelConfig, variables: Variables, batch: dict[str, Array], slots: int
) -> tuple[Array, Cache]:
    """Runs the prompts and fills a new cache.

    Args:
      config: the model's.
      variables: the model's.
      batch: prompts with their views or features, as `Collate` makes them.
      slots: tokens per row that the cache has space for.

    Returns:
      float32[B, V] logits of the next token, and the cache.
    """
    model = make_model(config)
    cache = make_cache(config.llama, batch["ids"].shape[0], slots)
    soft = soft_prompt_of(model, variables, batch)
    filled: tuple[Array, Cache] = model.apply(variables, batch, soft, cache, method="prefill")
    return filled


def initial_state(
    logits: Array, cache: Cache, keys: Array, *, sampler: Sampler, eos: Ends
) -> State:
    """The state after the prompts, with each row's first token chosen.

    Args:
      logits: float32[B, V], of the first token.
      cache: filled with the prompts.
      keys: one random key per row.
      sampler: see Sampler.
      eos: id of the end token, or of several; the first one fills answers up.
    """
    none = jnp.zeros(logits.shape[:1], jnp.int32)
    ids = jnp.full((logits.shape[0], sampler.max_tokens), _ends(eos)[0], jnp.int32)
    token = next_tokens(logits, none, keys, ids=ids, sampler=sampler, eos=eos)
    return State(
        token=token, length=none, done=_is_end(token, eos), ids=ids, keys=keys, cache=cache
    )


def advance(
    config: ModelConfig,
    variables: Variables,
    state: State,
    refill: Array,
    *,
    sampler: Sampler,
    eos: Ends,
    steps: int,
) -> State:
    """Decodes until all rows have ended, for at most `steps` tokens.

    Jit with config, sampler, eos and steps static.

    Args:
      config: the model's.
      variables: the model's.
      state: where decoding continues.
      refill: bool[]; if true, decoding stops as soon as one more row has ended.
      sampler: see Sampler.
      eos: id of the end token, or of several; the first one fills answers up.
      steps: most tokens per row in this call.

    Returns:
      The state after these tokens.
    """
    model = make_model(config)
    rows = state.token.shape[0]
    ended_before = jnp.sum(state.done)

    def going(carry: tuple[Array, State]) -> Array:
        step, s = carry
        return (step < steps) & ~jnp.all(s.done) & ~(refill & (jnp.sum(s.done) > ended_before))

    def one(carry: tuple[Array, State]) -> tuple[Array, State]:
        step, s = carry
        column = jnp.arange(sampler.max_tokens) == s.length[:, None]
        ids = jnp.where(column & ~s.done[:, None], s.token[:, None], s.ids)
        length = s.length + ~s.done
        at = s.cache.used[:, None]
        logits, cache = model.apply(
            variables, s.token[:, None], at, jnp.ones((rows, 1), bool), s.cache, method="extend"
        )
        # A row that has ended keeps its position, so that it cannot run past the end of its cache.
        cache = cache._replace(used=jnp.where(s.done, s.cache.used, cache.used))
        chosen = next_tokens(logits[:, 0], length, s.keys, ids=ids, sampler=sampler, eos=eos)
        token = jnp.where(s.done, _ends(eos)[0], chosen)
        done = s.done | _is_end(token, eos) | (length >= sampler.max_tokens)
        return step + 1, State(
            token=token, length=length, done=done, ids=ids, keys=s.keys, cache=cache
        )

    return jax.lax.while_loop(going, one, (jnp.int32(0), state))[1]


def generate(
    config: ModelConfig,
    variables: Variables,
    batch: dict[str, Array],
    key: Array,
    *,
    sampler: Sampler,
    eos: Ends,
) -> Array:
    """Answers one batch of prompts from start to end.

    Jit with config, sampler and eos static.

    Args:
      config: the model's.
      variables: the model's.
      batch: prompts with their views or features.
      key: random key; each row gets its own from it.
      sampler: see Sampler.
      eos: id of the end token, or of several; the first one fills answers up.

    Returns:
      int[B, max_tokens] new tokens; after its end a row holds end tokens only.
    """
    rows, length = batch["ids"].shape
    logits, cache = prefill(config, variables, batch, length + sampler.max_tokens)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))
    state = initial_state(logits, cache, keys, sampler=sampler, eos=eos)
    return advance(
        config,
        variables,
        state,
        jnp.zeros((), bool),
        sampler=sampler,
        eos=eos,
        steps=sampler.max_tokens,
    ).ids


def score_choices(
    config: ModelConfig,
    variables: Variables,
    batch: dict[str, Array],
    choices: Array,
    lengths: Array,
) -> Array:
    """Length-normalised log-probability of each given answer after each prompt.

    Args:
      config: the model's.
      variables: the model's.
      batch: prompts with their views or features.
      choices: int[C, A], answers with their end token, padded.
      lengths: int[C], tokens of each answer.

    Returns:
      float32[B, C].
    """
    extra = min(len(choices), CHOICES_PER_PASS) * choices.shape[1]
    logits, cache = prefill(config, variables, batch, batch["ids"].shape[1] + extra)
    return score_cached_choices(config, variables, logits, cache, choices=choices, lengths=lengths)


def score_cached_choices(
    config: ModelConfig,
    variables: Variables,
    logits: Array,
    cache: Cache,
    *,
    choices: Array,
    lengths: Array,
) -> Array:
    """`score_choices` for prompts that are already in the cache.

    Up to CHOICES_PER_PASS answers go through the model side by side; each attends to the prompt and
    to itself only. One pass is fast because reading the weights takes most of the time. More
    answers are scored in groups, so memory does not grow with C.

    Args:
      config: the model's.
      variables: the model's.
      logits: float32[B, V], after the last token of each prompt.
      cache: of the prompts; it needs CHOICES_PER_PASS times A free slots per row (or C times A).
      choices: int[C, A], answers with their end token, padded.
      lengths: int[C], tokens of each answer.

    Returns:
      float32[B, C].
    """
    model = make_model(config)
    rows, width = logits.shape[0], choices.shape[1]
    group = min(len(choices), CHOICES_PER_PASS)
    choices = jnp.pad(choices, ((0, -len(choices) % group), (0, 0)))
    number, place = jnp.arange(group * width) // width, jnp.arange(group * width) % width
    block_mask = (number[:, None] == number[None]) & (place[None] <= place[:, None])
    at = cache.used[:, None] + place

    def one(ids: Array) -> Array:
        repeated = jnp.broadcast_to(ids.reshape(-1), (rows, group * width))
        valid = jnp.ones(repeated.shape, bool)
        later, _ = model.apply(
            variables, repeated, at, valid, cache, block_mask=block_mask, method="extend"
        )
        later = later.reshape(rows, group, width, -1)[:, :, :-1]
        first = jnp.broadcast_to(logits[:, None, None], (rows, group, 1, logits.shape[-1]))
        every = jax.nn.log_softmax(jnp.concatenate([first, later], axis=2), axis=-1)
        return jnp.take_along_axis(every, repeated.reshape(rows, group, width, 1), axis=3)[..., 0]

    each = jax.lax.map(one, choices.reshape(-1, group, width))  # [groups, B, group, A]
    each = each.swapaxes(0, 1).reshape(rows, -1, width)[:, : len(lengths)]
    return jnp.where(jnp.arange(width) < lengths[:, None], each, 0).sum(axis=2) / lengths

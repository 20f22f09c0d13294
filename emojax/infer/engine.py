"""Generation for many prompts with continuous batching, and for several questions about one clip.

Prompts of similar length are prefilled together; when a row's answer ends, the next prompt takes
its place in the batch. An answer depends on its own prompt and seed only, not on the rest of the
batch. Programs are compiled for few sizes: the length buckets, and batches of powers of two.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.loader.samples import Collate, Sample
from data_pipeline.loader.tokens import Row, pick_bucket
from data_pipeline.progress import Progress, no_progress
from emojax.infer.device_transfer import to_device
from emojax.infer.sample import (
    Ends,
    Sampler,
    State,
    Variables,
    advance,
    initial_state,
    prefill,
    score_cached_choices,
    soft_prompt_of,
)
from emojax.model.build import ModelConfig, make_model
from emojax.model.lm.kv_cache import Cache, map_rows
from emojax.model.lm.llama import make_cache
from emojax.sharding import to_host

Array = jax.Array
OnTokens = Callable[[int, list[int]], None]  # (number of the prompt, its token ids so far)
STREAM_INTERVAL = 4  # tokens between two calls of OnTokens
QUESTION_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048)  # padded lengths after a shared prefix


@functools.partial(jax.jit, static_argnames=("config", "sampler", "eos", "slots"))
def _start(
    config: ModelConfig,
    variables: Variables,
    batch: Any,
    keys: Array,
    *,
    sampler: Sampler,
    eos: Ends,
    slots: int,
) -> State:
    logits, cache = prefill(config, variables, batch, slots)
    return initial_state(logits, cache, keys, sampler=sampler, eos=eos)


_initial_state = jax.jit(initial_state, static_argnames=("sampler", "eos"))
_advance = jax.jit(
    advance, static_argnames=("config", "sampler", "eos", "steps"), donate_argnames="state"
)
_score = jax.jit(score_cached_choices, static_argnames="config")


@functools.partial(jax.jit, donate_argnames="state")
def _insert(state: State, new: State, rows: Array) -> State:
    """Writes `new` to `rows` of `state`; entries of `rows` beyond its batch are ignored."""

    def put(axis: int, old: Array, part: Array) -> Array:
        return old.at[(slice(None),) * axis + (rows,)].set(part, mode="drop")

    fields = {n: put(0, getattr(state, n), getattr(new, n)) for n in State._fields if n != "cache"}
    return State(**fields, cache=map_rows(put, state.cache, new.cache))


def next_power_of_two(number: int) -> int:
    """The smallest power of two that is not below `number`."""
    return 1 << max(0, number - 1).bit_length()


def row_keys(seed: int, row_seeds: Sequence[int]) -> Array:
    """One random key per row, from a common seed and the row's own (from its clip, for example)."""
    key = jax.random.key(seed)
    numbers = jnp.asarray(np.array(row_seeds, np.uint32))
    return jax.vmap(lambda n: jax.random.fold_in(key, n))(numbers)


@dataclasses.dataclass(kw_only=True)
class Engine:
    """A model that answers prompts.

    Attributes:
      config: the model's.
      variables: the model's.
      collate: makes batches of static sizes from samples.
      eos: id of the end token, or of several.
      batch_size: prompts that are answered at the same time.
    """

    config: ModelConfig
    variables: Variables
    collate: Collate
    eos: Ends
    batch_size: int = 8

    def generate(
        self,
        samples: Sequence[Sample],
        sampler: Sampler,
        *,
        seeds: Sequence[int] | None = None,
        seed: int = 0,
        on_tokens: OnTokens | None = None,
        progress: Progress = no_progress,
    ) -> list[list[int]]:
        """Answers prompts.

        Args:
          samples: the prompts.
          sampler: how tokens are chosen.
          seeds: per-prompt seeds, combined with `seed`; by default the positions in `samples`.
          seed: common seed of all draws.
          on_tokens: called while a prompt is being answered.
          progress: reports the prompts whose answer has ended.

        Returns:
          The token ids of each answer without the end token, in the order of `samples`.
        """
        row_seeds = list(range(len(samples)) if seeds is None else seeds)
        slots = self.slots(samples, sampler)
        answers: list[list[int]] = [[] for _ in samples]
        prompt_of: list[int | None] = [None] * self.batch_size  # which prompt each row answers
        state: State | None = None
        started = ended = 0
        while True:
            free = prompt_of.count(None)
            if started < len(samples) and free:
                chunk = range(started, min(len(samples), started + free))
                new = self._prefill(
                    [samples[i] for i in chunk],
                    row_keys(seed, self._padded([row_seeds[i] for i in chunk])),
                    sampler=sampler,
                    slots=slots,
                )
                started += len(chunk)
                state, prompt_of = _admit(state, new, prompt_of, chunk)
            assert state is not None
            state = _advance(
                self.config,
                self.variables,
                state,
                jnp.asarray(started < len(samples)),
                sampler=sampler,
                eos=self.eos,
                steps=STREAM_INTERVAL if on_tokens else sampler.max_tokens,
            )
            newly_ended = _collect(state, prompt_of, answers, on_tokens)
            ended += newly_ended
            if newly_ended:
                progress("answer", ended, len(samples))
            if ended == len(samples):
                return answers

    def slots(self, samples: Sequence[Sample], sampler: Sampler) -> int:
        """Tokens that a row of the cache holds: the longest prompt's bucket plus the answer."""
        longest = max(len(s.row.ids) for s in samples)
        return pick_bucket(longest, 0, self.collate.config.buckets)[0] + sampler.max_tokens

    def _padded(self, items: Sequence[Any]) -> list[Any]:
        """Pads `items` to a compiled batch size by repeating the last one."""
        size = min(next_power_of_two(len(items)), max(self.batch_size, len(items)))
        return [*items, *[items[-1]] * (size - len(items))]

    def _prefill(
        self, samples: Sequence[Sample], keys: Array, *, sampler: Sampler, slots: int
    ) -> State:
        batch = to_device(self.collate(self._padded(samples)))
        state: State = _start(
            self.config, self.variables, batch, keys, sampler=sampler, eos=self.eos, slots=slots
        )
        if state.token.shape[0] > len(samples):  # rows that only fill the batch up
            state = state._replace(done=state.done.at[len(samples) :].set(True))
        return state


def _admit(
    state: State | None, new: State, prompt_of: list[int | None], prompts: Sequence[int]
) -> tuple[State, list[int | None]]:
    """Puts prefilled prompts into free rows.

    Args:
      state: of the batch; None before the first prompts.
      new: of the prefilled prompts and of rows that only fill their batch up.
      prompt_of: the prompt that each row of `state` answers.
      prompts: numbers of the prefilled prompts.

    Returns:
      The new state and `prompt_of`.
    """
    size = new.token.shape[0]
    if state is None:
        return new, [*prompts, *[None] * (size - len(prompts))]
    rows = [row for row, prompt in enumerate(prompt_of) if prompt is None][: len(prompts)]
    for row, prompt in zip(rows, prompts, strict=True):
        prompt_of[row] = prompt
    dropped = [len(prompt_of)] * (size - len(prompts))
    return _insert(state, new, jnp.asarray([*rows, *dropped])), prompt_of


def _collect(
    state: State,
    prompt_of: list[int | None],
    answers: list[list[int]],
    on_tokens: OnTokens | None,
) -> int:
    """Copies the tokens so far into `answers` and frees the rows of `prompt_of` that have ended.

    Returns:
      The number of answers that have ended.
    """
    done, length, ids = (to_host(x) for x in (state.done, state.length, state.ids))
    ended = 0
    for row, prompt in enumerate(prompt_of):
        if prompt is None:
            continue
        tokens = ids[row, : length[row]].tolist()
        if on_tokens and len(tokens) > len(answers[prompt]):
            on_tokens(prompt, tokens)
        answers[prompt] = tokens
        if done[row]:
            prompt_of[row] = None
            ended += 1
    return ended


class Session:
    """One clip that is asked several questions; the common prefix, clip included, runs once."""

    def __init__(self, engine: Engine, first: Sample, *, prefix_length: int, free_slots: int):
        """Runs the prefix.

        Args:
          engine: the model.
          first: one of the prompts.
          prefix_length: tokens that all prompts share; all soft tokens must be among them.
          free_slots: tokens per row that questions and answers may have.

        Raises:
          ValueError: the soft tokens are not within the prefix.
        """
        row = first.row
        if any(start + size > prefix_length for start, size in row.soft):
            raise ValueError("the clip is not within the prefix that the prompts share")
        self.engine, self.prefix = engine, row.ids[:prefix_length]
        cut = Row(list(self.prefix), row.soft, prefix_length)
        batch = to_device(engine.collate([dataclasses.replace(first, row=cut)]))
        self.slots = batch["ids"].shape[1] + free_slots
        self.cache = _prefill_prefix(engine.config, engine.variables, batch, self.slots)

    def generate(
        self,
        rows: Sequence[Row],
        sampler: Sampler,
        *,
        seed: int = 0,
        on_tokens: OnTokens | None = None,
    ) -> list[list[int]]:
        """Answers prompts of the clip, all at the same time.

        Args:
          rows: whole prompts, which begin with the prefix.
          sampler: how tokens are chosen.
          seed: of the random draws, with the prompt's position in `rows`.
          on_tokens: called while a prompt is being answered.

        Returns:
          The token ids of each answer without the end token.

        Raises:
          ValueError: a prompt does not begin with the prefix, or is too long.
        """
        e = self.engine
        logits, cache = self._extend(rows, sampler.max_tokens)
        keys = row_keys(seed, range(len(rows)))
        state = _initial_state(logits, cache, keys, sampler=sampler, eos=e.eos)
        answers: list[list[int]] = [[] for _ in rows]
        prompt_of: list[int | None] = list(range(len(rows)))
        ended = 0
        while ended < len(rows):
            state = _advance(
                e.config,
                e.variables,
                state,
                jnp.zeros((), bool),
                sampler=sampler,
                eos=e.eos,
                steps=STREAM_INTERVAL if on_tokens else sampler.max_tokens,
            )
            ended += _collect(state, prompt_of, answers, on_tokens)
        return answers

    def score(self, row: Row, choices: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Log-probability of each answer after one prompt: float32[C]; see `score_choices`."""
        logits, cache = self._extend([row], choices.size)
        e = self.engine
        scores = _score(e.config, e.variables, logits, cache, choices=choices, lengths=lengths)
        host: np.ndarray = to_host(scores)[0]
        return host

    def _extend(self, rows: Sequence[Row], answer_slots: int) -> tuple[Array, Cache]:
        questions = [r.ids[len(self.prefix) :] for r in rows]
        if any(r.ids[: len(self.prefix)] != self.prefix for r in rows) or not all(questions):
            raise ValueError("a prompt does not begin with the shared prefix, or ends with it")
        width = next(size for size in QUESTION_BUCKETS if size >= max(map(len, questions)))
        if len(self.prefix) + width + answer_slots > self.slots:
            raise ValueError(
                f"question and answer need {width + answer_slots} tokens,"
                f" the session has {self.slots - len(self.prefix)} left"
            )
        ids = np.zeros((len(rows), width), np.int32)
        for i, question in enumerate(questions):
            ids[i, : len(question)] = question
        sizes = np.array([len(q) for q in questions], np.int32)
        extended: tuple[Array, Cache] = _extend_prefix(
            self.engine.config, self.engine.variables, self.cache, ids, sizes
        )
        return extended


def shared_prefix(rows: Sequence[Row]) -> int:
    """Length of the rows' longest common prefix, at most the shortest row's length minus one."""
    shortest = min(len(r.ids) for r in rows) - 1
    first = rows[0].ids
    return next((i for i in range(shortest) if any(r.ids[i] != first[i] for r in rows)), shortest)


@functools.partial(jax.jit, static_argnames=("config", "slots"))
def _prefill_prefix(config: ModelConfig, variables: Variables, batch: Any, slots: int) -> Cache:
    model = make_model(config)
    cache = make_cache(config.llama, 1, slots)
    soft = soft_prompt_of(model, variables, batch)
    filled: Cache = model.apply(variables, batch, soft, cache, method="prefill")[1]
    return filled


@functools.partial(jax.jit, static_argnames="config")
def _extend_prefix(
    config: ModelConfig, variables: Variables, cache: Cache, ids: Array, sizes: Array
) -> tuple[Array, Cache]:
    """Runs questions int[n, W] of int[n] `sizes` after a prefix whose cache has one row.

    Returns:
      float32[n, V] logits of the next token, and the cache of n rows.
    """
    n, width = ids.shape
    cache = map_rows(lambda axis, x: jnp.repeat(x, n, axis=axis), cache)
    at = cache.used[:, None] + jnp.arange(width)
    valid = jnp.arange(width) < sizes[:, None]
    logits, after = make_model(config).apply(variables, ids, at, valid, cache, method="extend")
    last = jnp.take_along_axis(logits, (sizes - 1)[:, None, None], axis=1)[:, 0]
    return last, after._replace(used=cache.used + sizes)

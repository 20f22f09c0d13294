"""Many prompts answered with one model: like lengths are prefilled together, and a row that has ended gives its place to the next.

A row's answer depends on its own prompt, seed and nothing else, whatever it shares a batch with. Programs are compiled for few
sizes: the buckets of the rows, batches of powers of two.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.loader.batches import Collate, Sample
from data_pipeline.loader.tokens import Row, pick_bucket
from emojax.infer.device_transfer import to_device
from emojax.infer.sample import (
    Sampler,
    State,
    Variables,
    advance,
    begin,
    choice_scores,
    prefill,
    soft_prompt_of,
)
from emojax.model.build import ModelConfig, make_model
from emojax.model.lm.kv_cache import Cache, map_rows
from emojax.model.lm.llama import make_cache
from emojax.sharding import to_host

Array = jax.Array
OnTokens = Callable[[int, list[int]], None]  # (number of the prompt, its ids so far)
STREAMED = 4  # tokens between two calls of OnTokens
TAILS = (
    16,
    32,
    64,
    128,
    256,
    512,
    1024,
    2048,
)  # sizes that the questions behind a shared prefix are padded to


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 6))
def _start(
    config: ModelConfig,
    variables: Variables,
    batch: Any,
    sampler: Sampler,
    eos: int,
    keys: Array,
    slots: int,
) -> State:
    logits, cache = prefill(config, variables, batch, slots)
    return begin(logits, cache, sampler, eos, keys)


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5), donate_argnums=2)
def _advance(
    config: ModelConfig,
    variables: Variables,
    state: State,
    sampler: Sampler,
    eos: int,
    steps: int,
    refill: Array,
) -> State:
    return advance(config, variables, state, sampler=sampler, eos=eos, steps=steps, refill=refill)


@functools.partial(jax.jit, donate_argnums=0)
def _place(state: State, part: State, places: Array) -> State:
    """Rows of `part` at `places` of `state`; a place beyond its rows is left out."""

    def put(axis: int, old: Array, new: Array) -> Array:
        return old.at[(slice(None),) * axis + (places,)].set(new, mode="drop")

    rows = {n: put(0, getattr(state, n), getattr(part, n)) for n in State._fields if n != "cache"}
    return State(**rows, cache=map_rows(put, state.cache, part.cache))


def power_of_two(number: int) -> int:
    """The smallest one that is not smaller."""
    return 1 << max(0, number - 1).bit_length()


def row_keys(seed: int, names: Sequence[int]) -> Array:
    """A random key for each row, from the seed and the row's own number (of its clip, say)."""
    key = jax.random.key(seed)
    return jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.asarray(np.array(names, np.uint32)))


@dataclasses.dataclass(kw_only=True)
class Engine:
    """A model that writes. rows: prompts that are answered at once. collate: samples -> batch of its static sizes."""

    config: ModelConfig
    variables: Variables
    collate: Collate
    eos: int
    rows: int = 8

    def write(
        self,
        samples: Sequence[Sample],
        sampler: Sampler,
        seeds: Sequence[int] | None = None,
        seed: int = 0,
        on_tokens: OnTokens | None = None,
        tick: Callable[[int], None] | None = None,
    ) -> list[list[int]]:
        """The ids written for each prompt, without the end token, in the order given.

        Args:
          samples: prompts.  seeds: a number a prompt that its draws depend on (its place here by default), with `seed`.
          on_tokens: called while a prompt is being answered.  tick: called with the number of prompts that have ended.
        """
        names = list(range(len(samples)) if seeds is None else seeds)
        room = self.slots(samples, sampler)
        out: list[list[int]] = [[] for _ in samples]
        holds: list[int | None] = []  # which prompt each row answers
        state: State | None = None
        following = 0
        while True:
            free = (
                [r for r, h in enumerate(holds) if h is None]
                if state is not None
                else list(range(self.rows))
            )
            if following < len(samples) and free:
                chunk = list(range(following, min(len(samples), following + len(free))))
                part = self._prefilled(
                    [samples[i] for i in chunk], sampler, [names[i] for i in chunk], seed, room
                )
                following += len(chunk)
                if state is None:
                    state = part
                    holds = [*chunk, *[None] * (part.token.shape[0] - len(chunk))]
                else:
                    places = free[: len(chunk)]
                    for r, i in zip(places, chunk, strict=True):
                        holds[r] = i
                    spare = part.token.shape[0] - len(chunk)
                    state = _place(state, part, jnp.asarray([*places, *[len(holds)] * spare]))
            assert state is not None
            steps = STREAMED if on_tokens else sampler.max_tokens
            state = _advance(
                self.config,
                self.variables,
                state,
                sampler,
                self.eos,
                steps,
                jnp.asarray(following < len(samples)),
            )
            done, made, ids = (to_host(x) for x in (state.done, state.made, state.ids))
            ended = 0
            for r, held in enumerate(holds):
                if held is None:
                    continue
                i = held
                written = ids[r, : made[r]].tolist()
                if on_tokens and len(written) > len(out[i]):
                    on_tokens(i, written)
                out[i] = written
                if done[r]:
                    holds[r] = None
                    ended += 1
            if tick and ended:
                tick(ended)
            if following >= len(samples) and all(h is None for h in holds):
                return out

    def slots(self, samples: Sequence[Sample], sampler: Sampler) -> int:
        """Tokens that a row of the cache holds: the longest prompt's bucket and its answer."""
        longest = max(len(s.row.ids) for s in samples)
        return pick_bucket(longest, 0, self.collate.config.buckets)[0] + sampler.max_tokens

    def _prefilled(
        self,
        samples: Sequence[Sample],
        sampler: Sampler,
        names: Sequence[int],
        seed: int,
        slots: int,
    ) -> State:
        size = min(power_of_two(len(samples)), max(self.rows, len(samples)))
        spare = size - len(samples)
        batch = to_device(self.collate([*samples, *[samples[-1]] * spare]))
        keys = row_keys(seed, [*names, *[names[-1]] * spare])
        state = _start(self.config, self.variables, batch, sampler, self.eos, keys, slots)
        if spare:
            state = state._replace(done=state.done.at[len(samples) :].set(True))
        return state


class Session:
    """One clip that is asked several questions: what all prompts begin with, clip included, is computed once.

    Args of `open`: samples, prompts of the same clip.
    """

    def __init__(self, engine: Engine, first: Sample, shared: int, room: int):
        """shared: tokens of the prefix; it must reach behind the soft prompt. room: tokens for the rest and the answer."""
        row = first.row
        if any(start + size > shared for start, size in row.soft):
            raise ValueError("the clip does not stand in what the prompts share")
        self.engine, self.prefix = engine, row.ids[:shared]
        cut = Row(list(self.prefix), row.soft, shared)
        batch = to_device(engine.collate([dataclasses.replace(first, row=cut)]))
        self.slots = batch["ids"].shape[1] + room
        self.cache = _prefix(engine.config, engine.variables, batch, self.slots)

    def write(
        self,
        rows: Sequence[Row],
        sampler: Sampler,
        seed: int = 0,
        on_tokens: OnTokens | None = None,
    ) -> list[list[int]]:
        """The ids written behind each prompt, all of them at once."""
        e = self.engine
        logits, cache = self._asked(rows, sampler.max_tokens)
        keys = row_keys(seed, range(len(rows)))
        state = _begin(logits, cache, sampler, e.eos, keys)
        out: list[list[int]] = [[] for _ in rows]
        while True:
            steps = STREAMED if on_tokens else sampler.max_tokens
            state = _advance(
                e.config, e.variables, state, sampler, e.eos, steps, jnp.zeros((), bool)
            )
            done, made, ids = (to_host(x) for x in (state.done, state.made, state.ids))
            for i in range(len(rows)):
                written = ids[i, : made[i]].tolist()
                if on_tokens and len(written) > len(out[i]):
                    on_tokens(i, written)
                out[i] = written
            if done.all():
                return out

    def score(self, row: Row, choices: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """float32[C]: log-probability of each answer behind one prompt, as `score_choices`."""
        logits, cache = self._asked([row], choices.size)
        found = _scores(self.engine.config, self.engine.variables, logits, cache, choices, lengths)
        return to_host(found)[0]

    def _asked(self, rows: Sequence[Row], room: int) -> tuple[Array, Cache]:
        tails = [r.ids[len(self.prefix) :] for r in rows]
        if any(r.ids[: len(self.prefix)] != self.prefix for r in rows) or not all(tails):
            raise ValueError("a prompt of another clip, or one that ends with what all share")
        width = next(t for t in TAILS if t >= max(map(len, tails)))
        if len(self.prefix) + width + room > self.slots:
            raise ValueError(
                f"{width + room} tokens of question and answer: the session has room for fewer"
            )
        ids = np.zeros((len(rows), width), np.int32)
        for i, tail in enumerate(tails):
            ids[i, : len(tail)] = tail
        sizes = np.array([len(t) for t in tails], np.int32)
        return _tails(self.engine.config, self.engine.variables, self.cache, ids, sizes)


def shared_prefix(rows: Sequence[Row]) -> int:
    """Tokens that all rows begin with; at least one is left of each."""
    shortest = min(len(r.ids) for r in rows) - 1
    first = rows[0].ids
    return next((i for i in range(shortest) if any(r.ids[i] != first[i] for r in rows)), shortest)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _prefix(config: ModelConfig, variables: Variables, batch: Any, slots: int) -> Cache:
    model = make_model(config)
    cache = make_cache(config.llama, 1, slots)
    soft = soft_prompt_of(model, variables, batch)
    return model.apply(variables, batch, soft, cache, method="prefill")[1]


@functools.partial(jax.jit, static_argnums=0)
def _tails(
    config: ModelConfig, variables: Variables, cache: Cache, ids: Array, sizes: Array
) -> tuple[Array, Cache]:
    """One row of cache for all, questions int[n, W] of `sizes` behind it: (float32[n, V] next-token logits, cache)."""
    n, width = ids.shape
    cache = map_rows(lambda axis, x: jnp.repeat(x, n, axis=axis), cache)
    at = cache.used[:, None] + jnp.arange(width)
    valid = jnp.arange(width) < sizes[:, None]
    logits, after = make_model(config).apply(variables, ids, at, valid, cache, method="extend")
    last = jnp.take_along_axis(logits, (sizes - 1)[:, None, None], axis=1)[:, 0]
    return last, after._replace(used=cache.used + sizes)


_begin = jax.jit(begin, static_argnums=(2, 3))
_scores = jax.jit(choice_scores, static_argnums=0)

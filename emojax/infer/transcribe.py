"""Words of a clip by Whisper's decoder: language, text and times, greedy or by beams.

Rules of timestamps as in openai whisper and transformers' WhisperTimeStampLogitsProcessor.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from data_pipeline.media.transcript import Cue
from emojax.model.lm.kv_cache import Cache, map_rows
from emojax.model.lm.whisper_decoder import Cross, DecoderConfig, WhisperDecoder, empty_cache
from emojax.sharding import to_host
from emojax.weights.whisper_decoder_table import load_decoder

Array = jax.Array
SECONDS_A_STEP = 0.02  # between two timestamp tokens
_NO = -1e30


@dataclasses.dataclass(frozen=True)
class Rules:
    """Special tokens, as generation_config.json tells them.

    Attributes:
      start, end, transcribe, no_timestamps: ids of these tokens.  first_time: id of <|0.00|>; all behind it are times.
      languages: (code, id).
      never: ids that are never written.  never_first: nor as the first.
      latest_start: the first time is at most so many steps.
    """

    start: int
    end: int
    transcribe: int
    no_timestamps: int
    first_time: int
    languages: tuple[tuple[str, int], ...]
    never: tuple[int, ...] = ()
    never_first: tuple[int, ...] = ()
    latest_start: int = 50


class _State(NamedTuple):
    step: Array
    ids: Array  # int[R, max_tokens]
    score: Array  # float[R], sum of log-probabilities
    done: Array  # bool[R]
    logits: Array  # float[R, V], of the next token
    cache: Cache


def allowed(logits: Array, ids: Array, step: Array, rules: Rules, times: bool) -> Array:
    """float[R, V] logits of token number `step` behind ids int[R, max_tokens], with what may not come set far down."""
    vocab = jnp.arange(logits.shape[-1])
    banned = np.zeros(logits.shape[-1], bool)
    banned[[i for i in (*rules.never, rules.no_timestamps) if i < len(banned)]] = True
    first = np.zeros(logits.shape[-1], bool)
    first[[i for i in rules.never_first if i < len(first)]] = True
    logits = jnp.where(banned | (first & (step == 0)), _NO, logits)
    time = vocab >= rules.first_time
    if not times:
        return jnp.where(time, _NO, logits)

    def at(number: Array) -> Array:
        return jnp.take_along_axis(
            ids, jnp.broadcast_to(jnp.maximum(number, 0), (len(ids),))[:, None], axis=1
        )[:, 0]

    last = (step >= 1) & (at(step - 1) >= rules.first_time)
    before = (step < 2) | (at(step - 2) >= rules.first_time)
    logits = jnp.where((last & before)[:, None] & time, _NO, logits)
    logits = jnp.where((last & ~before)[:, None] & (vocab < rules.end), _NO, logits)
    written = jnp.where((jnp.arange(ids.shape[1]) < step) & (ids >= rules.first_time), ids, -1)
    latest = written.max(axis=1)  # times only grow, so the greatest is the last
    least = jnp.where(last & ~before, latest, latest + 1)
    early = time & (vocab < least[:, None]) & (latest >= 0)[:, None]
    logits = jnp.where(early, _NO, logits)
    opening = (vocab < rules.first_time) | (vocab > rules.first_time + rules.latest_start)
    logits = jnp.where((step == 0) & opening, _NO, logits)
    chances = jax.nn.log_softmax(logits, axis=-1)
    any_time = jax.nn.logsumexp(jnp.where(time, chances, -jnp.inf), axis=-1)
    best_word = jnp.where(time, -jnp.inf, chances).max(axis=-1)
    return jnp.where((any_time > best_word)[:, None] & ~time, _NO, logits)


def search(
    config: DecoderConfig,
    variables: Any,
    cross: Cross,
    prompt: Array,
    rules: Rules,
    tokens: int,
    beams: int,
    times: bool,
) -> tuple[Array, Array]:
    """(int[B, tokens] ids, end tokens behind the text, float[B] mean log-probability of a token). Jit with all but cross and prompt static.

    Args:
      prompt: int[B, P], special tokens first.  beams: 1 is greedy; else the best of so many by mean log-probability.
    """
    model: Any = WhisperDecoder(config)
    rows = prompt.shape[0]
    cache = empty_cache(config, rows, prompt.shape[1] + tokens)
    logits, cache = model.apply(variables, prompt, cross, cache)
    wide: Cross = jax.tree.map(lambda x: jnp.repeat(x, beams, axis=0), cross)
    cache = map_rows(lambda axis, x: jnp.repeat(x, beams, axis=axis), cache)
    score = jnp.tile(
        jnp.where(jnp.arange(beams) == 0, 0.0, _NO), rows
    )  # all beams begin alike: one of them counts
    start = _State(
        jnp.int32(0),
        jnp.full((rows * beams, tokens), rules.end, jnp.int32),
        score,
        jnp.zeros((rows * beams,), bool),
        jnp.repeat(logits[:, -1], beams, axis=0),
        cache,
    )

    def going(s: _State) -> Array:
        return (s.step < tokens) & ~jnp.all(s.done)

    def one(s: _State) -> _State:
        chances = jax.nn.log_softmax(allowed(s.logits, s.ids, s.step, rules, times), axis=-1)
        vocab = chances.shape[-1]
        closed = jnp.where(
            jnp.arange(vocab) == rules.end, 0.0, _NO
        )  # what has ended stays as it is
        chances = jnp.where(s.done[:, None], closed, chances)
        total = (s.score[:, None] + chances).reshape(rows, beams * vocab)
        best, place = jax.lax.top_k(total, beams)
        origin = (jnp.arange(rows)[:, None] * beams + place // vocab).reshape(-1)
        token = (place % vocab).reshape(-1)
        column = jnp.arange(tokens) == s.step
        ids = jnp.where(column & ~s.done[origin][:, None], token[:, None], s.ids[origin])
        done = s.done[origin] | (token == rules.end)
        cache = s.cache
        if beams > 1:
            cache = map_rows(lambda axis, x: jnp.take(x, origin, axis=axis), cache)
        logits, cache = model.apply(variables, token[:, None], wide, cache)
        return _State(s.step + 1, ids, best.reshape(-1), done, logits[:, 0], cache)

    end = jax.lax.while_loop(going, one, start)
    length = (end.ids != rules.end).sum(
        axis=1
    ) + end.done  # the end token counts, where it was written
    mean = (end.score / jnp.maximum(length, 1)).reshape(rows, beams)
    chosen = mean.argmax(axis=1)
    return end.ids.reshape(rows, beams, tokens)[jnp.arange(rows), chosen], mean.max(axis=1)


_search = jax.jit(search, static_argnums=(0, 4, 5, 6, 7))


@jax.jit(static_argnums=0)
def _hear(config: DecoderConfig, variables: Any, states: Array) -> Cross:
    model: Any = WhisperDecoder(config)
    return model.apply(variables, states, method="encode_cross")


@functools.partial(jax.jit, static_argnums=(0, 3))
def _languages(config: DecoderConfig, variables: Any, cross: Cross, rules: Rules) -> Array:
    rows = cross[0][0].shape[0]
    ids = jnp.full((rows, 1), rules.start, jnp.int32)
    logits, _ = WhisperDecoder(config).apply(variables, ids, cross, empty_cache(config, rows, 1))
    return jax.nn.softmax(logits[:, 0, jnp.array([i for _, i in rules.languages])], axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
    """Words of one clip. cues: with times in s of the clip. certainty: mean log-probability of a token."""

    language: str
    text: str
    cues: tuple[Cue, ...]
    certainty: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcriber:
    """A loaded decoder (weights/decoder.py:load_decoder)."""

    config: DecoderConfig
    variables: Any
    rules: Rules
    tokenizer: Tokenizer
    name: str = ""

    def __call__(
        self,
        states: Array | np.ndarray,
        language: str | None = None,
        beams: int = 1,
        times: bool = True,
        tokens: int = 224,
    ) -> list[Heard]:
        """What is said in clips.

        Args:
          states: float[B, S, D], Whisper's encoder after its final norm, of 30 s windows.
          language: code such as `en`; None: each clip's likeliest.

        Raises:
          ValueError: states of another width; a language that it does not know.
        """
        if states.shape[-1] != self.config.width:
            raise ValueError(
                f"the audio tower gives {states.shape[-1]} numbers a step, {self.name or 'the decoder'} reads {self.config.width}: "
                "it is not of the same Whisper"
            )
        known = dict(self.rules.languages)
        if language is not None and language not in known:
            raise ValueError(f"language '{language}' is not one of {', '.join(sorted(known))}")
        cross = _hear(self.config, self.variables, jnp.asarray(states))
        rows = states.shape[0]
        if language is None:
            chances = to_host(_languages(self.config, self.variables, cross, self.rules))
            spoken = [self.rules.languages[i][0] for i in chances.argmax(axis=1)]
        else:
            spoken = [language] * rows
        tail = [self.rules.transcribe] + ([] if times else [self.rules.no_timestamps])
        prompt = np.array([[self.rules.start, known[code], *tail] for code in spoken], np.int32)
        tokens = min(tokens, self.config.positions - prompt.shape[1])
        ids, mean = (
            to_host(x)
            for x in _search(
                self.config, self.variables, cross, prompt, self.rules, tokens, beams, times
            )
        )
        return [self._heard(ids[i].tolist(), spoken[i], float(mean[i])) for i in range(rows)]

    def _heard(self, ids: list[int], language: str, mean: float) -> Heard:
        ids = ids[: ids.index(self.rules.end)] if self.rules.end in ids else ids
        cues, start, words = [], 0.0, list[int]()
        for token in ids:
            if token < self.rules.first_time:
                words.append(token)
                continue
            time = (token - self.rules.first_time) * SECONDS_A_STEP
            if words:
                cues.append((start, time, self._text(words)))
            start, words = time, []
        if words:
            cues.append((start, max(start, 30.0), self._text(words)))
        found = tuple(
            Cue(start=round(a, 2), end=round(b, 2), text=t) for a, b, t in cues if t and b > a
        )
        text = self._text([i for i in ids if i < self.rules.first_time])
        return Heard(language=language, text=text, cues=found, certainty=round(mean, 4))

    def _text(self, ids: list[int]) -> str:
        return " ".join(self.tokenizer.decode(ids, skip_special_tokens=True).split())


def open_transcriber(folder: Path) -> Transcriber:
    """Whisper's decoder from a folder of its released files.

    Raises:
      ValueError, FileNotFoundError: what is missing or does not fit.
    """
    config, variables, facts, tokenizer = load_decoder(folder)
    codes = {k.strip("<|>"): v for k, v in facts.get("lang_to_id", {}).items()}
    tasks = facts.get("task_to_id", {})
    if not codes or "transcribe" not in tasks:
        raise ValueError(
            f"{folder}/generation_config.json knows no languages: Whisper for English alone is not read"
        )
    rules = Rules(
        facts["decoder_start_token_id"],
        facts["eos_token_id"],
        tasks["transcribe"],
        facts["no_timestamps_token_id"],
        facts["no_timestamps_token_id"] + 1,
        tuple(sorted(codes.items())),
        tuple(facts.get("suppress_tokens") or ()),
        tuple(facts.get("begin_suppress_tokens") or ()),
        facts.get("max_initial_timestamp_index") or 50,
    )
    return Transcriber(
        config=config,
        variables=jax.tree.map(jnp.asarray, variables),
        rules=rules,
        tokenizer=tokenizer,
        name=folder.name,
    )

"""Transcription by Whisper's decoder: language, text and times, greedily or by beam search.

The rules for timestamps are those of openai/whisper and of transformers'
WhisperTimeStampLogitsProcessor.
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
from data_pipeline.suggestions import not_one_of
from emojax.model.lm.kv_cache import Cache, map_rows
from emojax.model.lm.whisper_decoder import Cross, DecoderConfig, WhisperDecoder, make_cache
from emojax.sharding import to_host
from emojax.weights.whisper_decoder_table import load_decoder

Array = jax.Array
TIMESTAMP_STEP = 0.02  # s between two timestamp tokens
WINDOW = 30.0  # s, length of the encoder's input
_NO = -1e30


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingRules:
    """Special tokens of a Whisper release, from its generation_config.json.

    Attributes:
      start: id of the start token.
      end: id of the end token.
      transcribe: id of the token of the task.
      no_timestamps: id of the token that turns timestamps off.
      first_time: id of <|0.00|>; all ids after it are timestamps.
      languages: (code, id).
      never: ids that are never written.
      never_first: ids that are not written as the first token.
      latest_start: largest first timestamp, in steps.
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


def mask_logits(
    logits: Array, ids: Array, step: Array, rules: DecodingRules, *, timestamps: bool
) -> Array:
    """Lowers the logits of tokens that the rules do not allow at this step.

    Args:
      logits: float[R, V], of token number `step`.
      ids: int[R, max_tokens], the tokens before it.
      step: int[], number of tokens before it.
      rules: special tokens.
      timestamps: whether timestamps are written.

    Returns:
      float[R, V].
    """
    vocab = jnp.arange(logits.shape[-1])
    banned = np.zeros(logits.shape[-1], bool)
    banned[[i for i in (*rules.never, rules.no_timestamps) if i < len(banned)]] = True
    first = np.zeros(logits.shape[-1], bool)
    first[[i for i in rules.never_first if i < len(first)]] = True
    logits = jnp.where(banned | (first & (step == 0)), _NO, logits)
    time = vocab >= rules.first_time
    if not timestamps:
        return jnp.where(time, _NO, logits)

    def at(number: Array) -> Array:
        column = jnp.broadcast_to(jnp.maximum(number, 0), (len(ids),))[:, None]
        return jnp.take_along_axis(ids, column, axis=1)[:, 0]

    last = (step >= 1) & (at(step - 1) >= rules.first_time)
    before = (step < 2) | (at(step - 2) >= rules.first_time)
    logits = jnp.where((last & before)[:, None] & time, _NO, logits)
    logits = jnp.where((last & ~before)[:, None] & (vocab < rules.end), _NO, logits)
    written = jnp.where((jnp.arange(ids.shape[1]) < step) & (ids >= rules.first_time), ids, -1)
    latest = written.max(axis=1)  # timestamps never decrease, so the largest is the last
    least = jnp.where(last & ~before, latest, latest + 1)
    early = time & (vocab < least[:, None]) & (latest >= 0)[:, None]
    logits = jnp.where(early, _NO, logits)
    opening = (vocab < rules.first_time) | (vocab > rules.first_time + rules.latest_start)
    logits = jnp.where((step == 0) & opening, _NO, logits)
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    any_time = jax.nn.logsumexp(jnp.where(time, log_probs, -jnp.inf), axis=-1)
    best_word = jnp.where(time, -jnp.inf, log_probs).max(axis=-1)
    return jnp.where((any_time > best_word)[:, None] & ~time, _NO, logits)


def _start_beams(logits: Array, cache: Cache, ids: Array, beams: int) -> _State:
    """The state after the prompts: float[B, V] logits and their cache, repeated for the beams."""
    rows = logits.shape[0]
    return _State(
        step=jnp.int32(0),
        ids=ids,
        # All beams begin alike, so at first only one of them counts.
        score=jnp.tile(jnp.where(jnp.arange(beams) == 0, 0.0, _NO), rows),
        done=jnp.zeros((rows * beams,), bool),
        logits=jnp.repeat(logits, beams, axis=0),
        cache=map_rows(lambda axis, x: jnp.repeat(x, beams, axis=axis), cache),
    )


def _next_log_probs(s: _State, rules: DecodingRules, *, timestamps: bool) -> Array:
    """float[R, V]; a text that has ended stays as it is."""
    logits = mask_logits(s.logits, s.ids, s.step, rules, timestamps=timestamps)
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    closed = jnp.where(jnp.arange(log_probs.shape[-1]) == rules.end, 0.0, _NO)
    return jnp.where(s.done[:, None], closed, log_probs)


def _best_texts(end: _State, rules: DecodingRules, beams: int) -> tuple[Array, Array]:
    """The beam with the best mean log-probability of each clip, and this mean."""
    width = end.ids.shape[1]
    length = (end.ids != rules.end).sum(axis=1) + end.done  # counts the end token, if written
    mean = (end.score / jnp.maximum(length, 1)).reshape(-1, beams)
    rows = jnp.arange(mean.shape[0])
    return end.ids.reshape(-1, beams, width)[rows, mean.argmax(axis=1)], mean.max(axis=1)


def beam_search(
    config: DecoderConfig,
    variables: Any,
    cross: Cross,
    prompt: Array,
    rules: DecodingRules,
    *,
    max_tokens: int,
    beams: int,
    timestamps: bool,
) -> tuple[Array, Array]:
    """Decodes greedily or by beam search. Jit with all arguments but the arrays static.

    Args:
      config: the decoder's.
      variables: the decoder's.
      cross: keys and values of the encoder's states, B clips.
      prompt: int[B, P], special tokens that the text follows.
      rules: special tokens.
      max_tokens: most tokens of a text.
      beams: 1 decodes greedily; otherwise the text with the best mean log-probability is returned.
      timestamps: whether timestamps are written.

    Returns:
      int[B, max_tokens] ids, filled up with end tokens, and float[B] mean log-probability per
      token.
    """
    model: Any = WhisperDecoder(config)
    rows = prompt.shape[0]
    cache = make_cache(config, rows, prompt.shape[1] + max_tokens)
    logits, cache = model.apply(variables, prompt, cross, cache)
    wide: Cross = jax.tree.map(lambda x: jnp.repeat(x, beams, axis=0), cross)
    ids = jnp.full((rows * beams, max_tokens), rules.end, jnp.int32)
    start = _start_beams(logits[:, -1], cache, ids, beams)

    def going(s: _State) -> Array:
        return (s.step < max_tokens) & ~jnp.all(s.done)

    def one(s: _State) -> _State:
        log_probs = _next_log_probs(s, rules, timestamps=timestamps)
        vocab = log_probs.shape[-1]
        total = (s.score[:, None] + log_probs).reshape(rows, beams * vocab)
        best, place = jax.lax.top_k(total, beams)
        origin = (jnp.arange(rows)[:, None] * beams + place // vocab).reshape(-1)
        token = (place % vocab).reshape(-1)
        column = jnp.arange(max_tokens) == s.step
        ids = jnp.where(column & ~s.done[origin][:, None], token[:, None], s.ids[origin])
        done = s.done[origin] | (token == rules.end)
        cache = s.cache
        if beams > 1:
            cache = map_rows(lambda axis, x: jnp.take(x, origin, axis=axis), cache)
        logits, cache = model.apply(variables, token[:, None], wide, cache)
        return _State(s.step + 1, ids, best.reshape(-1), done, logits=logits[:, 0], cache=cache)

    return _best_texts(jax.lax.while_loop(going, one, start), rules, beams)


_beam_search = jax.jit(
    beam_search, static_argnames=("config", "rules", "max_tokens", "beams", "timestamps")
)


@jax.jit(static_argnames="config")
def _cross_attention(config: DecoderConfig, variables: Any, states: Array) -> Cross:
    model: Any = WhisperDecoder(config)
    cross: Cross = model.apply(variables, states, method="encode_cross")
    return cross


@functools.partial(jax.jit, static_argnames=("config", "rules"))
def _language_probs(
    config: DecoderConfig, variables: Any, cross: Cross, rules: DecodingRules
) -> Array:
    """float[B, languages], in the order of `rules.languages`."""
    rows = cross[0][0].shape[0]
    ids = jnp.full((rows, 1), rules.start, jnp.int32)
    logits, _ = WhisperDecoder(config).apply(variables, ids, cross, make_cache(config, rows, 1))
    return jax.nn.softmax(logits[:, 0, jnp.array([i for _, i in rules.languages])], axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcription:
    """The words of one clip.

    Attributes:
      language: code, such as `en`.
      text: all words.
      cues: the words with times, in s of the clip.
      certainty: mean log-probability per token.
    """

    language: str
    text: str
    cues: tuple[Cue, ...]
    certainty: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcriber:
    """Whisper's decoder with its weights and tokenizer; see `open_transcriber`.

    Attributes:
      config: the decoder's.
      variables: the decoder's.
      rules: special tokens.
      tokenizer: of the release.
      name: of the release, for messages.
    """

    config: DecoderConfig
    variables: Any
    rules: DecodingRules
    tokenizer: Tokenizer
    name: str = ""

    def __call__(
        self,
        states: Array | np.ndarray,
        *,
        language: str | None = None,
        beams: int = 1,
        timestamps: bool = True,
        max_tokens: int = 224,
    ) -> list[Transcription]:
        """Transcribes clips.

        Args:
          states: float[B, S, D], output of Whisper's encoder with its final norm, of 30 s windows.
          language: code such as `en`; None: the most probable one of each clip.
          beams: 1 decodes greedily.
          timestamps: whether cues have times.
          max_tokens: most tokens per clip.

        Raises:
          ValueError: the states have another width than the decoder's, or the language is unknown.
        """
        if states.shape[-1] != self.config.width:
            raise ValueError(
                f"the audio encoder's states have width {states.shape[-1]}, but"
                f" {self.name or 'the decoder'} needs {self.config.width}:"
                " they are not of the same Whisper model"
            )
        known = dict(self.rules.languages)
        if language is not None and language not in known:
            raise ValueError(f"language {not_one_of(language, sorted(known))}")
        cross = _cross_attention(self.config, self.variables, jnp.asarray(states))
        rows = states.shape[0]
        if language is None:
            probs = to_host(_language_probs(self.config, self.variables, cross, self.rules))
            languages = [self.rules.languages[i][0] for i in probs.argmax(axis=1)]
        else:
            languages = [language] * rows
        tail = [self.rules.transcribe] + ([] if timestamps else [self.rules.no_timestamps])
        prompt = np.array([[self.rules.start, known[code], *tail] for code in languages], np.int32)
        ids, mean = _beam_search(
            self.config,
            self.variables,
            cross,
            prompt,
            self.rules,
            max_tokens=min(max_tokens, self.config.positions - prompt.shape[1]),
            beams=beams,
            timestamps=timestamps,
        )
        texts, means = to_host(ids), to_host(mean)
        return [
            self._transcription(texts[i].tolist(), languages[i], float(means[i]))
            for i in range(rows)
        ]

    def _transcription(self, ids: list[int], language: str, mean: float) -> Transcription:
        ids = ids[: ids.index(self.rules.end)] if self.rules.end in ids else ids
        spans, start, words = [], 0.0, list[int]()
        for token in ids:
            if token < self.rules.first_time:
                words.append(token)
                continue
            time = (token - self.rules.first_time) * TIMESTAMP_STEP
            if words:
                spans.append((start, time, self._text(words)))
            start, words = time, []
        if words:
            spans.append((start, max(start, WINDOW), self._text(words)))
        cues = tuple(
            Cue(start=round(a, 2), end=round(b, 2), text=t) for a, b, t in spans if t and b > a
        )
        text = self._text([i for i in ids if i < self.rules.first_time])
        return Transcription(language=language, text=text, cues=cues, certainty=round(mean, 4))

    def _text(self, ids: list[int]) -> str:
        return " ".join(self.tokenizer.decode(ids, skip_special_tokens=True).split())


def open_transcriber(folder: Path) -> Transcriber:
    """Loads Whisper's decoder from a folder with its released files.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged, or the release is for English only.
    """
    config, variables, facts, tokenizer = load_decoder(folder)
    codes = {k.strip("<|>"): v for k, v in facts.get("lang_to_id", {}).items()}
    tasks = facts.get("task_to_id", {})
    if not codes or "transcribe" not in tasks:
        raise ValueError(
            f"{folder}/generation_config.json lists no languages:"
            " English-only releases of Whisper are not supported"
        )
    try:
        rules = DecodingRules(
            start=facts["decoder_start_token_id"],
            end=facts["eos_token_id"],
            transcribe=tasks["transcribe"],
            no_timestamps=facts["no_timestamps_token_id"],
            first_time=facts["no_timestamps_token_id"] + 1,
            languages=tuple(sorted(codes.items())),
            never=tuple(facts.get("suppress_tokens") or ()),
            never_first=tuple(facts.get("begin_suppress_tokens") or ()),
            latest_start=facts.get("max_initial_timestamp_index") or 50,
        )
    except KeyError as error:
        raise ValueError(f"{folder}/generation_config.json has no field {error}") from error
    return Transcriber(
        config=config,
        variables=jax.tree.map(jnp.asarray, variables),
        rules=rules,
        tokenizer=tokenizer,
        name=folder.name,
    )

"""Whisper's decoder: loading, rules by hand, beams against all texts, times of cues.

tests/parity compares it with transformers.
"""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import whisper_release as release
from safetensors.numpy import save_file

from emojax.infer.transcribe import (
    DecodingRules,
    Transcriber,
    _beam_search,
    mask_logits,
    open_transcriber,
)
from emojax.model.lm.whisper_decoder import WhisperDecoder, make_cache


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory) -> Transcriber:
    return open_transcriber(release.write_release(tmp_path_factory.mktemp("whisper")))


def states(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 20, release.WIDTH)).astype(np.float32)


def test_times_are_in_order_and_suppressed_words_are_not_written(transcriber):
    found = transcriber(states(3), max_tokens=30)
    assert len({h.text for h in found}) > 1, "clips must have different transcriptions"
    for result in found:
        assert result.language in ("en", "de")
        assert set(result.text.split()) <= set(release.WORDS) - {"no"}, (
            "a suppressed word is never written"
        )
        times = [t for cue in result.cues for t in (cue.start, cue.end)]
        assert times == sorted(times)
        assert all(t < 30.01 for t in times) and result.certainty < 0
        assert not result.text.startswith("glad"), "nor may this one be first"
    alone = [transcriber(states(3)[i : i + 1], max_tokens=30)[0] for i in range(3)]
    assert [h.text for h in alone] == [h.text for h in found]


def test_the_given_language_is_used(transcriber):
    german, english = (
        transcriber(states(3), language=code, max_tokens=30) for code in ("de", "en")
    )
    assert [h.language for h in german] == ["de"] * 3 and [h.text for h in german] != [
        h.text for h in english
    ]
    with pytest.raises(ValueError, match="'xx' is not one of de, en"):
        transcriber(states(1), language="xx")
    with pytest.raises(ValueError, match="not of the same Whisper"):
        transcriber(np.zeros((1, 20, 8), np.float32))


def test_without_times(transcriber):
    (result,) = transcriber(states(1), timestamps=False, max_tokens=10)
    assert len(result.cues) <= 1 and result.text


def test_enough_beams_find_the_best_of_all_texts(transcriber):
    """Every text of up to three tokens is scored by itself; the best mean must be found."""
    config, variables = transcriber.config, transcriber.variables
    allowed = (0, 1, 2, 4, release.END)
    rules = DecodingRules(
        start=release.START,
        end=release.END,
        transcribe=release.TRANSCRIBE,
        no_timestamps=release.NO_TIMES,
        first_time=release.FIRST_TIME,
        languages=(("en", release.EN),),
        never=tuple(i for i in range(release.VOCAB) if i not in allowed),
    )
    sound = states(1, seed=3)
    model = WhisperDecoder(config)
    cross = jax.jit(functools.partial(model.apply, method="encode_cross"))(variables, sound)
    prompt = np.array([[release.START, release.EN, release.TRANSCRIBE, release.NO_TIMES]], np.int32)
    forward = jax.jit(lambda ids: model.apply(variables, ids, cross, make_cache(config, 1, 7))[0])
    step = lambda ids: np.asarray(
        forward(jnp.asarray([[*prompt[0], *ids, *[0] * (3 - len(ids))]]))
    )[0, 3 + len(ids)]
    keep = np.array(allowed)

    def mean(text):
        total, count = 0.0, 0
        for i, token in enumerate(text):
            logits = step(list(text[:i]))[keep]
            total += float(
                logits[list(keep).index(token)]
                - np.log(np.exp(logits - logits.max()).sum())
                - logits.max()
            )
            count += 1
        return total / count

    texts = []
    for size in range(4):
        for words in itertools.product((0, 1, 2, 4), repeat=size):
            texts.append(words if size == 3 else (*words, release.END))
    best = max(texts, key=mean)
    search = lambda beams: _beam_search(
        config, variables, cross, prompt, rules, max_tokens=3, beams=beams, timestamps=False
    )
    ids, found = search(100)
    text = [i for i in np.asarray(ids)[0].tolist() if i != release.END]
    assert text == [i for i in best if i != release.END]
    assert float(found[0]) == pytest.approx(mean(best), abs=1e-4)
    greedy, own = search(1)
    assert float(own[0]) <= float(found[0]) + 1e-6
    first = step([])
    assert np.asarray(greedy)[0, 0] == keep[first[keep].argmax()]


def test_rules_of_times_by_hand():
    rules = DecodingRules(
        start=100,
        end=4,
        transcribe=101,
        no_timestamps=5,
        first_time=6,
        languages=(("en", 102),),
        never=(3,),
        never_first=(0,),
        latest_start=2,
    )
    # A word and the end are more probable than all times together.
    logits = jnp.zeros((1, 12)).at[0, jnp.array([1, 4])].set(8.0)

    mask = jax.jit(functools.partial(mask_logits, rules=rules, timestamps=True))

    def masked(logits, ids, step):
        padded = jnp.asarray([ids + [4] * (6 - len(ids))])
        return np.asarray(mask(logits, padded, jnp.int32(step)))[0]

    free = lambda ids, step: np.flatnonzero(masked(logits, ids, step) > -1e20).tolist()
    assert free([], 0) == [6, 7, 8], "a text starts with an early time"
    assert free([7], 1) == [0, 1, 2, 4], "a word or the end follows the opening time"
    assert free([7, 1], 2) == [0, 1, 2, 4, 8, 9, 10, 11], "a closing time is after the opening one"
    assert free([7, 1, 9], 3) == [4, 9, 10, 11], (
        "after a closing time: an opening one that is not earlier, or the end"
    )
    assert free([7, 1, 9, 9], 4) == [0, 1, 2, 4]
    even = jnp.zeros((1, 12))
    got = masked(even, [7, 1], 2)
    assert (got[:6] < -1e20).all(), "all times together are more probable than the best word"


def test_damaged_releases(tmp_path):
    folder = release.write_release(tmp_path / "w")
    tensors = release.random_tensors()
    lost = dict(tensors)
    del lost["model.decoder.layers.1.fc1.weight"]
    save_file(lost, folder / "model.safetensors")
    with pytest.raises(ValueError, match="layers.1.fc1.weight"):
        open_transcriber(folder)
    save_file(
        {
            **tensors,
            "model.decoder.layers.9.fc1.weight": tensors["model.decoder.layers.1.fc1.weight"],
        },
        folder / "model.safetensors",
    )
    with pytest.raises(ValueError, match="1 unexpected: layers.9.fc1.weight"):
        open_transcriber(folder)
    wide = {**tensors, "model.decoder.layers.1.fc1.weight": np.zeros((8, 16), np.float32)}
    save_file(wide, folder / "model.safetensors")
    with pytest.raises(ValueError, match="wrong shape: layers.1.fc1.weight"):
        open_transcriber(folder)
    (folder / "model.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(ValueError, match="not a safetensors file, or is truncated"):
        open_transcriber(folder)
    config = release.config()
    (folder / "config.json").write_text(
        json.dumps({k: config[k] for k in config if k != "d_model"})
    )
    with pytest.raises(ValueError, match="config.json has no field 'd_model'"):
        open_transcriber(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(
        json.dumps({k: v for k, v in release.generation().items() if k != "lang_to_id"})
    )
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match="no languages"):
        open_transcriber(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="tokenizer.json"):
        open_transcriber(folder)

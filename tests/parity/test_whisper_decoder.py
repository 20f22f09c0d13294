"""Whisper's decoder against transformers': logits, timestamp rules, greedy text; tiny, random."""

import jax.numpy as jnp
import numpy as np
import pytest
import whisper_release as release

from emojax.infer.transcribe import mask_logits, open_transcriber
from emojax.model.lm.whisper_decoder import WhisperDecoder, make_cache

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperDecoder as Theirs

    folder = release.write_release(tmp_path_factory.mktemp("whisper"))
    ours = open_transcriber(folder)
    config = WhisperConfig(
        vocab_size=release.VOCAB,
        d_model=release.WIDTH,
        decoder_layers=release.DEPTH,
        decoder_attention_heads=release.HEADS,
        decoder_ffn_dim=release.MLP,
        max_target_positions=release.POSITIONS,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=release.END,
        decoder_start_token_id=release.START,
    )
    theirs = Theirs(config).eval()
    tensors = {
        k.removeprefix("model.decoder."): torch.from_numpy(v)
        for k, v in release.random_tensors().items()
    }
    theirs.load_state_dict(tensors)
    return ours, theirs


def torch_logits(theirs, ids, states):
    with torch.no_grad():
        hidden = theirs(
            input_ids=torch.tensor(ids),
            encoder_hidden_states=torch.from_numpy(states),
            use_cache=False,
        )
        return (hidden.last_hidden_state @ theirs.embed_tokens.weight.T).numpy()


def encoder_states(rows: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, 20, release.WIDTH)).astype(np.float32)


def test_logits_whole_and_step_by_step(pair):
    ours, theirs = pair
    ids = np.random.default_rng(0).integers(0, release.VOCAB, (2, 9))
    expected = torch_logits(theirs, ids, encoder_states(2))
    model = WhisperDecoder(ours.config)
    cross = model.apply(ours.variables, encoder_states(2), method="encode_cross")
    whole, _ = model.apply(ours.variables, ids, cross, make_cache(ours.config, 2, 12))
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-4)
    first, cache = model.apply(ours.variables, ids[:, :4], cross, make_cache(ours.config, 2, 12))
    parts = [first]
    for t in range(4, 9):
        step, cache = model.apply(ours.variables, ids[:, t : t + 1], cross, cache)
        parts.append(step)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, rtol=1e-4, atol=1e-4)


def processors():
    from transformers import GenerationConfig
    from transformers.generation.logits_process import (
        SuppressTokensAtBeginLogitsProcessor,
        SuppressTokensLogitsProcessor,
        WhisperTimeStampLogitsProcessor,
    )

    facts = release.generation()
    config = GenerationConfig(
        eos_token_id=release.END,
        bos_token_id=0,
        no_timestamps_token_id=release.NO_TIMES,
        max_initial_timestamp_index=50,
    )
    begin = 3
    return [
        SuppressTokensLogitsProcessor(facts["suppress_tokens"], device="cpu"),
        SuppressTokensAtBeginLogitsProcessor(facts["begin_suppress_tokens"], begin, device="cpu"),
        WhisperTimeStampLogitsProcessor(config, begin_index=begin),
    ]


PROMPT = [release.START, release.EN, release.TRANSCRIBE]


def their_rules(ids, logits):
    scores = torch.tensor(logits)
    whole = torch.tensor([[*PROMPT, *row] for row in ids])
    for processor in processors():
        scores = processor(whole, scores)
    return scores.numpy()


def test_rules_of_times_at_random_texts(pair):
    """Random texts that the rules allow: at each token both allow the same next tokens."""
    ours, _ = pair
    rng = np.random.default_rng(5)
    seen_times = 0
    for _ in range(40):
        ids: list[int] = []
        for step in range(10):
            logits = rng.normal(0, 3, (1, release.VOCAB)).astype(np.float32)
            logits[0, : release.FIRST_TIME] += rng.choice([0.0, 14.0])
            padded = np.array([ids + [release.END] * (10 - len(ids))])
            actual = np.asarray(
                mask_logits(
                    jnp.asarray(logits),
                    jnp.asarray(padded),
                    jnp.int32(step),
                    ours.rules,
                    timestamps=True,
                )
            )[0]
            expected = their_rules([ids], logits)[0]
            free = np.isfinite(expected)
            assert (free == (actual > -1e20)).all(), (
                ids,
                np.flatnonzero(free != (actual > -1e20))[:8],
            )
            np.testing.assert_array_equal(actual[free], expected[free])
            token = int(rng.choice(np.flatnonzero(free)))
            seen_times += token >= release.FIRST_TIME
            if token == release.END:
                break
            ids.append(token)
    assert seen_times > 50


def test_greedy_text_is_that_of_a_plain_loop_in_torch(pair):
    ours, theirs = pair
    sound = encoder_states(3)
    texts = ours(sound, language="en", max_tokens=24)
    for row in range(3):
        ids: list[int] = []
        for _ in range(24):
            logits = torch_logits(theirs, [[*PROMPT, *ids]], sound[row : row + 1])[:, -1]
            token = int(their_rules([ids], logits)[0].argmax())
            if token == release.END:
                break
            ids.append(token)
        assert texts[row].text == ours._text([i for i in ids if i < release.FIRST_TIME])
        assert texts[row].text

"""The engine against plain generation: continuous batching, shared prefixes, int8, merged LoRA."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_model import LABELS, random_bundle, with_llama

from data_pipeline.media.views import Views
from data_pipeline.schema import ClipRecord
from emojax.infer.answer import answer_questions, label_probabilities, make_samples, reasons
from emojax.infer.device_transfer import to_device
from emojax.infer.encode_clips import encode
from emojax.infer.engine import Engine, Session, shared_prefix
from emojax.infer.prepare import prepare_for_inference
from emojax.infer.sample import Sampler, generate, initial_state, prefill, score_choices
from emojax.model.build import make_model
from emojax.model.lm.kv_cache import quantize_per_token

plain_loop = jax.jit(generate, static_argnames=("config", "sampler", "eos"))
scores_of = jax.jit(score_choices, static_argnums=0)
fill = jax.jit(prefill, static_argnums=(0, 3))


@jax.jit(static_argnums=0)
def extend(config, variables, tokens, cache):
    at = cache.used[:, None]
    return make_model(config).apply(
        variables, tokens, at, jnp.ones(tokens.shape, bool), cache, method="extend"
    )


@jax.jit(static_argnums=0)
def forward(config, variables, batch):
    return make_model(config).apply(variables, batch)[0]


THREE, MORE_SLOTS = (0, 3, 1), 6  # tests of one batch shape share compiled programs
WORDS = (
    "",
    "so it is happy",
    "which one is shown",
    "sad sad sad sad sad sad sad sad sad sad sad sad",
    "angry",
    "loud",
)


def clip(number: int, words: str) -> tuple[ClipRecord, Views]:
    views = random_bundle().settings.views
    rng = np.random.default_rng(number)
    side, small = views.image_size, views.frame_size
    return (
        ClipRecord(
            id=f"clip{number}",
            dataset="tests",
            split="test",
            path="-",
            label="sad",
            labels=LABELS,
            subtitle=words,
        ),
        Views(
            image=rng.integers(0, 256, (side, side, 3)).astype(np.uint8),
            frames=rng.integers(0, 256, (views.num_frames, small, small, 3)).astype(np.uint8),
            sound=rng.standard_normal(views.sound_shape).astype(np.float32),
            audio_frames=60 + number,
            has_video=True,
            has_audio=number % 2 == 0,
        ),
    )


@pytest.fixture(scope="module")
def clips():
    return [clip(i, words) for i, words in enumerate(WORDS)]


@pytest.fixture(scope="module")
def encoded(clips):
    return encode(random_bundle(), clips, batch_size=1)


def part(encoded, *numbers):
    """Some of the encoded clips."""
    (clips,) = encoded.copies
    return dataclasses.replace(encoded, copies=(tuple(clips[i] for i in numbers),))


@pytest.fixture(scope="module")
def engine_and_samples(encoded):
    bundle = random_bundle()
    asked, collate = make_samples(bundle, encoded, "reason")
    assert len({len(s.row.ids) for s in asked}) > 2, "prompts of several lengths"
    return Engine(
        config=bundle.settings.model,
        variables=bundle.variables,
        collate=collate,
        eos=bundle.tokenizer.eos_id,
        batch_size=2,
    ), asked


def alone(engine, sample, sampler) -> list[int]:
    """Answers one prompt with the plain loop, which tests/unit/test_model.py checks."""
    batch = to_device(engine.collate([sample]))
    key = jax.random.key(0)
    ids = plain_loop(engine.config, engine.variables, batch, key, sampler=sampler, eos=engine.eos)[
        0
    ].tolist()
    return ids[: ids.index(engine.eos)] if engine.eos in ids else ids


def test_continuous_batching_gives_the_answers_of_each_prompt_alone(engine_and_samples):
    """Six prompts of four lengths in a batch of two; with another end token some end early."""
    engine, asked = engine_and_samples
    sampler = Sampler(max_tokens=12)
    first = [alone(engine, s, sampler) for s in asked]
    assert len({tuple(x) for x in first}) >= 4, (
        "clips must be answered differently for this test to mean anything"
    )
    ends = dataclasses.replace(engine, eos=first[0][3])
    want = [alone(ends, s, sampler) for s in asked]
    assert len({len(w) for w in want}) > 1
    ended = []
    progress = lambda task, done, total: ended.append((done, total))
    assert ends.generate(asked, sampler, progress=progress) == want
    assert ended[-1] == (len(asked), len(asked)) and ended == sorted(ended)
    assert dataclasses.replace(ends, batch_size=5).generate(asked, sampler) == want


def test_any_end_token_ends_an_answer():
    """Rows choose token 7, 2 and 5; answers end at 2 and 7 and are filled up with 2."""
    logits = jax.nn.one_hot(jnp.array([7, 2, 5]), 9)
    keys = jax.random.split(jax.random.key(0), 3)
    state = initial_state(logits, None, keys, sampler=Sampler(max_tokens=4), eos=(2, 7))
    assert state.done.tolist() == [True, True, False]
    assert state.ids.tolist() == [[2] * 4] * 3


def test_streamed_tokens_grow_to_the_answer(engine_and_samples):
    engine, asked = engine_and_samples
    streamed: dict[int, list[list[int]]] = {}
    out = engine.generate(
        asked,
        Sampler(max_tokens=10),
        on_tokens=lambda i, ids: streamed.setdefault(i, []).append(ids),
    )
    for i, ids in enumerate(out):
        assert streamed[i][-1] == ids and len(streamed[i]) >= 2
        assert all(
            later[: len(earlier)] == earlier
            for earlier, later in zip(streamed[i], streamed[i][1:], strict=False)
        )


def test_draws_depend_only_on_clip_and_seed(engine_and_samples):
    engine, asked = engine_and_samples
    sampler = Sampler(max_tokens=8, temperature=1.5, top_p=1.0)
    names = list(range(100, 100 + len(asked)))
    out = engine.generate(asked, sampler, seeds=names, seed=3)
    back = engine.generate(asked[::-1], sampler, seeds=names[::-1], seed=3)[::-1]
    assert out == back
    assert engine.generate(asked, sampler, seeds=names, seed=4) != out


def test_prefill_and_decode_equal_the_uncached_forward(engine_and_samples):
    """Cached logits of mixed lengths in one batch equal the training forward of each row alone."""
    engine, asked = engine_and_samples
    config, variables = engine.config, engine.variables
    rows = [asked[i] for i in THREE]
    batch = to_device(engine.collate(rows))
    slots = batch["ids"].shape[1] + MORE_SLOTS
    logits, cache = fill(config, variables, batch, slots)
    further = np.array([[7, 9, 11, 13, 15]] * 3, np.int32) + np.arange(3)[:, None]
    got = [logits]
    for t in range(5):
        step, cache = extend(config, variables, further[:, t : t + 1], cache)
        got.append(step[:, 0])
    for i, sample in enumerate(rows):
        whole = dataclasses.replace(sample.row, ids=[*sample.row.ids, *further[i].tolist()])
        one = engine.collate([dataclasses.replace(sample, row=whole)])
        arrays = to_device(one) | {"answer_at": one["answer_at"]}
        want = np.asarray(forward(config, variables, arrays))[0]
        for t in range(5):  # answer_at starts before the first token of the answer
            np.testing.assert_allclose(got[t][i], want[t], rtol=1e-4, atol=1e-4)


def test_questions_about_one_clip_share_a_prefix(encoded):
    bundle = random_bundle()
    one = part(encoded, 2)
    questions = [("reason", None), ("emotion", None), ("reason", "What does the voice tell?")]
    sampler = Sampler(max_tokens=9)
    streamed: dict[int, list[int]] = {}
    keep = streamed.__setitem__
    together = answer_questions(bundle, one, questions, sampler=sampler, on_ids=keep)
    alone_ = [answer_questions(bundle, one, [q], sampler=sampler)[0] for q in questions]
    assert together == alone_ and [streamed[i] for i in range(3)] == together
    rows = [make_samples(bundle, one, task, question=q)[0][0].row for task, q in questions]
    assert shared_prefix(rows) > max(start + size for start, size in rows[0].soft)


def test_session_scores_equal_scores_of_whole_prompts(engine_and_samples, encoded):
    engine, asked = engine_and_samples
    bundle = random_bundle()
    first = asked[2]
    other = make_samples(bundle, part(encoded, 2), "emotion")[0][0]
    prefix_length = shared_prefix([first.row, other.row])
    session = Session(engine, first, prefix_length=prefix_length, free_slots=400)
    choices = np.array([[5, 6, 2, 0], [9, 2, 0, 0], [11, 12, 13, 2]], np.int32)
    lengths = np.array([3, 2, 4], np.int32)
    want = scores_of(
        engine.config, engine.variables, to_device(engine.collate([other])), choices, lengths
    )
    np.testing.assert_allclose(
        session.score(other.row, choices, lengths), np.asarray(want)[0], rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="does not begin with the shared prefix"):
        session.score(asked[0].row, choices, lengths)


def test_int8_cache(engine_and_samples):
    x = np.random.default_rng(0).standard_normal((3, 2, 5, 8)).astype(np.float32) * 3
    small, scale = (np.asarray(a) for a in quantize_per_token(jnp.asarray(x)))
    assert small.dtype == np.int8 and np.abs(small).max() == 127
    assert (np.abs(small * scale[..., None] - x) <= scale[..., None] / 2 + 1e-6).all()
    engine, asked = engine_and_samples
    bundle = with_llama(random_bundle(), cache="int8")
    batch = to_device(engine.collate([asked[i] for i in THREE]))
    slots = batch["ids"].shape[1] + MORE_SLOTS
    tokens = np.full((3, 1), 9, np.int32)
    logits = {}
    for name, config in (("float", engine.config), ("int8", bundle.settings.model)):
        _, cache = fill(config, engine.variables, batch, slots)
        assert cache.k.dtype == (jnp.int8 if name == "int8" else jnp.float32)
        logits[name] = extend(config, engine.variables, tokens, cache)
    exact, near = (np.asarray(logits[n][0]) for n in ("float", "int8"))
    gap = np.abs(exact - near).max()
    assert 1e-5 < gap < 0.03 * np.abs(exact).max(), gap


def test_prepared_models_answer_alike(clips, encoded):
    """Merged adapters and unstacked layers change answers by rounding only; the adapters matter."""
    bundle = random_bundle()
    fast = prepare_for_inference(bundle)
    assert fast.settings.model.llama.lora.rank == 0 and fast.settings.model.llama.unstacked_layers
    assert "lora" not in fast.variables and prepare_for_inference(fast) is fast
    a, b = (label_probabilities(m, clips, LABELS, batch_size=4) for m in (bundle, fast))
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(
        label_probabilities(fast, encode(fast, clips, batch_size=1), LABELS, batch_size=4),
        b,
        atol=1e-5,
    )
    bare = with_llama(bundle, lora=dataclasses.replace(bundle.settings.model.llama.lora, rank=0))
    without = dataclasses.replace(bare, variables={"params": bundle.variables["params"]})
    assert np.abs(label_probabilities(without, encoded, LABELS, batch_size=4) - a).max() > 1e-3
    together = {"sampler": Sampler(max_tokens=8), "batch_size": len(clips)}
    assert reasons(bundle, clips, **together) == reasons(fast, encoded, **together)


def test_a_label_score_does_not_depend_on_the_other_labels(encoded):
    """Labels in one forward pass do not attend to each other; further passes change nothing."""
    bundle = random_bundle()
    many = [*LABELS, *(f"{w} {n}" for n in "abcdefghij" for w in ("happy", "shown"))]
    two = part(encoded, 0, 1)
    few = label_probabilities(bundle, two, LABELS, batch_size=2)
    all_ = label_probabilities(bundle, two, many, batch_size=2)[:, : len(LABELS)]
    np.testing.assert_allclose(all_ / all_.sum(axis=1, keepdims=True), few, rtol=1e-4)


def test_fusion_weights_reproduce_the_fused_vector(encoded):
    """The reported weights and the prepared streams give the output of the Conv-Attention."""
    from emojax.infer.attribution import FUSION_STREAMS, fusion_weights
    from emojax.model.fusion import Fusion, Mlp

    bundle = random_bundle()
    found = fusion_weights(bundle, part(encoded, 0, 1))
    config = bundle.settings.model
    assert [len(v) for v in found[0].values()] == [config.stream_tokens] * 3 and tuple(
        found[0]
    ) == FUSION_STREAMS
    assert found[0] != found[1]
    params = bundle.variables["params"]["fusion"]
    own = dataclasses.replace(config.fusion, kind="attention")
    one = encoded.copies[0][0][1].arrays
    cls = np.broadcast_to(one["image"][:1], (config.stream_tokens, one["image"].shape[1]))
    streams = {"audio": one["audio"], "image": cls, "video": one["video"]}
    fused = Fusion(own).apply({"params": params}, *(x[None] for x in streams.values()))[0]
    mixed = 0
    for name, x in streams.items():
        prepared = Mlp(own).apply({"params": params[f"prepare_{name}"]}, x, True)
        mixed = mixed + prepared * np.array(found[0][name])[:, None]
    want = mixed @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(fused, want, atol=1e-3)

"""The whole model: soft prompts, masks, cached generation, scores of choices, layers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_model import random_arrays, random_variables

from data_pipeline.loader.tokens import Row, collate_rows
from emojax.config import load_config, resolve
from emojax.infer.sample import Sampler, generate, sample_tokens, score_choices
from emojax.model.attention import attention
from emojax.model.dense import LoraConfig
from emojax.model.dropout import dropout, random_words
from emojax.model.emotion import CACHED_PREFIX, Emotion, EmotionConfig
from emojax.model.encoders.stems import cosine_kernel, grid_sinusoids
from emojax.model.encoders.waveform import WaveformConfig, WaveformEncoder
from emojax.model.fusion import Fusion, FusionConfig
from emojax.model.layers import EncoderConfig, pool_bins
from emojax.model.variables import merge

SOFT_AT = 3
PROMPTS = ([5, 6, 7, 30, 31, 32, 33], [5, 6, 7, 40, 41])


@pytest.fixture(scope="module")
def config() -> EmotionConfig:
    return resolve(load_config("tiny:test")).model


@pytest.fixture(scope="module")
def variables(config) -> dict:
    flat = random_variables(config)
    flat["params/llama/head/kernel"] *= 4  # logits that differ clearly
    return merge(flat, {})


def views(config, rows: int, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    size, small = config.image.image_size, config.video.image_size
    return {
        "image": rng.integers(0, 256, (rows, size, size, 3)).astype(np.uint8),
        "frames": rng.integers(0, 256, (rows, config.num_frames, small, small, 3)).astype(np.uint8),
        "sound": rng.standard_normal((rows, 2 * config.audio.steps, config.audio.mels)).astype(
            np.float32
        ),
        "audio_frames": np.full(rows, 70, np.int32),
        **{f"has_{s}": np.ones(rows, bool) for s in ("image", "video", "audio")},
    }


def batch_of(config, prompts, answers, length: int) -> dict:
    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = prompt[:SOFT_AT] + [0] * config.soft_tokens + prompt[SOFT_AT:]
        rows.append(Row([*ids, *answer], ((SOFT_AT, config.soft_tokens),), len(ids)))
    out = collate_rows(rows, 3, [(length, 8)])
    return {k: v for k, v in out.items() if k != "row_tokens"} | views(config, len(rows))


@functools.partial(jax.jit, static_argnums=0)
def forward(config, variables, batch):
    return Emotion(config).apply(variables, batch)[0]


@functools.partial(jax.jit, static_argnums=0)
def encode(config, variables, batch):
    return Emotion(config).apply(variables, batch, method="encode")


plain_loop = jax.jit(generate, static_argnames=("config", "sampler", "eos"))
scores_of = jax.jit(score_choices, static_argnums=0)


def with_features(config, variables, batch) -> dict:
    """The batch with features in the place of its views: programs of the rest compile sooner."""
    features = encode(config, variables, batch)
    rest = {k: v for k, v in batch.items() if k not in config.view_shapes}
    return rest | {CACHED_PREFIX + k: np.asarray(v) for k, v in features.items()}


def only_row(batch, row: int) -> dict:
    return {k: v[row : row + 1] for k, v in batch.items()}


def next_logits(config, variables, prompt, answer, row: int) -> np.ndarray:
    """Logits after prompt + answer of a single row by the forward pass of training, no cache."""
    everything = with_features(config, variables, batch_of(config, PROMPTS, [[], []], 48))
    text = batch_of(config, [prompt], [[*answer, 9]], 48)
    batch = only_row(everything, row) | {k: v for k, v in text.items() if k not in views(config, 1)}
    return np.asarray(forward(config, variables, batch))[0, len(answer)]


def test_greedy_generation_is_plain_recomputation(config, variables):
    """Cached decoding of a padded batch gives the tokens of recomputing each row."""
    batch = with_features(config, variables, batch_of(config, PROMPTS, [[], []], 48))
    sampler = Sampler(max_tokens=5)
    ids = np.asarray(
        plain_loop(config, variables, batch, jax.random.key(0), sampler=sampler, eos=2)
    )
    for row, prompt in enumerate(PROMPTS):
        answer: list[int] = []
        for _ in range(5):
            logits = next_logits(config, variables, prompt, answer, row).copy()
            if not answer:
                logits[2] = -np.inf  # the end token cannot come first
            answer.append(int(logits.argmax()))
            if answer[-1] == 2:
                break
        assert ids[row, : len(answer)].tolist() == answer
        assert (ids[row, len(answer) :] == 2).all()


def test_choice_scores_by_recomputation(config, variables):
    choices = np.array([[9, 10, 2], [11, 2, 0]], np.int32)
    lengths = np.array([3, 2], np.int32)
    batch = with_features(config, variables, batch_of(config, PROMPTS, [[], []], 48))
    scores = np.asarray(scores_of(config, variables, batch, choices, lengths))
    for row, prompt in enumerate(PROMPTS):
        for c, (ids, length) in enumerate(zip(choices, lengths, strict=True)):
            total = 0.0
            for i in range(length):
                logits = next_logits(config, variables, prompt, ids[:i].tolist(), row)
                total += float(jax.nn.log_softmax(logits)[ids[i]])
            assert scores[row, c] == pytest.approx(total / length, rel=1e-4), (row, c)


def test_masked_streams_change_nothing_and_released_ones_do(config, variables):
    """Masked: the content of an absent stream has no effect. Released: its tokens are visible."""
    batch = batch_of(config, PROMPTS, [[9], [9]], 48)
    batch["has_audio"] = np.zeros(2, bool)
    other = batch | {"sound": batch["sound"] * 0 + 5.0}

    def run(settings, b):
        rows = with_features(config, variables, b)
        return np.concatenate([forward(settings, variables, only_row(rows, i)) for i in range(2)])

    np.testing.assert_allclose(run(config, batch), run(config, other), atol=1e-6)
    with_audio = batch | {"has_audio": np.ones(2, bool)}
    assert np.abs(run(config, with_audio) - run(config, batch)).max() > 1e-3
    released = dataclasses.replace(config, missing="released")
    assert np.abs(run(released, batch) - run(config, batch)).max() > 1e-4


def test_real_audio_span_ignores_padding(config, variables):
    batch = batch_of(config, PROMPTS, [[9], [9]], 48)
    louder = batch | {
        "sound": np.where(
            np.arange(batch["sound"].shape[1])[None, :, None] < 73, batch["sound"], 9.0
        )
    }
    audio = lambda settings, b: np.asarray(encode(settings, variables, b)["audio"])
    np.testing.assert_allclose(audio(config, batch), audio(config, louder), atol=1e-5)
    window = dataclasses.replace(config, audio_span="window")
    assert np.abs(audio(window, batch) - audio(window, louder)).max() > 1e-2


def test_fusion_none_omits_its_span(config):
    bare = dataclasses.replace(config, fusion=dataclasses.replace(config.fusion, kind="none"))
    assert (
        bare.soft_tokens == config.soft_tokens - config.stream_tokens and "fusion" not in bare.spans
    )


def test_top_p_keeps_the_smallest_sufficient_set():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
    sampler = Sampler(temperature=1.0, top_p=0.7)
    draw = jax.vmap(lambda k: sample_tokens(logits, sampler, k[None])[0])
    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 500)))
    assert set(drawn.tolist()) == {0, 1}
    assert np.mean(drawn == 0) == pytest.approx(0.5 / 0.8, abs=0.07)
    assert int(sample_tokens(logits, Sampler(), jax.random.split(jax.random.key(0), 1))[0]) == 0


def test_attention_by_hand():
    q = k = jnp.array([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    v = jnp.array([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    out = attention(q, k, v, causal=True)
    w = np.exp(1 / np.sqrt(2)) / (1 + np.exp(1 / np.sqrt(2)))
    np.testing.assert_allclose(out[0, 0, 0], [1, 2], rtol=1e-6)
    np.testing.assert_allclose(
        out[0, 1, 0], (1 - w) * np.array([1, 2]) + w * np.array([3, 4]), rtol=1e-5
    )


def test_lora_rules():
    assert [n for n in ("q", "k", "v", "o", "gate", "up", "down") if LoraConfig().covers(n)] == [
        "q",
        "v",
    ]
    assert LoraConfig(targets=(".*",)).covers("gate") and not LoraConfig(rank=0).covers("q")


def test_pool_bins_over_a_part():
    """5 steps into 2 bins: 0..2 and 2..4; of the first 3 only: 0..1 and 1..2."""
    np.testing.assert_allclose(
        pool_bins(5, 2, 5), [[1 / 3, 1 / 3, 1 / 3, 0, 0], [0, 0, 1 / 3, 1 / 3, 1 / 3]], rtol=1e-6
    )
    np.testing.assert_allclose(
        pool_bins(3, 2, 5), [[0.5, 0.5, 0, 0, 0], [0, 0.5, 0.5, 0, 0]], rtol=1e-6
    )


def test_cosine_stem():
    """Brightness columns are orthogonal waves, the first is flat; all positions differ."""
    kernel = cosine_kernel(8, 32).reshape(8, 8, 3, 32)
    assert np.ptp(kernel[..., 0]) < 1e-6
    gram = kernel[..., :24].reshape(-1, 24).T @ kernel[..., :24].reshape(-1, 24)
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-4)
    table = grid_sinusoids(6, 32)[0]
    distance = np.linalg.norm(table[:, None] - table[None], axis=-1) + np.eye(37) * 9
    assert table.shape == (37, 32) and distance.min() > 0.1


def test_hubert_of_a_padded_clip_is_that_of_the_clip_alone():
    blocks = EncoderConfig(width=16, depth=2, heads=2, mlp=24, eps=1e-5, key_bias=True)
    config = WaveformConfig(
        samples=500,
        encoder=blocks,
        conv_widths=(8, 8),
        conv_kernels=(10, 3),
        conv_strides=(5, 2),
        position_kernel=8,
        position_groups=4,
    )
    module = WaveformEncoder(config)
    wave = np.random.default_rng(0).standard_normal((1, 300, 1)).astype(np.float32)
    padded = np.zeros((1, 500, 1), np.float32)
    padded[:, :300] = wave
    shapes = jax.eval_shape(module.init, jax.random.key(0), wave)
    apply = jax.jit(functools.partial(module.apply, merge(random_arrays(shapes), {})))
    alone = np.asarray(apply(wave))
    out = np.asarray(apply(padded, jnp.array([300])))
    assert int(config.count_steps(300)) == alone.shape[1] < out.shape[1]
    np.testing.assert_allclose(out[:, : alone.shape[1]], alone, rtol=1e-5, atol=1e-5)


def test_detached_encoders_train_only_on_their_word_heads(config, variables):
    """The language model's loss has gradients in projectors, but in no encoder."""
    detached = dataclasses.replace(config, detach_towers=True)
    batch = batch_of(detached, PROMPTS, [[9], [8, 9]], 48)

    params = variables["params"]
    towers = ("whisper", "eva_video")

    @functools.partial(jax.jit, static_argnums=1)
    @jax.grad
    def gradients(learned, settings):
        logits, _ = Emotion(settings).apply({**variables, "params": params | learned}, batch)
        return jnp.square(logits).mean()

    for settings, reached in ((detached, False), (config, True)):
        grads = gradients({k: params[k] for k in (*towers, "project_audio")}, settings)
        largest = [np.abs(g).max() for name in towers for g in jax.tree.leaves(grads[name])]
        assert bool(max(largest) > 0) is reached
        assert np.abs(grads["project_audio"]["kernel"]).max() > 0


def test_qformer_reads_every_stream():
    """One vector per position; each stream matters, the image once; queries are trainable."""
    config = FusionConfig(kind="qformer", hidden=16, width=8, out=6, blocks=2, dropout=0.0)
    rng = np.random.default_rng(0)
    streams = [jnp.asarray(rng.standard_normal((2, 5, d)), jnp.float32) for d in (7, 9, 11)]
    streams[1] = jnp.broadcast_to(streams[1][:, :1], streams[1].shape)
    module = Fusion(config)
    variables = merge(random_arrays(jax.eval_shape(module.init, jax.random.key(0), *streams)), {})
    apply = jax.jit(module.apply)
    out = apply(variables, *streams)
    assert out.shape == (2, 5, 6)
    for i in range(3):
        changed = [x + 1.0 if i == j else x for j, x in enumerate(streams)]
        assert float(jnp.abs(apply(variables, *changed) - out).max()) > 1e-4, i
    # The queries attend to a set of tokens: their order within a stream has no effect.
    turned = apply(variables, streams[0][:, ::-1], streams[1], streams[2])
    np.testing.assert_allclose(turned, out, rtol=1e-4, atol=1e-5)
    grad = jax.jit(jax.grad(lambda v: (module.apply(v, *streams) ** 2).sum()))(variables)
    assert float(jnp.abs(grad["params"]["qformer"]["queries"]).max()) > 1e-6


def test_dropout_of_adapters():
    """Rate 0.05 of 2e5 entries within 4 standard errors; the mean is preserved."""
    out = np.asarray(dropout(jnp.ones((500, 400)), 0.05, jax.random.key(3, impl="rbg")))
    share = (out == 0).mean()
    assert abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / out.size)
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.95)}


def test_masks_of_dropout_on_cpu_are_independent():
    """Half masks of neighbours, rows, layers and steps agree in half of 2e5 entries (4 SE)."""
    base = jax.random.key(0, impl="rbg")
    masks = [
        np.asarray(random_words(k, (500, 400)) >> 31)
        for k in [*jax.random.split(base, 4), jax.random.fold_in(base, 9), base]
    ]
    pairs = [(a, b) for i, a in enumerate(masks) for b in masks[:i]]
    pairs += [(m[:, 1:], m[:, :-1]) for m in masks] + [(m[1:], m[:-1]) for m in masks]
    for a, b in pairs:
        assert abs((a == b).mean() - 0.5) < 4 * 0.5 / np.sqrt(a.size)
    bits = (
        np.unpackbits(np.asarray(random_words(base, (20000,))).view(np.uint8))
        .reshape(-1, 32)
        .mean(axis=0)
    )
    assert np.all(abs(bits - 0.5) < 5 * 0.5 / np.sqrt(20000))

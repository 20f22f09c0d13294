"""Schedule, weight decay, rules, loss: against published values and arithmetic."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emojax.config import Optim, load_config, resolve
from emojax.model.variables import (
    abstract_variables,
    count_parameters,
    flatten,
    select_trainable,
    unbox,
)
from emojax.train.flops import step_flops
from emojax.train.step import answer_loss, decays, learning_rate, make_optimizer, word_loss

RELEASED = Optim(
    lr=1e-4,
    min_lr=1e-6,
    warmup_lr=1e-6,
    warmup=1000,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.05,
    clip=0.0,
    ema=0.0,
)


def test_learning_rates_of_the_original(misc_examples):
    schedule = learning_rate(RELEASED, 50_000)
    for step, expected in misc_examples["learning_rate"].items():
        assert float(schedule(int(step))) == pytest.approx(expected, rel=2e-5), step


def test_weight_decay_applies_to_matrices():
    assert decays("params/llama/blocks/q/kernel", 3) and decays("params/project_image/kernel", 2)
    assert decays("lora/llama/blocks/q/a", 3) and decays("params/fusion/conv0/kernel", 3)
    for path, ndim in (
        ("params/llama/blocks/norm1/scale", 2),
        ("params/whisper/encoder/blocks/q/bias", 2),
        ("params/project_image/bias", 1),
        ("params/eva_image/cls", 3),
    ):
        assert not decays(path, ndim), path


def test_adamw_is_optax_adamw():
    tree = {"params/x/kernel": jnp.array([[1.0, -2.0]]), "params/x/bias": jnp.array([0.5])}
    grads = {k: jnp.ones_like(v) * 0.3 for k, v in tree.items()}
    tx = make_optimizer(RELEASED)
    ours, _ = tx.update(grads, tx.init(tree), tree)
    mask = {"params/x/kernel": True, "params/x/bias": False}
    reference = optax.adamw(1e-2, 0.9, 0.999, 1e-8, weight_decay=0.05, mask=mask)
    theirs, _ = reference.update(grads, reference.init(tree), tree)
    for k in tree:
        np.testing.assert_allclose(-1e-2 * ours[k], theirs[k], rtol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
    """Gradients (3) and (4) have norm 5: clipped to 1, Adam's first mean is 0.1 * (0.6, 0.8)."""
    tree = {"params/x/kernel": jnp.zeros((1, 1)), "params/y/kernel": jnp.zeros((1, 1))}
    grads = {"params/x/kernel": jnp.array([[3.0]]), "params/y/kernel": jnp.array([[4.0]])}
    for limit, expected in ((1.0, (0.06, 0.08)), (10.0, (0.3, 0.4)), (0.0, (0.3, 0.4))):
        tx = make_optimizer(dataclasses.replace(RELEASED, clip=limit))
        _, state = tx.update(grads, tx.init(tree), tree)
        mean = optax.tree.get(state, "mu")
        np.testing.assert_allclose([float(x.item()) for x in mean.values()], expected, rtol=1e-5)


def test_a_rule_matches_whole_paths():
    rules = (("a/x", "freeze"), ("a/.*", "train"))
    assert select_trainable(["a/x", "a/xy", "a/x/y"], rules) == {
        "a/x": False,
        "a/xy": True,
        "a/x/y": True,
    }


def test_loss_is_a_mean_over_rows_of_means_over_tokens():
    logits = jnp.log(jnp.array([[[0.5, 0.5], [0.25, 0.75]], [[0.1, 0.9], [0.5, 0.5]]]))
    loss, rows, tokens = answer_loss(logits, jnp.array([[0, 1], [0, -100]]))
    first = -(np.log(0.5) + np.log(0.75)) / 2
    np.testing.assert_allclose(rows, [first, -np.log(0.1)], rtol=1e-5)
    assert float(loss) == pytest.approx((first - np.log(0.1)) / 2, rel=1e-5) and int(tokens) == 3


def test_word_loss_by_hand():
    logits = {"image": jnp.log(jnp.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))}
    batch = {"words_image": jnp.array([[0, 2], [-1, -1]]), "words_audio": jnp.array([[-1], [-1]])}
    # Row 0 has two words, each with half the weight; row 1 has no picture and does not count.
    assert float(word_loss(logits, batch)) == pytest.approx(
        -(np.log(0.5) + np.log(0.2)) / 2, rel=1e-5
    )
    both = logits | {"video": logits["image"], "audio": logits["image"]}
    assert float(word_loss(both, batch)) == pytest.approx(-(np.log(0.5) + np.log(0.2)), rel=1e-5)


def test_rules_must_cover_every_leaf():
    with pytest.raises(ValueError, match="no rule of config.trainable matches 'b/x'"):
        select_trainable(["a/x", "b/x"], (("a/.*", "train"),))
    with pytest.raises(ValueError, match="freeze everything"):
        select_trainable(["a/x"], (("a/.*", "freeze"),))
    with pytest.raises(ValueError, match="train or freeze"):
        select_trainable(["a/x"], (("a/.*", "learn"),))
    assert select_trainable(["a/x", "a/y"], (("a/x", "freeze"), ("a/.*", "train"))) == {
        "a/x": False,
        "a/y": True,
    }


def test_full_size_v2_has_the_papers_parameters():
    """71,536,387 trainable parameters in 166 torch tensors (emotion_llama_v2 1.1); shapes only."""
    s = resolve(load_config("v2:stage1"))
    flat = flatten(unbox(abstract_variables(s.model)))
    selected = select_trainable(list(flat), s.trainable)
    trained = {k: v for k, v in flat.items() if selected[k]}
    assert count_parameters(trained) == 71_536_387
    layers = {k: v.shape[0] if "/blocks/" in k else 1 for k, v in trained.items()}
    assert sum(layers.values()) == 166
    by = lambda prefix: count_parameters({k: v for k, v in flat.items() if k.startswith(prefix)})
    assert by("lora/") == 33_554_432 and by("params/fusion/") == 2_838_275
    assert by("params/eva_image/") == 986_975_872 and by("params/project_image/") == 23_072_768
    assert by("params/llama/") == 6_738_415_616
    assert s.model.soft_tokens == 448 and list(s.model.spans) == [
        "fusion",
        "image",
        "video",
        "audio",
    ]


def test_flops_of_the_full_size():
    """LLaMA-2-7B has 32 layers of 4 * 4096^2 + 3 * 4096 * 11008; LoRA r64 adds 4 * 4096 * 64."""
    settings = resolve(load_config("v2"))
    flat = flatten(unbox(abstract_variables(settings.model)))
    selected = select_trainable(list(flat), settings.trainable)
    trainable = {k: v for k, v in flat.items() if selected[k]}
    frozen = {k: v for k, v in flat.items() if not selected[k]}
    per_token, per_clip = step_flops(settings.model, trainable, frozen)
    base, lora = 32 * (4 * 4096**2 + 3 * 4096 * 11008), 32 * 4 * 4096 * 64
    assert per_token == 4 * base + 6 * lora
    # The towers are frozen, so they only run forward. EVA-G has 1025 and 16 * 257 positions, with
    # about a billion parameters each.
    assert 2 * 1e9 * (1025 + 16 * 257) < per_clip < 2 * 1.4e9 * (1025 + 16 * 257 + 1500)

"""A step skips batches that are not finite, and averages weights (by hand)."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emojax.train import step as step_module
from emojax.train.state import TrainState

LR = 0.5


class Linear:
    """A model with one weight: logits (w x, 0) of two classes at the only answer position."""

    def apply(self, variables, batch, deterministic, rngs):
        score = variables["params"]["w"] * batch["x"]
        return jnp.stack([score, jnp.zeros_like(score)], axis=-1)[:, None], {}


@pytest.fixture
def update(monkeypatch):
    monkeypatch.setattr(step_module, "make_model", lambda config: Linear())
    monkeypatch.setattr(step_module, "with_remat_of_batch", lambda config, *_: config)
    return lambda ema: step_module.make_step(types.SimpleNamespace(), optax.scale_by_adam(), ema)


def start(w=1.0):
    train = {"params/w": jnp.float32(w)}
    tx = optax.scale_by_adam()
    return TrainState(jnp.int32(0), train, tx.init(train), {"params/w": jnp.float32(w)})


def batch(*x):
    n = len(x)
    return {
        "x": jnp.asarray(x, jnp.float32),
        "ids": jnp.zeros((n, 1), jnp.int32),
        "labels": jnp.zeros((n, 1), jnp.int32),
        "row_tokens": jnp.ones(n, jnp.int32),
    }


def host(state):
    return jax.tree.map(np.array, state)  # a copy: the step donates its state


def run(make, ema, states, batches):
    step = make(ema)
    out = [host(states)]
    state, metrics = states, None
    for one in batches:
        state, metrics = step(state, {}, one, jnp.float32(LR), jax.random.key(0))
        out.append(host(state))
    return out, metrics


def test_loss_and_first_update_by_hand(update):
    """Softmax of (2, 0) is 0.8808 for class 0; Adam's first update is the sign of the gradient."""
    (_, after), metrics = run(update, 0.0, start(1.0), [batch(2.0)])
    assert float(metrics["loss"]) == pytest.approx(-np.log(1 / (1 + np.exp(-2))), rel=1e-5)
    assert float(metrics["grad_norm"]) == pytest.approx(2 * (1 - 1 / (1 + np.exp(-2))), rel=1e-5)
    assert after.train["params/w"] == pytest.approx(1.0 + LR, rel=1e-4)  # down the gradient
    assert bool(metrics["finite"]) and after.step == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_batch_that_is_not_finite_changes_nothing_but_the_count(update, bad):
    (_, before, after), metrics = run(update, 0.9, start(1.0), [batch(2.0), batch(1.0, bad)])
    assert not bool(metrics["finite"]) and after.step == before.step + 1 == 2
    for field in ("train", "opt", "ema"):
        one, other = getattr(before, field), getattr(after, field)
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_training_goes_on_as_if_there_had_been_no_bad_batch(update):
    """The same weights and moments, Adam's count included; only the step counts the bad batch."""
    good, bad, last = batch(2.0), batch(np.nan), batch(-1.0)
    with_bad, metrics = run(update, 0.0, start(1.0), [good, bad, last])
    without, _ = run(update, 0.0, start(1.0), [good, last])
    one, other = with_bad[-1], without[-1]
    assert bool(metrics["finite"]) and (int(one.step), int(other.step)) == (3, 2)
    jax.tree.map(np.testing.assert_array_equal, (one.train, one.opt), (other.train, other.opt))
    assert int(optax.tree.get(one.opt, "count")) == 2
    assert one.train["params/w"] != with_bad[1].train["params/w"]


def test_averaged_weights_by_hand(update):
    """Decays (1 + n) / (10 + n) of steps 0, 1, 2 are 0.1, 2/11, 0.25; the last is capped at 0.2."""
    states, _ = run(update, 0.2, start(1.0), [batch(2.0), batch(1.0), batch(-3.0)])
    w = [float(s.train["params/w"]) for s in states]
    average = 1.0
    for decay, weight in zip((0.1, 2 / 11, 0.2), w[1:], strict=True):
        average = decay * average + (1 - decay) * weight
    assert float(states[-1].ema["params/w"]) == pytest.approx(average, rel=1e-5)
    assert len(set(w)) == 4
    states, _ = run(update, 0.0, start(1.0), [batch(2.0)])
    assert float(states[-1].ema["params/w"]) == 1.0  # off: not changed

"""Loss, learning rate, optimizer and the jitted update; only trainable variables have gradients."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from emojax.config import Optim
from emojax.model.build import ModelConfig, make_model
from emojax.model.variables import Flat, merge
from emojax.sharding import constrain, merge_micro_batches, split_micro_batches
from emojax.train.state import TrainState
from emojax.train.step_memory import with_remat_of_batch

Array = jax.Array


def learning_rate(optim: Optim, total: int) -> Callable[[Array | int], Array]:
    """Schedule of Emotion-LLaMAv2: linear warm-up, then cosine decay.

    The cosine spans all `total` steps, without an offset for the warm-up.
    """

    def schedule(step: Array | int) -> Array:
        step = jnp.asarray(step, jnp.float32)
        warm = optim.warmup_lr + (optim.lr - optim.warmup_lr) * step / max(1, optim.warmup)
        cosine = optim.min_lr + 0.5 * (optim.lr - optim.min_lr) * (
            1 + jnp.cos(jnp.pi * step / total)
        )
        return jnp.where(step < optim.warmup, warm, cosine)

    return schedule


def decays(path: str, ndim: int) -> bool:
    """Whether weight decay applies: to matrices, the leading axis of stacked layers not counted."""
    axes = ndim - ("/blocks/" in path)
    return axes >= 2 and not re.search(r"/(bias|scale|cls|positions)$", path)


def make_optimizer(optim: Optim) -> optax.GradientTransformation:
    """AdamW over a flat {path: array} tree, without the learning rate, which the step multiplies.

    So stages of any length share one optimizer, and with it one compiled step.
    """

    def mask(params: Flat) -> dict[str, bool]:
        return {k: decays(k, v.ndim) for k, v in params.items()}

    adamw = optax.chain(
        optax.scale_by_adam(optim.b1, optim.b2, optim.eps),
        optax.add_decayed_weights(optim.weight_decay, mask),
    )
    return optax.chain(optax.clip_by_global_norm(optim.clip), adamw) if optim.clip else adamw


def answer_loss(logits: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Cross entropy of the answer tokens.

    The loss of a row is the mean over its answer tokens, the loss of the batch the mean over rows:
    the released training has one sample per GPU, so its gradient weights samples, not tokens,
    equally.

    Args:
      logits: float32[B, A, V].
      labels: int[B, A]; -100 is ignored.

    Returns:
      (scalar loss, float32[B] loss of each row, number of answer tokens).
    """
    known = labels >= 0
    each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    rows = jnp.where(known, each, 0).sum(axis=1) / jnp.maximum(1, known.sum(axis=1))
    return rows.mean(), rows, known.sum()


def word_loss(words: dict[str, Array], batch: dict[str, Array]) -> Array:
    """Loss of the auxiliary bag-of-words heads, summed over the towers.

    The loss of a tower is the mean cross entropy between its word logits and the words of its
    description, all words with the same weight. The temporal tower predicts the words of the image.

    Args:
      words: {tower: float[B, V]} logits.
      batch: holds words_image and words_audio, int[B, W], padded with -1.

    Returns:
      float32[].
    """
    total = jnp.zeros(())
    for stream, logits in words.items():
        ids = batch["words_audio" if stream == "audio" else "words_image"]
        known = ids >= 0
        log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        each = -jnp.take_along_axis(log_probs, jnp.maximum(ids, 0), axis=1)
        rows = jnp.where(known, each, 0).sum(axis=1) / jnp.maximum(1, known.sum(axis=1))
        total += rows.sum() / jnp.maximum(1, known.any(axis=1).sum())
    return total


def _gradient(config: ModelConfig, room: float | None) -> Callable[..., Any]:
    """(train, frozen, batch, key) -> ((total loss, (loss, row losses, tokens)), gradient)."""

    def loss_fn(
        train: Flat, frozen: Flat, batch: dict[str, Array], key: Array
    ) -> tuple[Array, tuple[Array, ...]]:
        model = make_model(with_remat_of_batch(config, train, batch, room))
        logits, words = model.apply(merge(train, frozen), batch, False, rngs={"dropout": key})
        answers, rows, tokens = answer_loss(logits, batch["labels"])
        return answers + word_loss(words, batch), (answers, rows, tokens)

    return jax.value_and_grad(loss_fn, has_aux=True)


def _accumulated(gradient: Callable[..., Any], accumulate: int) -> Callable[..., Any]:
    """The same function, computed on `accumulate` equal parts of the batch one after the other."""
    if accumulate == 1:
        return gradient

    def whole(train: Flat, frozen: Flat, batch: dict[str, Array], key: Array) -> Any:
        def part(grads: Flat, piece: tuple[dict[str, Array], Array]) -> tuple[Flat, Any]:
            values, more = gradient(train, frozen, piece[0], jax.random.fold_in(key, piece[1]))
            return jax.tree.map(lambda a, b: a + b / accumulate, grads, more), values

        pieces = split_micro_batches(batch, accumulate), jnp.arange(accumulate)
        start = jax.tree.map(jnp.zeros_like, train)
        grads, (total, (loss, rows, tokens)) = jax.lax.scan(part, start, pieces)
        return (total.mean(), (loss.mean(), merge_micro_batches(rows), tokens.sum())), grads

    return whole


def _average(state: TrainState, train: Flat, ema: float) -> Flat:
    """The moving average of the weights after a step."""
    # At first it follows the weights closely, or it would contain their start.
    decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
    average: Flat = jax.tree.map(lambda a, t: decay * a + (1 - decay) * t, state.ema, train)
    return average


def make_step(
    config: ModelConfig,
    tx: optax.GradientTransformation,
    ema: float,
    *,
    accumulate: int = 1,
    shardings: TrainState | None = None,
    room: float | None = None,
) -> Callable[..., Any]:
    """The training step, jitted.

    A step whose loss or gradient is not finite changes only the step count; `metrics["finite"]` is
    then False. Dropout depends only on the key and the number of the step.

    Args:
      config: the network.
      tx: the optimizer of `make_optimizer`.
      ema: decay of the averaged weights; 0: no average.
      accumulate: equal parts into which the batch is divided; they are processed one after the
        other, and the gradient is their mean.
      shardings: those of the state, which the step keeps; None lets XLA choose.
      room: bytes of a device that the step may fill (`step_memory.room_for`); None if unknown.

    Returns:
      (state, frozen, batch, lr, key) -> (state, metrics). `state` is donated; `lr` is float32[];
      `key` is the key of the stage.
    """
    gradient = _accumulated(_gradient(config, room), accumulate)

    def update(
        state: TrainState, frozen: Flat, batch: dict[str, Array], lr: Array, key: Array
    ) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(key, state.step)
        (total, (loss, rows, tokens)), grads = gradient(state.train, frozen, batch, key)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        updates, opt = tx.update(grads, state.opt, state.train)
        train = jax.tree.map(lambda p, u: p - lr * u, state.train, updates)

        if_finite = functools.partial(jax.tree.map, lambda new, old: jnp.where(finite, new, old))
        train, opt = if_finite(train, state.train), if_finite(opt, state.opt)
        averaged = if_finite(_average(state, train, ema), state.ema) if ema else state.ema
        metrics = {
            "loss": loss,
            "word_loss": total - loss,
            "rows": constrain(rows, None),  # unsharded, because every process logs its rows
            "grad_norm": norm,
            "finite": finite,
            "answer_tokens": tokens,
            "text_tokens": batch["row_tokens"].sum(),
            "positions": jnp.asarray(batch["ids"].size),
        }
        return TrainState(state.step + 1, train, opt, averaged), metrics

    return jax.jit(
        update, donate_argnums=0, out_shardings=None if shardings is None else (shardings, None)
    )

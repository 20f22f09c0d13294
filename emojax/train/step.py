"""Loss, schedule, optimizer and the jitted update: gradients of the trainable tree alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from emojax.config import Optim
from emojax.model.build import ModelConfig, for_length, make_model
from emojax.model.variables import Flat, merge
from emojax.sharding import constrain, merge_micro_batches, split_micro_batches
from emojax.train.state import TrainState

Array = jax.Array


def learning_rate(optim: Optim, total: int) -> Callable[[Array | int], Array]:
    """Schedule of Emotion-LLaMAv2: linear warm-up, then a cosine over the whole run (no offset for the warm-up)."""

    def schedule(step: Array | int) -> Array:
        step = jnp.asarray(step, jnp.float32)
        warm = optim.warmup_lr + (optim.lr - optim.warmup_lr) * step / max(1, optim.warmup)
        cosine = optim.min_lr + 0.5 * (optim.lr - optim.min_lr) * (
            1 + jnp.cos(jnp.pi * step / total)
        )
        return jnp.where(step < optim.warmup, warm, cosine)

    return schedule


def decays(path: str, ndim: int) -> bool:
    """Weight decay falls on matrices: stacked layers count without their leading layer axis."""
    own = ndim - ("/blocks/" in path)
    return own >= 2 and not re.search(r"/(bias|scale|cls|positions)$", path)


def make_optimizer(optim: Optim) -> optax.GradientTransformation:
    """AdamW over a flat {path: array} tree, without its learning rate: the step multiplies by that of its number.

    One optimizer, and so one compiled step, then serves stages of any length.
    """

    def mask(params: Flat) -> dict[str, bool]:
        return {k: decays(k, v.ndim) for k, v in params.items()}

    adamw = optax.chain(
        optax.scale_by_adam(optim.b1, optim.b2, optim.eps),
        optax.add_decayed_weights(optim.weight_decay, mask),
    )
    return optax.chain(optax.clip_by_global_norm(optim.clip), adamw) if optim.clip else adamw


def answer_loss(logits: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Cross entropy of answer tokens.

    Each row is a mean over its own answer tokens and the batch a mean over rows: the released
    training has one sample a GPU, so its gradient weighs samples, not tokens, equally.

    Args:
      logits: float32[B, A, V]. labels: int[B, A], -100 is left out.

    Returns:
      (scalar loss, float32[B] loss of each row, number of answer tokens).
    """
    known = labels >= 0
    each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    rows = jnp.where(known, each, 0).sum(axis=1) / jnp.maximum(1, known.sum(axis=1))
    return rows.mean(), rows, known.sum()


def word_loss(words: dict[str, Array], batch: dict[str, Array]) -> Array:
    """Mean cross entropy of each tower's word logits against the words of its description, evenly weighted.

    Reads words_image and words_audio int[B, W], -1 where there is no (further) word; the temporal tower learns the
    words of the image.
    """
    total = jnp.zeros(())
    for stream, logits in words.items():
        ids = batch["words_audio" if stream == "audio" else "words_image"]
        known = ids >= 0
        chances = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        each = -jnp.take_along_axis(chances, jnp.maximum(ids, 0), axis=1)
        rows = jnp.where(known, each, 0).sum(axis=1) / jnp.maximum(1, known.sum(axis=1))
        total += rows.sum() / jnp.maximum(1, known.any(axis=1).sum())
    return total


def make_step(
    config: ModelConfig,
    tx: optax.GradientTransformation,
    ema: float,
    *,
    accumulate: int = 1,
    shardings: TrainState | None = None,
) -> Callable[..., Any]:
    """The update (state, frozen, batch, lr, key) -> (state, metrics), jitted with `state` donated.

    lr: float32[], learning rate of this step. key: the stage's key, folded with the step. Dropout depends on key and step
    alone. A step whose loss or gradient is not finite changes nothing but the step count; `metrics["finite"]` says so.
    `accumulate`: the batch goes through the model in so many equal parts, one after the other; the gradient is their mean.
    `shardings`: those of the state, which it then keeps; without them XLA decides where the new one lies.
    """

    def loss_fn(
        train: Flat, frozen: Flat, batch: dict[str, Array], key: Array
    ) -> tuple[Array, tuple[Array, ...]]:
        model = make_model(for_length(config, batch["ids"].shape[1]))
        logits, words = model.apply(merge(train, frozen), batch, False, rngs={"dropout": key})
        answers, rows, tokens = answer_loss(logits, batch["labels"])
        return answers + word_loss(words, batch), (answers, rows, tokens)

    slope = jax.value_and_grad(loss_fn, has_aux=True)

    def whole(train: Flat, frozen: Flat, batch: dict[str, Array], key: Array) -> Any:
        if accumulate == 1:
            return slope(train, frozen, batch, key)

        def part(grads: Flat, piece: tuple[dict[str, Array], Array]) -> tuple[Flat, Any]:
            values, more = slope(train, frozen, piece[0], jax.random.fold_in(key, piece[1]))
            return jax.tree.map(lambda a, b: a + b / accumulate, grads, more), values

        pieces = split_micro_batches(batch, accumulate), jnp.arange(accumulate)
        start = jax.tree.map(jnp.zeros_like, train)
        grads, (total, (loss, rows, tokens)) = jax.lax.scan(part, start, pieces)
        return (total.mean(), (loss.mean(), merge_micro_batches(rows), tokens.sum())), grads

    def update(
        state: TrainState, frozen: Flat, batch: dict[str, Array], lr: Array, key: Array
    ) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(key, state.step)
        (total, (loss, rows, tokens)), grads = whole(state.train, frozen, batch, key)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        updates, opt = tx.update(grads, state.opt, state.train)
        train = jax.tree.map(lambda p, u: p - lr * u, state.train, updates)

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

        train, opt = keep(train, state.train), keep(opt, state.opt)
        averaged = state.ema
        if ema:
            # Early on the average follows the weights closely, or it would remember their start.
            decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
            averaged = keep(
                jax.tree.map(lambda a, t: decay * a + (1 - decay) * t, state.ema, train), state.ema
            )
        metrics = {
            "loss": loss,
            "word_loss": total - loss,
            "rows": constrain(rows, None),  # whole on every process, for the log
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

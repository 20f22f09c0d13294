"""Clips -> Answers: label probabilities from the model's own logits, and the reason it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from data_pipeline import prompts
from data_pipeline.augment import augment_views
from data_pipeline.pipeline import NAMES, eval_batches
from data_pipeline.schema import ClipRecord
from data_pipeline.tokens import Tokenizer
from emojax.bundle import Bundle
from emojax.infer.sample import Sampler, generate, score_choices
from emojax.sharding import put_batch, to_host
from emojax.types import MODALITIES, Views

Items = Sequence[tuple[ClipRecord, Views]]
Tick = Callable[[int], None]

_score = jax.jit(score_choices, static_argnums=0)
_generate = jax.jit(generate, static_argnums=(0, 3, 4))


def to_device(batch: dict[str, Any]) -> dict[str, Any]:
    """The array fields that the model reads; under a mesh (`jax.set_mesh`) that divides them, their rows are spread."""
    skip = (NAMES, "labels", "answer_at", "row_tokens")
    arrays = {k: np.asarray(v) for k, v in batch.items() if k not in skip}
    mesh = jax.sharding.get_mesh()
    # With several processes each gives the same rows as NumPy, and jit spreads them.
    if mesh.empty or mesh.size == 1 or jax.process_count() > 1:
        return arrays
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    return arrays if len(arrays["ids"]) % parts else put_batch(arrays, mesh)


def choice_ids(tokenizer: Tokenizer, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Label strings -> (int32[C', A] answer ids with their end token, zeros behind, int32[C'] lengths).

    A is a multiple of 4 and C' of 8, filled up with the first label again, so that label lists share compiled programs.
    """
    ids = [[*tokenizer.encode(prompts.normalise_answer(label)), tokenizer.eos_id] for label in labels]
    width = -(-max(map(len, ids)) // 4) * 4
    ids += [ids[0]] * (-len(ids) % 8)
    return np.array([i + [0] * (width - len(i)) for i in ids], np.int32), np.array([len(i) for i in ids], np.int32)


def label_probabilities(
    bundle: Bundle,
    items: Items,
    labels: Sequence[str],
    modalities: Sequence[str] = MODALITIES,
    batch: int = 50,
    task: str = "emotion",
    tick: Tick | None = None,
) -> np.ndarray:
    """float64[n, C]: softmax over the labels of their length-normalised log-probabilities.

    Those of the label list that the model was calibrated for are calibrated (calibration.py).
    With `config.data.eval_views` above 1 it is the mean over the clip and changed copies of it (test-time
    augmentation, of the strength that training had; the same changes for every clip, so answers do not depend on
    neighbours).

    Args:
      items: clips with their views. labels: any label strings. modalities: what may be used.
      tick: called with the number of clips done since the last call.
    """
    if not items:
        return np.zeros((0, len(labels)))
    tokenizer, style, settings = bundle.tokenizer, bundle.style, bundle.settings.data
    choices, lengths = choice_ids(tokenizer, labels)
    parts = []
    for start in range(0, len(items), batch):
        chunk = items[start : start + batch]
        total = np.zeros((len(chunk), len(labels)))
        for copy in range(settings.eval_views):
            shown = [(r, _changed(v, copy, settings.augment)) for r, v in chunk]
            for data, real in eval_batches(shown, task, tokenizer, bundle.rows(), batch, style, modalities):  # type: ignore[arg-type]
                scores = _score(bundle.settings.model, bundle.variables, to_device(data), choices, lengths)
                total += to_host(jax.nn.softmax(scores[:, : len(labels)], axis=-1)).astype(np.float64)[:real]
        parts.append(total / settings.eval_views)
        if tick:
            tick(len(chunk))
    chances = np.concatenate(parts)
    own = bundle.calibration
    return own.apply(chances) if own and own.labels == tuple(labels) else chances


def _changed(views: Views, copy: int, strength: float) -> Views:
    return augment_views(views, np.random.default_rng(copy), strength) if copy else views


def reasons(
    bundle: Bundle,
    items: Items,
    modalities: Sequence[str] = MODALITIES,
    batch: int = 50,
    task: str | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
    tick: Tick | None = None,
) -> list[str]:
    """The text that the model writes for each clip, asked for its reason; greedy unless the sampler says otherwise."""
    if not items:
        return []
    task = task or bundle.reason_task
    sampler = sampler or Sampler(max_tokens=bundle.settings.data.max_answer)
    tokenizer = bundle.tokenizer
    out: list[str] = []
    style = bundle.style
    for data, real in eval_batches(items, task, tokenizer, bundle.rows(), batch, style, modalities):  # type: ignore[arg-type]
        key = jax.random.fold_in(jax.random.key(seed), len(out))
        ids = _generate(bundle.settings.model, bundle.variables, to_device(data), sampler, tokenizer.eos_id, key)
        out += [tokenizer.decode(row) for row in to_host(ids)[:real]]
        if tick:
            tick(real)
    return out

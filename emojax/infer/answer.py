"""Label probabilities, reasons and answers to questions for clips that are decoded already."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from data_pipeline.datasets.labels import normalize_answer
from data_pipeline.loader.batches import eval_batches, eval_row
from data_pipeline.loader.samples import Collate, RowConfig, Sample
from data_pipeline.loader.tokens import Tokenizer
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import MODALITIES, ClipRecord, Example
from emojax.bundle.model_folder import Bundle
from emojax.infer.device_transfer import to_device
from emojax.infer.encode_clips import Encoded, Items, augmented
from emojax.infer.engine import Engine, Session, shared_prefix
from emojax.infer.sample import Sampler, score_choices
from emojax.sharding import to_host

STREAMS = ("image", "video", "audio")

_score = jax.jit(score_choices, static_argnames="config")


def choice_ids(tokenizer: Tokenizer, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of label strings, padded so that label lists share compiled programs.

    Args:
      tokenizer: the model's.
      labels: C label strings.

    Returns:
      int32[C', A] ids with their end token, padded with zeros, and int32[C'] lengths. A is a
      multiple of 4 and C' of 8, filled up with the first label.
    """
    ids = [[*tokenizer.encode(normalize_answer(label)), tokenizer.eos_id] for label in labels]
    width = -(-max(map(len, ids)) // 4) * 4
    ids += [ids[0]] * (-len(ids) % 8)
    padded = np.array([i + [0] * (width - len(i)) for i in ids], np.int32)
    return padded, np.array([len(i) for i in ids], np.int32)


def label_probabilities(
    bundle: Bundle,
    items: Items | Encoded,
    labels: Sequence[str],
    *,
    modalities: Sequence[str] = MODALITIES,
    batch_size: int = 50,
    task: str = "emotion",
    progress: Progress = no_progress,
) -> np.ndarray:
    """Softmax over the labels of their length-normalised log-probabilities.

    If `labels` is the list that the model was calibrated for, the probabilities are calibrated. If
    `config.data.eval_views` is above 1, they are the mean over the clip and augmented copies of it
    (test-time augmentation with the strength of training). All clips get the same augmentations, so
    that an answer does not depend on the other clips.

    Args:
      bundle: the model.
      items: clips with their views, or encoded.
      labels: C label strings, any.
      modalities: what the model may use, of `MODALITIES`.
      batch_size: clips per forward pass.
      task: tag of the question.
      progress: reports finished clips.

    Returns:
      float64[n, C].

    Raises:
      RowTooLong: a prompt is longer than the model reads.
    """
    if not len(items):
        return np.zeros((0, len(labels)))
    settings, model = bundle.settings.data, bundle.settings.model
    choices, lengths = choice_ids(bundle.tokenizer, labels)
    rows = _row_config(bundle, items)
    parts = []
    for start in range(0, len(items), batch_size):
        part = slice(start, min(start + batch_size, len(items)))
        total = np.zeros((part.stop - start, len(labels)))
        for copy in range(settings.eval_views):
            for data, real in eval_batches(
                _copy_of(items, part, copy, settings.augment),
                task,
                bundle.tokenizer,
                config=rows,
                batch=batch_size,
                style=bundle.style,  # type: ignore[arg-type]
                modalities=modalities,
            ):
                scores = _score(model, bundle.variables, to_device(data), choices, lengths)
                probs = to_host(jax.nn.softmax(scores[:, : len(labels)], axis=-1))
                total += probs.astype(np.float64)[:real]
        parts.append(total / settings.eval_views)
        progress("label probabilities", part.stop, len(items))
    probs = np.concatenate(parts)
    if bundle.calibration and bundle.calibration.labels == tuple(labels):
        return bundle.calibration.apply(probs)
    return probs


def _row_config(bundle: Bundle, items: Items | Encoded) -> RowConfig:
    rows = bundle.rows()
    if isinstance(items, Encoded):
        rows = dataclasses.replace(rows, blank=items.blank)
    return rows


def _copy_of(items: Items | Encoded, part: slice, copy: int, strength: float) -> Any:
    """Some clips as they are (copy 0) or augmented."""
    if isinstance(items, Encoded):
        return items.copies[copy][part]
    return [(r, augmented(v, copy, strength)) for r, v in items[part]]


def make_samples(
    bundle: Bundle,
    items: Items | Encoded,
    task: str,
    *,
    modalities: Sequence[str] = MODALITIES,
    question: str | None = None,
) -> tuple[list[Sample], Collate]:
    """Prompts of one task for clips, and the function that makes batches of them.

    Args:
      bundle: the model.
      items: clips with their views, or encoded.
      task: tag of the question.
      modalities: what the model may use, of `MODALITIES`.
      question: the user's own wording in place of the model's.

    Returns:
      One prompt per clip, in the order of `items`, and the function.
    """
    rows = _row_config(bundle, items)
    if question is not None:
        # As the only wording of its pool it takes the same path as the model's own; braces in the
        # user's text stay as they are.
        rows = dataclasses.replace(rows, questions={**(rows.questions or {}), task: (question,)})
    streams = tuple(s for s in STREAMS if ("audio" if s == "audio" else "video") in modalities)
    pairs: Any = items.copies[0] if isinstance(items, Encoded) else items
    out = []
    for record, views in pairs:
        text, row = eval_row(
            record,
            task,
            record.labels,
            tokenizer=bundle.tokenizer,
            config=rows,
            style=bundle.style,  # type: ignore[arg-type]
            modalities=modalities,
        )
        example = Example(clip=record, task=task, prompt=text, answer="", streams=streams)
        out.append(Sample(example=example, row=row, views=views))
    return out, Collate(bundle.tokenizer, rows)


def clip_seed(record: ClipRecord) -> int:
    """The number that, with the seed, the random draws of a clip's answers depend on."""
    return zlib.crc32(record.id.encode("utf-8", "replace"))


def reasons(
    bundle: Bundle,
    items: Items | Encoded,
    *,
    modalities: Sequence[str] = MODALITIES,
    batch_size: int = 50,
    task: str | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> list[str]:
    """The reason that the model writes for each clip.

    Args:
      bundle: the model.
      items: clips with their views, or encoded.
      modalities: what the model may use, of `MODALITIES`.
      batch_size: clips that are answered at the same time.
      task: tag of the question, the model's reason task by default.
      sampler: how tokens are chosen; greedy by default.
      seed: of the random draws.
      progress: reports finished clips.

    Returns:
      The texts, in the order of `items`.

    Raises:
      RowTooLong: a prompt is longer than the model reads.
    """
    if not len(items):
        return []
    sampler = sampler or Sampler(max_tokens=bundle.answer_tokens)
    samples, collate = make_samples(
        bundle, items, task or bundle.reason_task, modalities=modalities
    )
    engine = _engine(bundle, collate, batch_size)
    seeds = [clip_seed(s.example.clip) for s in samples]
    answers = engine.generate(
        samples,
        sampler,
        seeds=seeds,
        seed=seed,
        progress=lambda _, done, total: progress("write reasons", done, total),
    )
    return [bundle.tokenizer.decode(ids) for ids in answers]


def answer_questions(
    bundle: Bundle,
    clip: Encoded,
    questions: Sequence[tuple[str, str | None]],
    *,
    sampler: Sampler | None = None,
    seed: int = 0,
    on_ids: Callable[[int, Sequence[int]], None] | None = None,
) -> list[list[int]]:
    """Answers several questions about one clip; what their prompts share is computed once.

    Args:
      bundle: the model.
      clip: one clip.
      questions: (tag of the task, wording or None for the model's own).
      sampler: how tokens are chosen; greedy by default.
      seed: of the random draws.
      on_ids: called with (number of the question, ids of its answer so far) during generation.

    Returns:
      The token ids of the answers without end tokens, in the order of `questions`.

    Raises:
      ValueError: `clip` is not exactly one clip.
      RowTooLong: a prompt is longer than the model reads.
    """
    if len(clip) != 1:
        raise ValueError(f"questions are about one clip, got {len(clip)}")
    sampler = sampler or Sampler(max_tokens=bundle.answer_tokens)
    pairs = [make_samples(bundle, clip, task, question=wording) for task, wording in questions]
    samples = [own[0] for own, _ in pairs]
    engine = _engine(bundle, pairs[0][1], len(samples))
    rows = [s.row for s in samples]
    prefix_length = shared_prefix(rows)
    clip_end = max(start + size for start, size in rows[0].soft)
    if len(rows) == 1 or prefix_length < clip_end:  # v1 may put the question before the clip
        return engine.generate(samples, sampler, seed=seed, on_tokens=on_ids)
    longest = max(len(r.ids) for r in rows) - prefix_length
    free_slots = 2 * longest + 16 + sampler.max_tokens
    session = Session(engine, samples[0], prefix_length=prefix_length, free_slots=free_slots)
    return session.generate(rows, sampler, seed=seed, on_tokens=on_ids)


def _engine(bundle: Bundle, collate: Collate, batch_size: int) -> Engine:
    return Engine(
        config=bundle.settings.model,
        variables=bundle.variables,
        collate=collate,
        eos=bundle.tokenizer.end_ids,
        batch_size=batch_size,
    )

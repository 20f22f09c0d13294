"""A model that answers the clips of a suite, on one or more devices."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipeline.media.views import Views
from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import Bundle, load_bundle, read_facts
from emojax.bundle.precision import with_precision
from emojax.evaluate.predictions import Prediction
from emojax.evaluate.suite_runner import Answerer, Question, prompt_tokens
from emojax.evaluate.suites import Member
from emojax.infer.answer import label_probabilities, reasons
from emojax.infer.memory_plan import check_memory
from emojax.infer.sample import Sampler
from emojax.model.variables import variable_shardings

# Metrics of closed questions: for one label of a list.
CLOSED_METRICS = ("hit_rate", "two_class", "single", "last_word")


def load_on_mesh(model: Path, mesh: Mesh, *, int8: bool = False) -> Bundle:
    """Loads a model folder with its weights on the devices of a mesh.

    Args:
      model: the folder.
      mesh: the devices.
      int8: whether frozen kernels become int8.

    Returns:
      The model.

    Raises:
      FileNotFoundError: the folder holds no complete model.
      ValueError: as `check_memory` and `load_bundle`.
    """
    precision = "int8" if int8 else ""
    check_memory(model, precision=precision)
    _, saved = read_facts(model)
    shardings = variable_shardings(with_precision(saved, precision).model, mesh)
    return load_bundle(model, precision=precision, shardings=shardings)


def long_enough(bundle: Bundle, asked: Sequence[Question], tag: str) -> Bundle:
    """The bundle with a bucket for its longest prompt, which may exceed those of its training."""
    longest = max(prompt_tokens(bundle, asked, tag))
    data = bundle.settings.data
    if longest <= max(length for length, _ in data.buckets):
        return bundle
    data = dataclasses.replace(data, buckets=(*data.buckets, (-(-longest // 64) * 64, 1)))
    return dataclasses.replace(bundle, settings=dataclasses.replace(bundle.settings, data=data))


def weights_id(bundle: Bundle) -> str:
    """Hash of the first 64 numbers of each weight, which tells trained models apart."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(bundle.variables):
        first = np.asarray(leaf.ravel()[:64]).astype(np.float32)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape}".encode() + first.tobytes())
    return digest.hexdigest()[:16]


def answerer(bundle: Bundle, member: Member, answers: str, batch: int) -> Answerer:
    """A function that answers the clips of one set with a model.

    Args:
      bundle: the model.
      member: the set.
      answers: see `evaluate_suite`.
      batch: clips at once.

    Returns:
      A function of (clips with their views, task tag) that gives one row per clip.
    """
    closed = member.benchmark.metric in CLOSED_METRICS
    # greedy, at most 200 tokens: as the released evaluation
    sampler = Sampler(max_tokens=min(Sampler().max_tokens, bundle.answer_tokens))

    def answer(items: Sequence[tuple[ClipRecord, Views]], tag: str) -> list[Prediction]:
        rows = [Prediction(clip=record.id) for record, _ in items]
        if answers != "labels" or not closed:
            texts = reasons(bundle, items, batch_size=batch, task=tag, sampler=sampler)
            rows = [dataclasses.replace(r, response=t) for r, t in zip(rows, texts, strict=True)]
        if answers != "text" and closed:
            probs = label_probabilities(bundle, items, bundle.labels, batch_size=batch, task=tag)
            for i, p in enumerate(probs):
                by_label = {
                    label: round(float(x), 6) for label, x in zip(bundle.labels, p, strict=True)
                }
                best = bundle.labels[int(p.argmax())]
                rows[i] = dataclasses.replace(
                    rows[i],
                    probabilities=by_label,
                    response=best if answers == "labels" else rows[i].response,
                )
        return rows

    return answer

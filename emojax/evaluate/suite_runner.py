"""Answers the clips of a set with a model or a server; interrupted runs can be resumed.

The clips are grouped into batches (by the length of their rows) before the first is answered, so
answers do not depend on where a run was interrupted. `partial_answers` describes the files.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.datasets.benchmarks import benchmark_clips
from data_pipeline.datasets.dataset import DatasetContents
from data_pipeline.io import temporary_lock, write_text
from data_pipeline.loader.batches import eval_row
from data_pipeline.loader.tokens import pick_bucket
from data_pipeline.media.clip import read_clip
from data_pipeline.media.container import ClipError, one_file
from data_pipeline.media.views import make_views
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import Bundle
from emojax.evaluate.model_answers import prediction_for
from emojax.evaluate.partial_answers import (
    Batches,
    append_batch,
    begin_partial,
    check_same_run,
    is_unanswered,
    questions_digest,
    read_partial,
)
from emojax.evaluate.predictions import REFUSED, Prediction, parse_prediction, write_predictions
from emojax.evaluate.suites import Member

BATCH = 16


@dataclasses.dataclass(frozen=True)
class Question:
    """One clip of a set and what is asked about it.

    Attributes:
      record: the clip, with the labels of the question.
      truth: the label as the set's file spells it.
      scored: whether it counts.
    """

    record: ClipRecord
    truth: str
    scored: bool


@dataclasses.dataclass(frozen=True)
class DecodedClip:
    """A decoded clip.

    Attributes:
      views: what the answerer takes.
      seconds: its length.
      modalities: those present.
    """

    views: Any
    seconds: float
    modalities: tuple[str, ...]


# Decodes a clip; raises ClipError.
Decode = Callable[[ClipRecord], DecodedClip]
# Answers (clips with their views, task); the predictions need only the fields that it knows.
Answerer = Callable[[Sequence[tuple[ClipRecord, Any]], str], list[Prediction]]


def lock_output(out: Path) -> contextlib.AbstractContextManager[None]:
    """Locks a folder while answers are written into it.

    Raises:
      ValueError: another process is writing into it.
    """
    return temporary_lock(out / ".writing", f"another evaluation is writing into {out}")


def make_questions(member: Member, dataset: DatasetContents) -> list[Question]:
    """The questions about the clips of a set, in the order of its files."""
    b = member.benchmark
    if b.metric == "none":  # a text is asked for; there is no label to compare with
        records = [r for r in dataset.records if r.mode in b.modes]
        return [
            Question(dataclasses.replace(r, labels=b.labels, label="", targets={}), "", True)
            for r in records
        ]
    task = "multi-label" if b.tag == "multi-label" else b.task
    return [
        Question(
            dataclasses.replace(
                c.record, label="", labels=b.labels, task=task, native="", targets={}
            ),
            c.raw,
            c.scored,
        )
        for c in benchmark_clips(b, dataset, fold=member.fold)
    ]


def plan_batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices of clips in batches of `size`; a batch has one compiled row length."""
    batches: list[list[int]] = []
    for length in sorted(set(lengths)):
        indices = [i for i, n in enumerate(lengths) if n == length]
        batches += [indices[i : i + size] for i in range(0, len(indices), size)]
    return batches


def prompt_tokens(bundle: Bundle, questions: Sequence[Question], tag: str) -> list[int]:
    """Number of tokens of each clip's prompt, including soft tokens."""
    config = bundle.rows()
    return [
        len(
            eval_row(
                q.record,
                tag,
                q.record.labels,
                tokenizer=bundle.tokenizer,
                config=config,
                style=bundle.style,  # type: ignore[arg-type]
            )[1].ids
        )
        for q in questions
    ]


def row_lengths(bundle: Bundle, questions: Sequence[Question], tag: str) -> list[int]:
    """The compiled row length of each clip's prompt."""
    return [
        pick_bucket(n, 0, bundle.settings.data.buckets)[0]
        for n in prompt_tokens(bundle, questions, tag)
    ]


def answer_set(
    member: Member,
    questions: Sequence[Question],
    lengths: Sequence[int],
    *,
    answer: Answerer,
    decode: Decode,
    out: Path,
    identity: dict[str, Any],
    batch: int = BATCH,
    progress: Progress = no_progress,
    write: bool = True,
) -> list[Prediction]:
    """Answers every clip of a set once; answers that `out` already has are read.

    Args:
      member: the set.
      questions: its clips.
      lengths: the compiled row length of each clip.
      answer: answers batches.
      decode: decodes a clip; raises ClipError.
      out: folder of the evaluation.
      identity: what the answers depend on; a folder with another identity is refused.
      batch: clips per batch.
      progress: reports answered clips; the task is the name of the set.
      write: False on processes that only take part in the computation.

    Returns:
      Rows in the order of the questions; clips that cannot be decoded or got no usable reply have
      an `error`. If all have one, no file is kept.

    Raises:
      ValueError: the folder contains answers of another model or other clips.
    """
    final = out / "predictions" / member.folder / f"{member.name}.jsonl"
    partial, identity_file = _partial_file(final), _identity_file(final)
    plan = plan_batches(lengths, batch)
    head = {"set": member.name, "clips": _digest(questions), "batch": batch, **identity}
    if final.exists() and identity_file.exists() and not partial.exists():
        check_same_run(head, json.loads(identity_file.read_text()), final)
        return _read_complete(final, len(questions))
    done = read_partial(partial, head, plan)
    if write and partial.exists():
        begin_partial(partial, head, done)
    tag = member.benchmark.tag or member.benchmark.task
    new = _answer_batches(questions, plan, [*done], answer=answer, decode=decode, tag=tag)
    with contextlib.closing(new):
        progress(member.name, sum(map(len, done.values())), len(questions))
        for number, new_rows in new:
            if write:
                _store(partial, head, number, new_rows)
            done[number] = new_rows
            progress(member.name, sum(map(len, done.values())), len(questions))
    rows = _in_order(done, plan)
    if write:
        _finish(final, head, rows)
    return rows


def _store(partial: Path, head: dict[str, Any], number: int, rows: Sequence[Prediction]) -> None:
    """Appends a batch to the growing file, unless a later run asks about its clips again."""
    if any(map(is_unanswered, rows)):
        return
    if not partial.exists():
        begin_partial(partial, head, {})
    append_batch(partial, number, rows)


def _finish(final: Path, head: dict[str, Any], rows: Sequence[Prediction]) -> None:
    """Writes the rows of a set, if there is any answer, and whether a later run asks again.

    The growing file is removed last: as long as it exists, the set is not complete.
    """
    partial, again = _partial_file(final), any(map(is_unanswered, rows))
    if any(row.is_answered for row in rows):
        if again and not partial.exists():
            begin_partial(partial, head, {})
        write_predictions(final, rows)
        if again:
            return
        write_text(_identity_file(final), json.dumps(head, indent=1), durable=True)
    partial.unlink(missing_ok=True)


def _partial_file(final: Path) -> Path:
    return final.with_suffix(".partial.jsonl")


def _identity_file(final: Path) -> Path:
    return final.with_suffix(".run.json")


def _digest(questions: Sequence[Question]) -> str:
    return questions_digest([(q.record, q.truth, q.scored) for q in questions])


def _read_complete(path: Path, count: int) -> list[Prediction]:
    lines = path.read_bytes().split(b"\n")
    stored = [parse_prediction(json.loads(line)) for line in lines if line]
    if len(stored) != count:
        raise ValueError(
            f"{path} was changed after it was written; delete it, and its clips are asked again"
        )
    return stored


def _in_order(done: Batches, plan: Sequence[Sequence[int]]) -> list[Prediction]:
    by_clip = {i: row for n, rows in done.items() for i, row in zip(plan[n], rows, strict=True)}
    return [by_clip[i] for i in range(len(by_clip))]


def _answer_batches(
    questions: Sequence[Question],
    plan: Sequence[Sequence[int]],
    done: Sequence[int],
    *,
    answer: Answerer,
    decode: Decode,
    tag: str,
) -> Generator[tuple[int, list[Prediction]]]:
    """Yields the batches whose numbers are not in `done`."""
    missing = [n for n in range(len(plan)) if n not in done]
    with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 2))) as pool:
        for number, clips in _decoded_batches(pool, missing, plan, questions, decode=decode):
            yield number, _answer_batch([questions[i] for i in plan[number]], clips, answer, tag)


def _decoded_batches(
    pool: concurrent.futures.Executor,
    numbers: Sequence[int],
    plan: Sequence[Sequence[int]],
    questions: Sequence[Question],
    *,
    decode: Decode,
) -> Iterator[tuple[int, list[DecodedClip | str]]]:
    """Yields batches of decoded clips, decoding two batches ahead."""

    def start(number: int) -> list[concurrent.futures.Future[DecodedClip | str]]:
        return [pool.submit(_decode_one, questions[i].record, decode) for i in plan[number]]

    waiting = [start(n) for n in numbers[:2]]
    for k, number in enumerate(numbers):
        current = waiting.pop(0)
        if k + 2 < len(numbers):
            waiting.append(start(numbers[k + 2]))
        yield number, [f.result() for f in current]


def _decode_one(record: ClipRecord, decode: Decode) -> DecodedClip | str:
    """The decoded clip, or the error message."""
    try:
        with one_file():
            return decode(record)
    except ClipError as error:
        return " ".join(str(error).split())


def clip_decoder(settings: Any) -> Decode:
    """Decodes clips with the sampling and view sizes of a model's settings."""

    def decode(record: ClipRecord) -> DecodedClip:
        clip = read_clip(
            record.path,
            sampling=settings.sampling(record.peak_index),
            clip_id=record.id,
            subtitle=record.subtitle,
            start=record.start,
            end=record.end,
        )
        return DecodedClip(make_views(clip, settings.views), clip.duration, clip.modalities)

    return decode


def _answer_batch(
    questions: Sequence[Question],
    clips: Sequence[DecodedClip | str],
    answer: Answerer,
    tag: str,
) -> list[Prediction]:
    decoded = [
        (q.record, clip.views)
        for q, clip in zip(questions, clips, strict=True)
        if not isinstance(clip, str)
    ]
    answers = iter(answer(decoded, tag)) if decoded else iter(())
    rows = []
    for q, clip in zip(questions, clips, strict=True):
        modalities = () if isinstance(clip, str) else clip.modalities
        known = prediction_for(q.record, modalities, answer=q.truth, mode=q.record.mode)
        if isinstance(clip, str):
            rows.append(dataclasses.replace(known, modalities=None, error=f"{REFUSED}{clip}"))
            continue
        given = next(answers)
        rows.append(
            dataclasses.replace(
                known,
                duration=round(clip.seconds, 3),
                response=given.response,
                probabilities=given.probabilities,
                reason=given.reason,
                error=given.error,
            )
        )
    return rows

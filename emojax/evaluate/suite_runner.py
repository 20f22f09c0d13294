"""Answers of a model to the clips of a suite, written as they come: a run that was killed goes on where it was.

Which clips are answered together is fixed before the first is (by the length of their rows), so answers do not depend on
where a run was stopped. `predictions/<folder>/<set>.partial.jsonl` grows by a batch at a time; when a set is done it becomes
`<set>.jsonl`, in the order of the set.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

from data_pipeline.datasets.benchmarks import benchmark_clips
from data_pipeline.datasets.dataset import DatasetContents
from data_pipeline.io import lock_folder
from data_pipeline.loader.batches import eval_row
from data_pipeline.loader.tokens import pick_bucket
from data_pipeline.media.clip import ClipError, read_clip
from data_pipeline.media.views import make_views
from data_pipeline.schema import Clip, ClipRecord
from emojax.bundle.model_folder import Bundle
from emojax.evaluate.model_answers import row_of
from emojax.evaluate.predictions import Prediction, prediction_of, write_predictions, write_whole
from emojax.evaluate.suites import Member

Tick = Callable[[int, int], None]
BATCH = 16
REFUSED, NO_ANSWER = "refused: ", "no answer: "


@dataclasses.dataclass(frozen=True)
class Question:
    """One clip of a set, as it is asked.

    Attributes:
      record: with the labels of the question.  truth: as the set's file spells it.  scored: whether it counts.
    """

    record: ClipRecord
    truth: str
    scored: bool


def only_writer(out: Path) -> filelock.AcquireReturnProxy:
    """Held while answers are written into a folder; raises ValueError where another process holds it."""
    return lock_folder(out / ".writing", f"another evaluation is writing into {out}")


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A clip, ready to be answered. `views`: what the answerer takes.  seconds: its length."""

    views: Any
    seconds: float
    modalities: tuple[str, ...]


Decode = Callable[[ClipRecord], Decoded]  # raises ClipError
# Answers items that are asked one task: (clips with their views, task) -> predictions without what is known of the clip.
Answerer = Callable[[Sequence[tuple[ClipRecord, Any]], str], list[Prediction]]


def questions_of(member: Member, found: DatasetContents) -> list[Question]:
    """The clips of a set whose media are there, in the order of its files."""
    b = member.benchmark
    if b.metric == "none":  # a text is asked for; there is no label to compare with
        records = [r for r in found.records if r.mode in b.modes]
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
        for c in benchmark_clips(b, found, fold=member.fold)
    ]


def plan_batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Numbers of clips, `size` at a time, those of one compiled row length together, in their order."""
    batches: list[list[int]] = []
    for length in sorted(set(lengths)):
        own = [i for i, n in enumerate(lengths) if n == length]
        batches += [own[i : i + size] for i in range(0, len(own), size)]
    return batches


def prompt_tokens(bundle: Bundle, questions: Sequence[Question], tag: str) -> list[int]:
    """Tokens of each clip's prompt, soft ones included."""
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
    tick: Tick | None = None,
    write: bool = True,
) -> list[Prediction]:
    """Answers every clip of a set once; those that are in `out` already are read from there.

    Args:
      decode: raises ClipError.  identity: what answers depend on; another one is refused.
      write: False on processes that only take part.

    Returns:
      Rows in the order of the set. A clip that can not be decoded is answered by nothing, and says why in `error`.

    Raises:
      ValueError: the folder holds answers of another model or other clips.
    """
    tag = member.benchmark.tag or member.benchmark.task
    final = out / "predictions" / member.folder / f"{member.name}.jsonl"
    partial = final.with_suffix(".partial.jsonl")
    plan = plan_batches(lengths, batch)
    head = {"set": member.name, "clips": _digest(questions), "batch": batch, **identity}
    if final.exists() and (facts := _facts(final)).exists() and not partial.exists():
        _same(head, json.loads(facts.read_text()), final)
        stored = [
            prediction_of(json.loads(line)) for line in final.read_bytes().split(b"\n") if line
        ]
        if len(stored) != len(questions):
            raise ValueError(
                f"{final} was changed since it was written; delete it, and its clips are asked again"
            )
        return stored
    done = _read_partial(partial, head, plan)
    if write:
        _begin(partial, head, done)
    total, ready = len(questions), sum(len(plan[n]) for n in done)
    if tick:
        tick(ready, total)
    left = [n for n in range(len(plan)) if n not in done]
    with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 2))) as pool:
        for number, decoded in _decoded(pool, left, plan, questions, decode):
            rows = _answer_batch(questions, plan[number], decoded, answer, tag)
            if write:
                _append(partial, number, rows)
            done[number] = rows
            ready += len(rows)
            if tick:
                tick(ready, total)
    by_clip = {
        i: row for number, rows in done.items() for i, row in zip(plan[number], rows, strict=True)
    }
    rows = [by_clip[i] for i in range(total)]
    if write:
        # The growing file goes last: as long as it is there, the set is not done.
        write_predictions(final, rows)
        if not any(map(unanswered, rows)):
            write_whole(_facts(final), json.dumps(head, indent=1))
            partial.unlink(missing_ok=True)
    return rows


def unanswered(row: Prediction) -> bool:
    """Whether a server said nothing usable: the same command asks again."""
    return row.error.startswith(NO_ANSWER)


def _decoded(
    pool: concurrent.futures.Executor,
    numbers: Sequence[int],
    plan: Sequence[Sequence[int]],
    questions: Sequence[Question],
    decode: Decode,
) -> Iterator[tuple[int, list[Decoded | str]]]:
    """Batches with their clips decoded, two batches ahead of whoever takes them."""

    def start(number: int) -> list[concurrent.futures.Future[Decoded | str]]:
        return [pool.submit(_decode_one, questions[i].record, decode) for i in plan[number]]

    waiting = [start(n) for n in numbers[:2]]
    for k, number in enumerate(numbers):
        current = waiting.pop(0)
        if k + 2 < len(numbers):
            waiting.append(start(numbers[k + 2]))
        yield number, [f.result() for f in current]


def _decode_one(record: ClipRecord, decode: Decode) -> Decoded | str:
    try:
        return decode(record)
    except ClipError as error:
        return " ".join(str(error).split())


def decoder(settings: Any) -> Decode:
    """How a model's clips are decoded: its own sampling and view sizes."""

    def decode(record: ClipRecord) -> Decoded:
        clip: Clip = read_clip(
            record.path,
            sampling=settings.sampling(record.peak_index),
            clip_id=record.id,
            subtitle=record.subtitle,
            start=record.start,
            end=record.end,
        )
        return Decoded(make_views(clip, settings.views), clip.duration, clip.modalities)

    return decode


def _answer_batch(
    questions: Sequence[Question],
    numbers: Sequence[int],
    decoded: Sequence[Decoded | str],
    answer: Answerer,
    tag: str,
) -> list[Prediction]:
    good = [
        (questions[i].record, d.views)
        for i, d in zip(numbers, decoded, strict=True)
        if not isinstance(d, str)
    ]
    said = iter(answer(good, tag)) if good else iter(())
    rows = []
    for i, d in zip(numbers, decoded, strict=True):
        q = questions[i]
        known = row_of(
            q.record, () if isinstance(d, str) else d.modalities, answer=q.truth, mode=q.record.mode
        )
        if isinstance(d, str):
            rows.append(dataclasses.replace(known, modalities=None, error=f"{REFUSED}{d}"))
            continue
        own = next(said)
        rows.append(
            dataclasses.replace(
                known,
                duration=round(d.seconds, 3),
                response=own.response,
                probabilities=own.probabilities,
                reason=own.reason,
                error=own.error,
            )
        )
    return rows


# --- the file that grows ---


def _digest(questions: Sequence[Question]) -> str:
    """What is asked, and of which clips."""

    def size(path: str) -> int:
        return Path(path).stat().st_size if Path(path).is_file() else -1

    asked = [
        (
            r.id,
            Path(r.path).name,
            size(r.path),
            r.start,
            r.end,
            r.peak_index,
            r.subtitle,
            r.speaker,
            r.labels,
            q.truth,
            q.scored,
        )
        for q in questions
        for r in [q.record]
    ]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()[:16]


def _facts(final: Path) -> Path:
    return final.with_suffix(".run.json")


def _same(head: dict[str, Any], found: dict[str, Any], path: Path) -> None:
    if different := sorted(k for k in {*head, *found} if head.get(k) != found.get(k)):
        raise ValueError(
            f"{path} was answered with another {', '.join(different)}; choose another --out, or delete that file"
        )


def _read_partial(
    path: Path, head: dict[str, Any], plan: Sequence[Sequence[int]]
) -> dict[int, list[Prediction]]:
    """Whole batches of an earlier run; what was being written when it was killed is answered again."""
    if not path.exists():
        return {}
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            found.append(json.loads(line))
        except ValueError:  # torn, maybe in the middle of a character
            continue
    if not found or "batch" not in found[0] or "rows" in found[0]:
        return {}
    _same(head, found[0], path)
    done = {}
    for entry in found[1:]:
        rows = [prediction_of(r) for r in entry["rows"]]
        if len(rows) == len(plan[entry["batch"]]) and not any(map(unanswered, rows)):
            done[entry["batch"]] = rows
    return done


def _begin(path: Path, head: dict[str, Any], done: dict[int, list[Prediction]]) -> None:
    """Starts the file, or takes a torn last line off it."""
    lines = [json.dumps(head), *(_line(number, rows) for number, rows in done.items())]
    write_whole(path, "".join(line + "\n" for line in lines))


def _line(number: int, rows: Sequence[Prediction]) -> str:
    return json.dumps(
        {"batch": number, "rows": [json.loads(r.to_json()) for r in rows]}, ensure_ascii=False
    )


def _append(path: Path, number: int, rows: Sequence[Prediction]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(number, rows) + "\n")
        file.flush()
        os.fsync(file.fileno())

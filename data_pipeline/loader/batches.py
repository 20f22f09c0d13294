"""Sources -> batches: with Grain for training (seeded, resumable), in order for evaluation."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain

from data_pipeline.builders.shards import BuiltSet, open_built
from data_pipeline.loader import prompts, released_stages
from data_pipeline.loader.length_bucketing import BucketedRows
from data_pipeline.loader.mixture import MixedSource, Per
from data_pipeline.loader.samples import (
    Collate,
    DrawRow,
    LoadSample,
    RowConfig,
    Sample,
    truncate_subtitle,
)
from data_pipeline.loader.tasks import StageTasks
from data_pipeline.loader.tokens import Row, Tokenizer, make_row
from data_pipeline.media.clip import Sampling
from data_pipeline.media.storage import stored_views
from data_pipeline.media.views import ViewConfig, Views
from data_pipeline.schema import STREAMS, ClipRecord, Example


class BuiltSource:
    """One split of a built data set as (record, Views); media are decoded when they are read."""

    def __init__(self, built: BuiltSet, split: str, views: ViewConfig, sampling: Sampling):
        self.built, self.split, self.views, self.sampling = built, split, views, sampling

    @functools.cached_property
    def records(self) -> list[ClipRecord]:
        """The records of all clips, without decoding their media."""
        return [r for r in self.built.records() if r.split == self.split]

    def __reduce__(self) -> Any:
        # TFDS builders cannot be pickled, so worker processes open the shards themselves.
        return _open_source, (self.built.folder, self.split, self.views, self.sampling)

    def __len__(self) -> int:
        return len(self.built.sources[self.split])

    def __getitem__(self, index: Any) -> tuple[ClipRecord, Views]:
        fields = {k: bytes(v) for k, v in self.built.sources[self.split][int(index)].items()}
        record = ClipRecord.from_json(fields["record"])
        return record, stored_views(record, fields, self.built.config, self.views, self.sampling)


def _open_source(folder: Path, split: str, views: ViewConfig, sampling: Sampling) -> BuiltSource:
    built = open_built(folder.parent, names=[folder.name])[folder.name]
    return BuiltSource(built, split, views, sampling)


class BatchIterator:
    """Iterates over batches; its state is the number of the next batch, for any number of workers.

    Grain's own state depends on the number of worker processes and cannot be restored with another.
    """

    def __init__(self, batches: grain.MapDataset, options: grain.ReadOptions, workers: int):
        self._batches, self._options, self._workers = batches, options, workers
        self._next = 0
        self._iterator: Iterator[dict[str, Any]] | None = None

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> dict[str, Any]:
        if self._iterator is None:
            remaining = self._batches[self._next :].to_iter_dataset(self._options)
            if self._workers:
                remaining = remaining.mp_prefetch(
                    grain.MultiprocessingOptions(
                        num_workers=self._workers, per_worker_buffer_size=2
                    )
                )
            self._iterator = iter(remaining)
        batch = next(self._iterator)
        self._next += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """{next_index}: number of batches returned so far."""
        return {"next_index": self._next}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues after the number of batches in `state`."""
        self._next, self._iterator = int(state["next_index"]), None


def train_iterator(
    sources: Mapping[str, tuple[Any, float]],
    stage: StageTasks,
    tokenizer: Tokenizer,
    *,
    config: RowConfig,
    batch: int,
    seed: int,
    threads: int = 2,
    prefetch: int = 4,
    shard: tuple[int, int] = (0, 1),
    workers: int = 0,
    per: Per = "sample",
    window: int = 1,
) -> BatchIterator:
    """An endless iterator over batches of a weighted mixture.

    Args:
      sources: name -> (random-access source, mixture weight).
      stage: the tasks.
      tokenizer: tokenizes prompts and answers.
      config: how samples become arrays.
      batch: batch size of this process.
      seed: of shuffling, task draws and augmentation.
      threads: number of threads that read elements.
      prefetch: number of elements that are kept ready.
      shard: (index of this process, number of processes); each reads its own rows of every step.
      workers: number of processes that make batches; 0: threads of this process.
      per: whether a data set is drawn per `batch` of all processes or per `sample`.
      window: number of steps whose rows are sorted by length (length_bucketing.py); 1: rows are
        not sorted.

    Returns:
      An iterator; `get_state` and `set_state` resume it exactly, with any number of workers.

    Raises:
      ValueError: a data set is empty, or `window` cannot be combined with `per`.
    """
    process, count = shard
    mixed = MixedSource(sources, seed=seed, per=per, batch=batch * count)
    # All processes draw the rows of a step alike, so that they agree on its compiled size.
    rows = BucketedRows(
        mixed,
        DrawRow(stage, tokenizer, config),
        batch * count,
        steps=window,
        buckets=config.buckets,
        seed=seed,
    )
    samples = grain.MapDataset.source(rows).seed(seed).random_map(LoadSample(config))
    batches = samples.batch(batch, drop_remainder=True, batch_fn=Collate(tokenizer, config))
    if count > 1:
        batches = batches[process::count]
    return BatchIterator(
        batches, grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch), workers
    )


def eval_row(
    record: ClipRecord,
    task: str,
    labels: tuple[str, ...],
    *,
    tokenizer: Tokenizer,
    config: RowConfig,
    style: prompts.Style,
    modalities: Sequence[str] = ("video", "audio", "text"),
) -> tuple[str, Row]:
    """Builds the prompt of a clip with the first question of a task.

    Args:
      record: the clip.
      task: the tag.
      labels: label space of the question.
      tokenizer: tokenizes the prompt.
      config: how samples become arrays.
      style: style of the prompt.
      modalities: the modalities that may be used.

    Returns:
      (prompt, row).

    Raises:
      ValueError: the prompt does not contain each placeholder exactly once, in order.
    """
    record = truncate_subtitle(record, tokenizer, config.max_subtitle)
    subtitle = record.subtitle if "text" in modalities else ""
    prompt = prompts.eval_prompt(
        subtitle or config.no_subtitle,
        task,
        prompts.question(task, labels, custom=config.questions, dataset=record.dataset),
        style,
        layout=config.layout,
        dataset=record.dataset,
        person=released_stages.speaking_person(record),
        wrap=tokenizer.wrap,
    )
    special = config.layout != "train"
    return prompt, make_row(tokenizer, prompt, None, config.eval_placeholders, special=special)


def eval_batches(
    items: Sequence[tuple[ClipRecord, Views]],
    task: str,
    tokenizer: Tokenizer,
    *,
    config: RowConfig,
    batch: int,
    style: prompts.Style,
    modalities: Sequence[str] = ("video", "audio", "text"),
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yields batches of prompts without answers, in order; the last row fills the last batch up.

    Args:
      items: clips with their views.
      task: tag of the question, which is the first of its pool.
      tokenizer: tokenizes the prompts.
      config: how samples become arrays.
      batch: batch size.
      style: style of the prompts.
      modalities: the modalities that may be used; `video` covers image and frames.

    Yields:
      (batch, number of rows that are not fill-up).
    """
    streams = tuple(s for s in STREAMS if ("audio" if s == "audio" else "video") in modalities)
    labels = items[0][0].labels if items else ()
    for start in range(0, len(items), batch):
        chunk = list(items[start : start + batch])
        real = len(chunk)
        chunk += [chunk[-1]] * (batch - real)
        samples = []
        for record, views in chunk:
            prompt, row = eval_row(
                record,
                task,
                labels,
                tokenizer=tokenizer,
                config=config,
                style=style,
                modalities=modalities,
            )
            example = Example(clip=record, task=task, prompt=prompt, answer="", streams=streams)
            samples.append(Sample(example=example, row=row, views=views))
        yield Collate(tokenizer, config)(samples), real

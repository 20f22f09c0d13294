"""Sources -> batches: Grain for training (seeded, shuffled, resumable to the element), plain loops for evaluation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np

from data_pipeline.builders.decoded_clips import unpack_views
from data_pipeline.builders.shards import BuiltSet, open_built
from data_pipeline.datasets.labels import normalise_answer
from data_pipeline.loader import prompts, released_stages
from data_pipeline.loader.features import Features
from data_pipeline.loader.length_bucketing import BucketedRows
from data_pipeline.loader.mixture import MixedSource, Per
from data_pipeline.loader.tasks import STREAMS, StageTasks, draw_example, with_strange_words
from data_pipeline.loader.tokens import Row, Tokenizer, collate_rows, make_row
from data_pipeline.media.augment import augment_views
from data_pipeline.media.clip import Sampling
from data_pipeline.media.speaker_norm import Speakers
from data_pipeline.media.storage import stored_views
from data_pipeline.media.views import ViewConfig, Views
from data_pipeline.schema import VIDEO_HERE, ClipRecord, Example

NAMES = (
    "names"  # key of the batch that stays on the host: data set/clip id of each row, for reports
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowConfig:
    """How samples become arrays; see configs/base.py:data.

    `zero_hidden`: streams that a task may not look at are zeros (released), not only flagged. `no_subtitle` stands
    in the prompt where no words are known. `places`: where soft tokens stand in a prompt that is trained on or, in
    layout `train`, answered; the released layouts put all of them at the first place. `words`: W, distinct words of each stream's description that its tower learns to predict; 0 leaves them out.
    `speakers`: training rows are normalised by speaker with these. `blank`: with cached features, what stands for each
    field where its stream is absent or hidden.
    """

    views: ViewConfig
    places: tuple[tuple[str, int], ...]
    buckets: tuple[tuple[int, int], ...]
    max_answer: int
    max_subtitle: int
    no_subtitle: str = ""
    augment: float = 0.0
    zero_hidden: bool = True
    words: int = 0
    speakers: Speakers | None = None
    layout: prompts.Layout = "train"
    questions: prompts.Questions | None = None
    blank: Mapping[str, np.ndarray] | None = None

    @property
    def eval_places(self) -> tuple[tuple[str, int], ...]:
        """Where the soft tokens stand in the prompts of `layout`."""
        return (
            self.places
            if self.layout == "train"
            else ((VIDEO_HERE, sum(n for _, n in self.places)),)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One row before batching."""

    example: Example
    row: Row
    views: Views | Features
    bucket: tuple[int, int] | None = None  # of its batch, where that is planned (grouping.py)


def view_arrays(
    views: Views, *, streams: Sequence[str] = STREAMS, zero_hidden: bool = True
) -> dict[str, Any]:
    """One clip's share of the batch; streams not named have their flag False and, with `zero_hidden`, zeros."""
    has_image = views.has_video and "image" in streams
    has_video = views.has_video and "video" in streams
    has_audio = views.has_audio and "audio" in streams
    return {
        "image": views.image if has_image or not zero_hidden else np.zeros_like(views.image),
        "frames": views.frames if has_video or not zero_hidden else np.zeros_like(views.frames),
        "sound": views.sound if has_audio or not zero_hidden else np.zeros_like(views.sound),
        "audio_frames": np.int32(views.audio_frames if has_audio or not zero_hidden else 0),
        "has_image": np.bool_(has_image),
        "has_video": np.bool_(has_video),
        "has_audio": np.bool_(has_audio),
    }


def feature_arrays(
    features: Features,
    blank: Mapping[str, np.ndarray],
    *,
    streams: Sequence[str] = STREAMS,
    zero_hidden: bool = True,
) -> dict[str, Any]:
    """`view_arrays` of a clip whose features are cached. A picture that may not be seen is, with `zero_hidden`, what the
    encoder makes of zeros; other hidden streams are zeros, which the model puts there itself.
    """
    flags = {
        "image": features.has_video and "image" in streams,
        "video": features.has_video and "video" in streams,
        "audio": features.has_audio and "audio" in streams,
    }
    out: dict[str, Any] = {f"has_{stream}": np.bool_(flag) for stream, flag in flags.items()}
    for name, nothing in blank.items():
        stream = name if name in flags else "video"
        if flags[stream]:
            out[f"feature_{name}"] = features.arrays[name]
        else:
            out[f"feature_{name}"] = (
                nothing if name == "image" and zero_hidden else np.zeros_like(nothing)
            )
    return out


class AskClip:
    """(record, generator) -> what a clip is asked, and its tokens."""

    def __init__(self, stage: StageTasks, tokenizer: Tokenizer, config: RowConfig):
        self.stage, self.tokenizer, self.config = stage, tokenizer, config

    def __call__(self, record: ClipRecord, rng: np.random.Generator) -> tuple[Example, Row]:
        c = self.config
        if chance := self.stage.strange_words:
            record = dataclasses.replace(
                record, subtitle=with_strange_words(record.subtitle, chance, rng)
            )
        record = fit_subtitle(record, self.tokenizer, c.max_subtitle)
        example = draw_example(
            record, self.stage, rng, no_subtitle=c.no_subtitle, questions=c.questions
        )
        return example, make_row(
            self.tokenizer, example.prompt, example.answer, c.places, max_answer=c.max_answer
        )


class FillSample(grain.transforms.RandomMap):
    """A row of BucketedRows -> Sample: its views, normalised and augmented; random by position alone."""

    def __init__(self, config: RowConfig):
        self.config = config

    def random_map(self, element: Any, rng: np.random.Generator) -> Sample:
        """Called by Grain with a generator that depends on seed and position alone."""
        c = self.config
        example, row, bucket, stored = element
        record, views = read_element(stored, c.views)
        if record.id != example.clip.id:
            raise ValueError(
                f"the list of clips and their media are out of step at {record.id}: build the data again"
            )
        if c.speakers and isinstance(views, Views) and rng.random() < c.speakers.share:
            views = c.speakers.normalize(record, views)
        if isinstance(views, Views):
            views = augment_views(views, rng, strength=c.augment)
        return Sample(example=example, row=row, views=views, bucket=bucket)


def fit_subtitle(record: ClipRecord, tokenizer: Tokenizer, limit: int) -> ClipRecord:
    """The record with its subtitle cut to `limit` tokens, so that every prompt fits a compiled size."""
    if len(record.subtitle) <= limit // 4:  # a character is at most four byte pieces
        return record
    ids = tokenizer.encode(record.subtitle)
    return (
        record
        if len(ids) <= limit
        else dataclasses.replace(record, subtitle=tokenizer.decode(ids[:limit]))
    )


def read_element(element: Any, config: ViewConfig) -> tuple[ClipRecord, Any]:
    """One stored element -> (record, Views or cached Features); some sources give this pair themselves."""
    if isinstance(element, tuple):
        return element
    fields = {k: bytes(v) if not isinstance(v, bytes) else v for k, v in element.items()}
    return ClipRecord.from_json(fields.pop("record")), unpack_views(fields, config)


class BuiltSource:
    """One split of a built data set as (record, Views): its media are decoded as they are read."""

    def __init__(self, built: BuiltSet, split: str, views: ViewConfig, sampling: Sampling):
        self.built, self.split, self.views, self.sampling = built, split, views, sampling

    @functools.cached_property
    def records(self) -> list[ClipRecord]:
        """What is annotated of every clip, without its media."""
        return [r for r in self.built.records() if r.split == self.split]

    def __reduce__(self) -> Any:
        # Worker processes open the shards themselves: TFDS' builders do not travel.
        return _open_source, (self.built.folder, self.split, self.views, self.sampling)

    def __len__(self) -> int:
        return len(self.built.sources[self.split])

    def __getitem__(self, index: Any) -> tuple[ClipRecord, Views]:
        fields = {k: bytes(v) for k, v in self.built.sources[self.split][int(index)].items()}
        record = ClipRecord.from_json(fields["record"])
        return record, stored_views(record, fields, self.built.config, self.views, self.sampling)


def _open_source(folder: Path, split: str, views: ViewConfig, sampling: Sampling) -> BuiltSource:
    return BuiltSource(
        open_built(folder.parent, names=[folder.name])[folder.name], split, views, sampling
    )


class Collate:
    """Samples -> one batch of static arrays (see tokens.collate_rows and view_arrays)."""

    def __init__(self, tokenizer: Tokenizer, config: RowConfig):
        self.tokenizer, self.config = tokenizer, config

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        c = self.config
        rows = [s.row for s in samples]
        batch: dict[str, Any] = collate_rows(
            rows, self.tokenizer.pad_id, c.buckets, bucket=samples[0].bucket
        )
        parts = [self._arrays(s) for s in samples]
        batch |= {k: np.stack([p[k] for p in parts]) for k in parts[0]}
        if c.words:
            batch |= {f"words_{s}": self._words(samples, s) for s in ("image", "audio")}
        batch[NAMES] = [f"{s.example.clip.dataset}/{s.example.clip.id}" for s in samples]
        return batch

    def _arrays(self, sample: Sample) -> dict[str, Any]:
        c, streams = self.config, sample.example.streams
        if isinstance(sample.views, Views):
            return view_arrays(sample.views, streams=streams, zero_hidden=c.zero_hidden)
        assert c.blank is not None
        return feature_arrays(sample.views, c.blank, streams=streams, zero_hidden=c.zero_hidden)

    def _words(self, samples: Sequence[Sample], stream: str) -> np.ndarray:
        """int32[B, W] distinct ids of each clip's description of one stream, of its label without one, else -1."""
        out = np.full((len(samples), self.config.words), -1, np.int32)
        for i, sample in enumerate(samples):
            clip, views = sample.example.clip, sample.views
            if views.has_audio if stream == "audio" else views.has_video:
                text = normalise_answer(clip.texts.get(stream, clip.label))
                ids = list(dict.fromkeys(self.tokenizer.encode(text)))[: self.config.words]
                out[i, : len(ids)] = ids
        return out


class BatchIterator:
    """Batches from a position on; its state is the number of the next batch, whatever reads them.

    Grain's own state of worker processes holds their number and can not be read by another number of them.
    """

    def __init__(self, batches: grain.MapDataset, options: grain.ReadOptions, workers: int):
        self._batches, self._options, self._workers = batches, options, workers
        self._next = 0
        self._iterator: Iterator[dict[str, Any]] | None = None

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> dict[str, Any]:
        if self._iterator is None:
            rest = self._batches[self._next :].to_iter_dataset(self._options)
            if self._workers:
                rest = rest.mp_prefetch(
                    grain.MultiprocessingOptions(
                        num_workers=self._workers, per_worker_buffer_size=2
                    )
                )
            self._iterator = iter(rest)
        batch = next(self._iterator)
        self._next += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """{next_index}: how many batches were given out."""
        return {"next_index": self._next}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on behind as many batches as `state` says."""
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
    """An endless iterator of batches over a weighted mixture.

    Args:
      sources: name -> (random-access source, mixture weight).
      stage, tokenizer, config: what is asked and how it becomes arrays.
      batch: rows a batch of this process.
      seed: of shuffling, task draws and augmentation.
      threads, prefetch: elements read in parallel and kept ready.
      shard: (this process, number of processes); each takes its own rows of every step.
      workers: processes that make batches; 0: threads of this one.
      per: one draw of a data set for each `batch` of all processes, or for each `sample`.
      window: steps whose rows are sorted by length (grouping.py); 1: rows come as they are drawn.

    Returns:
      An iterator; `get_state` and `set_state` resume it to the element, with any number of workers.
    """
    process, count = shard
    mixed = MixedSource(sources, seed, per, batch * count)
    # Rows of a step are drawn by every process alike, so that all agree on its compiled size.
    rows = BucketedRows(
        mixed,
        AskClip(stage, tokenizer, config),
        batch * count,
        steps=window,
        buckets=config.buckets,
        seed=seed,
    )
    samples = grain.MapDataset.source(rows).seed(seed).random_map(FillSample(config))
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
    """(prompt, row) of a clip that is asked question 0 of a task."""
    record = fit_subtitle(record, tokenizer, config.max_subtitle)
    subtitle = record.subtitle if "text" in modalities else ""
    ask = prompts.question(task, labels, own=config.questions)
    words, person = subtitle or config.no_subtitle, released_stages.speaking_person(record)
    text = prompts.eval_prompt(
        words, task, ask, style, layout=config.layout, dataset=record.dataset, person=person
    )
    return text, make_row(
        tokenizer, text, None, config.eval_places, special=config.layout != "train"
    )


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
    """Prompts without answers, in order, the last batch filled up with its last row.

    Args:
      items: clips with their views.
      task: tag of the question; always question 0 of its pool.
      modalities: what may be used; `video` is image and frames.

    Yields:
      (batch, how many of its rows are real).
    """
    streams = [s for s in STREAMS if ("audio" if s == "audio" else "video") in modalities]
    question_labels = items[0][0].labels if items else ()
    for start in range(0, len(items), batch):
        chunk = list(items[start : start + batch])
        real = len(chunk)
        chunk += [chunk[-1]] * (batch - real)
        samples = []
        for record, views in chunk:
            text, row = eval_row(
                record,
                task,
                question_labels,
                tokenizer=tokenizer,
                config=config,
                style=style,
                modalities=modalities,
            )
            samples.append(
                Sample(
                    example=Example(
                        clip=record, task=task, prompt=text, answer="", streams=tuple(streams)
                    ),
                    row=row,
                    views=views,
                )
            )
        yield Collate(tokenizer, config)(samples), real

"""Clips -> rows -> batches of arrays: what one training or evaluation sample consists of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np

from data_pipeline.builders.decoded_clips import unpack_views
from data_pipeline.datasets.labels import normalize_answer
from data_pipeline.loader import prompts
from data_pipeline.loader.features import Features, stream_of
from data_pipeline.loader.tasks import StageTasks, draw_example, insert_random_words
from data_pipeline.loader.tokens import Row, Tokenizer, collate_rows, make_row
from data_pipeline.media.augment import augment_views
from data_pipeline.media.speaker_norm import Speakers
from data_pipeline.media.views import ViewConfig, Views
from data_pipeline.schema import STREAMS, VIDEO_HERE, ClipRecord, Example

# Key of a batch that stays on the host: "data set/clip id" of each row, for reports.
NAMES = "names"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowConfig:
    """How samples become arrays; see `Data` in emojax/config/fields.py.

    Attributes:
      views: sizes of the views.
      placeholders: placeholders of a training prompt, each with the number of soft tokens that
        replace it.
      buckets: compiled sizes (row length, answer length).
      max_answer: answers are cut to this many tokens.
      max_subtitle: transcripts are cut to this many tokens.
      no_subtitle: replaces an unknown transcript in the prompt.
      augment: strength of the augmentation, 0 for none.
      zero_hidden: whether hidden streams are zeros (as released), not only flagged.
      words: W, number of distinct words of each stream's description that the auxiliary
        bag-of-words heads predict; 0 without these heads.
      speakers: statistics that training rows are normalized with; None: not normalized.
      layout: layout of evaluation prompts.
      questions: wordings by task that replace the built-in ones.
      blank: features of an absent or hidden stream by field, if features are cached.
    """

    views: ViewConfig
    placeholders: tuple[tuple[str, int], ...]
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
    def eval_placeholders(self) -> tuple[tuple[str, int], ...]:
        """Placeholders of an evaluation prompt; released layouts use only the first one."""
        if self.layout == "train":
            return self.placeholders
        return ((VIDEO_HERE, sum(n for _, n in self.placeholders)),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One row before batching.

    Attributes:
      example: the instruction.
      row: its tokens.
      views: the inputs of the encoders, or their cached outputs.
      bucket: compiled size of its batch, None if it is chosen from the rows of the batch.
    """

    example: Example
    row: Row
    views: Views | Features
    bucket: tuple[int, int] | None = None


def view_arrays(
    views: Views, *, streams: Sequence[str] = STREAMS, zero_hidden: bool = True
) -> dict[str, Any]:
    """The arrays of one clip in a batch.

    Args:
      views: the clip.
      streams: the streams that the task may use; the flags of the others are False.
      zero_hidden: whether the other streams are zeros, too.
    """
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
    """The arrays of one clip with cached features in a batch.

    Args:
      features: the clip.
      blank: encoder outputs for an absent modality, by field.
      streams: the streams that the task may use; the flags of the others are False.
      zero_hidden: whether a hidden image is replaced by the encoder's output for a black image, as
        without a cache; else by zeros. The model masks the other hidden streams, so zeros do.

    Raises:
      ValueError: a field of the features belongs to no known stream.
    """
    flags = {
        "image": features.has_video and "image" in streams,
        "video": features.has_video and "video" in streams,
        "audio": features.has_audio and "audio" in streams,
    }
    out: dict[str, Any] = {f"has_{stream}": np.bool_(flag) for stream, flag in flags.items()}
    for name in blank:
        if flags[stream_of(name)]:
            out[f"feature_{name}"] = features.arrays[name]
        elif name == "image" and zero_hidden:
            out[f"feature_{name}"] = blank[name]
        else:
            known = features.arrays if name in features.arrays else blank
            out[f"feature_{name}"] = np.zeros_like(known[name])
    return out


class DrawRow:
    """(record, generator) -> (example, row): draws the task of a clip and tokenizes it."""

    def __init__(self, stage: StageTasks, tokenizer: Tokenizer, config: RowConfig):
        self.stage, self.tokenizer, self.config = stage, tokenizer, config

    def __call__(self, record: ClipRecord, rng: np.random.Generator) -> tuple[Example, Row]:
        """Draws a sample of one clip."""
        c = self.config
        if probability := self.stage.random_word_insertion:
            subtitle = insert_random_words(record.subtitle, probability, rng)
            record = dataclasses.replace(record, subtitle=subtitle)
        record = truncate_subtitle(record, self.tokenizer, c.max_subtitle)
        example = draw_example(
            record,
            self.stage,
            rng,
            no_subtitle=c.no_subtitle,
            questions=c.questions,
            wrap=self.tokenizer.wrap,
        )
        row = make_row(
            self.tokenizer, example.prompt, example.answer, c.placeholders, max_answer=c.max_answer
        )
        return example, row


class LoadSample(grain.transforms.RandomMap):  # type: ignore[misc]  # grain has no types
    """A row of BucketedRows -> Sample: reads, normalizes and augments its views.

    Raises:
      ValueError: the list of records does not match the stored media.
    """

    def __init__(self, config: RowConfig):
        self.config = config

    def random_map(self, element: Any, rng: np.random.Generator) -> Sample:
        """Called by Grain with a generator that depends only on seed and position."""
        c = self.config
        example, row, bucket, stored = element
        record, views = read_element(stored, c.views)
        if record.id != example.clip.id:
            raise ValueError(
                f"the list of clips and their media do not match at {record.id}: "
                "build the data again"
            )
        if c.speakers and isinstance(views, Views) and rng.random() < c.speakers.share:
            views = c.speakers.normalize(record, views)
        if isinstance(views, Views):
            views = augment_views(views, rng, strength=c.augment)
        return Sample(example=example, row=row, views=views, bucket=bucket)


def truncate_subtitle(record: ClipRecord, tokenizer: Tokenizer, limit: int) -> ClipRecord:
    """The record with at most `limit` tokens of its transcript, so that prompts fit a bucket."""
    if len(record.subtitle) <= limit // 4:  # a character is at most four byte pieces
        return record
    ids = tokenizer.encode(record.subtitle)
    if len(ids) <= limit:
        return record
    return dataclasses.replace(record, subtitle=tokenizer.decode(ids[:limit]))


def read_element(element: Any, config: ViewConfig) -> tuple[ClipRecord, Any]:
    """One stored element -> (record, Views or Features); some sources return this pair already.

    Raises:
      ValueError: the stored record is not valid.
    """
    if isinstance(element, tuple):
        return element
    fields = {k: bytes(v) if not isinstance(v, bytes) else v for k, v in element.items()}
    return ClipRecord.from_json(fields.pop("record")), unpack_views(fields, config)


class Collate:
    """Samples -> one batch of static arrays; see tokens.collate_rows and view_arrays."""

    def __init__(self, tokenizer: Tokenizer, config: RowConfig):
        self.tokenizer, self.config = tokenizer, config

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Collates the samples of one batch."""
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
        """int32[B, W]: distinct ids of the description of a stream or of the label, else -1."""
        out = np.full((len(samples), self.config.words), -1, np.int32)
        for i, sample in enumerate(samples):
            clip, views = sample.example.clip, sample.views
            if views.has_audio if stream == "audio" else views.has_video:
                text = normalize_answer(clip.texts.get(stream, clip.label))
                ids = list(dict.fromkeys(self.tokenizer.encode(text)))[: self.config.words]
                out[i, : len(ids)] = ids
        return out

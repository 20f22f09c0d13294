"""TFDS builder of decoded clips: ClipRecords become Views in array_record shards.

Clips are decoded once, on all cores, so that an epoch never opens a media file. Clips that cannot
be decoded are skipped and listed with the reason in `skipped.json`; unlike in the original code,
they are never replaced by zeros. Irregularities of the other clips (no sound, damaged from some
second on, longer than the window) are listed in `notes.json`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipeline.builders.array_record_builder import ArrayRecordBuilder
from data_pipeline.io import write_json
from data_pipeline.media.clip import Sampling, read_clip
from data_pipeline.media.container import ClipError, one_file
from data_pipeline.media.views import ViewConfig, Views, make_views, window_notes
from data_pipeline.media.worker_pool import spawn_pool
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import ClipRecord

VERSION = "1.0.4"
SKIPPED, NOTES = "skipped.json", "notes.json"
_TASK = "decode clips"


def pack_views(views: Views) -> dict[str, bytes]:
    """Serialises Views; a log-mel (within [-1, 2]) becomes float16, a waveform stays float32."""
    return {
        "image": views.image.tobytes(),
        "frames": views.frames.tobytes(),
        "sound": views.sound.astype(_sound_dtype(views.sound.shape)).tobytes(),
        "flags": json.dumps([views.audio_frames, views.has_video, views.has_audio]).encode(),
    }


def unpack_views(fields: dict[str, bytes], config: ViewConfig) -> Views:
    """The inverse of `pack_views`."""
    image = np.frombuffer(fields["image"], np.uint8)
    frames = np.frombuffer(fields["frames"], np.uint8)
    sound = np.frombuffer(fields["sound"], _sound_dtype(config.sound_shape))
    audio_frames, has_video, has_audio = json.loads(fields["flags"])
    return Views(
        image=image.reshape(config.image_size, config.image_size, 3),
        frames=frames.reshape(config.num_frames, config.frame_size, config.frame_size, 3),
        sound=sound.reshape(config.sound_shape).astype(np.float32),
        audio_frames=audio_frames,
        has_video=has_video,
        has_audio=has_audio,
    )


def _sound_dtype(shape: tuple[int, ...]) -> type[np.floating]:
    return np.float32 if shape[1] == 1 else np.float16


@dataclasses.dataclass(frozen=True)
class _Job:
    """One clip to decode."""

    record: ClipRecord
    sampling: Sampling
    views: ViewConfig


def _decode(job: _Job) -> tuple[dict[str, bytes], tuple[str, ...]] | str:
    """(fields, notes), or the reason why the clip cannot be decoded."""
    record = job.record
    try:
        with one_file():
            clip = read_clip(
                record.path,
                sampling=job.sampling,
                clip_id=record.id,
                subtitle=record.subtitle,
                start=record.start,
                end=record.end,
            )
            fields = pack_views(make_views(clip, job.views))
    except ClipError as error:
        return str(error)
    return fields, (*clip.notes, *window_notes(clip, job.views))


class Clips(ArrayRecordBuilder):
    """The TFDS builder `clips`: the splits of the records, each element with its record as JSON.

    Attributes:
      skipped: {id, split, path, reason} of clips that cannot be decoded.
      notes: {id, path, reason} of clips with irregularities.
    """

    VERSION = tfds.core.Version(VERSION)
    name = "clips"

    def __init__(
        self,
        data_dir: Path,
        *,
        records: Sequence[ClipRecord] = (),
        views: ViewConfig | None = None,
        sampling: Callable[[int | None], Sampling] = lambda peak: Sampling(index=peak),
        progress: Progress = no_progress,
    ):
        self._records, self._view_config, self._sampling = records, views or ViewConfig(), sampling
        self._progress = progress
        self._done = 0
        self.skipped: list[dict[str, str]] = []
        self.notes: list[dict[str, str]] = []
        self._folder = data_dir
        super().__init__(data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        blob = tfds.features.Scalar(np.object_)
        fields = {"record": blob, "image": blob, "frames": blob, "sound": blob, "flags": blob}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(fields))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager
        out = {}
        for split in sorted({r.split for r in self._records}):
            jobs = [
                _Job(r, self._sampling(r.peak_index), self._view_config)
                for r in self._records
                if r.split == split
            ]
            # TFDS refuses a split without examples: if nothing decodes, the clips are only listed.
            errors = list(itertools.takewhile(lambda r: isinstance(r, str), map(_decode, jobs)))
            if len(errors) == len(jobs):
                for job, reason in zip(jobs, errors, strict=True):
                    self._skip(job, str(reason))
                continue
            out[split] = self._generate_examples(jobs)
        if not out:
            first = self.skipped[0]
            raise ValueError(
                f"none of {len(self.skipped)} clips can be decoded; "
                f"{first['path']}: {first['reason']}"
            )
        return out

    def _skip(self, job: _Job, reason: str) -> None:
        record = job.record
        self.skipped.append(
            {"id": record.id, "split": record.split, "path": record.path, "reason": reason}
        )

    def _generate_examples(self, jobs: Sequence[_Job]) -> Iterator[tuple[str, dict[str, Any]]]:
        workers = min(len(os.sched_getaffinity(0)), max(1, len(jobs) // 16))
        with spawn_pool(workers) as pool:
            for job, out in zip(jobs, pool.map(_decode, jobs, chunksize=8), strict=True):
                self._done += 1
                self._progress(_TASK, self._done, len(self._records))
                if isinstance(out, str):
                    self._skip(job, out)
                    continue
                fields, notes = out
                record = job.record
                if notes:
                    self.notes.append(
                        {"id": record.id, "path": record.path, "reason": "; ".join(notes)}
                    )
                yield record.id, {"record": record.to_json().encode(), **fields}
        # Before TFDS declares the shards complete, so that a build killed later keeps the lists.
        write_json(self._folder / SKIPPED, self.skipped, indent=1)
        write_json(self._folder / NOTES, self.notes, indent=1)


def views_key(records: Sequence[ClipRecord], views: ViewConfig, sampling: Sampling) -> str:
    """12 hex digits that depend on every record, media file (size and time), view and sampling."""
    parts: list[Any] = [VERSION, dataclasses.asdict(views), dataclasses.asdict(sampling)]
    for record in records:
        stat = os.stat(record.path)
        parts.append([record.to_json(), stat.st_size, stat.st_mtime_ns])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def build_views(
    root: Path,
    records: Sequence[ClipRecord],
    views: ViewConfig,
    sampling: Callable[[int | None], Sampling],
    *,
    progress: Progress = no_progress,
) -> tuple[dict[str, Sequence[Any]], list[dict[str, str]], Path]:
    """Decodes the records into `root/<key>`, unless that folder is complete.

    Args:
      root: the cache folder.
      records: the clips.
      views: sizes of the views.
      sampling: frame number of the peak, or None -> how the clip is sampled.
      progress: called for "decode clips".

    Returns:
      (random-access source per split, skipped clips with the reason, folder, which has NOTES).

    Raises:
      ValueError: no clip can be decoded.
    """
    folder = root / views_key(records, views, sampling(None))
    builder = Clips(folder, records=records, views=views, sampling=sampling, progress=progress)
    builder.prepare()
    progress(_TASK, len(records), len(records))
    skipped = json.loads((folder / SKIPPED).read_text())
    left_out = {(entry["id"], entry["split"]) for entry in skipped}
    splits = sorted({r.split for r in records if (r.id, r.split) not in left_out})
    return {s: builder.as_data_source(s) for s in splits}, skipped, folder

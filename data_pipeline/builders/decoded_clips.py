"""TFDS builder: ClipRecords -> decoded Views in array_record shards, once, so that an epoch never opens an mp4.

Decoding runs on all cores. A clip that can not be decoded is skipped, counted and listed with its reason in
`skipped.json`; training on zeros in its place, as the originals do, never happens. What is irregular about a clip that
does decode (no sound, damaged from some second on, longer than the window) is listed in `notes.json`.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from data_pipeline.media.clip import ClipError, Sampling, read_clip
from data_pipeline.media.views import ViewConfig, Views, make_views, window_notes
from data_pipeline.schema import ClipRecord

VERSION = "1.0.3"
SKIPPED, NOTES = "skipped.json", "notes.json"
tfds.disable_progress_bar()  # the caller shows one for the whole job
# A split of more than a gigabyte is sorted through files, which TFDS opens by TensorFlow: plain files do as well. As few
# of them as stay below the usual limit of open files.
shuffle.tf = types.SimpleNamespace(
    io=types.SimpleNamespace(
        gfile=types.SimpleNamespace(GFile=open, exists=os.path.exists, remove=os.remove)
    ),
    errors=types.SimpleNamespace(ResourceExhaustedError=()),
)
shuffle.BUCKETS_NUMBER = 128
Progress = Callable[[int, int], None]


def pack_views(views: Views) -> dict[str, bytes]:
    """Views -> bytes fields; log-mel as float16 (its values lie in [-1, 2]), a waveform as float32."""
    return {
        "image": views.image.tobytes(),
        "frames": views.frames.tobytes(),
        "sound": views.sound.astype(_sound_dtype(views.sound.shape)).tobytes(),
        "flags": json.dumps([views.audio_frames, views.has_video, views.has_audio]).encode(),
    }


def unpack_views(fields: dict[str, bytes], config: ViewConfig) -> Views:
    """The inverse of `pack_views`."""
    c = config
    image = np.frombuffer(fields["image"], np.uint8).reshape(c.image_size, c.image_size, 3)
    frames = np.frombuffer(fields["frames"], np.uint8).reshape(
        c.num_frames, c.frame_size, c.frame_size, 3
    )
    dtype = _sound_dtype(c.sound_shape)
    sound = np.frombuffer(fields["sound"], dtype).reshape(c.sound_shape).astype(np.float32)
    audio_frames, has_video, has_audio = json.loads(fields["flags"])
    return Views(
        image=image,
        frames=frames,
        sound=sound,
        audio_frames=audio_frames,
        has_video=has_video,
        has_audio=has_audio,
    )


def _sound_dtype(shape: tuple[int, ...]) -> type[np.floating]:
    return np.float32 if shape[1] == 1 else np.float16


@dataclasses.dataclass(frozen=True)
class _Job:
    record: ClipRecord
    sampling: Sampling
    views: ViewConfig


def _decode(job: _Job) -> tuple[dict[str, bytes], tuple[str, ...]] | str:
    r = job.record
    try:
        clip = read_clip(
            r.path,
            sampling=job.sampling,
            clip_id=r.id,
            subtitle=r.subtitle,
            start=r.start,
            end=r.end,
        )
    except ClipError as error:
        return str(error)
    return pack_views(make_views(clip, job.views)), (*clip.notes, *window_notes(clip, job.views))


class Clips(tfds.core.GeneratorBasedBuilder):
    """Splits are those of the records; a field `record` holds each one's JSON."""

    VERSION = tfds.core.Version(VERSION)
    name = "clips"

    def __init__(
        self,
        data_dir: Path,
        *,
        records: Sequence[ClipRecord] = (),
        views: ViewConfig | None = None,
        sampling: Callable[[int | None], Sampling] = lambda peak: Sampling(index=peak),
        progress: Progress | None = None,
    ):
        self._records, self._view_config, self._sampling = records, views or ViewConfig(), sampling
        self._progress = progress
        self._done = 0
        self.skipped: list[dict[str, str]] = []
        self.notes: list[dict[str, str]] = []
        self._folder = data_dir
        super().__init__(data_dir=str(data_dir), file_format="array_record")

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
            # TFDS refuses a split without examples: one where nothing decodes is only listed.
            refusals = list(itertools.takewhile(lambda r: isinstance(r, str), map(_decode, jobs)))
            if len(refusals) == len(jobs):
                for job, reason in zip(jobs, refusals, strict=True):
                    self._skip(job, str(reason))
                continue
            out[split] = self._generate_examples(jobs)
        if not out:
            first = self.skipped[0]
            raise ValueError(
                f"none of {len(self.skipped)} clips can be decoded; {first['path']}: {first['reason']}"
            )
        return out

    def _log_download_bytes(self) -> None:
        """Silent: TFDS would announce a download, and nothing is downloaded."""

    _log_download_done = _log_download_bytes

    def _skip(self, job: _Job, reason: str) -> None:
        self.skipped.append({"id": job.record.id, "path": job.record.path, "reason": reason})

    def _generate_examples(self, jobs: Sequence[_Job]) -> Iterator[tuple[str, dict[str, Any]]]:
        workers = min(len(os.sched_getaffinity(0)), max(1, len(jobs) // 16))
        # spawn: the caller may have started jax threads, which do not survive a fork
        with concurrent.futures.ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn")
        ) as pool:
            for job, out in zip(jobs, pool.map(_decode, jobs, chunksize=8), strict=True):
                self._done += 1
                if self._progress:
                    self._progress(self._done, len(self._records))
                if isinstance(out, str):
                    self._skip(job, out)
                    continue
                fields, notes = out
                if notes:
                    self.notes.append(
                        {"id": job.record.id, "path": job.record.path, "reason": "; ".join(notes)}
                    )
                yield job.record.id, {"record": job.record.to_json().encode(), **fields}
        # Before TFDS declares the shards complete: a run killed later must not forget what was left out.
        for name, entries in ((SKIPPED, self.skipped), (NOTES, self.notes)):
            (self._folder / name).write_text(json.dumps(entries, indent=1))


def views_key(records: Sequence[ClipRecord], views: ViewConfig, sampling: Sampling) -> str:
    """12 hex digits that change with any record, media file (size and time), view size or sampling."""
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
    progress: Progress | None = None,
) -> tuple[dict[str, Sequence[Any]], list[dict[str, str]], Path]:
    """Decodes the records into `root/<key>`, or finds them there.

    Returns:
      (random-access source by split, clips that were skipped with their reasons, the folder, which holds NOTES).
    """
    folder = root / views_key(records, views, sampling(None))
    builder = Clips(folder, records=records, views=views, sampling=sampling, progress=progress)
    builder.download_and_prepare()
    skipped = json.loads((folder / SKIPPED).read_text())
    lost = {s["id"] for s in skipped}
    splits = sorted({r.split for r in records if r.id not in lost})
    return {s: builder.as_data_source(s) for s in splits}, skipped, folder

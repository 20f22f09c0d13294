"""TFDS builder: annotated clips -> array_record shards that hold their media, so that an epoch never seeks in an mp4.

Decoding runs on all cores, in chunks that are kept as they are done: a build that was cut off goes on behind its last
whole chunk. At the end TFDS writes the chunks as shards, and a set counts as built when that has ended.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from data_pipeline.builders import decoded_clips as _clips  # noqa: F401  (TFDS without TensorFlow)
from data_pipeline.io import lock_folder
from data_pipeline.media.clip import ClipError
from data_pipeline.media.fingerprint import ignore_interrupts
from data_pipeline.media.storage import StoreConfig, pack_media
from data_pipeline.schema import ClipRecord, read_records, write_records

VERSION = "1.0.0"
BUILT, SKIPPED, NOTES, RECORDS = "built.json", "skipped.json", "notes.json", "records.jsonl"
LOCK = "lock"
_OWN = frozenset((BUILT, BUILT + ".part", SKIPPED, NOTES, RECORDS, LOCK, "shards", "staging"))
FIELDS = ("record", "media", "frames", "sound", "facts")
_CHUNK = 16  # clips that a killed build has to decode again, at most, for each core
Progress = Callable[[int, int], None]


class NoDecodableClipError(ValueError):
    """Not one clip of a data set can be decoded."""


def pack_fields(fields: dict[str, bytes]) -> bytes:
    """Named bytes as one: a line of JSON with names and sizes, then the bytes."""
    head = json.dumps([[name, len(value)] for name, value in fields.items()]).encode()
    return head + b"\n" + b"".join(fields.values())


def unpack_fields(data: bytes) -> dict[str, bytes]:
    """The inverse of `pack_fields`."""
    head, _, _ = data[:4096].partition(b"\n")
    out, start = {}, len(head) + 1
    for name, size in json.loads(head):
        out[name] = data[start : start + size]
        start += size
    return out


def write_chunk(path: Path, items: Sequence[bytes]) -> None:
    """Writes an array_record file that is whole or not there."""
    part = path.with_suffix(".part")
    writer = array_record_module.ArrayRecordWriter(str(part), "group_size:1,uncompressed")
    for item in items:
        writer.write(item)
    writer.close()
    os.replace(part, path)


def read_chunk(path: Path) -> list[bytes]:
    """Every item of an array_record file."""
    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        return list(reader.read_all())
    finally:
        reader.close()


@dataclasses.dataclass(frozen=True)
class _Job:
    records: tuple[ClipRecord, ...]
    config: StoreConfig
    path: Path


def _build_chunk(job: _Job) -> int:
    """Decodes one chunk; its list of what was skipped comes last and marks it as done."""
    items, skipped, notes = [], [], []
    for record in job.records:
        try:
            fields, found = pack_media(record, job.config)
        except ClipError as error:
            skipped.append(
                {"id": record.id, "split": record.split, "path": record.path, "reason": str(error)}
            )
            continue
        if found:
            notes.append({"id": record.id, "path": record.path, "reason": "; ".join(found)})
        items.append(pack_fields({"record": record.to_json().encode(), **fields}))
    write_chunk(job.path, items)
    part = job.path.with_suffix(".list")
    part.write_text(json.dumps({"skipped": skipped, "notes": notes}))
    os.replace(part, job.path.with_suffix(".json"))
    return len(job.records)


class _Shards(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version(VERSION)
    name = "media"

    def __init__(self, data_dir: Path, *, chunks: dict[str, list[Path]] | None = None):
        self._chunks = chunks or {}
        super().__init__(data_dir=str(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        blob = tfds.features.Scalar(np.object_)
        features = tfds.features.FeaturesDict(dict.fromkeys(FIELDS, blob))
        # Training shuffles; on disk the order of the annotations costs no second pass through the media.
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager
        return {split: self._generate_examples(paths) for split, paths in self._chunks.items()}

    def _generate_examples(self, paths: Sequence[Path]) -> Iterator[tuple[int, dict[str, Any]]]:
        number = 0
        for path in paths:
            for item in read_chunk(path):
                yield number, unpack_fields(item)
                number += 1

    def _log_download_bytes(self) -> None:
        """Silent: TFDS would announce a download, and nothing is downloaded."""

    _log_download_done = _log_download_bytes


def build_key(records: Sequence[ClipRecord], config: StoreConfig) -> str:
    """16 hex digits that change with any record, media file (size and time) or setting."""
    parts: list[Any] = [VERSION, dataclasses.asdict(config)]
    for record in records:
        stat = os.stat(record.path)
        parts.append([record.to_json(), stat.st_size, stat.st_mtime_ns])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def build_set(
    folder: Path,
    records: Sequence[ClipRecord],
    config: StoreConfig,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Builds one data set into a folder, or finds it there, or goes on where a build was cut off.

    Args:
      folder: of this data set alone.
      records: its clips, whose media are there.
      config: how media are stored.
      progress: called with (clips done, clips in all).
      workers: processes; default: one a core.

    Returns:
      What BUILT holds: key, settings, clips and examples by split.

    Raises:
      NothingDecodes: no clip can be decoded.
      ValueError: two clips of a split share an id.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(
        folder / LOCK, f"another build is writing to {folder}: wait for it, or give another folder"
    ):
        return _build_set(folder, records, config, progress, workers)


def _build_set(
    folder: Path,
    records: Sequence[ClipRecord],
    config: StoreConfig,
    progress: Progress | None,
    workers: int | None,
) -> dict[str, Any]:
    strangers = sorted(p.name for p in folder.iterdir() if p.name not in _OWN)
    if strangers:
        raise ValueError(
            f"{folder} holds {strangers[0]}, which no build has written: give an empty or a new folder"
        )
    twice = [k for k, n in Counter((r.split, r.id) for r in records).items() if n > 1]
    if twice:
        raise ValueError(
            f"two clips of split '{twice[0][0]}' have the id '{twice[0][1]}'; ids are unique in a split"
        )
    key = build_key(records, config)
    if (folder / BUILT).exists() and (facts := _read_facts(folder))["key"] == key:
        if progress:
            progress(len(records), len(records))
        return {**facts, "state": "was built before"}
    state = (
        "built anew, of other clips or settings than before"
        if (folder / BUILT).exists()
        else "built"
    )
    staging = folder / "staging"
    if (staging / "key").exists() and (staging / "key").read_text() != key:
        shutil.rmtree(staging)  # of other clips or settings
    for name in _OWN - {LOCK, staging.name}:
        old = folder / name
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    staging.mkdir(parents=True, exist_ok=True)
    (staging / "key").write_text(key)
    chunks = _decode_chunks(staging, records, config, progress, workers)
    lists = [
        json.loads(p.with_suffix(".json").read_text()) for paths in chunks.values() for p in paths
    ]
    skipped, notes = (
        [e for x in lists for e in x["skipped"]],
        [e for x in lists for e in x["notes"]],
    )
    gone = {(e["split"], e["id"]) for e in skipped}
    lost = Counter(split for split, _ in gone)
    clips = Counter(r.split for r in records)
    examples = {split: clips[split] - lost[split] for split in clips}
    kept = {split: paths for split, paths in chunks.items() if examples[split]}
    if not kept:
        raise NoDecodableClipError(
            f"none of {len(records)} clips can be decoded; {skipped[0]['path']}: {skipped[0]['reason']}"
        )
    _Shards(folder / "shards", chunks=kept).download_and_prepare()
    (folder / SKIPPED).write_text(json.dumps(skipped, indent=1))
    (folder / NOTES).write_text(json.dumps(notes, indent=1))
    write_records(folder / RECORDS, [r for r in records if (r.split, r.id) not in gone])
    facts = {
        "key": key,
        "version": VERSION,
        "store": dataclasses.asdict(config),
        "clips": dict(clips),
        "examples": {s: n for s, n in examples.items() if n},
        "skipped": len(skipped),
    }
    part = folder / (BUILT + ".part")
    part.write_text(json.dumps(facts, indent=1))
    os.replace(part, folder / BUILT)
    shutil.rmtree(staging)
    return {**facts, "state": state}


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / BUILT).read_text())
        if not {"key", "store", "examples"} <= set(facts):
            raise ValueError("it lacks fields")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"{folder / BUILT} is damaged ({error}): remove {folder} and build again"
        ) from error
    return dict(facts)


def _decode_chunks(
    staging: Path,
    records: Sequence[ClipRecord],
    config: StoreConfig,
    progress: Progress | None,
    workers: int | None,
) -> dict[str, list[Path]]:
    jobs: dict[str, list[_Job]] = {}
    for split in sorted({r.split for r in records}):
        own = [r for r in records if r.split == split]
        (staging / split).mkdir(exist_ok=True)
        jobs[split] = [
            _Job(
                tuple(own[i : i + _CHUNK]),
                config,
                staging / split / f"{i // _CHUNK:06d}.array_record",
            )
            for i in range(0, len(own), _CHUNK)
        ]
    every = [job for own in jobs.values() for job in own]
    todo = [job for job in every if not job.path.with_suffix(".json").exists()]
    done = sum(len(job.records) for job in every) - sum(len(job.records) for job in todo)
    if progress:
        progress(done, len(records))
    if todo:
        count = min(workers or len(os.sched_getaffinity(0)), len(todo))
        if count == 1:  # done before a process has started
            for job in todo:
                done += _build_chunk(job)
                if progress:
                    progress(done, len(records))
            return {split: [job.path for job in own] for split, own in jobs.items()}
        # spawn: the caller may have started jax threads, which do not survive a fork
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(count, context, ignore_interrupts) as pool:
            try:
                for future in concurrent.futures.as_completed(
                    [pool.submit(_build_chunk, job) for job in todo]
                ):
                    done += future.result()
                    if progress:
                        progress(done, len(records))
            except BaseException:
                pool.shutdown(cancel_futures=True)  # what is begun is ended, nothing more is begun
                raise
    return {split: [job.path for job in own] for split, own in jobs.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuiltSet:
    """One data set that was built: its settings, and a random-access source by split."""

    name: str
    config: StoreConfig
    sources: dict[str, Sequence[Any]]
    folder: Path
    key: str

    def records(self) -> list[ClipRecord]:
        """What is annotated about its clips."""
        return read_records(self.folder / RECORDS)


def open_built(out: Path, *, names: Sequence[str] | None = None) -> dict[str, BuiltSet]:
    """Data sets below a folder of `emojax data build`.

    Raises:
      ValueError: there is none, one that was asked for is not there, or its build has not ended.
    """
    found = sorted(p.parent for p in out.glob(f"*/{BUILT}"))
    chosen = [out / n for n in names] if names else found
    if not chosen:
        raise ValueError(
            f"{out} holds no data set that was built: run `emojax data build ROOT {out}`"
        )
    sets = {}
    for folder in chosen:
        if not (folder / BUILT).exists():
            state = (
                "its build has not ended: run it again" if folder.exists() else "it was not built"
            )
            raise ValueError(f"{folder.name} in {out}: {state}")
        facts = _read_facts(folder)
        try:
            builder = _Shards(folder / "shards")
            sources = {split: builder.as_data_source(split) for split in facts["examples"]}
            for source in sources.values():
                source[len(source) - 1]
        except (
            Exception
        ) as error:  # whatever TFDS and array_record raise on files that are cut or gone
            first = (
                str(error).strip().splitlines()[0][:200]
                if str(error).strip()
                else type(error).__name__
            )
            raise ValueError(
                f"the shards in {folder} are damaged ({first}): remove it and build again"
            ) from error
        sets[folder.name] = BuiltSet(
            name=folder.name,
            config=StoreConfig(**facts["store"]),
            sources=sources,
            folder=folder,
            key=facts["key"],
        )
    return sets

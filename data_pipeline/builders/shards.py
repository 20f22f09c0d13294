"""TFDS builder of data sets: annotated clips become array_record shards that contain their media.

An epoch then never seeks in a media file. Clips are decoded on all cores, in chunks: an
interrupted build continues after its last complete chunk. At the end TFDS writes the chunks as
shards; only then does the data set count as built.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from data_pipeline.builders.array_record_builder import ArrayRecordBuilder
from data_pipeline.io import atomic_path, try_lock, write_json, write_text
from data_pipeline.media.container import ClipError, one_file
from data_pipeline.media.storage import StoreConfig, pack_media
from data_pipeline.media.worker_pool import spawn_pool
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import ClipRecord, read_records, write_records

VERSION = "1.0.0"
BUILT, SKIPPED, NOTES, RECORDS = "built.json", "skipped.json", "notes.json", "records.jsonl"
LOCK, _SHARDS, _STAGING = "lock", "shards", "staging"
_FILES = (BUILT, SKIPPED, NOTES, RECORDS)
FIELDS = ("record", "media", "frames", "sound", "facts")
_CHUNK = 16  # a killed build decodes at most this many clips again, per core


class NoDecodableClipError(ValueError):
    """No clip of a data set can be decoded."""


def pack_fields(fields: dict[str, bytes]) -> bytes:
    """Serialises named bytes: one line of JSON with names and sizes, then the bytes."""
    header = json.dumps([[name, len(value)] for name, value in fields.items()]).encode()
    return header + b"\n" + b"".join(fields.values())


def unpack_fields(data: bytes) -> dict[str, bytes]:
    """The inverse of `pack_fields`."""
    header, _, _ = data[:4096].partition(b"\n")
    fields, start = {}, len(header) + 1
    for name, size in json.loads(header):
        fields[name] = data[start : start + size]
        start += size
    return fields


def write_chunk(path: Path, items: Sequence[bytes]) -> None:
    """Writes an array_record file atomically."""
    with atomic_path(path) as part:
        writer = array_record_module.ArrayRecordWriter(str(part), "group_size:1,uncompressed")
        for item in items:
            writer.write(item)
        writer.close()


def read_chunk(path: Path) -> list[bytes]:
    """All items of an array_record file."""
    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        return list(reader.read_all())
    finally:
        reader.close()


@dataclasses.dataclass(frozen=True)
class _Chunk:
    """Consecutive clips of one split, and the file of their media."""

    records: tuple[ClipRecord, ...]
    config: StoreConfig
    path: Path

    @property
    def report(self) -> Path:
        """Lists what was skipped; written last, so that it marks the chunk as complete."""
        return self.path.with_suffix(".json")


def _build_chunk(chunk: _Chunk) -> int:
    """Decodes and writes one chunk; returns its number of clips."""
    items, skipped, notes = [], [], []
    for r in chunk.records:
        try:
            with one_file():
                fields, irregularities = pack_media(r, chunk.config)
        except ClipError as error:
            skipped.append({"id": r.id, "split": r.split, "path": r.path, "reason": str(error)})
            continue
        if irregularities:
            notes.append({"id": r.id, "path": r.path, "reason": "; ".join(irregularities)})
        items.append(pack_fields({"record": r.to_json().encode(), **fields}))
    write_chunk(chunk.path, items)
    write_json(chunk.report, {"skipped": skipped, "notes": notes})
    return len(chunk.records)


class _MediaBuilder(ArrayRecordBuilder):
    """The TFDS builder `media`: shards of the chunks of each split."""

    VERSION = tfds.core.Version(VERSION)
    name = "media"

    def __init__(self, data_dir: Path, *, chunks: dict[str, list[Path]] | None = None):
        self._chunks = chunks or {}
        super().__init__(data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        blob = tfds.features.Scalar(np.object_)
        features = tfds.features.FeaturesDict(dict.fromkeys(FIELDS, blob))
        # Training shuffles; keeping the order of the annotations avoids a second pass on disk.
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


def build_key(records: Sequence[ClipRecord], config: StoreConfig) -> str:
    """16 hex digits that depend on every record, media file (size and time) and setting."""
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
    progress: Progress = no_progress,
    workers: int | None = None,
) -> dict[str, Any]:
    """Builds one data set into a folder, or continues an interrupted build.

    Nothing is decoded when the folder already contains a build of the same clips and settings.

    Args:
      folder: the folder of this data set; a build only touches folders that a build has written.
      records: its clips, whose media exist.
      config: how media are stored.
      progress: called for "build NAME", with the name of the folder.
      workers: number of processes; None uses one per core.

    Returns:
      The content of BUILT (key, settings, clips and examples per split), and `state`.

    Raises:
      NoDecodableClipError: no clip can be decoded.
      ValueError: two clips of a split have the same id, another build is writing to the folder, or
        the folder contains other files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with try_lock(
        folder / LOCK, f"another build is writing to {folder}: wait for it, or give another folder"
    ):
        _check_folder(folder)
        _check_ids(records)
        task, total = f"build {folder.name}", len(records)
        key = build_key(records, config)
        if (folder / BUILT).exists() and (info := _read_build_info(folder))["key"] == key:
            progress(task, total, total)
            return {**info, "state": "was built before"}
        rebuilt = (folder / BUILT).exists()
        staging = _prepare_staging(folder, key)
        chunks = _plan_chunks(staging, records, config)
        _decode_chunks(chunks, lambda done: progress(task, done, total), workers=workers)
        info = _write_shards(folder, records, config, chunks, key=key)
        shutil.rmtree(staging)
    state = "built again: clips or settings have changed" if rebuilt else "built"
    return {**info, "state": state}


def _is_part(name: str) -> bool:
    """Whether a file is a temporary one that a killed build has left."""
    return name.endswith(".part") and name.startswith(tuple(f"{file}." for file in _FILES))


def _check_folder(folder: Path) -> None:
    known = {*_FILES, LOCK, _SHARDS, _STAGING}
    names = sorted(p.name for p in folder.iterdir())
    if foreign := [name for name in names if name not in known and not _is_part(name)]:
        raise ValueError(
            f"{folder} contains {foreign[0]}, which no build has written: give an empty or a new "
            "folder"
        )


def _check_ids(records: Sequence[ClipRecord]) -> None:
    counts = Counter((r.split, r.id) for r in records)
    if repeated := [key for key, n in counts.items() if n > 1]:
        split, clip = repeated[0]
        raise ValueError(
            f"two clips of split '{split}' have the id '{clip}'; ids are unique in a split"
        )


def _prepare_staging(folder: Path, key: str) -> Path:
    """Removes an older build; keeps the chunks of an interrupted build of the same key."""
    staging = folder / _STAGING
    if (staging / "key").exists() and (staging / "key").read_text() != key:
        shutil.rmtree(staging)
    for path in folder.iterdir():
        if path.name == _SHARDS:
            shutil.rmtree(path)
        elif path.name in _FILES or _is_part(path.name):
            path.unlink()
    staging.mkdir(parents=True, exist_ok=True)
    write_text(staging / "key", key)
    return staging


def _plan_chunks(
    staging: Path, records: Sequence[ClipRecord], config: StoreConfig
) -> dict[str, list[_Chunk]]:
    """The chunks of each split."""
    chunks: dict[str, list[_Chunk]] = {}
    for split in sorted({r.split for r in records}):
        clips = [r for r in records if r.split == split]
        (staging / split).mkdir(exist_ok=True)
        chunks[split] = [
            _Chunk(
                tuple(clips[i : i + _CHUNK]),
                config,
                staging / split / f"{i // _CHUNK:06d}.array_record",
            )
            for i in range(0, len(clips), _CHUNK)
        ]
    return chunks


def _decode_chunks(
    chunks: dict[str, list[_Chunk]], report: Callable[[int], None], *, workers: int | None
) -> None:
    """Decodes incomplete chunks; calls `report` with the number of finished clips."""
    every = [chunk for of_split in chunks.values() for chunk in of_split]
    todo = [chunk for chunk in every if not chunk.report.exists()]
    done = sum(len(c.records) for c in every) - sum(len(c.records) for c in todo)
    report(done)
    count = min(workers or len(os.sched_getaffinity(0)), len(todo))
    if count <= 1:  # faster than starting a process
        for chunk in todo:
            done += _build_chunk(chunk)
            report(done)
        return
    with spawn_pool(count) as pool:
        futures = [pool.submit(_build_chunk, chunk) for chunk in todo]
        for future in concurrent.futures.as_completed(futures):
            done += future.result()
            report(done)


def _write_shards(
    folder: Path,
    records: Sequence[ClipRecord],
    config: StoreConfig,
    chunks: dict[str, list[_Chunk]],
    *,
    key: str,
) -> dict[str, Any]:
    """Writes the chunks as shards, the lists next to them, and BUILT as the last file."""
    reports = [
        json.loads(chunk.report.read_text()) for of_split in chunks.values() for chunk in of_split
    ]
    skipped = [entry for report in reports for entry in report["skipped"]]
    notes = [entry for report in reports for entry in report["notes"]]
    skipped_ids = {(entry["split"], entry["id"]) for entry in skipped}
    clips = Counter(r.split for r in records)
    examples = clips - Counter(split for split, _ in skipped_ids)
    if not examples:
        first = skipped[0]
        raise NoDecodableClipError(
            f"none of {len(records)} clips can be decoded; {first['path']}: {first['reason']}"
        )
    paths = {split: [chunk.path for chunk in chunks[split]] for split in chunks if examples[split]}
    _MediaBuilder(folder / _SHARDS, chunks=paths).prepare()
    write_json(folder / SKIPPED, skipped, indent=1)
    write_json(folder / NOTES, notes, indent=1)
    write_records(folder / RECORDS, [r for r in records if (r.split, r.id) not in skipped_ids])
    info = {
        "key": key,
        "version": VERSION,
        "store": dataclasses.asdict(config),
        "clips": dict(clips),
        "examples": dict(examples),
        "skipped": len(skipped),
    }
    write_json(folder / BUILT, info, indent=1)
    return info


def _read_build_info(folder: Path) -> dict[str, Any]:
    try:
        info = json.loads((folder / BUILT).read_text())
        if not {"key", "store", "examples"} <= set(info):
            raise ValueError("fields are missing")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"{folder / BUILT} is damaged ({error}): remove {folder} and build again"
        ) from error
    return dict(info)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuiltSet:
    """One data set that was built.

    Attributes:
      name: of the data set.
      config: how its media are stored.
      sources: random-access source per split.
      folder: of the build.
      key: see `build_key`.
    """

    name: str
    config: StoreConfig
    sources: dict[str, Sequence[Any]]
    folder: Path
    key: str

    def records(self) -> list[ClipRecord]:
        """The annotations of its clips.

        Raises:
          OSError: the file of annotations cannot be read.
          ValueError: one of its lines is not a valid record.
        """
        return read_records(self.folder / RECORDS)


def open_built(out: Path, *, names: Sequence[str] | None = None) -> dict[str, BuiltSet]:
    """Opens data sets that `emojax data build` has written.

    Args:
      out: the folder that was built into.
      names: data sets to open; None opens all.

    Raises:
      ValueError: there is none, or one is missing, incomplete or damaged.
    """
    built = sorted(p.parent for p in out.glob(f"*/{BUILT}"))
    folders = [out / n for n in names] if names else built
    if not folders:
        raise ValueError(f"{out} contains no built data set: run `emojax data build ROOT {out}`")
    return {folder.name: _open_set(folder) for folder in folders}


def _open_set(folder: Path) -> BuiltSet:
    if not (folder / BUILT).exists():
        state = "its build has not ended: run it again" if folder.exists() else "it was not built"
        raise ValueError(f"{folder.name} in {folder.parent}: {state}")
    info = _read_build_info(folder)
    try:
        builder = _MediaBuilder(folder / _SHARDS)
        sources = {split: builder.as_data_source(split) for split in info["examples"]}
        for source in sources.values():
            source[len(source) - 1]  # a truncated shard fails here
    except Exception as error:  # TFDS and array_record raise arbitrary errors for damaged files
        text = str(error).strip()
        first = text.splitlines()[0][:200] if text else type(error).__name__
        raise ValueError(
            f"the shards in {folder} are damaged ({first}): remove it and build again"
        ) from error
    return BuiltSet(
        name=folder.name,
        config=StoreConfig(**info["store"]),
        sources=sources,
        folder=folder,
        key=info["key"],
    )

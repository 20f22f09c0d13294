"""What a data set is: its annotation files, how they are read, where to request it, its splits."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.datasets.file_index import FileIndex
from data_pipeline.datasets.reading import AnnotationFile, RecordMaker, RowReader, read_file
from data_pipeline.media.file_kinds import MEDIA_SUFFIXES
from data_pipeline.schema import ClipRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One kind of annotation file.

    Attributes:
      pattern: glob that the path below the data set's folder must match; with `anywhere`, the file
        name.
      rows: yields the rows of the file; see row_readers.py.
      make: makes the record of a row.
      anywhere: whether the file is found in any folder.
      media: whether the files are the clips themselves, each of them one row (CAER).
      transcript: whether the file only adds subtitles to clips of other files.
    """

    pattern: str
    rows: RowReader
    make: RecordMaker
    anywhere: bool = False
    media: bool = False
    transcript: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set.

    Attributes:
      name: its name in records.
      title: its name in papers.
      folders: possible names of its folder, compared by `plain_name`.
      sources: its annotation files; where two disagree about a clip, the earlier one is used.
      request: where to request it.
      terms: of use, in short.
      disjoint: what its splits do not share: `speaker`, `video` (`speaker` of a record is then the
        video's id), or "" for neither.
      expected: published number of clips by (fold, split).
      family: data sets of one family use the same ids for the same clips.
      equivalent_labels: (label, label of another file) that do not count as a conflict: files of
        ground truth may merge classes.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    sources: tuple[Source, ...]
    request: str
    terms: str
    disjoint: str = ""
    expected: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    family: str = ""
    equivalent_labels: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(kw_only=True)
class DatasetContents:
    """What a folder contains of one data set.

    Attributes:
      dataset: the data set.
      annotation_files: one per file that was read.
      records: one per clip and fold, joined over the files.
      conflicts: clips that two files label differently, as sentences.
    """

    dataset: DataSet
    annotation_files: list[AnnotationFile]
    records: list[ClipRecord]
    conflicts: list[str]

    def counts(self) -> Counter[tuple[str, str, str]]:
        """Clips by (fold, split, label); a clip of several labels counts for each."""
        counts: Counter[tuple[str, str, str]] = Counter()
        for record in self.records:
            target = record.target(record.task)
            for label in (target.parts if target else ()) or ("(none)",):
                counts[record.fold, record.split, label] += 1
        return counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One annotation file that was found.

    Attributes:
      source: its kind.
      path: the file.
      base: folder of the data set.
      other_bases: further folders of the data set.
    """

    source: Source
    path: Path
    base: Path
    other_bases: tuple[Path, ...]


def plain_name(text: str) -> str:
    """A folder's name in lower-case letters, digits and `+`: `CH-SIMS_v2_s` is `chsimsv2s`."""
    return re.sub(r"[^a-z0-9+]", "", text.lower())


def find_sources(dataset: DataSet, files: FileIndex) -> Iterator[SourceFile]:
    """Finds the annotation files of a data set, each once, in the order of its sources."""
    names = {plain_name(f) for f in dataset.folders}
    matching = [folder for folder in files.folders() if plain_name(folder.name) in names]
    folders = [f for f in matching if not any(o in f.parents for o in matching)]
    annotations = {p: _containing(folders, p) for p in files.annotations()}
    clips = _clips_below(folders, files) if any(s.media for s in dataset.sources) else {}
    used: set[Path] = set()
    for source in dataset.sources:
        for path, base in (clips if source.media else annotations).items():
            if source.anywhere:
                matches = fnmatch.fnmatchcase(path.name.lower(), source.pattern.lower())
            else:
                matches = base is not None and fnmatch.fnmatchcase(
                    path.relative_to(base).as_posix().lower(), source.pattern.lower()
                )
            if matches and (path not in used or source.transcript):
                used.add(path)
                # A file outside the data set's folder describes the clips inside it, if it exists.
                home = base or (folders[0] if folders else path.parent)
                yield SourceFile(
                    source=source,
                    path=path,
                    base=home,
                    other_bases=tuple(f for f in folders if f != home),
                )


def _containing(folders: Sequence[Path], path: Path) -> Path | None:
    return next((f for f in folders if f in path.parents), None)


def _clips_below(folders: Sequence[Path], files: FileIndex) -> dict[Path, Path | None]:
    """Media files of the folders, each with its folder."""
    media = (p for p in files.all() if p.suffix.lower() in MEDIA_SUFFIXES)
    bases = {p: _containing(folders, p) for p in media if not p.name.startswith(".")}
    return {path: base for path, base in bases.items() if base is not None}


def read_dataset(dataset: DataSet, files: FileIndex, *, lenient: bool = False) -> DatasetContents:
    """Reads every annotation file of one data set; faults are collected, never raised.

    Args:
      dataset: the data set.
      files: all files of the root.
      lenient: repair hand-edited JSON and skip rows with faults, instead of whole files.
    """
    annotation_files: list[AnnotationFile] = []
    transcripts: list[ClipRecord] = []
    for found in find_sources(dataset, files):
        annotation = read_file(
            found.path,
            found.source.rows,
            found.source.make,
            base=found.base,
            files=files,
            lenient=lenient,
            other_bases=found.other_bases,
        )
        if found.source.transcript:
            transcripts += annotation.records
            annotation.records = []
        annotation_files.append(annotation)
    records, conflicts = join_records(
        [r for annotation in annotation_files for r in annotation.records],
        equivalent_labels=dataset.equivalent_labels,
    )
    return DatasetContents(
        dataset=dataset,
        annotation_files=annotation_files,
        records=_add_subtitles(records, transcripts),
        conflicts=conflicts,
    )


def _add_subtitles(
    records: Sequence[ClipRecord], transcripts: Sequence[ClipRecord]
) -> list[ClipRecord]:
    """Adds missing subtitles; a transcript of a split applies only to that split."""
    by_clip: dict[tuple[str, str], ClipRecord] = {}
    for transcript in transcripts:
        by_clip.setdefault((transcript.id, transcript.split), transcript)
    out = []
    for record in records:
        entry = by_clip.get((record.id, record.split)) or by_clip.get((record.id, "unsplit"))
        if entry is not None and entry.subtitle and not record.subtitle:
            provenance = {**record.provenance, **entry.provenance}
            out.append(dataclasses.replace(record, subtitle=entry.subtitle, provenance=provenance))
        else:
            out.append(record)
    return out


def join_records(
    records: Sequence[ClipRecord], *, equivalent_labels: Sequence[tuple[str, str]] = ()
) -> tuple[list[ClipRecord], list[str]]:
    """Joins the records of the same clip, fold and split.

    Args:
      records: the first record of a clip counts; later ones fill its empty fields.
      equivalent_labels: (label, label of a later record) that are not a conflict.

    Returns:
      (joined records, conflicts as sentences).
    """
    joined: dict[tuple[str, str, str], ClipRecord] = {}
    conflicts = []
    for record in records:
        key = (record.id, record.fold, record.split)
        if key not in joined:
            joined[key] = record
            continue
        first = joined[key]
        if (
            first.label
            and record.label
            and first.task == record.task
            and first.label != record.label
            and (first.label, record.label) not in equivalent_labels
        ):
            conflicts.append(
                f"{record.id}: '{first.label}' in one file, '{record.label}' in another"
            )
        joined[key] = _merge(first, record)
    return list(joined.values()), conflicts


def _merge(first: ClipRecord, other: ClipRecord) -> ClipRecord:
    """The first record, with its empty fields filled from the other."""
    targets = {**other.targets, **first.targets}
    if other.task != first.task and (target := other.target(other.task)):
        targets.setdefault(other.task, target)
    targets.pop(first.task, None)
    changes: dict[str, Any] = {"targets": targets}
    for name in ("texts", "scores", "provenance"):
        values, more = getattr(first, name), getattr(other, name)
        changes[name] = {**values, **more, **{k: v for k, v in values.items() if v != ""}}
    for name in ("subtitle", "speaker", "mode", "truth"):
        if getattr(first, name) in ("", None):
            changes[name] = getattr(other, name)
    if first.path == other.path and first.peak_index is None:
        changes["peak_index"] = other.peak_index
    if not first.label and other.task == first.task:
        changes |= {"label": other.label, "labels": other.labels, "native": other.native}
    if not Path(first.path).is_file() and Path(other.path).is_file():
        # Span and peak frame refer to the file that they were annotated in.
        changes |= {name: getattr(other, name) for name in ("path", "start", "end", "peak_index")}
    return dataclasses.replace(first, **changes)

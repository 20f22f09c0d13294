"""Checks the data sets of a folder before training: what exists, what is missing, what is wrong.

`check_root` returns one report of plain JSON values; emojax/reports/data_tables.py renders it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.datasets.benchmarks import BENCHMARKS, Benchmark, benchmark_clips
from data_pipeline.datasets.dataset import DataSet, DatasetContents
from data_pipeline.datasets.file_index import FileIndex
from data_pipeline.datasets.registry import read_manifest_set, read_root
from data_pipeline.media.fingerprint import Media, find_alike, inspect_all
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import ClipRecord

_MAX_SHOWN = 20  # entries of a list in the report; counts are always of all
# Files that readers open on their own, and files that are not annotations.
_AUXILIARY = (
    "_peak.json",
    "instances.json",
    "_transcription.csv",
    "transcriptions/",
    "license",
    "readme",
)


def check_root(
    root: Path,
    *,
    names: Sequence[str] | None = None,
    lenient: bool = False,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    decode: bool = True,
    store: Path | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Reads every annotation file, looks for every clip and decodes the clips that exist.

    Args:
      root: a folder with data sets, each in its own folder or as annotation files anywhere; or a
        manifest or file of records.
      names: data sets to check; None checks all.
      lenient: repair hand-edited JSON and skip rows with faults; both are counted.
      columns: of a manifest; see `read_manifest`.
      labels: of a manifest; see `read_manifest`.
      decode: False only checks whether clips exist.
      store: file of fingerprints, so that a second check decodes only new files.
      progress: called for "read annotations" and "decode clips".

    Returns:
      {root, sets: {name: ...}, benchmarks: {name: ...}, leaks, near_duplicates, unread, unreadable,
      refused}.

    Raises:
      ValueError: there is no such folder, or no data set of a name.
      ManifestError: a manifest has faults.
    """
    progress("read annotations", 0, 1)
    if root.is_file() and not names:
        found, files = read_manifest_set(root, labels=labels, columns=columns)
    else:
        found, files = read_root(root, names=names, lenient=lenient)
    progress("read annotations", 1, 1)
    existing = sorted({r.path for c in found for r in c.records if files.has(Path(r.path))})
    media: dict[str, Media] = {}
    if decode and existing:
        media = inspect_all(existing, store=store, progress=progress)
    return {
        "root": str(root),
        "sets": {
            c.dataset.name: describe_dataset(c, files, media) for c in found if c.annotation_files
        },
        "benchmarks": describe_benchmarks(found, files, media),
        "leaks": [*find_leaks(found), *find_shared_files(found)],
        "near_duplicates": find_near_duplicates(found, media),
        "unread": unread_files(found, files),
        "unreadable": files.unreadable,
        "refused": [str(f.path) for c in found for f in c.annotation_files if f.refused],
    }


def describe_dataset(
    contents: DatasetContents, files: FileIndex, media: dict[str, Media]
) -> dict[str, Any]:
    """The report of one data set.

    Args:
      contents: the files and records of the data set.
      files: all files of the root.
      media: decoded media by path; those of other paths were not decoded.
    """
    records = contents.records
    # A clip has one record per fold, and their paths may differ.
    paths_by_clip: dict[str, list[str]] = defaultdict(list)
    for r in records:
        paths_by_clip[r.id].append(r.path)
    path_of = {
        clip: next((p for p in paths if files.has(Path(p))), "")
        for clip, paths in paths_by_clip.items()
    }
    missing = [paths_by_clip[clip][0] for clip, path in path_of.items() if not path]
    decoded = [media[p] for p in sorted({p for p in path_of.values() if p}) if p in media]
    return {
        "title": contents.dataset.title,
        "clips": len({r.id for r in records}),
        "counts": [
            {"fold": fold, "split": split, "label": label, "clips": n}
            for (fold, split, label), n in sorted(contents.counts().items())
        ],
        "splits": _describe_splits(contents),
        "files": _describe_files(contents),
        "media": _describe_media(len(path_of), missing, decoded),
        "seconds": _describe_durations([m.seconds for m in decoded if not m.error]),
        "texts": dict(Counter(k for r in records for k, v in r.texts.items() if v)),
        "peaks": sum(r.peak_index is not None for r in records),
        "subtitles": sum(bool(r.subtitle) for r in records),
        "speakers": len({r.speaker for r in records if r.speaker}),
        "conflicts": len(contents.conflicts),
        "conflicts_such_as": contents.conflicts[:_MAX_SHOWN],
        "request": contents.dataset.request,
        "terms": contents.dataset.terms,
    }


def _describe_splits(contents: DatasetContents) -> list[dict[str, Any]]:
    expected = contents.dataset.expected
    splits = Counter((r.fold, r.split) for r in contents.records)
    return [
        {"fold": fold, "split": split, "clips": n, "published": expected.get((fold, split))}
        for (fold, split), n in sorted(splits.items())
    ]


def _describe_files(contents: DatasetContents) -> list[dict[str, Any]]:
    return [
        {
            "path": str(f.path),
            "clips": len(f.records),
            "refused": f.refused,
            "faults": len(f.faults),
            "fault_lines": f.fault_lines(),
            "left_out": dict(f.excluded),
            "repaired": len(f.repaired),
            "repairs": [f"line {row}: {what}" for row, what in f.repaired[:_MAX_SHOWN]],
        }
        for f in contents.annotation_files
    ]


def _describe_media(clips: int, missing: Sequence[str], decoded: Sequence[Media]) -> dict[str, Any]:
    unreadable = [m for m in decoded if m.error]
    return {
        "wanted": clips,
        "found": clips - len(missing),
        "missing": len(missing),
        "unreadable": len(unreadable),
        "missing_such_as": missing[:5],
        "unreadable_such_as": [f"{m.path}: {m.error}" for m in unreadable[:_MAX_SHOWN]],
    }


def _describe_durations(durations: Sequence[float]) -> dict[str, float] | None:
    if not durations:
        return None
    seconds = np.array(durations)
    return {
        "total": float(seconds.sum()),
        "median": float(np.median(seconds)),
        "longest": float(seconds.max()),
    }


def describe_benchmarks(
    found: Sequence[DatasetContents], files: FileIndex, media: dict[str, Media]
) -> dict[str, Any]:
    """Which sets of MMEVerse-Bench can be scored, and what the others lack.

    Args:
      found: the data sets that were read.
      files: all files of the root.
      media: decoded media by path.
    """
    by_name = {c.dataset.name: c for c in found}
    return {
        name: _describe_benchmark(benchmark, by_name[benchmark.dataset], files, media)
        for name, benchmark in BENCHMARKS.items()
        if benchmark.dataset in by_name
    }


def _describe_benchmark(
    benchmark: Benchmark, contents: DatasetContents, files: FileIndex, media: dict[str, Media]
) -> dict[str, Any]:
    clips = list(benchmark_clips(benchmark, contents))
    paths = [c.record.path for c in clips if files.has(Path(c.record.path))]
    usable = sum(not (p in media and media[p].error) for p in paths)
    scored = sum(c.scored for c in clips)
    if not clips:
        state = "no annotations"
    elif not scored:
        state = "no scored part"
    else:
        state = "ready" if usable == len(clips) else "clips missing"
    return {
        "dataset": benchmark.dataset,
        "clips": len(clips),
        "scored": scored,
        "clips_missing": len(clips) - usable,
        "state": state,
        "metric": benchmark.metric,
        "request": contents.dataset.request,
        "terms": contents.dataset.terms,
    }


def find_leaks(found: Sequence[DatasetContents]) -> list[dict[str, Any]]:
    """Clips and speakers that are in train and in a held-out part, where they must not be."""
    leaks = [leak for c in found for fold in _by_fold(c) for leak in _fold_leaks(c, *fold)]
    for a in found:
        for b in found:
            if a is b or not a.dataset.family or a.dataset.family != b.dataset.family:
                continue
            train = {r.id for r in a.records if r.split == "train"}
            held_out = {r.id for r in b.records if r.split in ("val", "test")}
            if both := train & held_out:
                names = f"{a.dataset.name} train", f"{b.dataset.name} val/test"
                leaks.append(_leak("clip", *names, both))
    return leaks


def _by_fold(contents: DatasetContents) -> list[tuple[str, dict[str, list[ClipRecord]]]]:
    """(fold, its records by split), sorted by fold."""
    folds: dict[str, dict[str, list[ClipRecord]]] = {}
    for r in contents.records:
        folds.setdefault(r.fold, defaultdict(list))[r.split].append(r)
    return sorted(folds.items())


def _fold_leaks(
    contents: DatasetContents, fold: str, splits: dict[str, list[ClipRecord]]
) -> list[dict[str, Any]]:
    place = f"{contents.dataset.name}{f' fold {fold}' if fold else ''}"
    leaks = []
    for split in ("val", "test"):
        names = f"{place} train", f"{place} {split}"
        if same := {r.id for r in splits["train"]} & {r.id for r in splits[split]}:
            leaks.append(_leak("clip", *names, same))
        if kind := contents.dataset.disjoint:
            if both := _speakers(splits["train"]) & _speakers(splits[split]):
                leaks.append(_leak(kind, *names, both))
    return leaks


def _speakers(records: Iterable[ClipRecord]) -> set[str]:
    return {r.speaker for r in records if r.speaker}


def _leak(kind: str, train: str, held_out: str, names: set[str]) -> dict[str, Any]:
    return {
        "kind": kind,
        "learned": train,
        "held_out": held_out,
        "count": len(names),
        "such_as": sorted(names)[:5],
    }


Role = tuple[str, str, str]  # data set, fold, split


def _roles(found: Sequence[DatasetContents]) -> dict[str, set[Role]]:
    """Where each media file is used."""
    roles: dict[str, set[Role]] = defaultdict(set)
    for c in found:
        for r in c.records:
            roles[r.path].add((c.dataset.name, r.fold, r.split))
    return roles


def find_near_duplicates(
    found: Sequence[DatasetContents], media: dict[str, Media]
) -> list[dict[str, Any]]:
    """Pairs of files with the same picture and sound: {a, b, exact, leak, in}.

    `leak` is true when one file is in train and the other is held out.
    """
    roles = _roles(found)
    return [
        {
            "a": a.path,
            "b": b.path,
            "exact": a.sha256 == b.sha256,
            "leak": _is_leak(roles[a.path], roles[b.path]),
            "in": [sorted(map(" ".join, roles[p])) for p in (a.path, b.path)],
        }
        for a, b in find_alike(media.values())
    ]


def _is_leak(a: set[Role], b: set[Role]) -> bool:
    """Whether one is in train and the other held out, except in different folds of one data set."""

    def leaks(x: Role, y: Role) -> bool:
        return x[2] == "train" and y[2] in ("val", "test") and (x[0] != y[0] or x[1] == y[1])

    return any(leaks(x, y) or leaks(y, x) for x in a for y in b)


def find_shared_files(found: Sequence[DatasetContents]) -> list[dict[str, Any]]:
    """Media files that are in train of one data set and held out in another, by pair of sets."""
    shared: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path, roles in _roles(found).items():
        for a in roles:
            for b in roles:
                if a[0] != b[0] and a[2] == "train" and b[2] in ("val", "test"):
                    shared[f"{a[0]} train", f"{b[0]} {b[2]}"].add(path)
    return [
        _leak("file", train, held_out, paths) for (train, held_out), paths in sorted(shared.items())
    ]


def unread_files(found: Sequence[DatasetContents], files: FileIndex) -> list[str]:
    """Files that look like annotations, but belong to none of the data sets that were read."""
    read = {f.path for c in found for f in c.annotation_files}
    return [
        str(path.relative_to(files.root))
        for path in files.annotations()
        if path not in read and not any(name in path.as_posix().lower() for name in _AUXILIARY)
    ]


def missing_sets(report: dict[str, Any], expected: Sequence[DataSet]) -> list[DataSet]:
    """Data sets that are not in the folder."""
    return [s for s in expected if s.name not in report["sets"]]

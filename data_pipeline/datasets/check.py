"""What is there of every data set below a folder, and what is wrong with it, before anything is trained on it.

`check_root` makes one report of plain JSON values; emojax/reports/data_tables.py shows it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.datasets.dataset import DataSet, Found
from data_pipeline.datasets.reading import Files
from data_pipeline.datasets.registry import BENCHMARKS, benchmark_clips, read_root
from data_pipeline.media.fingerprint import Media, find_alike, inspect_all
from data_pipeline.schema import ClipRecord

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much
_SHOWN = 20  # entries of a list that are told; counts are of all


def check_root(
    root: Path,
    *,
    names: Sequence[str] | None = None,
    lenient: bool = False,
    decode: bool = True,
    store: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Reads every annotation file, looks for every clip, decodes what is there.

    Args:
      root: folder that holds data sets, each in its own folder or as annotation files anywhere.
      names: data sets to look at; None: all.
      lenient: hand-edited JSON is repaired and rows with faults are left out, both counted.
      decode: False only looks whether clips are there.
      store: file in which fingerprints are kept, so that a second check decodes new files alone.
      progress: called with (what, done, total).

    Returns:
      {root, sets: {name: ...}, benchmarks: {name: ...}, leaks, near_duplicates, unread, unreadable, refused}.
    """
    progress("read annotations", 0, 1)
    found, files = read_root(root, names=names, lenient=lenient)
    progress("read annotations", 1, 1)
    there = sorted({r.path for f in found for r in f.records if files.has(Path(r.path))})
    media: dict[str, Media] = {}
    if decode and there:
        media = inspect_all(there, store=store, progress=progress)
    leaks, twins = [*find_leaks(found), *find_shared_files(found)], find_twins(found, media)
    return {
        "root": str(root),
        "sets": {f.dataset.name: describe(f, files, media) for f in found if f.readings},
        "benchmarks": describe_benchmarks(found, files, media),
        "leaks": leaks,
        "near_duplicates": twins,
        "unread": unread_files(found, files),
        "unreadable": files.unreadable,
        "refused": [str(r.path) for f in found for r in f.readings if r.refused],
    }


def describe(found: Found, files: Files, media: dict[str, Media]) -> dict[str, Any]:
    """The report of one data set."""
    by_clip: dict[str, list[str]] = defaultdict(
        list
    )  # folds name a clip again, maybe at another place
    for r in found.records:
        by_clip[r.id].append(r.path)
    place = {
        clip: next((p for p in paths if files.has(Path(p))), "") for clip, paths in by_clip.items()
    }
    there = sorted({p for p in place.values() if p})
    missing = [by_clip[clip][0] for clip, p in place.items() if not p]
    broken = [media[p] for p in there if p in media and media[p].error]
    seconds = np.array([media[p].seconds for p in there if p in media and not media[p].error])
    splits = Counter((r.fold, r.split) for r in found.records)
    expected = found.dataset.expected
    return {
        "title": found.dataset.title,
        "clips": len({r.id for r in found.records}),
        "counts": [
            {"fold": fold, "split": split, "label": label, "clips": n}
            for (fold, split, label), n in sorted(found.counts().items())
        ],
        "splits": [
            {"fold": fold, "split": split, "clips": n, "published": expected.get((fold, split))}
            for (fold, split), n in sorted(splits.items())
        ],
        "files": [
            {
                "path": str(r.path),
                "clips": len(r.records),
                "refused": r.refused,
                "faults": len(r.faults),
                "fault_lines": r.lines(),
                "left_out": dict(r.left),
                "repaired": len(r.repaired),
                "repairs": [f"line {row}: {what}" for row, what in r.repaired[:_SHOWN]],
            }
            for r in found.readings
        ],
        "media": {
            "wanted": len(place),
            "found": len(place) - len(missing),
            "missing": len(missing),
            "unreadable": len(broken),
            "missing_such_as": missing[:5],
            "unreadable_such_as": [f"{m.path}: {m.error}" for m in broken[:_SHOWN]],
        },
        "seconds": {
            "total": float(seconds.sum()),
            "median": float(np.median(seconds)),
            "longest": float(seconds.max()),
        }
        if len(seconds)
        else None,
        "texts": dict(Counter(k for r in found.records for k, v in r.texts.items() if v)),
        "peaks": sum(r.peak_index is not None for r in found.records),
        "subtitles": sum(bool(r.subtitle) for r in found.records),
        "speakers": len({r.speaker for r in found.records if r.speaker}),
        "conflicts": len(found.conflicts),
        "conflicts_such_as": found.conflicts[:_SHOWN],
        "request": found.dataset.request,
        "terms": found.dataset.terms,
    }


def describe_benchmarks(
    found: Sequence[Found], files: Files, media: dict[str, Media]
) -> dict[str, Any]:
    """Which sets of MMEVerse-Bench can be scored, and what is missing for the others."""
    by_name = {f.dataset.name: f for f in found}
    out = {}
    for name, benchmark in BENCHMARKS.items():
        if benchmark.dataset not in by_name:
            continue
        own = by_name[benchmark.dataset]
        clips = list(benchmark_clips(benchmark, own))
        usable = [
            c
            for c in clips
            if files.has(Path(c.record.path))
            and not (c.record.path in media and media[c.record.path].error)
        ]
        scored = sum(c.scored for c in clips)
        state = (
            "no annotations"
            if not clips
            else "ready"
            if len(usable) == len(clips)
            else "clips missing"
        )
        state = "no scored part" if clips and not scored else state
        out[name] = {
            "dataset": benchmark.dataset,
            "clips": len(clips),
            "scored": scored,
            "clips_missing": len(clips) - len(usable),
            "state": state,
            "metric": benchmark.metric,
            "request": own.dataset.request,
            "terms": own.dataset.terms,
        }
    return out


def find_leaks(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Clips and speakers that are in train and in a held-out part where they must not be."""
    leaks = []
    for f in found:
        for fold in sorted({r.fold for r in f.records}):
            parts: dict[str, list[ClipRecord]] = defaultdict(list)
            for r in f.records:
                if r.fold == fold:
                    parts[r.split].append(r)
            for split in ("val", "test"):
                place = f"{f.dataset.name}{f' fold {fold}' if fold else ''}"
                same = {r.id for r in parts["train"]} & {r.id for r in parts[split]}
                if same:
                    leaks.append(_leak("clip", f"{place} train", f"{place} {split}", same))
                if f.dataset.apart:
                    both = _speakers(parts["train"]) & _speakers(parts[split])
                    if both:
                        leaks.append(
                            _leak(f.dataset.apart, f"{place} train", f"{place} {split}", both)
                        )
    for one in found:
        for other in found:
            if (
                one is not other
                and one.dataset.family
                and one.dataset.family == other.dataset.family
            ):
                learned = {r.id for r in one.records if r.split == "train"}
                held = {r.id for r in other.records if r.split in ("val", "test")}
                if learned & held:
                    leaks.append(
                        _leak(
                            "clip",
                            f"{one.dataset.name} train",
                            f"{other.dataset.name} val/test",
                            learned & held,
                        )
                    )
    return leaks


def _speakers(records: Iterable[ClipRecord]) -> set[str]:
    return {r.speaker for r in records if r.speaker}


def _leak(kind: str, learned: str, held: str, names: set[str]) -> dict[str, Any]:
    return {
        "kind": kind,
        "learned": learned,
        "held_out": held,
        "count": len(names),
        "such_as": sorted(names)[:5],
    }


def find_twins(found: Sequence[Found], media: dict[str, Media]) -> list[dict[str, Any]]:
    """Files that show and sound the same: {a, b, exact, leak}; a leak joins train with a held-out part."""
    roles = _roles(found)
    out = []
    for a, b in find_alike(media.values()):
        out.append(
            {
                "a": a.path,
                "b": b.path,
                "exact": a.sha256 == b.sha256,
                "leak": _leaks(roles[a.path], roles[b.path]),
                "in": [sorted(map(" ".join, roles[p])) for p in (a.path, b.path)],
            }
        )
    return out


Role = tuple[str, str, str]  # data set, fold, split


def _roles(found: Sequence[Found]) -> dict[str, set[Role]]:
    roles: dict[str, set[Role]] = defaultdict(set)
    for f in found:
        for r in f.records:
            roles[r.path].add((f.dataset.name, r.fold, r.split))
    return roles


def _leaks(one: set[Role], other: set[Role]) -> bool:
    """Whether one side is trained on where the other is held out; folds of one set do so by plan."""

    def leak(a: Role, b: Role) -> bool:
        return a[2] == "train" and b[2] in ("val", "test") and (a[0] != b[0] or a[1] == b[1])

    return any(leak(a, b) or leak(b, a) for a in one for b in other)


def find_shared_files(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Media files that one data set trains on and another holds out, by pairs of sets."""
    shared: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path, roles in _roles(found).items():
        for a in roles:
            for b in roles:
                if a[0] != b[0] and a[2] == "train" and b[2] in ("val", "test"):
                    shared[f"{a[0]} train", f"{b[0]} {b[2]}"].add(path)
    return [
        _leak("file", learned, held, paths) for (learned, held), paths in sorted(shared.items())
    ]


def unread_files(found: Sequence[Found], files: Files) -> list[str]:
    """Files that look like annotations and belong to no data set that was looked for."""
    read = {r.path for f in found for r in f.readings}
    helpers = (
        "_peak.json",
        "instances.json",
        "_transcription.csv",
        "transcriptions/",
        "license",
        "readme",
    )
    return [
        str(path.relative_to(files.root))
        for path in files.annotations()
        if path not in read and not any(h in path.as_posix().lower() for h in helpers)
    ]


def missing_sets(report: dict[str, Any], wanted: Sequence[DataSet]) -> list[DataSet]:
    """Data sets of which nothing was found."""
    return [s for s in wanted if s.name not in report["sets"]]

"""What a data set is: where its annotation files lie, how they are read, who gives them out and what its splits promise."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from data_pipeline.datasets.reading import Files, Reading, RecordMaker, Rows, read_file
from data_pipeline.media.clip import MEDIA_SUFFIXES
from data_pipeline.schema import ClipRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One kind of annotation file.

    Attributes:
      pattern: of its path below the data set's folder; with `anywhere` of its name alone, in any folder.
      rows, make: see reading.py.
      words: the file is a transcript: it fills in subtitles and makes no clips of its own.
      media: the files are clips themselves, each one row (CAER).
    """

    pattern: str
    rows: Rows
    make: RecordMaker
    anywhere: bool = False
    media: bool = False
    words: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set.

    Attributes:
      name: as records carry it.  title: as its makers write it.
      folders: how its folder may be called (compared without case, blanks and marks).
      sources: its annotation files; an earlier one wins where two say different things of a clip.
      request: where to ask for it.  terms: in a few words.
      apart: what its splits promise never to share: `speaker`, `video` (speakers are then video ids) or "".
      expected: published number of clips by (fold, split).
      same: pairs of labels of which a file may say the second for the first (truth files of merged classes).
      family: sets of one family name the same clips by the same ids.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    sources: tuple[Source, ...]
    request: str
    terms: str
    apart: str = ""
    expected: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    family: str = ""
    same: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(kw_only=True)
class Found:
    """What is there of one data set.

    Attributes:
      records: one a clip and fold, joined over its files.
      readings: one an annotation file.
      conflicts: clips that two files tell differently, as sentences.
    """

    dataset: DataSet
    readings: list[Reading]
    records: list[ClipRecord]
    conflicts: list[str]

    def counts(self) -> Counter[tuple[str, str, str]]:
        """Clips by (fold, split, label); a clip of several labels counts for each."""
        out: Counter[tuple[str, str, str]] = Counter()
        for r in self.records:
            target = r.target(r.task)
            for label in (target.parts if target else ()) or ("(none)",):
                out[r.fold, r.split, label] += 1
        return out


def plain_name(text: str) -> str:
    """A folder's name without case, blanks and marks: `CH-SIMS_v2_s` is chsimsv2s; a plus sign counts."""
    return re.sub(r"[^a-z0-9+]", "", text.lower())


def find_sources(
    dataset: DataSet, files: Files
) -> Iterator[tuple[Source, Path, Path, tuple[Path, ...]]]:
    """(source, annotation file, folder of the data set, further ones) of everything that is there, each file once."""
    names = {plain_name(f) for f in dataset.folders}
    own = [folder for folder in files.folders() if plain_name(folder.name) in names]
    inner = [f for f in own if not any(o in f.parents for o in own)]
    bases = {
        path: next((f for f in inner if f in path.parents), None) for path in files.annotations()
    }
    clips = (
        [p for p in files.all() if any(f in p.parents for f in inner)]
        if any(s.media for s in dataset.sources)
        else []
    )
    clips = [p for p in clips if p.suffix.lower() in MEDIA_SUFFIXES and not p.name.startswith(".")]
    seen: set[Path] = set()
    for source in dataset.sources:
        for path in clips if source.media else bases:
            base = inner[0] if source.media and len(inner) == 1 else bases.get(path)
            if source.media and base is None:
                base = next(f for f in inner if f in path.parents)
            if source.anywhere:
                fits = fnmatch.fnmatchcase(path.name.lower(), source.pattern.lower())
            else:
                fits = base is not None and fnmatch.fnmatchcase(
                    path.relative_to(base).as_posix().lower(), source.pattern.lower()
                )
            if fits and (path not in seen or source.words):
                seen.add(path)
                # A file that lies elsewhere speaks of the clips in the set's own folder, where there is one.
                home = base or (inner[0] if inner else path.parent)
                yield source, path, home, tuple(f for f in inner if f != home)


def read_dataset(dataset: DataSet, files: Files, *, lenient: bool = False) -> Found:
    """Reads everything that is there of one data set; faults are in the readings."""
    readings: list[Reading] = []
    words: list[ClipRecord] = []
    for source, path, base, others in find_sources(dataset, files):
        reading = read_file(
            path, source.rows, source.make, base, files, lenient=lenient, others=others
        )
        if source.words:
            words += reading.records
            reading.records = []
        readings.append(reading)
    records, conflicts = join_records(
        [r for reading in readings for r in reading.records], same=dataset.same
    )
    records = _fill_words(records, words)
    return Found(dataset=dataset, readings=readings, records=records, conflicts=conflicts)


def _fill_words(records: Sequence[ClipRecord], words: Sequence[ClipRecord]) -> list[ClipRecord]:
    """Subtitles of transcripts, for clips that have none; a transcript that names a split is of that split alone."""
    said: dict[tuple[str, str], ClipRecord] = {}
    for w in words:
        said.setdefault((w.id, w.split), w)
    out = []
    for r in records:
        found = said.get((r.id, r.split)) or said.get((r.id, "unsplit"))
        if found is not None and found.subtitle and not r.subtitle:
            r = dataclasses.replace(
                r, subtitle=found.subtitle, provenance={**r.provenance, **found.provenance}
            )
        out.append(r)
    return out


def join_records(
    records: Sequence[ClipRecord], *, same: Sequence[tuple[str, str]] = ()
) -> tuple[list[ClipRecord], list[str]]:
    """Records of the same clip, fold and split as one: (records, conflicts as sentences).

    The first one counts; others fill in what it does not know.
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
            and (first.label, record.label) not in same
        ):
            conflicts.append(
                f"{record.id}: '{first.label}' in one file, '{record.label}' in another"
            )
        joined[key] = _fill(first, record)
    return list(joined.values()), conflicts


def _fill(first: ClipRecord, other: ClipRecord) -> ClipRecord:
    targets = {**other.targets, **first.targets}
    if other.task != first.task and (own := other.target(other.task)):
        targets.setdefault(other.task, own)
    targets.pop(first.task, None)
    new: dict[str, object] = {"targets": targets}
    for name in ("texts", "scores", "provenance"):
        own, more = getattr(first, name), getattr(other, name)
        new[name] = {**own, **more, **{k: v for k, v in own.items() if v != ""}}
    for name in ("subtitle", "speaker", "mode", "truth"):
        if getattr(first, name) in ("", None):
            new[name] = getattr(other, name)
    if first.path == other.path and first.peak_index is None:
        new["peak_index"] = other.peak_index
    if not first.label and other.task == first.task:
        new |= {"label": other.label, "labels": other.labels, "native": other.native}
    if not Path(first.path).is_file() and Path(other.path).is_file():
        # span and peak count in the file that they were annotated in
        new |= {name: getattr(other, name) for name in ("path", "start", "end", "peak_index")}
    return dataclasses.replace(first, **new)  # type: ignore[arg-type]

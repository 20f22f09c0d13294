"""Notes on a manifest: labels of one split alone, likely misspellings, one clip in two splits."""

from __future__ import annotations

import difflib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from data_pipeline.datasets.labels import CONCEPTS, concept
from data_pipeline.io import file_sha256
from data_pipeline.media.notes import counted
from data_pipeline.schema import ClipRecord

_DOUBTFUL = frozenset(
    ("unknown", "undefined", "unlabeled", "unlabelled", "xxx", "no label", "no agreement", "tbd")
)
_SHOWN = 5


def label_notes(records: Sequence[ClipRecord], *, drawn: bool = False) -> list[str]:
    """What is doubtful about the labels of a manifest, as sentences.

    Args:
      records: the clips of all splits.
      drawn: whether the splits were drawn at random: a rare label is then in train alone by chance.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        counts[record.label][record.split] += 1
    splits = sorted({record.split for record in records})
    totals = {label: own.total() for label, own in counts.items()}
    notes = []
    for label, own in sorted(counts.items()):
        alone = len(splits) > 1 and len(own) == 1 and (not drawn or "train" not in own)
        near = _nearest(label, totals)
        if alone:
            (split, n), *_ = own.items()
            others = " and ".join(s for s in splits if s != split)
            hint = f"; is it '{near}'?" if near else ""
            notes.append(
                f"label '{label}' is only in {split} ({counted(n, 'clip')}), not in {others}{hint}"
            )
        elif near and totals[label] * 10 <= totals[near]:
            notes.append(f"label '{label}' ({counted(totals[label], 'clip')}) is nearly '{near}'")
        if label.lower() in _DOUBTFUL:
            notes.append(
                f"label '{label}' of {counted(totals[label], 'clip')} is used as a class; leave "
                "these rows out if nobody labelled them"
            )
    for names in _same_meanings(totals):
        notes.append(f"labels {' and '.join(map(repr, names))} mean the same; use one of them")
    if all(label.lstrip("-").replace(".", "", 1).isdigit() for label in totals):
        notes.append("all labels are numbers; a model answers better with words")
    return notes


def _nearest(label: str, totals: dict[str, int]) -> str | None:
    """The more frequent label that this one may be a misspelling of; None if none is alike."""
    if label.lower() in CONCEPTS:
        return None  # a word of its own
    spellings = {
        other.lower(): other
        for other, n in totals.items()
        if other != label and n >= totals[label] and concept(other) != concept(label)
    }
    close = difflib.get_close_matches(label.lower(), spellings, 1, 0.75)
    return spellings[close[0]] if close else None


def _same_meanings(labels: Iterable[str]) -> list[tuple[str, ...]]:
    by_concept: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        by_concept[concept(label)].append(label)
    return [tuple(names) for names in by_concept.values() if len(names) > 1]


def recordings(records: Sequence[ClipRecord]) -> list[int]:
    """Which rows are of one recording, whatever its path: through links, and copies by content.

    Only files of equal size are read.

    Args:
      records: the clips of a manifest.

    Returns:
      For each clip, the index of the first clip of the same recording.
    """
    inodes: dict[str, tuple[int, int, int]] = {}  # size, device, inode
    for path in {record.path for record in records}:
        stat = os.stat(path)
        inodes[path] = (stat.st_size, stat.st_dev, stat.st_ino)
    by_size: dict[int, dict[tuple[int, int, int], str]] = defaultdict(dict)
    for path, inode in inodes.items():
        by_size[inode[0]][inode] = path
    content: dict[tuple[int, int, int], object] = {}
    for files in by_size.values():
        for inode, path in files.items():
            content[inode] = file_sha256(Path(path)) if len(files) > 1 else inode
    first: dict[object, int] = {}
    return [first.setdefault(content[inodes[r.path]], i) for i, r in enumerate(records)]


def copy_notes(
    records: Sequence[ClipRecord], groups: Sequence[int], rows: Sequence[int]
) -> list[str]:
    """Clips that are in the manifest twice, as sentences.

    Args:
      records: the clips of all splits.
      groups: of `recordings`.
      rows: number of each clip's row in the manifest.
    """
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    labels: list[str] = []
    for i, j in _overlapping(records, groups):
        a, b = records[i], records[j]
        same = f"'{a.path}'" if a.path == b.path else f"'{a.path}' and '{b.path}'"
        where = f"rows {rows[i]} and {rows[j]}: {same}"
        found[a.split, b.split].append(where)
        if a.label != b.label and (a.start, a.end) == (b.start, b.end):
            labels.append(f"rows {rows[i]} '{a.label}' and {rows[j]} '{b.label}'")
    notes = []
    for (one, other), pairs in sorted(found.items()):
        shown = "; ".join(pairs[:_SHOWN]) + "; ..." * (len(pairs) > _SHOWN)
        clips, single = counted(len(pairs), "clip"), len(pairs) == 1
        if one == other:
            notes.append(f"{clips} of {one} {'occurs' if single else 'occur'} twice ({shown})")
        else:
            notes.append(
                f"{clips} of {one} {'is' if single else 'are'} also in {other} ({shown}); in both, "
                f"the scores of {other} are too good"
            )
    if labels:
        notes.append(f"the same clip has two labels: {'; '.join(labels[:_SHOWN])}")
    return notes


def _overlapping(records: Sequence[ClipRecord], groups: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of clips of one recording, each with train first.

    Their spans overlap if they are in two splits, and are equal if they are in one, where windows
    may overlap. Of several such clips in a split, a clip is paired with the first one.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    order = {"train": 0, "val": 1, "test": 2}
    for own in members.values():
        own.sort(key=lambda i: records[i].start or 0.0)
        paired: set[tuple[int, str]] = set()
        for position, i in enumerate(own):
            a = records[i]
            for j in own[position + 1 :]:
                b = records[j]
                if a.end is not None and (b.start or 0.0) >= a.end:
                    break
                if (j, a.split) in paired or (
                    a.split == b.split and (a.start, a.end) != (b.start, b.end)
                ):
                    continue
                paired.add((j, a.split))
                yield (i, j) if order.get(a.split, 3) <= order.get(b.split, 3) else (j, i)

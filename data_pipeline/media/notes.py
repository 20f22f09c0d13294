"""Counts in messages: `1 clip`, `1,234 clips`; notes that many clips share, once each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    Args:
      number: how many.
      noun: the word for one of them; its plural ends with s.
    """
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


def merge_notes(notes: Iterable[str]) -> tuple[str, ...]:
    """Notes on one file, those that differ in numbers only as one: the first with the count."""
    kinds: dict[str, dict[str, None]] = {}
    for note in notes:
        kinds.setdefault(_NUMBER.sub("N", note), {})[note] = None
    merged = []
    for same in kinds.values():
        times = f" (the first of {len(same)} notes of this kind)" if len(same) > 1 else ""
        merged.append(f"{next(iter(same))}{times}")
    return tuple(merged)


def count_notes(
    notes: Iterable[Iterable[str]], *, noun: str = "clip", most: int | None = None
) -> list[str]:
    """Counts notes that clips have in common.

    Args:
      notes: the notes on each clip.
      noun: the word for a clip.
      most: how many kinds of notes are listed; None lists all.

    Returns:
      One line for each kind of note, the most frequent first; numbers that differ as their range:
      `3 clips: the sound starts at 0.5 to 2.1 s`.
    """
    clips: Counter[str] = Counter()
    texts: dict[str, dict[str, None]] = {}
    for own in notes:
        kinds = {_NUMBER.sub("N", note): note for note in own}
        clips.update(kinds.keys())
        for kind, note in kinds.items():
            texts.setdefault(kind, {})[note] = None
    return [
        f"{counted(number, noun)}: {_with_ranges(list(texts[kind]))}"
        for kind, number in clips.most_common(most)
    ]


def _with_ranges(notes: Sequence[str]) -> str:
    """Notes that differ in numbers as one: each number, its range, or * within a word."""
    parts = _NUMBER.split(notes[0])
    columns = zip(*map(_NUMBER.findall, notes), strict=True)
    text = parts[0]
    for values, before, after in zip(columns, parts, parts[1:], strict=False):
        low, high = min(values, key=_value), max(values, key=_value)
        in_word = re.search(r"[\w/-]$", before) or re.match(r"[\w/-]|\.\w", after)
        differ = "*" if in_word else f"{low} to {high}"
        text += (differ if len(set(values)) > 1 else low) + after
    return text


def _value(number: str) -> float:
    """The value of a number as notes write it: `1,234`, `0.5`; of others, such as 1.2.3, 0."""
    plain = re.sub(r",(?=\d{3}(?:[,.]|$))", "", number)
    return float(plain) if re.fullmatch(r"\d+(?:\.\d+)?", plain) else 0.0

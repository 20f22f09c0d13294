"""Counts in messages: `1 clip`, `1,234 clips`; notes that many clips share, once each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

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
      One line for each kind of note, the most frequent first: `3 clips: the sound starts at N s`.
      N stands for numbers that differ.
    """
    clips: Counter[str] = Counter()
    texts: dict[str, set[str]] = {}
    for own in notes:
        kinds = {_NUMBER.sub("N", note): note for note in own}
        clips.update(kinds.keys())
        for kind, note in kinds.items():
            texts.setdefault(kind, set()).add(note)
    lines = []
    for kind, number in clips.most_common(most):
        text = next(iter(texts[kind])) if len(texts[kind]) == 1 else kind
        lines.append(f"{counted(number, noun)}: {text}")
    return lines

"""The nearest known name to a mistyped one, for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def similarity(one: str, other: str) -> float:
    """How alike two words are, from 0 to 1.

    Two neighbouring letters in the wrong order are one error, the least of all:
    `modle` is nearer to `model` than to `mode`.

    Args:
      one: a word.
      other: another word.
    """
    differing = [i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
    if len(one) == len(other) and len(differing) == 2:
        first, second = differing
        if second == first + 1 and one[first : second + 1] == other[second] + other[first]:
            return 1 - 1 / (2 * len(one) + 2)  # a letter more costs 1 / (2 * len(one) + 1)
    return difflib.SequenceMatcher(None, other, one).ratio()


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The known name that is most like a word; "" if none is.

    Case, leading dashes and the choice of `-` or `_` do not count.

    Args:
      word: what was typed.
      known: the names that exist; of several spellings the first is returned.
      cutoff: least similarity, from 0 to 1.
    """
    by_form: dict[str, str] = {}
    for name in known:
        by_form.setdefault(_form(name), name)
    scored = ((similarity(_form(word), form), name) for form, name in by_form.items())
    score, name = max(scored, default=(0.0, ""))
    return name if score >= cutoff else ""


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """`; did you mean 'meld'?`, the end of a message; "" if no known name is alike.

    Args:
      word: what was typed.
      known: the names that exist.
      cutoff: least similarity, from 0 to 1.
    """
    near = nearest(word, known, cutoff=cutoff)
    return f"; did you mean '{near}'?" if near else ""


def no_such(kind: str, word: str, known: Iterable[str]) -> str:
    """`there is no set 'meldd'; did you mean 'meld'? There are meld, dfew`.

    Args:
      kind: what the name is of.
      word: what was typed.
      known: the names that exist.
    """
    known = tuple(known)
    hint = did_you_mean(word, known)
    there = f"{hint} There" if hint else "; there"
    return f"there is no {kind} '{word}'{there} are {', '.join(known)}"


def not_one_of(word: str, known: Iterable[str]) -> str:
    """`'hapy' is not one of happy, sad; did you mean 'happy'?`.

    Args:
      word: what was typed.
      known: the names that exist.
    """
    known = tuple(known)
    return f"'{word}' is not one of {', '.join(known)}{did_you_mean(word, known)}"


def _form(name: str) -> str:
    return name.lower().lstrip("-").replace("_", "-")

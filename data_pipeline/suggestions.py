"""The nearest known name to a mistyped one, for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The known name that is most like a word; "" if none is.

    Case, leading dashes and the choice of `-` or `_` do not count.

    Args:
      word: what was typed.
      known: the names that exist; of several spellings the first is taken.
      cutoff: least similarity, from 0 to 1.
    """
    by_form: dict[str, str] = {}
    for name in known:
        by_form.setdefault(_form(name), name)
    close = difflib.get_close_matches(_form(word), by_form, 1, cutoff)
    return by_form[close[0]] if close else ""


def no_such(kind: str, word: str, known: Iterable[str]) -> str:
    """`there is no set 'meldd'; did you mean 'meld'? There are meld, dfew`.

    Args:
      kind: what the name is of.
      word: what was typed.
      known: the names that exist.
    """
    known = tuple(known)
    return f"there is no {kind} '{word}'{_hint(word, known)} are {', '.join(known)}"


def not_one_of(word: str, known: Iterable[str]) -> str:
    """`'hapy' is not one of happy, sad; did you mean 'happy'?`."""
    known = tuple(known)
    near = nearest(word, known)
    hint = f"; did you mean '{near}'?" if near else ""
    return f"'{word}' is not one of {', '.join(known)}{hint}"


def _hint(word: str, known: Iterable[str]) -> str:
    near = nearest(word, known)
    return f"; did you mean '{near}'? There" if near else "; there"


def _form(name: str) -> str:
    return name.lower().lstrip("-").replace("_", "-")

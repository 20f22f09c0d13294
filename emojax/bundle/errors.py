"""The text of errors of other libraries, for messages of one line."""

from __future__ import annotations


def first_line(error: BaseException, *, limit: int = 200) -> str:
    """The first line of an error's text, at most `limit` characters; its type if it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0][:limit] if lines else type(error).__name__

"""Numbers of the command line: each reader is a `type=` of argparse, and its ArgumentTypeError says in words what it wants."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def _number(text: str, holds: Callable[[float], bool], wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not holds(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not {wanted}")
    return value


def _whole(text: str, least: int, *, most: int | None = None) -> int:
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    if not (
        text.isascii()
        and text.isdecimal()
        and least <= int(text) <= (int(text) if most is None else most)
    ):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number {bounds}")
    return int(text)


def positive(text: str) -> float:
    """A number above 0."""
    return _number(text, lambda x: 0 < x < float("inf"), "a number above 0")


def seconds(text: str) -> float:
    """Seconds above 0."""
    return _number(text, lambda x: 0 < x < float("inf"), "a number of seconds above 0")


def share(text: str) -> float:
    """A number from 0 to 1."""
    return _number(text, lambda x: 0 <= x <= 1, "a number from 0 to 1")


def not_negative(text: str) -> float:
    """A number of at least 0."""
    return _number(text, lambda x: 0 <= x < float("inf"), "a number of at least 0")


def whole(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0)


def count(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1)


def percent(text: str) -> int:
    """A whole number from 1 to 100."""
    return _whole(text, 1, most=100)

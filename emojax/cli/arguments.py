"""Readers and checks of options: the `type=` functions of argparse, ports, output folders."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

# Number formats of weights, as in bundle/precision.py, which parsing need not import.
PRECISIONS = {
    "bf16": "weights and activations as bfloat16",
    "int8": "frozen kernels as int8: half the memory of bfloat16",
    "fp16-parity": "weights and activations as float16, as in the released runs",
}

if TYPE_CHECKING:
    from emojax.cli.parser import Parser

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def _number(text: str, is_valid: Callable[[float], bool], expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not is_valid(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not {expected}")
    return value


def _whole(text: str, least: int, *, most: int | None = None) -> int:
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    value = int(text) if text.isascii() and text.isdecimal() else least - 1
    if value < least or (most is not None and value > most):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number {bounds}")
    return value


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


def beams(text: str) -> int:
    """A whole number from 1 to 16."""
    return _whole(text, 1, most=16)


def percent(text: str) -> int:
    """A whole number from 1 to 100."""
    return _whole(text, 1, most=100)


def part(text: str) -> tuple[int, int]:
    """`I/N`, the I-th of N parts."""
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a part: give I/N with I from 1 to N, such as 2/4"
        )
    return int(number), int(parts)


def name_list(text: str | None) -> list[str]:
    """The names of a comma-separated list, each once."""
    return list(dict.fromkeys(filter(None, map(str.strip, (text or "").split(",")))))


def add_precision(p: argparse.ArgumentParser) -> None:
    """Adds the options for the number format of weights; `args.precision` is "" without any."""
    group = p.add_mutually_exclusive_group()
    for name, text in PRECISIONS.items():
        group.add_argument(
            f"--{name}", action="store_const", const=name, default="", dest="precision", help=text
        )


def add_released_mode(p: argparse.ArgumentParser) -> None:
    """Adds --mode, which chooses how released weights are asked."""
    p.add_argument(
        "--mode",
        choices=("released_eval", "released_demo"),
        default="",
        help="imported weights: as in the official evaluation or as in the official demo (v1: "
        "zeros instead of MAE and VideoMAE); default: as imported",
    )


def check_url(url: str, where: str) -> None:
    """Raises ValueError, which names the option or file `where`, if an address is not valid."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(
            f"{where}: '{url}' is not a valid address, give one such as http://localhost:8000/v1"
        )


def check_required(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Raises ValueError for the first of the options that was not given."""
    for name in names:
        if not getattr(args, name):
            raise ValueError(f"--{name} is missing")


def check_port_is_free(host: str, port: int) -> None:
    """Raises ValueError if the port is not valid or cannot be opened."""
    import socket

    if not 1 <= port <= 65535:
        raise ValueError(f"--port {port}: it must be from 1 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        raise ValueError(
            f"--port {port} on {host} cannot be opened ({error.strerror}): choose another"
        ) from None


@contextlib.contextmanager
def output_folder(path: str) -> Iterator[Path]:
    """Makes the folder of a command's results, before anything slow starts.

    A folder that was made here and is still empty when the command fails is removed again.

    Yields:
      The folder.

    Raises:
      ValueError: the name is empty, or has characters that the checkpoint library does not accept.
      OSError: the folder cannot be made, or nothing can be written into it.
    """
    from emojax.train.run_folder import open_run_folder

    with open_run_folder(path) as folder:
        yield Path(folder)

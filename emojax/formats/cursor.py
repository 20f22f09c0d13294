"""Reads numbers and strings of a binary file in order; a count must fit the rest of the file."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


class Cursor:
    """A place in a memory-mapped binary file, little endian.

    Attributes:
      path: the file.
      data: uint8[bytes of the file], not read before it is used.
      at: offset of the next byte.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.stat().st_size == 0:
            raise ValueError(f"{path} is empty: download it again")
        self.data = np.memmap(path, np.uint8, "r")
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes after the current place."""
        return len(self.data) - self.at

    def take(self, count: int, what: str) -> np.ndarray:
        """The next bytes, as uint8[count].

        Args:
          count: number of bytes.
          what: what they are, for the message.

        Raises:
          ValueError: the file ends before them.
        """
        if count > self.left:
            raise ValueError(
                f"{self.path} is damaged or truncated: {what} at byte {self.at:,} needs {count:,} "
                f"bytes, {self.left:,} are left. Download it again"
            )
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, kind: str, what: str) -> int | float | bool:
        """The next number.

        Args:
          kind: its letter in `struct`.
          what: what it is, for the message.

        Raises:
          ValueError: the file ends before it.
        """
        value: int | float | bool
        data = self.take(struct.calcsize(f"<{kind}"), what).tobytes()
        (value,) = struct.unpack(f"<{kind}", data)
        return value

    def count(self, kind: str, what: str, *, least: int = 1) -> int:
        """The next number, of entries that follow.

        Args:
          kind: its letter in `struct`.
          what: what is counted, for the message.
          least: fewest bytes that an entry can have.

        Raises:
          ValueError: the rest of the file cannot hold so many entries.
        """
        value = int(self.number(kind, what))
        if value * least > self.left:
            raise ValueError(
                f"{self.path} is damaged or truncated: it announces {value:,} {what} at byte "
                f"{self.at:,}, but has {self.left:,} bytes left. Download it again"
            )
        return value

    def text(self, kind: str, what: str) -> str:
        """The next string: its length as a number of `kind`, then UTF-8."""
        length = self.count(kind, f"bytes of {what}")
        return self.take(length, what).tobytes().decode("utf-8", "replace")

"""A folder that one process at a time may write to."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


def take(path: Path, taken: str) -> IO[str]:
    """Holds a lock file as long as what is returned is open (`with take(...)`); the system gives it back when the process ends,
    however it does.

    Raises:
      ValueError: another process holds it; `taken` is what people are told.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ValueError(taken) from error
    return file

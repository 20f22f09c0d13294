"""Where emojax keeps files, and how it writes them: the cache folder, locks, whole files or none."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


def cache_root() -> Path:
    """Where emojax keeps what it can make again: $EMOJAX_CACHE or ~/.cache/emojax."""
    return Path(os.environ.get("EMOJAX_CACHE") or Path.home() / ".cache" / "emojax")


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

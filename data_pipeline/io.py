"""File locations, checksums and safe writing: the cache folder, locks."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import platformdirs


def cache_root() -> Path:
    """The folder of everything that emojax can download or compute again.

    Returns:
      `$EMOJAX_CACHE` if set; else `~/.cache/emojax` if it exists; else the cache folder of the
      operating system.
    """
    if configured := os.environ.get("EMOJAX_CACHE"):
        return Path(configured)
    default = Path.home() / ".cache" / "emojax"
    return default if default.is_dir() else platformdirs.user_cache_path("emojax", appauthor=False)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex digits.

    Raises:
      OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_device(path: Path) -> Path:
    """The path itself, unless it is a device such as /dev/zero, whose content may never end.

    Raises:
      OSError: the path is a device, or nothing is there.
    """
    mode = path.stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.ENODEV, "this is a device, not a file", str(path))
    return path


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that can be printed and stored; bytes that are not UTF-8 are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Writes a file that appears under its name only when it is complete.

    Yields:
      A temporary path in the folder of `path`. When the body ends, this file replaces `path`; when
      the body raises, it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def utf8(text: str) -> bytes:
    """Encodes text; names of files that are not UTF-8 become escapes, which JSON can read."""
    return text.encode("utf-8", "backslashreplace")


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Writes a UTF-8 text file atomically; what is not valid Unicode is written as escapes.

    Args:
      path: the file.
      text: its contents.
      durable: whether to wait until the contents are on disk.
    """
    with atomic_path(path) as part, part.open("wb") as file:
        file.write(utf8(text))
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)  # the new name is on disk, too
        os.close(folder)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file atomically."""
    with atomic_path(path) as part:
        part.write_bytes(data)


def write_json(path: Path, value: Any, *, indent: int | None = None) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent) + "\n")


def keep_earlier(path: Path) -> Path | None:
    """Moves what is at a path aside, to the first free name of `calibration-1.json`, `-2`, ...

    Returns:
      Its new path; None if there was nothing.
    """
    if not path.exists():
        return None
    free = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in itertools.count(1))
    kept = next(p for p in free if not p.exists())
    path.rename(kept)
    return kept


def try_lock(path: Path, message: str) -> filelock.AcquireReturnProxy[Any]:
    """Acquires a lock file without waiting; the system releases it when the process ends.

    Args:
      path: the lock file.
      message: text of the error if another process holds the lock.

    Returns:
      The acquired lock, a context manager that releases it.

    Raises:
      ValueError: another process holds the lock.
      OSError: the lock file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return filelock.FileLock(path, thread_local=False).acquire(timeout=0)
    except filelock.Timeout as error:
        path.open("ab").close()  # filelock also ends here if the file cannot be written
        raise ValueError(message) from error


@contextlib.contextmanager
def temporary_lock(path: Path, message: str) -> Iterator[None]:
    """Holds a lock file as `try_lock` does, and removes it at the end.

    Args:
      path: the lock file.
      message: text of the error if another process holds the lock.

    Raises:
      ValueError: another process holds the lock.
      OSError: the lock file cannot be written.
    """
    with try_lock(path, message):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps files that are open
                path.unlink()


def wait_for_lock(path: Path) -> filelock.AcquireReturnProxy[Any]:
    """Like `try_lock`, but waits until the lock is free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(path, thread_local=False).acquire()

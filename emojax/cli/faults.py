"""Faults of files and disks as one sentence, whichever library met them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

# What is wrong, and what to do; {} is the file.
FULL = "{}: the disk is full; free some space, or choose a folder on another disk"
DENIED = "{}: permission denied; change its permissions, or choose another place"
FAULTS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL.replace("disk is full", "disk quota is used up"),
    errno.EROFS: "{}: the file system is read-only; choose a folder on another one",
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.ENOENT: "{}: there is no such file or folder",
    errno.EEXIST: "{} exists already and is a file; choose another name",
    errno.EISDIR: "{} is a folder, where a file is expected",
    errno.ENOTDIR: "{}: a part of this path is a file, where a folder is expected",
    errno.ENODEV: "{} is a device, where a file is expected",
    errno.ENXIO: "{} is a device or a socket, where a file is expected",
    errno.ENAMETOOLONG: "{}: the name is too long; choose a shorter one",
    errno.EFBIG: "{}: the file is larger than its file system allows",
    errno.EIO: "{}: its disk or network folder reports an error",
    errno.EMFILE: "{}: too many files are open; raise the limit, for example `ulimit -n 4096`",
}
# Libraries that are not written in Python report these faults only in the text of an exception.
IN_TEXT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_SQLITE = "database or disk is full"
_PATH = re.compile(r"""["']((?:[a-zA-Z]:)?[^"'\n]*[/\\][^"'\n]*)["']""")


def file_fault(error: BaseException, *, place: str = "") -> str:
    """What is wrong with a file or disk, and what to do; "" if the error has another cause.

    Args:
      error: any exception; the exceptions that caused it are searched for full disks too.
      place: the file or folder to name if the error names none.
    """
    if isinstance(error, OSError) and error.errno in FAULTS:
        file = error.filename if error.filename2 is None else error.filename2
        name = os.fsdecode(file) if isinstance(file, str | bytes) else str(file or place)
        return FAULTS[error.errno].format(name or "the output")
    for one in _chain(error):
        for number in IN_TEXT:
            if os.strerror(number) in str(one) or (number == errno.ENOSPC and _SQLITE in str(one)):
                quoted = _PATH.search(str(one))
                return FAULTS[number].format(place or (quoted[1] if quoted else "the output"))
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that led to it."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        yield following
        following = following.__cause__ or following.__context__

"""Memory pages of a training run on CPU: the C library gives a step's memory back and takes it anew, page by page."""

from __future__ import annotations

import ctypes
import glob
import sys

HELD = 1_900_000_000  # bytes of address space; mallopt takes numbers up to 2 ** 31 - 1
HUGE = 1 << 21
ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD, MADV_HUGEPAGE = (
    -8,
    -3,
    -1,
    14,
)  # malloc.h and mman.h of Linux


def hold_pages() -> bool:
    """Lets freed memory stay with this process, in large pages where Linux has them; True where that is done.

    XLA asks malloc for a step's temporaries anew at every step. glibc maps blocks of that size and unmaps them after, so
    each step pays a fault for every 4 KB (23,000 in the tiny step, up to half of its time). Here they come from one heap that
    is marked for large pages. Address space alone is set aside: memory counts once it is used. To be called before threads start.
    Nothing is done without glibc, and where an accelerator does the work.
    """
    if sys.platform != "linux" or any(
        map(glob.glob, ("/dev/nvidia[0-9]*", "/dev/accel*", "/dev/vfio/[0-9]*"))
    ):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for what, value in ((ARENA_MAX, 1), (MMAP_THRESHOLD, 2**31 - 1), (TRIM_THRESHOLD, 2**31 - 1)):
        libc.mallopt(what, value)
    block = libc.malloc(HELD)
    if not block:
        return False
    begin = -(-block // HUGE) * HUGE
    marked = libc.madvise(begin, (block + HELD - begin) // HUGE * HUGE, MADV_HUGEPAGE) == 0
    libc.free(block)
    return marked

"""Keeps glibc from returning the memory of a training step to the kernel (avoids page faults)."""

from __future__ import annotations

import ctypes
import glob
import sys

RESERVED = 1_900_000_000  # bytes of address space; mallopt accepts at most 2 ** 31 - 1
HUGE_PAGE = 1 << 21
# Constants of Linux: malloc.h and mman.h.
ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD, MADV_HUGEPAGE = -8, -3, -1, 14


def tune_malloc() -> bool:
    """Lets freed memory stay with this process, in huge pages if Linux has them.

    XLA allocates the temporary arrays of every step with malloc. glibc maps blocks of that size and
    unmaps them afterwards, so each step pays one page fault per 4 KB (23,000 in a step of the tiny
    model, up to half of its time). After this call they come from one heap in huge pages. Only
    address space is reserved: memory counts once it is used. Must be called before threads start.

    Returns:
      Whether anything was changed; not without glibc, and not on machines with an accelerator.
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
    for option, value in ((ARENA_MAX, 1), (MMAP_THRESHOLD, 2**31 - 1), (TRIM_THRESHOLD, 2**31 - 1)):
        libc.mallopt(option, value)
    block = libc.malloc(RESERVED)
    if not block:
        return False
    begin = -(-block // HUGE_PAGE) * HUGE_PAGE
    size = (block + RESERVED - begin) // HUGE_PAGE * HUGE_PAGE
    advised: int = libc.madvise(begin, size, MADV_HUGEPAGE)
    libc.free(block)
    return advised == 0

"""Freed memory stays with the process of a training run: page faults, counted by the kernel."""

import subprocess
import sys

import pytest

CODE = """
import ctypes, resource, threading
from emojax.train.malloc import tune_malloc
tuned = {tune} and tune_malloc()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def work():
    for _ in range(20):
        block = libc.malloc(64 << 20)
        ctypes.memset(block, 1, 64 << 20)
        libc.free(block)
thread = threading.Thread(target=work); thread.start(); thread.join()
print(int(tuned), resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc on Linux")
def test_a_block_of_every_step_is_faulted_in_once():
    """20 blocks of 64 MiB one after the other in another thread: 16,384 faults each without it."""

    def faults(tune: bool) -> tuple[int, int]:
        run = subprocess.run(
            [sys.executable, "-c", CODE.format(tune=tune)],
            capture_output=True,
            text=True,
            check=True,
        )
        tuned, count = run.stdout.split()
        return int(tuned), int(count)

    tuned, few = faults(True)
    if not tuned:
        pytest.skip("another C library, or an accelerator is present")
    many = faults(False)[1]
    assert many > 20 * 16_000
    assert few < many / 15

"""How much memory this process can still use."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import psutil

from emojax.sharding import platform

GB = 1e9
REPORTED = 2 * GB  # needs below this are not worth a line
PROCESS = 0.8 * GB  # Python, jax, the decoders and compiled programs; measured: 0.7 to 0.9 GB
CGROUP = Path("/sys/fs/cgroup")  # limits of a container, on Linux


def free_memory() -> float:
    """Bytes of memory that this process can still use: of its device, or of this machine."""
    stats = jax.local_devices()[0].memory_stats() if platform() != "cpu" else None
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    free = float(psutil.virtual_memory().available)
    try:  # a container may be allowed less than the machine has
        limit, used = (
            float((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current")
        )
        rows = (line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        files = {name: float(size) for name, size in rows}["inactive_file"]
    except (OSError, ValueError, KeyError):
        return free
    return min(free, limit - used + files)


def buffer_gb(tree: Any) -> int:
    """GB of weights that Orbax may copy at the same time while it writes or reads a tree.

    Args:
      tree: nested arrays, or shapes and dtypes; the largest must fit into the buffer.
    """
    largest: int = max(
        (math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)), default=0
    )
    return max(2, math.ceil(largest / GB))

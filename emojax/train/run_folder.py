"""The folder of a run: what the run is, written once and compared at every start.

config.json    the resolved configuration
data.json      number of training clips, and a hash of their annotations
base.json      the weights that the run starts from
starts.jsonl   one line per start: code, packages, devices, processes
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import MANIFEST, MODEL_FILE
from emojax.config import original_names, rename_fields
from emojax.sharding import broadcast_text

# Fields that a run may change when it is started again: they do not change its result.
FREE = ("model.remat", "model.remat_long", "model.long_row")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "libtpu")


@contextlib.contextmanager
def open_run_folder(path: str) -> Iterator[epath.Path]:
    """Creates the folder of a run, local or remote (gs://bucket/run), before anything slow starts.

    If the body raises and the folder has no file yet, what was created here is removed again.

    Yields:
      The folder.

    Raises:
      ValueError: the name is empty, the checkpoint library would read it as a pattern, or the
        package for a remote path is missing.
      OSError: the folder cannot be created, or nothing can be written into it.
    """
    if not path.strip():
        raise ValueError("the run folder has no name (--out is empty)")
    if set("[]*?") & set(path):
        raise ValueError(f"the name of a run folder must not contain any of [ ] * ?: {path}")
    folder = epath.Path(path)
    made: list[Path] = []
    if "://" in path:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except ImportError as error:  # etils asks for the package of a remote path
            raise ValueError(f"{error}; for gs:// paths: pip install gcsfs") from error
    else:
        made = [p for p in (Path(path), *Path(path).parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):  # rmdir removes empty folders only
            below = [Path(p) for p, _, _ in os.walk(made[0], topdown=False)][:-1] if made else []
            for one in (*below, *made):
                one.rmdir()
        raise


def describe_progress(out: epath.Path) -> str:
    """What a run that was stopped has saved, and how to go on."""
    again = "run the same command again"
    if (out / MODEL_FILE).exists():
        return f"the model in {out} is trained and saved; {again} to score it"
    saved = [p for p in (out / "checkpoints").glob("*/[0-9]*") if p.name.isdecimal()]
    if not saved:
        return f"no checkpoint is saved yet; {again} to start from the beginning"
    newest = max(saved, key=lambda p: p.stat().mtime)
    return (
        f"step {newest.name} of stage {newest.parent.name} is saved in {out}; {again} to continue "
        "from it"
    )


def check_same_run(
    out: epath.Path, raw: dict[str, Any], base: dict[str, Any], records: Sequence[ClipRecord]
) -> None:
    """Checks that a run folder is new, or holds the same run.

    Args:
      out: run folder.
      raw: configuration of the run as JSON.
      base: what `base_weights` returns.
      records: the training clips.

    Raises:
      ValueError: the folder holds another run; to continue from its checkpoints would mix the two.
    """
    fault = ""
    begun = any((out / name).exists() for name in ("log.jsonl", MODEL_FILE)) or any(
        (out / "checkpoints").glob("*/[0-9]*")
    )
    if begun and jax.process_index() == 0:
        for name, value in _facts(raw, base, records).items():
            path = out / name
            if not path.exists():
                continue
            before, now = _comparable(json.loads(path.read_text())), _comparable(value)
            if fields := [f for f in differing(before, now) if f not in FREE]:
                fault = (
                    f"{out} holds a run with another {name} ({', '.join(fields[:5])}); choose "
                    "another folder or remove it"
                )
                break
    if fault := broadcast_text(fault):
        raise ValueError(fault)


def register_run(
    out: epath.Path, raw: dict[str, Any], base: dict[str, Any], records: Sequence[ClipRecord]
) -> None:
    """Writes what a run is, or checks that the folder holds the same run; records this start.

    A start that failed before its first step is overwritten.

    Args:
      out: run folder.
      raw: configuration of the run as JSON.
      base: what `base_weights` returns.
      records: the training clips.

    Raises:
      ValueError: as `check_same_run`.
    """
    check_same_run(out, raw, base, records)
    if jax.process_index() == 0:
        out.mkdir(parents=True, exist_ok=True)
        for name, value in _facts(raw, base, records).items():
            (out / name).write_text(json.dumps(value, indent=1))
        append(out / "starts.jsonl", json.dumps(start_facts()) + "\n")


def _facts(
    raw: dict[str, Any], base: dict[str, Any], records: Sequence[ClipRecord]
) -> dict[str, dict[str, Any]]:
    """File name -> what a run is."""
    lines = "".join(r.to_json() for r in records)
    data = {"clips": len(records), "sha256": hashlib.sha256(lines.encode()).hexdigest()}
    return {"config.json": stable(raw), "data.json": data, "base.json": base}


def _comparable(value: dict[str, Any]) -> dict[str, Any]:
    """A file's content under current names, without added fields at their defaults."""
    return rename_fields(original_names(rename_fields(value)))


def stable(raw: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what may differ between two starts of one run.

    That is the mesh, and how input is read.
    """
    train = {k: v for k, v in raw["train"].items() if k != "mesh"}
    data = {k: v for k, v in raw["data"].items() if k not in ("prefetch", "threads", "workers")}
    return {**raw, "train": train, "data": data}


def base_weights(init_from: str | None, *, seed: int) -> dict[str, Any]:
    """Which weights a run starts from.

    Args:
      init_from: model folder, or None for random weights.
      seed: seed of random weights.

    Returns:
      The name of the folder and the checksum of its manifest (of imported weights) or model.json.
    """
    if not init_from:
        return {"start": "random", "seed": seed}
    folder = Path(init_from)
    named = folder / MANIFEST if (folder / MANIFEST).exists() else folder / MODEL_FILE
    digest = hashlib.sha256(named.read_bytes()).hexdigest() if named.exists() else None
    return {"start": folder.name, "file": named.name, "sha256": digest}


def start_facts() -> dict[str, Any]:
    """Code version, packages, devices and processes of this start."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(
            git, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            [*git[:3], "status", "--porcelain"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        ).stdout
        commit += " with changes" if changed.strip() else ""
    except (OSError, subprocess.SubprocessError):
        commit = (root / "COMMIT").read_text().strip() if (root / "COMMIT").exists() else "unknown"
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit,
        "packages": versions,
        "devices": jax.device_count(),
        "device": jax.devices()[0].device_kind,
        "processes": jax.process_count(),
    }


def append(path: epath.Path, text: str) -> None:
    """Appends text to a file; object stores cannot append, there the whole file is rewritten."""
    if "://" in str(path):
        path.write_text((path.read_text() if path.exists() else "") + text)
    else:
        with open(path, "a") as file:
            file.write(text)


def differing(one: Any, other: Any, *, at: str = "") -> list[str]:
    """Dotted names of the fields in which two nested dicts differ."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return [] if one == other else [at]
    parts = [
        differing(one.get(k), other.get(k), at=f"{at}.{k}".lstrip(".")) for k in {**one, **other}
    ]
    return [name for part in parts for name in part]

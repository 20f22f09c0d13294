"""The folder of a run: what the run is, written once and compared at every start.

config.json    the resolved configuration
data.json      number of training clips, and a hash of their annotations
base.json      the weights that the run starts from
starts.jsonl   one line per start: code, packages, devices, processes
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import MANIFEST, MODEL_FILE
from emojax.config import rename_fields
from emojax.sharding import broadcast_text

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "libtpu")


def run_path(path: str) -> epath.Path:
    """Creates the folder of a run, local or remote (gs://bucket/run), before anything slow starts.

    Raises:
      ValueError: the name is empty, or the checkpoint library would read it as a pattern.
      OSError: the folder cannot be created.
    """
    if not path.strip():
        raise ValueError("the run folder has no name (--out is empty)")
    if set("[]*?") & set(path):
        raise ValueError(f"the name of a run folder must not contain any of [ ] * ?: {path}")
    folder = epath.Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
      ValueError: the folder holds another run; to continue from its checkpoints would mix the two.
    """
    lines = "".join(r.to_json() for r in records)
    data = {"clips": len(records), "sha256": hashlib.sha256(lines.encode()).hexdigest()}
    fault = ""
    if jax.process_index() == 0:
        out.mkdir(parents=True, exist_ok=True)
        begun = any((out / name).exists() for name in ("log.jsonl", MODEL_FILE)) or any(
            (out / "checkpoints").glob("*/[0-9]*")
        )
        for name, value in (("config.json", stable(raw)), ("data.json", data), ("base.json", base)):
            path = out / name
            if begun and path.exists() and (before := _read(path)) != value:
                fields = ", ".join(differing(before, value)[:5])
                fault = (
                    f"{out} holds a run with another {name} ({fields}); choose another folder or "
                    "remove it"
                )
                break
            path.write_text(json.dumps(value, indent=1))
        else:
            append(out / "starts.jsonl", json.dumps(start_facts()) + "\n")
    if fault := broadcast_text(fault):
        raise ValueError(fault)


def _read(path: epath.Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return rename_fields(value)


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

"""A run's folder: what the run is, written once, compared at every start.

config.json   the resolved configuration        data.json   the clips: how many, and a fingerprint of their annotations
base.json     the weights it starts from        starts.jsonl   a line a start: code, packages, devices, processes
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
from emojax.bundle.model_folder import MANIFEST
from emojax.config import Settings
from emojax.sharding import broadcast_text

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "libtpu")


def run_path(path: str) -> epath.Path:
    """A run's folder, local or remote (gs://bucket/run), made before anything slow starts.

    Raises:
      ValueError: it has no name, or one that would be read as a pattern by the checkpoint library.
      OSError: it can not be made.
    """
    if not path.strip():
        raise ValueError("the run folder has no name (--out is empty)")
    if set("[]*?") & set(path):
        raise ValueError(f"a run folder's name may not hold any of [ ] * ?: {path}")
    folder = epath.Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def claim(out: epath.Path, settings: Settings, records: Sequence[ClipRecord]) -> None:
    """Writes what a run is, or checks that the folder's run is the same one; notes this start.

    What a start left that failed before its first step is written over.

    Raises:
      ValueError: it is another: going on from its checkpoints would mix two runs.
    """
    lines = "".join(r.to_json() for r in records)
    data = {"clips": len(records), "sha256": hashlib.sha256(lines.encode()).hexdigest()}
    base = base_weights(settings)
    fault = ""
    if jax.process_index() == 0:
        out.mkdir(parents=True, exist_ok=True)
        begun = any((out / name).exists() for name in ("log.jsonl", "model.json")) or any(
            (out / "checkpoints").glob("*/[0-9]*")
        )
        for name, value in (
            ("config.json", stable(settings.raw)),
            ("data.json", data),
            ("base.json", base),
        ):
            path = out / name
            if begun and path.exists() and (before := json.loads(path.read_text())) != value:
                fields = ", ".join(differing(before, value)[:5])
                fault = f"{out} holds a run with another {name} ({fields}); choose another folder or remove it"
                break
            path.write_text(json.dumps(value, indent=1))
        else:
            append(out / "starts.jsonl", json.dumps(start_facts()) + "\n")
    if fault := broadcast_text(fault):
        raise ValueError(fault)


def stable(raw: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what may change between two starts of one run: the mesh, and how input is read."""
    train = {k: v for k, v in raw["train"].items() if k != "mesh"}
    data = {k: v for k, v in raw["data"].items() if k not in ("prefetch", "threads", "workers")}
    return {**raw, "train": train, "data": data}


def base_weights(settings: Settings) -> dict[str, Any]:
    """Which weights a run starts from: random, or a model folder and, if it was imported, its manifest's checksum."""
    if not settings.train.init_from:
        return {"start": "random", "seed": settings.seed}
    folder = Path(settings.train.init_from)
    named = folder / MANIFEST if (folder / MANIFEST).exists() else folder / "model.json"
    digest = hashlib.sha256(named.read_bytes()).hexdigest() if named.exists() else None
    return {"start": folder.name, "file": named.name, "sha256": digest}


def start_facts() -> dict[str, Any]:
    """Code, packages, devices and processes of this start."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(
            git, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            [*git[:3], "status", "--porcelain"], capture_output=True, text=True, timeout=10
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
    """Adds text to a file; object stores can not, so there the file is written anew."""
    if "://" in str(path):
        path.write_text((path.read_text() if path.exists() else "") + text)
    else:
        with open(path, "a") as file:
            file.write(text)


def differing(one: Any, other: Any, *, at: str = "") -> list[str]:
    """Dotted names of the fields in which two trees of dicts differ."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return [] if one == other else [at]
    parts = [
        differing(one.get(k), other.get(k), at=f"{at}.{k}".lstrip(".")) for k in {**one, **other}
    ]
    return [name for part in parts for name in part]

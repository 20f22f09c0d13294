"""The manifest of an imported model: where every leaf came from, and whether the folder still holds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from emojax.bundle.model_folder import MANIFEST, TOKENIZER_MODEL, load_bundle
from emojax.model.quantize import SCALE
from emojax.model.variables import flatten
from emojax.weights.catalogue import SOURCES
from emojax.weights.tensor_files import tensor_files


def make_manifest(
    name: str,
    files: Mapping[str, Path],
    variables: Mapping[str, jax.Array],
    origin: Mapping[str, str],
) -> dict[str, Any]:
    """What `manifest.json` says: sources with checksums and licences, and every leaf with its origin and checksum."""
    sources = {}
    for key in files:
        source = SOURCES[key]
        found = [
            {"file": f.name, "bytes": f.stat().st_size, "sha256": file_sha256(f)}
            for f in tensor_files(files[key])
        ]
        sources[key] = {
            "title": source.title,
            "licence": source.licence,
            "repo": source.repo,
            "files": found,
        }
    leaves = {
        p: {
            "source": origin[p],
            "shape": list(x.shape),
            "dtype": str(x.dtype),
            "sha256": array_checksum(x),
        }
        for p, x in sorted(variables.items())
    }
    count = sum(x.size for p, x in variables.items() if not p.endswith(SCALE))
    return {"name": name, "parameters": int(count), "sources": sources, "leaves": leaves}


def file_sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def array_checksum(x: jax.Array) -> str:
    """16 hex digits of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(x).view(np.uint8).data).hexdigest()[:16]


def verify_model(folder: Path) -> list[str]:
    """Reads an imported model folder again and compares it with its manifest; returns what differs.

    Raises:
      FileNotFoundError: it has no manifest.
    """
    if not (folder / MANIFEST).exists():
        raise FileNotFoundError(f"{folder} has no {MANIFEST}: it was not imported")
    facts = json.loads((folder / MANIFEST).read_text())
    found = flatten(load_bundle(folder).variables)
    wrong = [f"{p} is missing" for p in facts["leaves"] if p not in found]
    wrong += [f"{p} is not in the manifest" for p in found if p not in facts["leaves"]]
    for path, x in found.items():
        want = facts["leaves"].get(path)
        if want and (array_checksum(x), list(x.shape)) != (want["sha256"], want["shape"]):
            wrong.append(f"{path} differs from what was imported")
    tokenizer = facts.get("tokenizer_sha256")
    if tokenizer and file_sha256(folder / TOKENIZER_MODEL) != tokenizer:
        wrong.append(f"{TOKENIZER_MODEL} differs from what was imported")
    return wrong

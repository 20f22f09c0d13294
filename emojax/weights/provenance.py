"""The manifest of an imported model: the origin of every leaf, and whether it is unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipeline.io import file_sha256
from emojax.bundle.model_folder import MANIFEST, TOKENIZER_MODEL, load_bundle
from emojax.model.quantize import SCALE
from emojax.model.variables import flatten
from emojax.weights.catalogue import SOURCES
from emojax.weights.tensor_files import tensor_files


def make_manifest(
    name: str,
    files: Mapping[str, Path],
    variables: Mapping[str, jax.Array],
    *,
    origin: Mapping[str, str],
) -> dict[str, Any]:
    """The content of `manifest.json`.

    Args:
      name: name of the model.
      files: {key of SOURCES: file or folder}.
      variables: {path: array}.
      origin: {path: key of SOURCES or "start"}.

    Returns:
      name, parameters, sources (with files, checksums and licences) and leaves (with source, shape,
      dtype and checksum).
    """
    sources = {}
    for key, path in files.items():
        source = SOURCES[key]
        sources[key] = {
            "title": source.title,
            "licence": source.licence,
            "repo": source.repo,
            "files": [
                {"file": f.name, "bytes": f.stat().st_size, "sha256": file_sha256(f)}
                for f in tensor_files(path)
            ],
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


def array_checksum(x: jax.Array) -> str:
    """The first 16 hex digits of the SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(x).view(np.uint8).data).hexdigest()[:16]


def verify_model(folder: Path) -> list[str]:
    """Compares an imported model folder with its manifest.

    Args:
      folder: the model folder.

    Returns:
      One sentence per difference.

    Raises:
      FileNotFoundError: the folder has no manifest.
    """
    if not (folder / MANIFEST).exists():
        raise FileNotFoundError(f"{folder} has no {MANIFEST}: it was not imported")
    manifest = json.loads((folder / MANIFEST).read_text())
    expected = manifest["leaves"]
    leaves = flatten(load_bundle(folder).variables)
    differences = [f"{p} is missing" for p in expected if p not in leaves]
    differences += [f"{p} is not in the manifest" for p in leaves if p not in expected]
    for path, x in leaves.items():
        entry = expected.get(path)
        if entry and (array_checksum(x), list(x.shape)) != (entry["sha256"], entry["shape"]):
            differences.append(f"{path} differs from what was imported")
    tokenizer = manifest.get("tokenizer_sha256")
    if tokenizer and file_sha256(folder / TOKENIZER_MODEL) != tokenizer:
        differences.append(f"{TOKENIZER_MODEL} differs from what was imported")
    return differences

"""Imports weights of other projects into a model folder; exporter.py does the reverse.

An imported model folder is like a trained one (bundle/model_folder.py), plus a manifest with the
origin of every leaf (provenance.py). A leaf is one array of our parameter tree.
"""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from data_pipeline.io import file_sha256, write_text
from data_pipeline.loader.tokens import LlamaTokenizer
from data_pipeline.progress import Progress, no_progress
from emojax.bundle.memory import GB, PROCESS, REPORTED, buffer_gb, free_memory
from emojax.bundle.model_folder import MANIFEST, MODEL_FILE, TOKENIZER_MODEL, save_bundle
from emojax.bundle.precision import FORMATS
from emojax.config import Settings, load_config, resolve
from emojax.model.quantize import SCALE
from emojax.model.variables import (
    abstract_variables,
    flatten,
    init_flat,
    merge,
    select_trainable,
    unbox,
    variable_shardings,
)
from emojax.model.weight_rules import Table
from emojax.sharding import make_mesh
from emojax.weights.adapter_config import check_adapter
from emojax.weights.catalogue import SOURCES, Model, catalogue_model
from emojax.weights.load_tensors import WeightsError, choose_table, stream_tensors
from emojax.weights.provenance import make_manifest
from emojax.weights.tensor_files import open_tensors, tensor_files

logger = logging.getLogger(__name__)

_shape: Callable[..., jax.ShapeDtypeStruct] = jax.ShapeDtypeStruct


def model_settings(
    model: Model,
    *,
    preset: str | None = None,
    changes: Sequence[str] = (),
    precision: str = "",
    questions: Mapping[str, Sequence[str]] | None = None,
) -> Settings:
    """The configuration of a catalogue model.

    Args:
      model: an entry of MODELS.
      preset: another preset, with the same changes for released weights.
      changes: words such as `--config.model.remat=full`.
      precision: number format, a key of precision.FORMATS; "": that of the preset.
      questions: {task: wordings}, such as those of the originals, which this project does not
        contain.

    Returns:
      The settings.
    """
    config = load_config(preset or model.preset, changes)
    config.model.update(FORMATS[precision] if precision else {})
    config.data.questions.update(questions or {})
    for field, value in model.fields:
        config.update_from_flattened_dict({field: value})
    return resolve(config)


def leaf_types(settings: Settings) -> dict[str, jax.ShapeDtypeStruct]:
    """{path: shape and stored dtype}: trainable leaves are float32, others as configured."""
    leaves = flatten(unbox(abstract_variables(settings.model)))
    trainable = select_trainable(list(leaves), settings.trainable)
    return {p: _shape(x.shape, jnp.float32 if trainable[p] else x.dtype) for p, x in leaves.items()}


def import_model(
    name: str,
    files: Mapping[str, Path],
    out: Path,
    *,
    settings: Settings | None = None,
    legacy_tokenizer: bool | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Imports a model of the catalogue into a model folder.

    Tensors are read one by one and put on the devices leaf by leaf, in their shards.

    Args:
      name: key of MODELS.
      files: {key of SOURCES: file, index or folder}: all sources of the model, and others whose
        tensors replace theirs.
      out: the model folder.
      settings: of the run; the catalogue's by default.
      legacy_tokenizer: as `legacy` of LlamaTokenizer.
      progress: called with imported and all leaves, task "import <name>".

    Returns:
      The model folder.

    Raises:
      ValueError: a source, memory or disk space is missing, the tokenizer does not fit, or a leaf
        is in no source.
      FileNotFoundError: a file is missing.
      WeightsError: a file does not fit the model.
    """
    model = catalogue_model(name)
    settings = settings or model_settings(model)
    files = _in_order(name, model, {source: p.expanduser() for source, p in files.items()})
    for file in files.values():
        tensor_files(file)  # raises if it is not there
    if out.is_file():
        raise ValueError(f"{out} is a file, --out needs a folder")
    tokenizer = _load_tokenizer(settings, list(files.values()), legacy=legacy_tokenizer)
    _check_space(name, settings, out)
    task = f"import {name}"
    variables, origin = _read_sources(model, settings, files, task=task, progress=progress)
    start_leaves(model, settings, variables, origin=origin)
    manifest = make_manifest(name, files, variables, origin=origin)
    manifest["tokenizer_sha256"] = file_sha256(tokenizer.path)
    out.mkdir(parents=True, exist_ok=True)
    (out / MODEL_FILE).unlink(missing_ok=True)
    write_text(out / MANIFEST, json.dumps(manifest, indent=1))
    save_bundle(
        out,
        settings,
        tokenizer,
        variables=merge(variables, {}),
        labels=model.labels,
        reasons=True,
        name=name,
        imported=True,
    )
    return out


def _check_space(name: str, settings: Settings, out: Path) -> None:
    """Reports the memory and the disk space that an import needs; refuses it if they lack."""
    leaves = leaf_types(settings)
    disk = float(sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves.values()))
    memory = disk + GB * buffer_gb(leaves) + PROCESS
    folder = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    free_disk = float(shutil.disk_usage(folder).free)
    facts = (
        f"needs about {memory / GB:.1f} GB of memory ({free_memory() / GB:.1f} GB are free) and "
        f"{disk / GB:.1f} GB of disk ({free_disk / GB:.1f} GB are free)"
    )
    if memory > free_memory() or disk > free_disk:
        int8 = settings.raw["model"]["kernels"] == "int8"
        raise ValueError(f"the import of {name} {facts}" + ("" if int8 else "; try --int8"))
    if memory > REPORTED:
        logger.info("the import of %s %s", name, facts)


def _in_order(name: str, model: Model, files: Mapping[str, Path]) -> dict[str, Path]:
    """The model's sources, or what replaces them, then others: their tensors replace the former."""
    needed = [next((f for f in files if SOURCES[f].instead_of == s), s) for s in model.sources]
    if absent := [s for s in needed if s not in files]:
        raise ValueError(
            f"{name} needs files of {', '.join(absent)}; see `emojax weights show {name}`"
        )
    return {s: files[s] for s in (*needed, *(f for f in files if f not in needed))}


def _load_tokenizer(
    settings: Settings, files: Sequence[Path], *, legacy: bool | None
) -> LlamaTokenizer:
    tokenizer = LlamaTokenizer(find_tokenizer(settings, files), legacy=legacy)
    if tokenizer.vocab_size > settings.model.llama.vocab:
        raise ValueError(
            f"{tokenizer.path} has {tokenizer.vocab_size} pieces, "
            f"the model has only {settings.model.llama.vocab}"
        )
    return tokenizer


def _read_sources(
    model: Model, settings: Settings, files: Mapping[str, Path], *, task: str, progress: Progress
) -> tuple[dict[str, jax.Array], dict[str, str]]:
    """({path: array}, {path: key of SOURCES}) of the leaves; later files replace earlier."""
    leaves = leaf_types(settings)
    shardings = variable_shardings(settings.model, make_mesh(shape=settings.train.mesh))
    tables = {source: source_tables(source, settings, path) for source, path in files.items()}
    total = sum(not any(re.fullmatch(pattern, p) for pattern, _ in model.starts) for p in leaves)
    variables: dict[str, jax.Array] = {}
    origin: dict[str, str] = {}
    for source, parts in tables.items():
        tensors = open_tensors(files[source])
        for spellings in parts:
            table = choose_table(spellings, tensors)
            try:
                for path, array in stream_tensors(table, tensors, leaves):
                    variables[path] = jax.device_put(array, shardings[path])
                    origin[path] = source
                    progress(task, min(len(origin), total), total)
            except WeightsError as error:
                raise WeightsError(f"{files[source]}: {error}") from error
        logger.info("%s: %d leaves", source, sum(s == source for s in origin.values()))
    return variables, origin


def source_tables(key: str, settings: Settings, path: Path) -> list[tuple[Table, ...]]:
    """The weight tables of a source for a model.

    Args:
      key: key of SOURCES.
      settings: of the model.
      path: file or folder of the source.

    Returns:
      For each part of the model that the source fills, the table in all its spellings.

    Raises:
      ValueError: the model has no part that the source fills, or an adapter is not applied as it
        was trained (`check_adapter`).
    """
    parts = SOURCES[key].fills(settings.model)
    leaves = leaf_types(settings)
    if not any(p in leaves for table, *_ in parts for r in table.rules for p in r.paths):
        raise ValueError(f"this model has no part that {key} fills")
    if key == "peft-adapter":
        check_adapter(path, settings.model.llama.lora)
    return parts


def start_leaves(
    model: Model,
    settings: Settings,
    variables: dict[str, jax.Array],
    *,
    origin: dict[str, str],
) -> None:
    """Initialises the leaves that no source fills, where the model's `starts` allow it.

    Args:
      model: an entry of MODELS.
      settings: of the model.
      variables: {path: array} of the leaves so far; the others are added.
      origin: {path: key of SOURCES}; the others are added as "start".

    Raises:
      ValueError: a leaf is neither in a source nor allowed by `starts`.
    """
    types = leaf_types(settings)
    missing = [p for p in types if p not in variables]
    unexplained = [
        p for p in missing if not any(re.fullmatch(pattern, p) for pattern, _ in model.starts)
    ]
    if unexplained:
        raise ValueError(
            f"{len(unexplained)} leaves are in no source, such as {', '.join(unexplained[:5])}"
        )
    # The released ln_vision is the identity; towers that never run need no values.
    constant = {p for p in missing if p.split("/")[1] in ("ln_vision", "mae", "videomae")}
    for path in constant:
        ones = path.endswith("ln_vision/scale")
        variables[path] = jnp.full(types[path].shape, float(ones), types[path].dtype)
    if random := [p for p in missing if p not in constant]:
        started = init_flat(
            settings.model, settings.seed, make_mesh(shape=settings.train.mesh), paths=random
        )
        variables.update({p: started[p].astype(jnp.float32) for p in random})
    origin.update(dict.fromkeys(missing, "start"))


def find_tokenizer(settings: Settings, files: Sequence[Path]) -> Path:
    """The LLaMA-2 tokenizer file.

    Args:
      settings: of the model; `train.tokenizer_path` comes first.
      files: files and folders that are imported; the tokenizer may be next to one of them.

    Returns:
      The path.

    Raises:
      FileNotFoundError: there is none.
    """
    configured = [Path(settings.train.tokenizer_path)] if settings.train.tokenizer_path else []
    folders = [p if p.is_dir() else p.parent for p in files]
    for path in (*configured, *(f / TOKENIZER_MODEL for f in folders)):
        if path.exists():
            return path
    raise FileNotFoundError(
        f"tokenizer.model of LLaMA-2 is in none of {', '.join(map(str, folders))}: put it there"
    )


def plan_weights(preset: str, *, int8: bool = False, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Counts parameters and stored bytes by module, from shapes only.

    Args:
      preset: name of a configuration.
      int8: whether frozen kernels are stored as int8.
      changes: words such as `--config.model.llama.depth=16`.

    Returns:
      preset, modules (one record each, largest first) and total. The fields of a record are module,
      parameters, trainable, bytes, and tensors: trainable tensors as the original projects' files
      count them, one per layer.
    """
    config = load_config(preset, changes)
    config.model.kernels = "int8" if int8 else config.model.kernels
    settings = resolve(config)
    leaves = leaf_types(settings)
    trainable = select_trainable(list(leaves), settings.trainable)
    rows: dict[str, dict[str, Any]] = {}
    for path, leaf in leaves.items():
        collection, module = path.split("/")[:2]
        name = "LoRA" if collection == "lora" else module
        row = rows.setdefault(
            name, {"module": name, "parameters": 0, "trainable": 0, "tensors": 0, "bytes": 0}
        )
        # scales belong to their kernels
        row["parameters"] += 0 if path.endswith(SCALE) else math.prod(leaf.shape)
        row["bytes"] += math.prod(leaf.shape) * leaf.dtype.itemsize
        if trainable[path]:
            row["trainable"] += math.prod(leaf.shape)
            row["tensors"] += leaf.shape[0] if "/blocks/" in path else 1
    total = {
        k: sum(r[k] for r in rows.values()) for k in ("parameters", "trainable", "tensors", "bytes")
    }
    modules = sorted(rows.values(), key=lambda r: -r["parameters"])
    return {"preset": preset, "modules": modules, "total": {"module": "total", **total}}

"""Weights of other projects -> a model folder: the job behind `emojax fetch`, `weights` and `plan`; export.py is the way back.

A model folder made here is like a trained one (see bundle.py), with MANIFEST beside it: where every leaf came from.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from data_pipeline.loader.tokens import LlamaTokenizer
from emojax.bundle.model_folder import MANIFEST, TOKENIZER_MODEL, save_bundle
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
from emojax.sharding import make_mesh
from emojax.weights.catalogue import SOURCES, Model, catalogue_model
from emojax.weights.load_tensors import WeightsError, choose_table, stream_tensors
from emojax.weights.provenance import file_sha256, make_manifest
from emojax.weights.rules import Table
from emojax.weights.tensor_files import open_tensors, tensor_files

Say = Callable[[str], None]
Tick = Callable[[int, int], None]


def model_settings(
    model: Model,
    *,
    preset: str | None = None,
    int8: bool = False,
    questions: Mapping[str, Sequence[str]] | None = None,
) -> Settings:
    """The configuration of a catalogue model, or another preset's with the same changes for released weights.

    `questions`: wordings by task, such as the originals', which are not part of this project.
    """
    config = load_config(preset or model.preset)
    if int8:
        config.model.kernels = "int8"
    config.data.questions.update(questions or {})
    for field, value in model.fields:
        config.update_from_flattened_dict({field: value})
    return resolve(config)


def leaf_types(settings: Settings) -> dict[str, jax.ShapeDtypeStruct]:
    """{path: shape and dtype at rest}: what learns is float32, the rest as the configuration says."""
    leaves = flatten(unbox(abstract_variables(settings.model)))
    learns = select_trainable(list(leaves), settings.trainable)
    return {
        p: jax.ShapeDtypeStruct(x.shape, jnp.float32 if learns[p] else x.dtype)
        for p, x in leaves.items()
    }


def import_model(
    name: str,
    files: Mapping[str, Path],
    out: Path,
    *,
    settings: Settings | None = None,
    say: Say = print,
    tick: Tick | None = None,
) -> Path:
    """Imports a model of the catalogue into a model folder.

    Args:
      name: key of MODELS. files: {key of SOURCES: file, index or folder}, all sources of the model and any others to
        lay over them. out: the model folder.
      settings: of the run; the catalogue's by default.

    Tensors are read one by one, laid out, and put on the devices leaf by leaf, in their shards.

    Raises:
      ValueError: a source is missing, or a leaf is filled by none. WeightsError: a file does not fit the model.
    """
    model = catalogue_model(name)
    settings = settings or model_settings(model)
    files = {source: path.expanduser() for source, path in files.items()}
    needed = [next((f for f in files if SOURCES[f].instead_of == s), s) for s in model.sources]
    if absent := [s for s in needed if s not in files]:
        raise ValueError(
            f"{name} needs files of {', '.join(absent)}; see `emojax weights show {name}`"
        )
    for file in files.values():
        tensor_files(file)
    if out.is_file():
        raise ValueError(f"{out} is a file: --out names a folder")
    tokenizer = LlamaTokenizer(find_tokenizer(settings, list(files.values())))
    if tokenizer.vocab_size > settings.model.llama.vocab:
        raise ValueError(
            f"{tokenizer.path} has {tokenizer.vocab_size} pieces, the model {settings.model.llama.vocab}"
        )
    leaves = leaf_types(settings)
    shardings = variable_shardings(settings.model, make_mesh(shape=settings.train.mesh))
    # Sources beyond the model's own come last: what they hold replaces what was there.
    order = (*needed, *(s for s in files if s not in needed))
    tables = {s: source_tables(s, settings, files[s]) for s in order}
    total = sum(not any(re.fullmatch(pattern, p) for pattern, _ in model.starts) for p in leaves)
    variables: dict[str, jax.Array] = {}
    origin: dict[str, str] = {}
    for source, filled in tables.items():
        tensors = open_tensors(files[source])
        for spellings in filled:
            table = choose_table(spellings, tensors)
            try:
                for path, array in stream_tensors(table, tensors, leaves):
                    variables[path] = jax.device_put(array, shardings[path])
                    origin[path] = source
                    if tick:
                        tick(min(len(origin), total), total)
            except WeightsError as error:
                raise WeightsError(f"{files[source]}: {error}") from error
        say(f"{source}: {sum(s == source for s in origin.values())} leaves")
    start_leaves(model, settings, variables, origin)
    facts = make_manifest(name, files, variables, origin) | {
        "tokenizer_sha256": file_sha256(tokenizer.path)
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.json").unlink(missing_ok=True)
    (out / MANIFEST).write_text(json.dumps(facts, indent=1))
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


def source_tables(key: str, settings: Settings, path: Path) -> list[tuple[Table, ...]]:
    """The tables of a source for a model.

    Raises:
      ValueError: the model has no place for it, or an adapter is scaled otherwise than the model's.
    """
    filled = SOURCES[key].fills(settings.model)
    leaves = leaf_types(settings)
    if not any(p in leaves for table, *_ in filled for r in table.rules for p in r.paths):
        raise ValueError(f"this model has no place for {key}")
    facts_path = path / "adapter_config.json"
    if key == "peft-adapter" and facts_path.exists():
        lora, facts = settings.model.llama.lora, json.loads(facts_path.read_text())
        if (facts["r"], facts["lora_alpha"]) != (lora.rank, lora.alpha):
            raise ValueError(
                f"{facts_path} has r {facts['r']} and lora_alpha {facts['lora_alpha']}, the model {lora.rank} and {lora.alpha:g}"
            )
        if odd := [
            k for k in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern") if facts.get(k)
        ]:
            raise ValueError(
                f"{facts_path} sets {', '.join(odd)}, which this project does not compute"
            )
    return filled


def start_leaves(
    model: Model, settings: Settings, variables: dict[str, jax.Array], origin: dict[str, str]
) -> None:
    """Gives the leaves that no source fills their start, where the model's `starts` allow it.

    Raises:
      ValueError: a leaf that neither a source nor a rule of `starts` covers.
    """
    left = [p for p in leaf_types(settings) if p not in variables]
    bare = [p for p in left if not any(re.fullmatch(pattern, p) for pattern, _ in model.starts)]
    if bare:
        raise ValueError(f"{len(bare)} leaves are in no source, such as {', '.join(bare[:5])}")
    fixed = {p for p in left if p.startswith("params/ln_vision/")}
    for path in fixed:
        shape = leaf_types(settings)[path].shape
        variables[path] = jnp.ones(shape) if path.endswith("scale") else jnp.zeros(shape)
    if rest := [p for p in left if p not in fixed]:
        started = init_flat(
            settings.model, settings.seed, make_mesh(shape=settings.train.mesh), paths=rest
        )
        variables.update({p: started[p].astype(jnp.float32) for p in rest})
    origin.update(dict.fromkeys(left, "start"))


def find_tokenizer(settings: Settings, places: Sequence[Path]) -> Path:
    """The LLaMA-2 tokenizer file: of the configuration, or beside the files that are imported.

    Raises:
      FileNotFoundError: it is at none of them.
    """
    own = [Path(settings.train.tokenizer_path)] if settings.train.tokenizer_path else []
    folders = [p if p.is_dir() else p.parent for p in places]
    for path in (*own, *(f / TOKENIZER_MODEL for f in folders)):
        if path.exists():
            return path
    raise FileNotFoundError(
        f"tokenizer.model of LLaMA-2 is in none of {', '.join(map(str, folders))}: put it there"
    )


def plan_weights(preset: str, *, int8: bool = False) -> dict[str, Any]:
    """Parameters by module of a configuration, all and trainable, and bytes at rest, from shapes alone.

    `tensors` counts what learns as the original projects' files do: one for each layer.
    """
    config = load_config(preset)
    config.model.kernels = "int8" if int8 else config.model.kernels
    settings = resolve(config)
    leaves = leaf_types(settings)
    learns = select_trainable(list(leaves), settings.trainable)
    rows: dict[str, dict[str, Any]] = {}
    for path, leaf in leaves.items():
        collection, module = path.split("/")[:2]
        name = "LoRA" if collection == "lora" else module
        row = rows.setdefault(
            name, {"module": name, "parameters": 0, "trainable": 0, "tensors": 0, "bytes": 0}
        )
        row["parameters"] += (
            0 if path.endswith(SCALE) else math.prod(leaf.shape)
        )  # scales belong to their kernels
        row["bytes"] += math.prod(leaf.shape) * leaf.dtype.itemsize
        if learns[path]:
            row["trainable"] += math.prod(leaf.shape)
            row["tensors"] += leaf.shape[0] if "/blocks/" in path else 1
    total = {
        k: sum(r[k] for r in rows.values()) for k in ("parameters", "trainable", "tensors", "bytes")
    }
    modules = sorted(rows.values(), key=lambda r: -r["parameters"])
    return {"preset": preset, "modules": modules, "total": {"module": "total", **total}}

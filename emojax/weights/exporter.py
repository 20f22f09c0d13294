"""Exports a trained model to files that other projects read; importer.py does the reverse."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from data_pipeline.io import atomic_path, write_text
from data_pipeline.loader.chat_tokenizer import CHAT_FILE
from emojax.bundle.model_folder import (
    MODEL_FILE,
    TOKENIZER_FOLDER,
    TOKENIZER_MODEL,
    Bundle,
    load_bundle,
)
from emojax.model.dense import merge_lora_kernel
from emojax.model.lm.families import LanguageFamily, decoder_table, write_config
from emojax.model.lm.llama import LlamaConfig
from emojax.model.parts import LANGUAGE_MODELS
from emojax.model.quantize import SCALE, dequantize_leaves
from emojax.model.variables import flatten, select_trainable
from emojax.model.weight_rules import Table
from emojax.weights import tables
from emojax.weights.catalogue import projections, stage_table
from emojax.weights.load_tensors import save_tensors

FORMATS = ("peft", "emotion-llama", "hf-merged", "safetensors")
SHARD = 5_000_000_000  # bytes
Leaves = Mapping[str, np.ndarray]

logger = logging.getLogger(__name__)


def export_model(folder: Path, layout: str, out: Path) -> list[Path]:
    """Writes a model folder in the layout of another project.

    Trained parameters that the layout cannot hold are listed in a warning.

    Args:
      folder: the model.
      layout: one of FORMATS. "peft": the LoRA adapter, for `peft.PeftModel`. "emotion-llama": the
        trainable parameters under the original names, a .pth for the original loaders (needs
        torch). "safetensors": the same without torch. "hf-merged": LLaMA with LoRA merged, for
        transformers.
      out: a folder for "peft" and "hf-merged", a file for the others.

    Returns:
      The files written.

    Raises:
      ValueError: the layout or `out` is not valid, or the model lacks what the layout needs.
    """
    _check_output(layout, out)
    bundle = load_bundle(folder)
    leaves = _float_leaves(bundle)
    llama_projections = projections(bundle.settings.model)
    if layout == "hf-merged":
        if bundle.settings.raw["model"]["kernels"] == "int8":
            logger.warning(
                "the kernels of this model are int8; their dequantized values are written"
            )
        llama = _decoder(bundle).rules
        table = Table("", (*llama, *tables.lora(projections=llama_projections)))
        _warn_omitted(bundle, table, leaves)
        return _write_merged(bundle, leaves, folder, out)
    table = (
        tables.peft_adapter(llama_projections)
        if layout == "peft"
        else _trainable_table(bundle, leaves)
    )
    _warn_omitted(bundle, table, leaves)
    tensors = save_tensors(table, leaves)
    if layout == "peft":
        _warn_mirror(folder)
        return _write_peft(bundle, tensors, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if layout == "safetensors":
        _save(tensors, out)
    else:
        _write_torch(bundle, tensors, out)
    return [out]


def _check_output(layout: str, out: Path) -> None:
    if layout not in FORMATS:
        raise ValueError(f"there is no format '{layout}'; there are {', '.join(FORMATS)}")
    if layout in ("peft", "hf-merged") and (out.is_file() or (out / MODEL_FILE).exists()):
        raise ValueError(
            f"{out} is a model folder or a file: --format {layout} writes a folder of its own"
        )
    if layout in ("emotion-llama", "safetensors") and out.is_dir():
        raise ValueError(f"{out} is a folder: --format {layout} writes one file")
    if layout == "safetensors" and out.suffix != ".safetensors":
        raise ValueError(f"{out} must end in .safetensors, or other programs will not read it")


def _float_leaves(bundle: Bundle) -> dict[str, np.ndarray]:
    """{path: array} with int8 kernels as floats of the model's dtype."""
    stored = {path: np.asarray(x) for path, x in flatten(bundle.variables).items()}
    dtype = np.dtype(jnp.dtype(bundle.settings.raw["model"]["param_dtype"]))
    return {
        p: x.astype(dtype) if p + SCALE in stored else x
        for p, x in dequantize_leaves(stored).items()
    }


def _trainable_table(bundle: Bundle, leaves: Leaves) -> Table:
    """The table of a stage checkpoint; a norm that was never trained is left out, as there."""
    table = stage_table(bundle.settings.model)
    unchanged = all(
        np.all(leaves[p] == p.endswith("scale")) for r in table.rules if r.optional for p in r.paths
    )
    rules = tuple(r for r in table.rules if not (r.optional and unchanged))
    if absent := [p for r in rules for p in r.paths if p not in leaves]:
        raise ValueError(f"{bundle.name} has no {absent[0]}: this layout cannot hold it")
    return Table(table.name, rules)


def _warn_omitted(bundle: Bundle, table: Table, leaves: Leaves) -> None:
    trainable = select_trainable(list(leaves), bundle.settings.trainable)
    held = {p for r in table.rules for p in r.paths}
    if omitted := sorted(p for p, trained in trainable.items() if trained and p not in held):
        modules = sorted({p.split("/")[1] for p in omitted})
        logger.warning(
            "this layout cannot hold %s: these trained parameters are not exported",
            ", ".join(modules),
        )


def _write_torch(bundle: Bundle, tensors: dict[str, np.ndarray], out: Path) -> None:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            "a .pth is written by torch: pip install -e '.[parity]', or use --format safetensors"
        ) from error
    state = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in tensors.items()}
    with atomic_path(out) as part:
        torch.save({"model": state, "config": bundle.settings.raw, "epoch": 0}, part)


def _save(tensors: dict[str, np.ndarray], path: Path) -> None:
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={"format": "pt"})


def _warn_mirror(folder: Path) -> None:
    """Warns where the adapter was trained on weights that differ from the release it names."""
    facts = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    source = facts.get("parts", {}).get("llama", {}).get("source", {})
    if source.get("note"):
        logger.warning("the adapter was trained on a mirror of its base: %s", source["note"])


def _write_peft(bundle: Bundle, tensors: dict[str, np.ndarray], out: Path) -> list[Path]:
    lora = bundle.settings.model.llama.lora
    out.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        # An adapter of a model of another size fits only its own language model, without a name.
        "base_model_name_or_path": _base_name(bundle),
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": [f"{p}_proj" for p in projections(bundle.settings.model)],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    write_text(out / "adapter_config.json", json.dumps(config, indent=1))
    _save(tensors, out / "adapter_model.safetensors")
    return [out / "adapter_config.json", out / "adapter_model.safetensors"]


def _write_merged(bundle: Bundle, leaves: Leaves, folder: Path, out: Path) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    config = bundle.settings.model.llama
    files = _write_shards(config, _decoder(bundle), leaves, out)
    dtype = str(leaves["params/llama/embed"].dtype)
    facts = write_config(_family(bundle), config, dtype=dtype)
    write_text(out / "config.json", json.dumps(facts, indent=1))
    files.append(out / "config.json")
    tokenizers = [folder / TOKENIZER_MODEL, *sorted((folder / TOKENIZER_FOLDER).glob("*"))]
    for file in tokenizers:
        if file.exists() and file.name != CHAT_FILE:
            files.append(Path(shutil.copyfile(file, out / file.name)))
    return files


def _family(bundle: Bundle) -> LanguageFamily:
    return LANGUAGE_MODELS[bundle.settings.raw["model"]["llama"]["family"]]


def _decoder(bundle: Bundle) -> Table:
    """The table of the language model on the whole tree."""
    return decoder_table(bundle.settings.model.llama).under("", "params/llama/")


def _base_name(bundle: Bundle) -> str:
    """The repository of the release with the sizes of the bundle's language model, or ""."""
    family, config = _family(bundle), bundle.settings.model.llama
    part = bundle.settings.parts.get("llama", "")
    for release in family.releases:
        sizes = ("vocab", "width", "depth", "heads", "mlp")
        same = all(release.fields[size] == getattr(config, size) for size in sizes)
        if same and part in ("", release.name, release.repo):
            return release.repo
    return part.removeprefix("hf:") if part.startswith("hf:") else ""


def _write_shards(config: LlamaConfig, decoder: Table, leaves: Leaves, out: Path) -> list[Path]:
    """Writes LLaMA's tensors in files of at most SHARD bytes, with an index for several."""
    tensors: dict[str, np.ndarray] = {}
    parts: list[tuple[Path, list[str]]] = []
    sizes = [0]
    for name, tensor in _merged_tensors(config, decoder, leaves):
        if sizes[-1] and sizes[-1] + tensor.nbytes > SHARD:
            parts.append(_write_part(tensors, out, len(parts)))
            tensors = {}
            sizes.append(0)
        tensors[name] = tensor
        sizes[-1] += tensor.nbytes
    parts.append(_write_part(tensors, out, len(parts)))
    index: dict[str, str] = {}
    files = []
    for number, (path, names) in enumerate(parts, 1):
        to = out / (
            f"model-{number:05d}-of-{len(parts):05d}.safetensors"
            if len(parts) > 1
            else "model.safetensors"
        )
        path.replace(to)
        files.append(to)
        index |= dict.fromkeys(names, to.name)
    if len(files) > 1:
        facts = {"metadata": {"total_size": sum(sizes)}, "weight_map": index}
        files.append(out / "model.safetensors.index.json")
        write_text(files[-1], json.dumps(facts, indent=1))
    return files


def _write_part(tensors: dict[str, np.ndarray], out: Path, number: int) -> tuple[Path, list[str]]:
    path = out / f"part-{number}.safetensors"
    _save(tensors, path)
    return path, list(tensors)


def _merged_tensors(
    config: LlamaConfig, decoder: Table, leaves: Leaves
) -> Iterator[tuple[str, np.ndarray]]:
    """The language model's tensors with merged adapters, one leaf at a time."""
    for rule in decoder.rules:
        path = rule.paths[0]
        value = leaves[path]
        adapter = path.replace("params/", "lora/", 1).removesuffix("/kernel")
        if path.endswith("/kernel") and f"{adapter}/a" in leaves:
            merged = np.empty_like(value)
            layers = zip(value, leaves[f"{adapter}/a"], leaves[f"{adapter}/b"], strict=True)
            for layer, (w, a, b) in enumerate(layers):
                merged[layer] = merge_lora_kernel(w, a, b, lora=config.lora)
            value = merged
        yield from save_tensors(Table("", (rule,)), {path: value}).items()

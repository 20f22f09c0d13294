"""What a model has learned -> files that other projects read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from emojax.bundle.model_folder import TOKENIZER_MODEL, Bundle, load_bundle
from emojax.model.dense import merge_lora_kernel
from emojax.model.lm.llama import LlamaConfig
from emojax.model.quantize import SCALE, dequantize_leaves
from emojax.model.variables import flatten, select_trainable
from emojax.weights import tables
from emojax.weights.catalogue import projections, stage_table
from emojax.weights.load_tensors import save_tensors
from emojax.weights.rules import Table

FORMATS = ("peft", "emotion-llama", "hf-merged", "safetensors")
BASE = "meta-llama/Llama-2-7b-chat-hf"
SHARD = 5_000_000_000  # bytes
Leaves = Mapping[str, np.ndarray]


def export_model(
    folder: Path, form: str, out: Path, *, say: Callable[[str], None] = print
) -> list[Path]:
    """Writes a model folder in another layout.

    Args:
      folder: the model. out: a folder for `peft` and `hf-merged`, a file for the others. form: one of FORMATS:
        peft: the LoRA adapter, for `peft.PeftModel`. emotion-llama: a .pth for the original loaders, what learns in
        its names (needs torch). safetensors: the same without torch. hf-merged: LLaMA with LoRA merged, for
        transformers.

    Returns:
      The files written.

    Raises:
      ValueError: no such format, or the model holds nothing of the kind.
    """
    if form not in FORMATS:
        raise ValueError(f"there is no format '{form}'; there are {', '.join(FORMATS)}")
    if form in ("peft", "hf-merged") and (out.is_file() or (out / "model.json").exists()):
        raise ValueError(
            f"{out} is a model folder or a file: --format {form} writes a folder of its own"
        )
    if form in ("emotion-llama", "safetensors") and out.is_dir():
        raise ValueError(f"{out} is a folder: --format {form} writes one file")
    if form == "safetensors" and out.suffix != ".safetensors":
        raise ValueError(f"{out} should end on .safetensors, or nothing will read it")
    bundle = load_bundle(folder)
    if bundle.settings.raw["model"]["kernels"] == "int8" and form == "hf-merged":
        say("note: the kernels of this model were int8; what is written is what they stand for")
    stored = {path: np.asarray(x) for path, x in flatten(bundle.variables).items()}
    rest = np.dtype(jnp.dtype(bundle.settings.raw["model"]["param_dtype"]))
    leaves = {
        p: x.astype(rest) if p + SCALE in stored else x
        for p, x in dequantize_leaves(stored).items()
    }
    if form == "hf-merged":
        llama = tables.LLAMA.under("", "params/llama/").rules
        _tell_rest(
            bundle,
            Table("", (*llama, *tables.lora(projections=projections(bundle.settings.model)))),
            leaves,
            say,
        )
        return _merged(bundle, leaves, folder, out)
    table = (
        tables.peft_adapter(projections(bundle.settings.model))
        if form == "peft"
        else _learned(bundle, leaves)
    )
    _tell_rest(bundle, table, leaves, say)
    tensors = save_tensors(table, leaves)
    if form == "peft":
        return _peft(bundle, tensors, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if form == "safetensors":
        save_file(tensors, out, metadata={"format": "pt"})
    else:
        _torch_file(bundle, tensors, out)
    return [out]


def _learned(bundle: Bundle, leaves: Leaves) -> Table:
    """The stage checkpoint's table; a frozen norm that is ones and zeros is left out, as the originals do."""
    table = stage_table(bundle.settings.model)
    plain = all(
        np.all(leaves[p] == p.endswith("scale")) for r in table.rules if r.optional for p in r.paths
    )
    rules = tuple(r for r in table.rules if not (r.optional and plain))
    if absent := [p for r in rules for p in r.paths if p not in leaves]:
        raise ValueError(f"{bundle.name} has no {absent[0]}: this layout can not hold it")
    return Table(table.name, rules)


def _tell_rest(bundle: Bundle, table: Table, leaves: Leaves, say: Callable[[str], None]) -> None:
    learns = select_trainable(list(leaves), bundle.settings.trainable)
    held = {p for r in table.rules for p in r.paths}
    if rest := sorted(p for p, learned in learns.items() if learned and p not in held):
        modules = sorted({p.split("/")[1] for p in rest})
        say(f"note: this layout does not hold {', '.join(modules)}, which learned too")


def _torch_file(bundle: Bundle, tensors: dict[str, np.ndarray], out: Path) -> None:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            "a .pth is written by torch: pip install 'emojax[parity]', or --format safetensors"
        ) from error
    state = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in tensors.items()}
    torch.save({"model": state, "config": bundle.settings.raw, "epoch": 0}, out)


def _peft(bundle: Bundle, tensors: dict[str, np.ndarray], out: Path) -> list[Path]:
    lora = bundle.settings.model.llama.lora
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        # An adapter of a model of another size fits its own LLaMA alone, which has no name.
        "base_model_name_or_path": BASE if bundle.settings.model.llama.width == 4096 else "",
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": [f"{p}_proj" for p in projections(bundle.settings.model)],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (out / "adapter_config.json").write_text(json.dumps(facts, indent=1))
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    return [out / "adapter_config.json", out / "adapter_model.safetensors"]


def _merged(bundle: Bundle, leaves: Leaves, folder: Path, out: Path) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    config = bundle.settings.model.llama
    shard: dict[str, np.ndarray] = {}
    written: list[tuple[Path, list[str]]] = []
    sizes = [0]
    for name, tensor in _merged_tensors(config, leaves):
        if sizes[-1] and sizes[-1] + tensor.nbytes > SHARD:
            written.append(_shard(shard, out, len(written)))
            shard = {}
            sizes.append(0)
        shard[name] = tensor
        sizes[-1] += tensor.nbytes
    written.append(_shard(shard, out, len(written)))
    index: dict[str, str] = {}
    final = []
    for number, (path, names) in enumerate(written, 1):
        to = out / (
            f"model-{number:05d}-of-{len(written):05d}.safetensors"
            if len(written) > 1
            else "model.safetensors"
        )
        path.replace(to)
        final.append(to)
        index |= dict.fromkeys(names, to.name)
    if len(final) > 1:
        facts = {"metadata": {"total_size": sum(sizes)}, "weight_map": index}
        final.append(out / "model.safetensors.index.json")
        final[-1].write_text(json.dumps(facts, indent=1))
    (out / "config.json").write_text(json.dumps(_llama_config(config, leaves), indent=1))
    final.append(out / "config.json")
    source = folder / TOKENIZER_MODEL
    if source.exists():
        final.append(Path(shutil.copyfile(source, out / TOKENIZER_MODEL)))
    return final


def _shard(tensors: dict[str, np.ndarray], out: Path, number: int) -> tuple[Path, list[str]]:
    path = out / f"part-{number}.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    return path, list(tensors)


def _merged_tensors(config: LlamaConfig, leaves: Leaves) -> Iterator[tuple[str, np.ndarray]]:
    """LLaMA's tensors, W + (alpha / rank) B A merged in float32, one leaf at a time."""
    for rule in tables.LLAMA.under("", "params/llama/").rules:
        path = rule.paths[0]
        value = leaves[path]
        low = path.replace("params/", "lora/", 1).removesuffix("/kernel")
        if f"{low}/a" in leaves:
            merged = np.empty_like(value)
            for layer, (w, a, b) in enumerate(
                zip(value, leaves[f"{low}/a"], leaves[f"{low}/b"], strict=True)
            ):
                merged[layer] = merge_lora_kernel(w, a, b, lora=config.lora)
            value = merged
        yield from save_tensors(Table("", (rule,)), {path: value}).items()


def _llama_config(config: LlamaConfig, leaves: Leaves) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "intermediate_size": config.mlp,
        "rms_norm_eps": config.eps,
        "rope_theta": config.theta,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": str(leaves["params/llama/embed"].dtype),
    }

"""What transformers needs beside the tensors of a GGUF file: config.json and tokenizer files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import pre_tokenizers

from data_pipeline.io import write_json, write_text
from emojax.formats.gguf_files import (
    ROPE_FACTORS,
    GgufFile,
    check_architecture,
    kv_heads,
    open_gguf,
)

# Published settings of the RoPE scaling "llama3". A GGUF file has its factors, not its settings.
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_RENAMED = {"model": "tokenizer_type", "pre": "pre_tokenizer_type"}


def gguf_config(path: Path) -> dict[str, Any]:
    """The metadata of a GGUF file as the content of a config.json of transformers.

    Args:
      path: the file.

    Returns:
      model_type, hidden_size, ...; `name` is the name that the file gives itself.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged or of another architecture, a size is missing, or its RoPE
        scaling cannot be expressed.
    """
    file = open_gguf(path)
    check_architecture(file)
    if "token_embd.weight" not in file.tensors:
        raise ValueError(f"{path} has no token_embd.weight")
    name, key_length = str(file.metadata.get("general.name", "")), "attention.key_length"
    width, heads = file.number("embedding_length"), file.number("attention.head_count")
    mistral = file.architecture == "llama" and "mistral" in name.lower()
    ids = {
        f"{kind}_token_id": file.metadata[key]
        for kind in ("bos", "eos")
        if (key := f"tokenizer.ggml.{kind}_token_id") in file.metadata
    }
    return {
        "model_type": "mistral" if mistral else file.architecture,
        "name": name,
        "vocab_size": file.tensors["token_embd.weight"].shape[0],
        "hidden_size": width,
        "intermediate_size": file.number("feed_forward_length"),
        "num_hidden_layers": file.number("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads(file),
        "head_dim": width // heads if file.fact(key_length) is None else file.number(key_length),
        "max_position_embeddings": file.number("context_length"),
        "rms_norm_eps": file.decimal("attention.layer_norm_rms_epsilon", 1e-6),
        "rope_theta": file.decimal("rope.freq_base", 10_000.0),
        "rope_scaling": _rope_scaling(file),
        "sliding_window": file.fact("attention.sliding_window"),
        "attention_bias": file.architecture != "qwen2" and "blk.0.attn_q.bias" in file.tensors,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "hidden_act": "silu",
        **ids,
    }


def _rope_scaling(file: GgufFile) -> dict[str, Any] | None:
    kind = file.fact("rope.scaling.type", "none")
    if ROPE_FACTORS in file.tensors:
        return _llama3_scaling(file)
    if kind in ("", "none"):
        return None
    if kind != "linear":
        raise ValueError(
            f"{file.path} scales RoPE by '{kind}'; none, linear and llama3 are supported"
        )
    return {"rope_type": "linear", "factor": file.decimal("rope.scaling.factor", 1.0)}


def _llama3_scaling(file: GgufFile) -> dict[str, Any]:
    factors = file.tensors[ROPE_FACTORS].read()
    theta = file.decimal("rope.freq_base", 10_000.0)
    waves = 2 * np.pi * theta ** (np.arange(len(factors)) / len(factors))
    low, high, original = _LLAMA3.values()
    smooth = np.clip((original / waves - low) / (high - low), 0, 1)
    factor = float(factors.max())
    if not np.allclose(factors, 1 / ((1 - smooth) / factor + smooth), rtol=1e-3):
        raise ValueError(
            f"{file.path} scales RoPE by factors of its own; none, linear and those of llama3 are "
            "supported"
        )
    return {"rope_type": "llama3", "factor": round(factor, 4), **_LLAMA3}


def write_tokenizer(path: Path, folder: Path) -> None:
    """Writes the tokenizer of a GGUF file as files that transformers' AutoTokenizer loads.

    Args:
      path: the GGUF file.
      folder: gets tokenizer.json, tokenizer_config.json and, if there is one, chat_template.jinja;
        files that exist are kept.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or has no tokenizer that transformers can build.
    """
    from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer

    file = open_gguf(path)
    facts = {
        key.removeprefix("tokenizer.ggml."): value
        for key, value in file.metadata.items()
        if key.startswith("tokenizer.ggml.")
    }
    tokens = facts.get("tokens")
    if not isinstance(tokens, list):
        raise ValueError(f"{path} has no tokenizer: copy tokenizer.json of the release beside it")
    lists = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in facts.items()}
    try:
        tokenizer, _ = convert_gguf_tokenizer(
            file.architecture, {_RENAMED.get(k, k): v for k, v in lists.items()}
        )
    except Exception as error:  # tokenizers raises Exception itself
        raise ValueError(f"{path}: its tokenizer cannot be built ({error})") from error
    if facts.get("pre") == "smollm":  # transformers does not know that it splits numbers
        digits = pre_tokenizers.Digits(individual_digits=True)
        bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    template = file.metadata.get("tokenizer.chat_template")
    for name, text in (
        ("tokenizer.json", tokenizer.to_str()),
        ("tokenizer_config.json", json.dumps(_tokenizer_config(facts, tokens), indent=1)),
        ("chat_template.jinja", template),
    ):
        if text is not None and not (folder / name).exists():
            write_text(folder / name, str(text))


def _tokenizer_config(facts: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    ids = {name: facts.get(f"{key}_token_id") for name, key in _SPECIAL.items()}
    special = {n: tokens[i] for n, i in ids.items() if i is not None and 0 <= i < len(tokens)}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": bool(facts.get("add_bos_token", facts.get("model") == "llama")),
        "add_eos_token": bool(facts.get("add_eos_token", False)),
        **special,
    }


def write_config(path: Path, folder: Path) -> None:
    """Writes config.json of a GGUF file, unless it exists; raises as `gguf_config` does."""
    if not (folder / "config.json").exists():
        write_json(folder / "config.json", gguf_config(path), indent=1)

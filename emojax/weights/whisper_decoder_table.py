"""Loads Whisper's decoder from the files of its release.

The folder has config.json, generation_config.json, tokenizer.json and *.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from emojax.model.dense import Precision
from emojax.model.lm.whisper_decoder import DecoderConfig

_LAYER = {
    "self_attn.q_proj": "self_q",
    "self_attn.k_proj": "self_k",
    "self_attn.v_proj": "self_v",
    "self_attn.out_proj": "self_o",
    "self_attn_layer_norm": "self_norm",
    "encoder_attn.q_proj": "cross_q",
    "encoder_attn.k_proj": "cross_k",
    "encoder_attn.v_proj": "cross_v",
    "encoder_attn.out_proj": "cross_o",
    "encoder_attn_layer_norm": "cross_norm",
    "fc1": "fc1",
    "fc2": "fc2",
    "final_layer_norm": "norm",
}


def decoder_leaves(
    tensors: Mapping[str, np.ndarray], config: DecoderConfig
) -> dict[str, np.ndarray]:
    """Maps tensors under transformers' names to the decoder's leaves.

    Args:
      tensors: {name: array}; tensors outside the decoder are ignored.
      config: sizes of the decoder.

    Returns:
      {path: array}.

    Raises:
      ValueError: tensors are missing, unexpected or of another shape; the message names them.
    """
    found = {
        k.removeprefix("model.").removeprefix("decoder."): v
        for k, v in tensors.items()
        if "decoder." in k
    }
    expected: dict[str, tuple[str, bool]] = {
        "embed_tokens.weight": ("embed", False),
        "embed_positions.weight": ("positions", False),
        "layer_norm.weight": ("norm/scale", False),
        "layer_norm.bias": ("norm/bias", False),
    }
    for i in range(config.depth):
        for theirs, ours in _LAYER.items():
            norm = ours.endswith("norm")
            expected[f"layers.{i}.{theirs}.weight"] = (
                f"layers_{i}/{ours}/{'scale' if norm else 'kernel'}",
                not norm,
            )
            if not theirs.endswith("k_proj"):
                expected[f"layers.{i}.{theirs}.bias"] = (f"layers_{i}/{ours}/bias", False)
    if missing := sorted(set(expected) - set(found)):
        raise ValueError(
            f"{len(missing)} tensors of Whisper's decoder are missing: {', '.join(missing[:5])}"
        )
    if extra := sorted(set(found) - set(expected)):
        raise ValueError(
            f"{len(extra)} tensors are not part of Whisper's decoder: {', '.join(extra[:5])}"
        )
    out = {
        f"params/{path}": found[name].T if transposed else found[name]
        for name, (path, transposed) in expected.items()
    }
    shapes = {
        "params/embed": (config.vocab, config.width),
        "params/positions": (config.positions, config.width),
    }
    for path, shape in shapes.items():
        if out[path].shape != shape:
            raise ValueError(f"{path} has the shape {out[path].shape}, config.json says {shape}")
    return out


def load_decoder(folder: Path) -> tuple[DecoderConfig, Any, dict[str, Any], Tokenizer]:
    """Loads the decoder from a folder of released files.

    Args:
      folder: the folder.

    Returns:
      (config, variables, content of generation_config.json, tokenizer).

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: the tensors do not fit the config.
    """
    facts = _json(folder / "config.json")
    config = DecoderConfig(
        vocab=facts["vocab_size"],
        width=facts["d_model"],
        depth=facts["decoder_layers"],
        heads=facts["decoder_attention_heads"],
        mlp=facts["decoder_ffn_dim"],
        positions=facts["max_target_positions"],
        precision=Precision(),
    )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no .safetensors file of Whisper")
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        tensors |= {
            k: np.asarray(v, np.float32) for k, v in load_file(file).items() if "decoder." in k
        }
    unflatten: Callable[..., Any] = traverse_util.unflatten_dict
    variables = unflatten(decoder_leaves(tensors, config), sep="/")
    if not (folder / "tokenizer.json").exists():
        raise FileNotFoundError(f"{folder}/tokenizer.json is missing: copy it from the release")
    return (
        config,
        variables,
        _json(folder / "generation_config.json"),
        Tokenizer.from_file(str(folder / "tokenizer.json")),
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: copy it from the release of Whisper")
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts

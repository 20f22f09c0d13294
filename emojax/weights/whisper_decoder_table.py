"""Loads Whisper's decoder from the files of its release.

The folder has config.json, generation_config.json, tokenizer.json and model.safetensors, or the
files of a release in CTranslate2's layout: model.bin, config.json and tokenizer.json.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from tokenizers import Tokenizer

from emojax.formats.part_config import part_config, part_generation
from emojax.model import weight_rules as rules
from emojax.model.dense import Precision
from emojax.model.lm.whisper_decoder import DecoderConfig, WhisperDecoder, make_cache
from emojax.model.variables import flatten, unbox
from emojax.model.weight_rules import Rule, Table
from emojax.weights.load_tensors import load_tensors
from emojax.weights.tensor_files import Reader, open_tensors

# Projections and norms of a layer: transformers' name -> ours.
_PROJECTIONS = {
    "self_attn.q_proj": "self_q",
    "self_attn.k_proj": "self_k",
    "self_attn.v_proj": "self_v",
    "self_attn.out_proj": "self_o",
    "encoder_attn.q_proj": "cross_q",
    "encoder_attn.k_proj": "cross_k",
    "encoder_attn.v_proj": "cross_v",
    "encoder_attn.out_proj": "cross_o",
    "fc1": "fc1",
    "fc2": "fc2",
}
_NORMS = {
    "self_attn_layer_norm": "self_norm",
    "encoder_attn_layer_norm": "cross_norm",
    "final_layer_norm": "norm",
}


def decoder_table(depth: int) -> Table:
    """The decoder's tensors under transformers' names, without their prefix `model.decoder.`.

    Args:
      depth: number of layers.
    """
    parts: list[Rule | list[Rule]] = [
        rules.rule("embed_tokens.weight", "params/embed"),
        rules.rule("embed_positions.weight", "params/positions"),
        rules.norm("layer_norm", "params/norm"),
    ]
    for i in range(depth):
        parts += [
            rules.linear(f"layers.{i}.{name}", f"params/layers_{i}/{ours}", bias=ours[-2:] != "_k")
            for name, ours in _PROJECTIONS.items()
        ]
        parts += [
            rules.norm(f"layers.{i}.{name}", f"params/layers_{i}/{ours}")
            for name, ours in _NORMS.items()
        ]
    return Table("decoder of Whisper (transformers)", rules.flatten(parts))


def decoder_shapes(config: DecoderConfig) -> dict[str, Any]:
    """{path: shape and dtype} of the decoder's leaves; nothing is allocated."""
    model = WhisperDecoder(config)

    def run(decoder: WhisperDecoder) -> Any:
        cross = decoder.encode_cross(jnp.zeros((1, 1, config.width)))
        return decoder(jnp.zeros((1, 1), jnp.int32), cross, make_cache(config, 1, 1))

    return flatten(unbox(jax.eval_shape(lambda: model.init(jax.random.key(0), method=run))))


def load_decoder(folder: Path) -> tuple[DecoderConfig, Any, dict[str, Any], Tokenizer]:
    """Loads the decoder from a folder of released files.

    Args:
      folder: the folder.

    Returns:
      (config, variables, content of generation_config.json, tokenizer).

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged, config.json lacks a field, or the tensors do not have the names
        and shapes that it implies; the message says which.
    """
    config = _config(folder)
    tensors: dict[str, Reader] = {
        name.removeprefix("model.").removeprefix("decoder."): reader
        for name, reader in open_tensors(folder).items()
        if "decoder." in name
    }
    leaves = load_tensors(
        decoder_table(config.depth), tensors, decoder_shapes(config), dtype=np.float32
    )
    unflatten: Callable[..., Any] = traverse_util.unflatten_dict
    path = folder / "tokenizer.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: copy it from the release")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"{path} is damaged ({error})") from error
    return config, unflatten(leaves, sep="/"), part_generation(folder), tokenizer


def _config(folder: Path) -> DecoderConfig:
    facts = part_config(folder)
    try:
        return DecoderConfig(
            vocab=facts["vocab_size"],
            width=facts["d_model"],
            depth=facts["decoder_layers"],
            heads=facts["decoder_attention_heads"],
            mlp=facts["decoder_ffn_dim"],
            positions=facts["max_target_positions"],
            precision=Precision(),
        )
    except KeyError as error:
        raise ValueError(
            f"{folder}/config.json has no field {error}: it is not of a Whisper model"
        ) from error

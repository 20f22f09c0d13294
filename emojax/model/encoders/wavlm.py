"""WavLM encoder: waveform -> audio features, 50 steps per second.

Source: Chen et al. 2022, as transformers' WavLMModel computes it: wav2vec 2.0's encoder, in which
every head adds a bias by relative position to its scores, scaled by a gate of the query.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.encoders.shared_tables import BLOCKS, with_head
from emojax.model.encoders.waveform import (
    HEADS,
    WaveformConfig,
    WaveformEncoder,
    transformers_table,
    waveform_config,
    waveform_fields,
    waveform_sizes,
)
from emojax.model.layers import EncoderConfig
from emojax.model.part import Family, Release, check_options
from emojax.model.weight_rules import Layout, Table, linear, rule
from emojax.sharding import partitioned

Array = jax.Array
BUCKETS, FARTHEST = 320, 800  # relative positions that are told apart; of steps farther away none


@functools.lru_cache(maxsize=8)
def position_buckets(steps: int) -> np.ndarray:
    """int[T, T]: the bucket of key - query; exact for near keys, by logarithm for far ones."""
    offset = np.arange(steps)[None, :] - np.arange(steps)[:, None]
    half = BUCKETS // 2
    near = half // 2
    distance = np.abs(offset)
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(near))
    far = near + (ratio / np.float32(math.log(FARTHEST / near)) * (half - near)).astype(np.int64)
    within = np.where(distance < near, distance, np.minimum(far, half - 1))
    bucket: np.ndarray = within + half * (offset > 0)
    return bucket


class WavLM(WaveformEncoder):
    """Waveform -> features of the last layer."""

    def position_bias(self, steps: int) -> Array:
        """float[N, T, T]: what each head adds to its scores by relative position."""
        shape = (BUCKETS, self.config.encoder.heads)
        init = partitioned(nn.initializers.normal(0.02), (None, None))
        table: Array = self.param("position_bias", init, shape)
        return jnp.take(table, position_buckets(steps), axis=0).transpose(2, 0, 1)


def _tables(config: WaveformConfig) -> tuple[Table, ...]:
    attention = "encoder.layers.{i}.attention"
    scale = Layout(lambda t, _: [t[0].reshape(-1)], lambda x: [x[0].reshape(1, -1, 1, 1)])
    alone = transformers_table(
        "WavLM",
        config,
        linear(f"{attention}.gru_rel_pos_linear", f"{BLOCKS}/gate"),
        [
            rule(f"{attention}.gru_rel_pos_const", f"{BLOCKS}/gate_scale", scale),
            rule("encoder.layers.0.attention.rel_attn_embed.weight", "position_bias"),
        ],
    )
    return alone, with_head(alone, "wavlm.", HEADS)


def _make(fields: Any, encoder: EncoderConfig) -> WaveformConfig:
    config = waveform_config(fields, encoder)
    return dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, gated_bias=True))


def _read_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    check_options(raw, "WavLM", num_buckets=(BUCKETS,), max_bucket_distance=(FARTHEST,))
    # Base models were trained on waveforms as they are, the large one on normalised ones.
    return waveform_fields({"do_normalize": raw.get("do_stable_layer_norm", False), **raw}, "WavLM")


def _release(name: str, **fields: Any) -> Release:
    return Release(
        name=name,
        repo=f"microsoft/{name}",
        licence="MIT",
        fields=fields,
    )


FAMILY = Family(
    name="wavlm",
    title="WavLM",
    kind="sound",
    model_types=("wavlm",),
    releases=(
        _release("wavlm-base", **waveform_sizes("base", normalize=False)),
        _release("wavlm-base-plus", **waveform_sizes("base", normalize=False)),
        _release("wavlm-large", **waveform_sizes("large", conv_bias=False)),
    ),
    read_config=_read_config,
    make=_make,
    module=WavLM,
    tables=_tables,
)

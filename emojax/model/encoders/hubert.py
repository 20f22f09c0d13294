"""HuBERT encoder: waveform -> audio features, 50 steps per second.

Source: Hsu et al. 2021, as transformers' HubertModel computes it. Emotion-LLaMA v1 uses
chinese-hubert-large: the mean over time of the last layer.
"""

from __future__ import annotations

import functools

from emojax.model.encoders.shared_tables import BLOCKS, attention_rules, with_head
from emojax.model.encoders.waveform import (
    HEADS,
    WaveformConfig,
    WaveformEncoder,
    transformers_table,
    waveform_config,
    waveform_fields,
    waveform_sizes,
)
from emojax.model.part import Family, Release
from emojax.model.weight_rules import (
    WEIGHT_NORM,
    Rule,
    Table,
    conv1d,
    flatten,
    linear,
    norm,
    rule,
)


def hubert_tables(config: WaveformConfig) -> tuple[Table, ...]:
    """HuBERT of transformers, alone or with a classifier, and of fairseq."""
    alone = transformers_table("HuBERT", config)
    return alone, _fairseq(config), with_head(alone, "hubert.", HEADS)


def _fairseq(config: WaveformConfig) -> Table:
    convs: list[list[Rule]] = []
    for n in range(len(config.conv_widths)):
        name = f"feature_extractor.conv_layers.{n}"
        convs.append(conv1d(f"{name}.0", f"conv{n}", bias=config.conv_bias))
        if config.conv_norm == "layer" or n == 0:
            place = "2.1" if config.conv_norm == "layer" else "2"
            convs.append(norm(f"{name}.{place}", f"conv{n}_norm"))
    layer, position = "encoder.layers.{i}", "encoder.pos_conv.0"
    rules: list[Rule | list[Rule]] = [
        *convs,
        norm("layer_norm", "feature_norm"),
        linear("post_extract_proj", "feature_projection"),
        Rule(
            names=(f"{position}.weight_g", f"{position}.weight_v"),
            paths=("position/kernel",),
            layout=WEIGHT_NORM,
        ),
        rule(f"{position}.bias", "position/bias"),
        norm("encoder.layer_norm", "norm"),
        *attention_rules(f"{layer}.self_attn", ("q_proj", "k_proj", "v_proj", "out_proj")),
        linear(f"{layer}.fc1", f"{BLOCKS}/fc1"),
        linear(f"{layer}.fc2", f"{BLOCKS}/fc2"),
        norm(f"{layer}.self_attn_layer_norm", f"{BLOCKS}/norm1"),
        norm(f"{layer}.final_layer_norm", f"{BLOCKS}/norm2"),
    ]
    return Table(
        "HuBERT (fairseq)",
        flatten(rules),
        ((r"mask_emb|label_embs_concat|final_proj\..*", "used only in the pretraining of HuBERT"),),
    )


FAMILY = Family(
    name="hubert",
    title="HuBERT",
    kind="sound",
    model_types=("hubert",),
    releases=(
        Release(
            name="hubert-base",
            repo="facebook/hubert-base-ls960",
            licence="Apache-2.0",
            fields=waveform_sizes("base"),
        ),
        Release(
            name="hubert-large",
            repo="facebook/hubert-large-ll60k",
            licence="Apache-2.0",
            fields=waveform_sizes("large"),
        ),
        Release(
            name="chinese-hubert-large",
            repo="TencentGameMate/chinese-hubert-large",
            licence="MIT",
            fields=waveform_sizes("large"),
            size=1_270_000_000,
        ),
    ),
    read_config=functools.partial(waveform_fields, title="HuBERT"),
    make=waveform_config,
    module=WaveformEncoder,
    tables=hubert_tables,
)

"""SigLIP's picture encoder, also that of SigLIP 2 at fixed resolution: pixels -> tokens.

Source: Zhai et al. 2023, Tschannen et al. 2025, as transformers' SiglipVisionModel computes it. The
first token is the output of the pooling head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emojax.model.encoders.shared_tables import (
    clip_layers,
    final_norm_rules,
    patch_rules,
    with_head,
)
from emojax.model.encoders.vision_transformer import (
    PictureConfig,
    VisionTransformer,
    picture_config,
    picture_fields,
)
from emojax.model.layers import EncoderConfig
from emojax.model.part import Family, Release, check_options
from emojax.model.weight_rules import (
    PATCH,
    QKV,
    QKV_BIAS,
    Rule,
    Table,
    flatten,
    linear,
    norm,
    positions_layout,
    rule,
)

_HALF = (0.5, 0.5, 0.5)
_OTHERS = (r"(text_model|logit_scale|logit_bias).*", "text is not encoded")
_CLASSIFIER = (r"classifier\..*", "the classifier is not used")


def _tables(config: PictureConfig) -> tuple[Table, ...]:
    last, ignored = final_norm_rules("post_layernorm", config.final_norm)

    def fused(end: str) -> tuple[str, ...]:
        return tuple(f"head/{p}/{end}" for p in "qkv")

    positions = positions_layout(prefix=0, flat=True)
    rules = flatten(
        [
            rule("embeddings.position_embedding.weight", "positions", positions),
            patch_rules("embeddings.patch_embedding", PATCH),
            *clip_layers(),
            last,
            rule("head.probe", "head/probe"),
            Rule(names=("head.attention.in_proj_weight",), paths=fused("kernel"), layout=QKV),
            Rule(names=("head.attention.in_proj_bias",), paths=fused("bias"), layout=QKV_BIAS),
            linear("head.attention.out_proj", "head/proj"),
            norm("head.layernorm", "head/norm"),
            linear("head.mlp.fc1", "head/fc1"),
            linear("head.mlp.fc2", "head/fc2"),
        ]
    )
    ids = (r"embeddings\.position_ids", "a constant that older transformers saved")
    alone = Table("SigLIP (transformers)", rules, (ids, *ignored))
    return alone, with_head(alone, "vision_model.", _OTHERS, _CLASSIFIER)


def _make(fields: Any, encoder: EncoderConfig) -> PictureConfig:
    return picture_config(
        fields,
        encoder,
        mean=_HALF,
        std=_HALF,
        own={"cls": False, "pooling_head": True},
        eps=1e-6,
        key_bias=True,
        activation="gelu_tanh",
    )


def _read_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    vision = {**raw, **raw.get("vision_config", {})}
    check_options(vision, "SigLIP", vision_use_head=(True,))
    return picture_fields(
        vision, "SigLIP", size=224, patch=16, activation="gelu_pytorch_tanh", eps=1e-6
    )


def _release(name: str) -> Release:
    return Release(
        name=name,
        repo=f"google/{name}",
        licence="Apache-2.0",
        fields=_read_config({}),
    )


FAMILY = Family(
    name="siglip",
    title="SigLIP",
    kind="picture",
    model_types=("siglip", "siglip_vision_model"),
    releases=(_release("siglip-base-patch16-224"), _release("siglip2-base-patch16-224")),
    read_config=_read_config,
    make=_make,
    module=VisionTransformer,
    tables=_tables,
)

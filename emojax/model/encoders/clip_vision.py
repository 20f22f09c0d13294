"""CLIP's picture encoder: pixels -> tokens.

Source: Radford et al. 2021, as transformers' CLIPVisionModel computes it, with its last norm on all
tokens: transformers applies it to the class token alone, as its `pooler_output`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_pipeline.media.views import CLIP_MEAN, CLIP_STD
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
from emojax.model.part import Family, Release
from emojax.model.weight_rules import (
    PATCH,
    VECTOR,
    Table,
    flatten,
    norm,
    positions_layout,
    rule,
)

_OTHERS = (r"(text_model|text_projection|visual_projection|logit_scale).*", "text is not encoded")
_CLASSIFIER = (r"classifier\..*", "the classifier is not used")


def _tables(config: PictureConfig) -> tuple[Table, ...]:
    last, ignored = final_norm_rules("post_layernorm", config.final_norm)
    rules = flatten(
        [
            rule("embeddings.class_embedding", "cls", VECTOR),
            rule("embeddings.position_embedding.weight", "positions", positions_layout(flat=True)),
            patch_rules("embeddings.patch_embedding", PATCH, bias=False),
            norm("pre_layrnorm", "pre_norm"),
            *clip_layers(),
            last,
        ]
    )
    ids = (r"embeddings\.position_ids", "a constant that older transformers saved")
    alone = Table("CLIP (transformers)", rules, (ids, *ignored))
    return alone, with_head(alone, "vision_model.", _OTHERS, _CLASSIFIER)


def _make(fields: Any, encoder: EncoderConfig) -> PictureConfig:
    return picture_config(
        fields,
        encoder,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        own={"patch_bias": False, "pre_norm": True},
        eps=1e-5,
        key_bias=True,
        activation="quick_gelu",
    )


def _read_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    vision = {**raw, **raw.get("vision_config", {})}
    return picture_fields(vision, "CLIP", size=224, patch=32, activation="quick_gelu", eps=1e-5)


def _release(name: str, **sizes: int) -> Release:
    return Release(
        name=f"clip-vit-{name}",
        repo=f"openai/clip-vit-{name}",
        licence="MIT",
        fields=_read_config(sizes),
    )


FAMILY = Family(
    name="clip",
    title="CLIP",
    kind="picture",
    model_types=("clip", "clip_vision_model"),
    releases=(
        _release("base-patch32", patch_size=32),
        _release("base-patch16", patch_size=16),
        _release(
            "large-patch14",
            patch_size=14,
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
        ),
    ),
    read_config=_read_config,
    make=_make,
    module=VisionTransformer,
    tables=_tables,
)

"""ViT of transformers: pixels -> tokens.

Source: Dosovitskiy et al. 2021, as transformers' ViTModel computes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emojax.model.encoders.shared_tables import (
    NOT_ENCODER,
    NOT_FEATURES,
    transformers_vit,
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
from emojax.model.weight_rules import PATCH, Table

_HALF = (0.5, 0.5, 0.5)
_POOLER = (r"(vit\.)?(pooler\..*|embeddings\.mask_token)", "only the tokens are used")


def _tables(config: PictureConfig) -> tuple[Table, ...]:
    alone = transformers_vit(
        "ViT (transformers)", PATCH, cls=True, fused_bias=False, final_norm=config.final_norm
    )
    whole = with_head(alone, "vit.", NOT_ENCODER, NOT_FEATURES, _POOLER)
    return with_head(alone, "", _POOLER), whole


def _make(fields: Any, encoder: EncoderConfig) -> PictureConfig:
    return picture_config(fields, encoder, mean=_HALF, std=_HALF, eps=1e-12, key_bias=True)


def _read_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    return picture_fields(raw, "ViT", size=224, patch=16, activation="gelu", eps=1e-12)


FAMILY = Family(
    name="vit",
    title="ViT",
    kind="picture",
    model_types=("vit",),
    releases=tuple(
        Release(
            name=repo.partition("/")[2],
            repo=repo,
            licence="Apache-2.0",
            fields=_read_config({}),
        )
        for repo in ("google/vit-base-patch16-224", "trpakov/vit-face-expression")
    ),
    read_config=_read_config,
    make=_make,
    module=VisionTransformer,
    tables=_tables,
)

"""EVA-ViT: pixels -> tokens.

One family for the image encoder (448 px, 39 blocks) and the video encoder (224 px, 40 blocks, final
norm). Source: EVA-CLIP ViT-G/14 as used by BLIP-2, MiniGPT-v2 and Emotion-LLaMAv2 (eva_vit.py; timm
eva_giant_patch14_224). How the two differ: docs/internals.md, "Faithful by default".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_pipeline.media.views import CLIP_MEAN, CLIP_STD
from emojax.model.encoders.shared_tables import timm_vit
from emojax.model.encoders.vision_transformer import (
    PictureConfig,
    VisionTransformer,
    picture_config,
)
from emojax.model.layers import EncoderConfig
from emojax.model.part import Family, Release
from emojax.model.weight_rules import PATCH, Table


def eva_tables(config: PictureConfig) -> tuple[Table, ...]:
    """EVA-ViT-G; `eva_vit_g.pth` has 40 blocks, a norm and a head."""
    ignored = [(r"head\..*", "the classifier is not used")]
    if not config.final_norm:
        last = config.encoder.depth
        ignored.append((rf"blocks\.{last}\..*", "the image encoder ends one block earlier"))
        ignored.append((r"norm\..*", "the image encoder has no final norm"))
    return (
        Table(
            "EVA-CLIP ViT-G (eva_vit_g.pth)",
            timm_vit(PATCH, key_bias=False, final_norm=config.final_norm),
            tuple(ignored),
        ),
    )


def _make(fields: Any, encoder: EncoderConfig) -> PictureConfig:
    return picture_config(fields, encoder, mean=CLIP_MEAN, std=CLIP_STD, eps=1e-6)


def _read_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    del raw
    raise ValueError("EVA-ViT is read from eva_vit_g.pth: its sizes are not in a config.json")


FAMILY = Family(
    name="eva",
    title="EVA-ViT",
    kind="picture",
    model_types=(),
    releases=(
        Release(
            name="eva-vit-g",
            repo="",
            licence="MIT (EVA), BSD-3-Clause (LAVIS)",
            fields={
                "size": 448,
                "patch": 14,
                "width": 1408,
                "depth": 39,
                "heads": 16,
                "mlp": 6144,
                "final_norm": False,
            },
            size=2_025_200_000,
        ),
    ),
    read_config=_read_config,
    make=_make,
    module=VisionTransformer,
    tables=eva_tables,
)

"""DINOv2, with and without register tokens: pixels -> tokens.

Source: Oquab et al. 2023, Darcet et al. 2023, as transformers' Dinov2Model and
Dinov2WithRegistersModel compute them. Positions were trained at 518 pixels; they are resized to the
grid that is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_pipeline.media.views import IMAGENET_MEAN, IMAGENET_STD
from emojax.model.encoders.shared_tables import (
    BLOCKS,
    attention_rules,
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
    Table,
    flatten,
    linear,
    norm,
    positions_layout,
    rule,
)

REGISTERS = 4
_MASK = (r"(.*\.)?embeddings\.mask_token", "replaces masked patches in training")
_CLASSIFIER = (r"classifier\..*", "the classifier is not used")


def _tables(config: PictureConfig) -> tuple[Table, ...]:
    last, ignored = final_norm_rules("layernorm", config.final_norm)
    layer, registers = "encoder.layer.{i}", bool(config.registers)
    names = ("attention.query", "attention.key", "attention.value", "output.dense")
    rules = flatten(
        [
            rule("embeddings.cls_token", "cls"),
            # Transformers widens the kernel for the models with registers only.
            rule(
                "embeddings.position_embeddings",
                "positions",
                positions_layout(antialias=registers),
            ),
            [rule("embeddings.register_tokens", "registers")] if registers else [],
            patch_rules("embeddings.patch_embeddings.projection", PATCH),
            *attention_rules(f"{layer}.attention", names),
            rule(f"{layer}.layer_scale1.lambda1", f"{BLOCKS}/scale1"),
            rule(f"{layer}.layer_scale2.lambda1", f"{BLOCKS}/scale2"),
            linear(f"{layer}.mlp.fc1", f"{BLOCKS}/fc1"),
            linear(f"{layer}.mlp.fc2", f"{BLOCKS}/fc2"),
            norm(f"{layer}.norm1", f"{BLOCKS}/norm1"),
            norm(f"{layer}.norm2", f"{BLOCKS}/norm2"),
            last,
        ]
    )
    alone = Table("DINOv2 (transformers)", rules, (_MASK, *ignored))
    prefix = "dinov2_with_registers." if registers else "dinov2."
    return alone, with_head(alone, prefix, _MASK, _CLASSIFIER)


def _make(fields: Any, encoder: EncoderConfig, *, registers: int = 0) -> PictureConfig:
    return picture_config(
        fields,
        encoder,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        own={"registers": registers},
        eps=1e-6,
        key_bias=True,
        layer_scale=True,
    )


def _make_with_registers(fields: Any, encoder: EncoderConfig) -> PictureConfig:
    return _make(fields, encoder, registers=REGISTERS)


def _read_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    check_options(raw, "DINOv2", use_swiglu_ffn=(False,), num_register_tokens=(REGISTERS,))
    fields = picture_fields(raw, "DINOv2", size=224, patch=14, activation="gelu", eps=1e-6)
    return fields | {"mlp": fields["width"] * raw.get("mlp_ratio", 4)}


def _releases(prefix: str) -> tuple[Release, ...]:
    sizes = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
    return tuple(
        Release(
            name=f"{prefix}-{size}",
            repo=f"facebook/{prefix}-{size}",
            licence="Apache-2.0",
            # The released view has 224 pixels, though positions are those of 518.
            fields=_read_config(
                {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
            ),
        )
        for size, (width, depth, heads) in sizes.items()
    )


FAMILY = Family(
    name="dinov2",
    title="DINOv2",
    kind="picture",
    model_types=("dinov2",),
    releases=_releases("dinov2"),
    read_config=_read_config,
    make=_make,
    module=VisionTransformer,
    tables=_tables,
)
WITH_REGISTERS = Family(
    name="dinov2_registers",
    title="DINOv2 with registers",
    kind="picture",
    model_types=("dinov2_with_registers",),
    releases=_releases("dinov2-with-registers"),
    read_config=_read_config,
    make=_make_with_registers,
    module=VisionTransformer,
    tables=_tables,
)

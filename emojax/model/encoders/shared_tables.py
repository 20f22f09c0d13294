"""Parts of weight tables that several encoders share: names of timm and of transformers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from emojax.model.weight_rules import (
    POSITIONS,
    QKV,
    QKV_BIAS,
    Layout,
    Rule,
    Table,
    flatten,
    linear,
    norm,
    rule,
)

BLOCKS = "encoder/blocks"
NOT_ENCODER = (r"(decoder|mask_token|encoder_to_decoder).*", "only the encoder is used")
NOT_FEATURES = (r"(head|fc_norm|classifier)\..*", "the classifier is not used")


def attention_rules(
    prefix: str, names: Sequence[str], *, key_bias: bool = True
) -> list[list[Rule]]:
    """Separate projections of transformers, `names` in the order q, k, v, out."""
    ours = ("q", "k", "v", "proj")
    return [
        linear(f"{prefix}.{name}", f"{BLOCKS}/{p}", bias=key_bias or p != "k")
        for name, p in zip(names, ours, strict=True)
    ]


def patch_rules(name: str, layout: Layout, *, bias: bool = True) -> list[Rule]:
    """The convolution that cuts a picture into patches."""
    kernel = rule(f"{name}.weight", "patch/kernel", layout)
    return [kernel, rule(f"{name}.bias", "patch/bias")] if bias else [kernel]


def _fused(name: str, leaf: str, layout: Layout) -> Rule:
    return Rule(names=(name,), paths=tuple(f"{BLOCKS}/{p}/{leaf}" for p in "qkv"), layout=layout)


def timm_blocks(*, key_bias: bool) -> list[Rule | list[Rule]]:
    """Blocks of timm's vision transformers, whose q, k and v are one matrix."""
    b = "blocks.{i}"
    separate = [rule(f"{b}.attn.{p}_bias", f"{BLOCKS}/{p}/bias") for p in "qv"]
    return [
        _fused(f"{b}.attn.qkv.weight", "kernel", QKV),
        [_fused(f"{b}.attn.qkv.bias", "bias", QKV_BIAS)] if key_bias else separate,
        linear(f"{b}.attn.proj", f"{BLOCKS}/proj"),
        linear(f"{b}.mlp.fc1", f"{BLOCKS}/fc1"),
        linear(f"{b}.mlp.fc2", f"{BLOCKS}/fc2"),
        norm(f"{b}.norm1", f"{BLOCKS}/norm1"),
        norm(f"{b}.norm2", f"{BLOCKS}/norm2"),
    ]


def timm_vit(patch: Layout, *, key_bias: bool, final_norm: bool) -> tuple[Rule, ...]:
    """A vision transformer of timm with class token and learned positions."""
    return flatten(
        [
            rule("cls_token", "cls"),
            rule("pos_embed", "positions", POSITIONS),
            patch_rules("patch_embed.proj", patch),
            *timm_blocks(key_bias=key_bias),
            norm("norm", "norm") if final_norm else [],
        ]
    )


def final_norm_rules(name: str, used: bool) -> tuple[list[Rule], tuple[tuple[str, str], ...]]:
    """(rules, tensors to ignore) of the last norm, which a configuration may leave out."""
    if used:
        return norm(name, "norm"), ()
    return [], ((re.escape(name) + r"\..*", "config.model.*.final_norm is False"),)


def clip_layers() -> list[list[Rule]]:
    """Layers of CLIP and SigLIP in transformers."""
    layer = "encoder.layers.{i}"
    return [
        *attention_rules(f"{layer}.self_attn", ("q_proj", "k_proj", "v_proj", "out_proj")),
        linear(f"{layer}.mlp.fc1", f"{BLOCKS}/fc1"),
        linear(f"{layer}.mlp.fc2", f"{BLOCKS}/fc2"),
        norm(f"{layer}.layer_norm1", f"{BLOCKS}/norm1"),
        norm(f"{layer}.layer_norm2", f"{BLOCKS}/norm2"),
    ]


def transformers_vit(
    name: str, patch: Layout, *, cls: bool, fused_bias: bool, final_norm: bool = True
) -> Table:
    """Vision transformers under the names in transformers' files; its modules have others.

    Args:
      name: of the table.
      patch: layout of the patch kernel.
      cls: whether there are a class token and learned positions.
      fused_bias: whether q and v have biases of their own, and k none (VideoMAE).
      final_norm: whether the last norm is used.

    Returns:
      The table.
    """
    last, ignored = final_norm_rules("layernorm", final_norm)
    b = "encoder.layer.{i}"
    heads = (("query", "q"), ("key", "k"), ("value", "v"))
    biases = [rule(f"{b}.attention.attention.{p}_bias", f"{BLOCKS}/{p}/bias") for p in "qv"]
    return Table(
        name,
        flatten(
            [
                [rule("embeddings.cls_token", "cls")] if cls else [],
                [rule("embeddings.position_embeddings", "positions", POSITIONS)] if cls else [],
                patch_rules("embeddings.patch_embeddings.projection", patch),
                *(
                    linear(f"{b}.attention.attention.{n}", f"{BLOCKS}/{p}", bias=not fused_bias)
                    for n, p in heads
                ),
                biases if fused_bias else [],
                linear(f"{b}.attention.output.dense", f"{BLOCKS}/proj"),
                linear(f"{b}.intermediate.dense", f"{BLOCKS}/fc1"),
                linear(f"{b}.output.dense", f"{BLOCKS}/fc2"),
                norm(f"{b}.layernorm_before", f"{BLOCKS}/norm1"),
                norm(f"{b}.layernorm_after", f"{BLOCKS}/norm2"),
                last,
            ]
        ),
        ignored,
    )


def with_head(table: Table, prefix: str, *ignored: tuple[str, str]) -> Table:
    """The encoder as part of a larger model, whose other tensors are ignored by name."""
    part = table.under(prefix, "")
    return dataclasses.replace(part, ignored=(*part.ignored, *ignored))

"""One table per source: torch names on the left, paths of our trees on the right.

Source: the state dicts of transformers, timm and of the two projects' releases. Any other tensor in
a file is either ignored by name here, with the reason, or an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from emojax.model.weight_rules import (
    LINEAR,
    PATCH,
    POSITIONS,
    QKV,
    QKV_BIAS,
    TUBE,
    WEIGHT_NORM,
    Layout,
    Rule,
    Table,
    conv1d,
    flatten,
    linear,
    norm,
    rule,
)

BLOCKS = "encoder/blocks"
NOT_ENCODER = (r"(decoder|mask_token|encoder_to_decoder).*", "only the encoder is used")
NOT_FEATURES = (r"(head|fc_norm|classifier)\..*", "the classifier is not used")

LLAMA = Table(
    "Llama 2 (transformers)",
    flatten(
        [
            rule("model.embed_tokens.weight", "embed"),
            norm("model.norm", "norm", bias=False),
            linear("lm_head", "head", bias=False),
            *(
                linear(f"model.layers.{{i}}.self_attn.{p}_proj", f"blocks/{p}", bias=False)
                for p in "qkvo"
            ),
            *(
                linear(f"model.layers.{{i}}.mlp.{p}_proj", f"blocks/{p}", bias=False)
                for p in ("gate", "up", "down")
            ),
            norm("model.layers.{i}.input_layernorm", "blocks/norm1", bias=False),
            norm("model.layers.{i}.post_attention_layernorm", "blocks/norm2", bias=False),
        ]
    ),
    (
        (
            r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
            "a constant that older transformers saved",
        ),
    ),
)


def _attention(prefix: str, names: Sequence[str], *, key_bias: bool) -> list[list[Rule]]:
    """Separate projections of transformers, `names` in the order q, k, v, out."""
    ours = ("q", "k", "v", "proj")
    return [
        linear(f"{prefix}.{name}", f"{BLOCKS}/{p}", bias=key_bias or p != "k")
        for name, p in zip(names, ours, strict=True)
    ]


def whisper(prefix: str = "model.encoder.") -> Table:
    """Whisper of transformers; `prefix` is "" for the encoder module alone."""
    rules = flatten(
        [
            conv1d("conv1", "conv1"),
            conv1d("conv2", "conv2"),
            rule("embed_positions.weight", "positions"),
            *_attention(
                "layers.{i}.self_attn", ("q_proj", "k_proj", "v_proj", "out_proj"), key_bias=False
            ),
            linear("layers.{i}.fc1", f"{BLOCKS}/fc1"),
            linear("layers.{i}.fc2", f"{BLOCKS}/fc2"),
            norm("layers.{i}.self_attn_layer_norm", f"{BLOCKS}/norm1"),
            norm("layers.{i}.final_layer_norm", f"{BLOCKS}/norm2"),
            norm("layer_norm", "norm"),
        ]
    )
    ignored = ((r"(model\.decoder|proj_out)\..*", "only the encoder is used"),)
    table = Table("Whisper (transformers)", rules).under(prefix, "")
    return Table(table.name, table.rules, ignored if prefix else ())


def _patch(name: str, layout: Layout) -> list[Rule]:
    return [rule(f"{name}.weight", "patch/kernel", layout), rule(f"{name}.bias", "patch/bias")]


def _fused(name: str, leaf: str, layout: Layout) -> Rule:
    return Rule(names=(name,), paths=tuple(f"{BLOCKS}/{p}/{leaf}" for p in "qkv"), layout=layout)


def _timm_blocks(*, key_bias: bool) -> list[Rule | list[Rule]]:
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


def _vit(*, key_bias: bool, final_norm: bool) -> tuple[Rule, ...]:
    return flatten(
        [
            rule("cls_token", "cls"),
            rule("pos_embed", "positions", POSITIONS),
            _patch("patch_embed.proj", PATCH),
            *_timm_blocks(key_bias=key_bias),
            norm("norm", "norm") if final_norm else [],
        ]
    )


def eva(depth: int, *, final_norm: bool) -> Table:
    """EVA-ViT-G; `eva_vit_g.pth` has 40 blocks, a norm and a head.

    Args:
      depth: number of blocks used: 40 by the video encoder, 39 by the image encoder.
      final_norm: whether the norm is used (video encoder).

    Returns:
      The table.
    """
    ignored = [(r"head\..*", "the classifier is not used")]
    if not final_norm:
        ignored.append((rf"blocks\.{depth}\..*", "the image encoder ends one block earlier"))
        ignored.append((r"norm\..*", "the image encoder has no final norm"))
    return Table(
        "EVA-CLIP ViT-G (eva_vit_g.pth)",
        _vit(key_bias=False, final_norm=final_norm),
        tuple(ignored),
    )


MAE = Table(
    "MAE (original and timm names)",
    _vit(key_bias=True, final_norm=True),
    (NOT_ENCODER, NOT_FEATURES),
)


def _vit_hf(name: str, patch: Layout, *, cls: bool, fused_bias: bool) -> Table:
    """Vision transformers under the names in transformers' files; its modules have others."""
    b = "encoder.layer.{i}"
    heads = (("query", "q"), ("key", "k"), ("value", "v"))
    biases = [rule(f"{b}.attention.attention.{p}_bias", f"{BLOCKS}/{p}/bias") for p in "qv"]
    return Table(
        name,
        flatten(
            [
                [rule("embeddings.cls_token", "cls")] if cls else [],
                [rule("embeddings.position_embeddings", "positions", POSITIONS)] if cls else [],
                _patch("embeddings.patch_embeddings.projection", patch),
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
                norm("layernorm", "norm"),
            ]
        ),
    )


def _with_head(table: Table, prefix: str) -> Table:
    """The encoder as part of the model that was pretrained or that classifies with it."""
    return dataclasses.replace(table.under(prefix, ""), ignored=(NOT_ENCODER, NOT_FEATURES))


MAE_HF = _vit_hf("MAE (transformers)", PATCH, cls=True, fused_bias=False)
VIDEOMAE_HF = _vit_hf("VideoMAE (transformers)", TUBE, cls=False, fused_bias=True)


def videomae(*, final_norm: bool = True) -> Table:
    """VideoMAE under its original names, which are also timm's."""
    return Table(
        "VideoMAE (original names)",
        flatten(
            [
                _patch("patch_embed.proj", TUBE),
                *_timm_blocks(key_bias=False),
                norm("norm", "norm") if final_norm else [],
            ]
        ),
        (NOT_ENCODER, NOT_FEATURES),
    )


# Each source in all its spellings; `load_tensors.choose_table` picks the one that a file uses.
MAE_TABLES = (MAE, MAE_HF, _with_head(MAE_HF, "vit."))
VIDEOMAE_TABLES = (
    videomae(),
    _with_head(videomae(), "encoder."),
    VIDEOMAE_HF,
    _with_head(VIDEOMAE_HF, "videomae."),
)


def hubert(*, conv_layers: int = 7, conv_norm: str = "layer", conv_bias: bool = True) -> Table:
    """HuBERT of transformers, with both spellings of its weight norm."""
    convs: list[list[Rule]] = []
    for n in range(conv_layers):
        convs.append(conv1d(f"feature_extractor.conv_layers.{n}.conv", f"conv{n}", bias=conv_bias))
        if conv_norm == "layer" or n == 0:
            convs.append(norm(f"feature_extractor.conv_layers.{n}.layer_norm", f"conv{n}_norm"))
    position = "encoder.pos_conv_embed.conv"
    spellings = (
        (
            f"{position}.parametrizations.weight.original0",
            f"{position}.parametrizations.weight.original1",
        ),
        (f"{position}.weight_g", f"{position}.weight_v"),
    )
    layer = "encoder.layers.{i}"
    return Table(
        "HuBERT (transformers)",
        flatten(
            [
                *convs,
                norm("feature_projection.layer_norm", "feature_norm"),
                linear("feature_projection.projection", "feature_projection"),
                Rule(
                    names=spellings[0],
                    paths=("position/kernel",),
                    layout=WEIGHT_NORM,
                    others=spellings[1:],
                ),
                rule(f"{position}.bias", "position/bias"),
                norm("encoder.layer_norm", "norm"),
                *_attention(
                    f"{layer}.attention", ("q_proj", "k_proj", "v_proj", "out_proj"), key_bias=True
                ),
                linear(f"{layer}.feed_forward.intermediate_dense", f"{BLOCKS}/fc1"),
                linear(f"{layer}.feed_forward.output_dense", f"{BLOCKS}/fc2"),
                norm(f"{layer}.layer_norm", f"{BLOCKS}/norm1"),
                norm(f"{layer}.final_layer_norm", f"{BLOCKS}/norm2"),
            ]
        ),
        ((r"masked_spec_embed", "replaces masked audio in the pretraining of HuBERT"),),
    )


def hubert_fairseq(
    *, conv_layers: int = 7, conv_norm: str = "layer", conv_bias: bool = True
) -> Table:
    """HuBERT of fairseq."""
    convs: list[list[Rule]] = []
    for n in range(conv_layers):
        convs.append(conv1d(f"feature_extractor.conv_layers.{n}.0", f"conv{n}", bias=conv_bias))
        if conv_norm == "layer" or n == 0:
            place = "2.1" if conv_norm == "layer" else "2"
            convs.append(norm(f"feature_extractor.conv_layers.{n}.{place}", f"conv{n}_norm"))
    layer, position = "encoder.layers.{i}", "encoder.pos_conv.0"
    return Table(
        "HuBERT (fairseq)",
        flatten(
            [
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
                *_attention(
                    f"{layer}.self_attn", ("q_proj", "k_proj", "v_proj", "out_proj"), key_bias=True
                ),
                linear(f"{layer}.fc1", f"{BLOCKS}/fc1"),
                linear(f"{layer}.fc2", f"{BLOCKS}/fc2"),
                norm(f"{layer}.self_attn_layer_norm", f"{BLOCKS}/norm1"),
                norm(f"{layer}.final_layer_norm", f"{BLOCKS}/norm2"),
            ]
        ),
        ((r"mask_emb|label_embs_concat|final_proj\..*", "used only in the pretraining of HuBERT"),),
    )


def fusion(blocks: int = 4) -> tuple[Rule, ...]:
    """Conv-Attention (`conv_pro_module` of Emotion-LLaMAv2)."""
    parts: list[Rule | list[Rule]] = []
    for number, stream in enumerate(("audio", "image", "video")):
        parts.append(linear(f"feats_prep.{number}.0", f"prepare_{stream}/fc1"))
        parts.append(linear(f"feats_prep.{number}.3", f"prepare_{stream}/fc2"))
    parts += [
        linear("attention_mlp.0", "attention/fc1"),
        linear("attention_mlp.3", "attention/fc2"),
    ]
    parts += [
        linear("fc_att", "score"),
        linear("fc_final", "out"),
        conv1d("conv_entry", "conv_entry"),
    ]
    parts += [
        conv1d(f"conv_module.conv_blocks.{n}.conv_block.0", f"conv{n}") for n in range(blocks)
    ]
    return flatten(parts)


MLP = ("gate", "up", "down")


def lora(
    *, projections: Sequence[str] = ("q", "v"), prefix: str = "llama_model.base_model.model."
) -> tuple[Rule, ...]:
    """Adapters of peft, older (`lora_A.weight`) and newer (`lora_A.default.weight`) spelling."""
    rules = []
    for p in projections:
        part = "mlp" if p in MLP else "self_attn"
        for side, leaf in (("A", "a"), ("B", "b")):
            name = f"{prefix}model.layers.{{i}}.{part}.{p}_proj.lora_{side}"
            rules.append(
                rule(
                    f"{name}.weight",
                    f"lora/llama/blocks/{p}/{leaf}",
                    LINEAR,
                    f"{name}.default.weight",
                )
            )
    return tuple(rules)


def peft_adapter(projections: Sequence[str]) -> Table:
    """`adapter_model.safetensors` of an adapter folder of peft."""
    return Table("LoRA adapter of PEFT", lora(projections=projections, prefix="base_model.model."))


def _projectors(**names: str) -> tuple[Rule, ...]:
    return flatten(
        [linear(torch_name, f"params/project_{ours}") for ours, torch_name in names.items()]
    )


# A frozen norm that the originals never load; if a checkpoint contains it, it is imported.
_LN_VISION = tuple(
    dataclasses.replace(r, optional=True) for r in flatten([norm("ln_vision", "params/ln_vision")])
)


def emotion_llama_v2(*, projections: Sequence[str] = ("q", "v"), blocks: int = 4) -> Table:
    """Stage checkpoints of v2; our own models may differ in LoRA projections and fusion blocks."""
    return Table(
        "Emotion-LLaMAv2 stage checkpoint",
        (
            *lora(projections=projections),
            *_projectors(
                image="llama_proj",
                video="llama_proj_video",
                audio="llama_proj_audio",
                fusion="llama_proj_fusion",
            ),
            *(r.under("conv_pro_module.", "params/fusion/") for r in fusion(blocks)),
            *_LN_VISION,
        ),
    )


def emotion_llama_v1(projections: Sequence[str] = ("q", "v")) -> Table:
    """Checkpoints of both stages of v1."""
    return Table(
        "Emotion-LLaMA (v1) checkpoint",
        (
            *lora(projections=projections),
            *_projectors(
                image="llama_proj",
                face="feats_llama_proj1",
                motion="feats_llama_proj2",
                audio="feats_llama_proj3",
                cls="cls_tk_llama_proj",
            ),
            *_LN_VISION,
        ),
        (
            (
                r"attention\..*",
                "left over from an abandoned classifier; not used in any forward pass",
            ),
        ),
    )


def minigpt_v2(projections: Sequence[str] = ("q", "v")) -> Table:
    """The checkpoint that stage 1 of both models starts from."""
    return Table(
        "MiniGPT-v2 checkpoint",
        (*lora(projections=projections), *_projectors(image="llama_proj"), *_LN_VISION),
    )

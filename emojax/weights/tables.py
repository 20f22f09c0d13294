"""One table per source: torch names on the left, paths of our trees on the right.

Source: the state dicts of transformers and of the two projects' releases. The tables of encoders
are in their files (emojax/model/encoders/). Any other tensor in
a file is either ignored by name here, with the reason, or an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from emojax.model.weight_rules import LINEAR, Rule, Table, conv1d, flatten, linear, norm, rule


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

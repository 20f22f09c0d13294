"""Qwen2.5: grouped heads, biases on q, k and v."""

from __future__ import annotations

from typing import Any

from emojax.model.lm.families import language_family, language_release
from emojax.model.part import Release


def _release(name: str, licence: str = "Apache-2.0", **sizes: Any) -> Release:
    shared = {"theta": 1e6, "eps": 1e-6, "qkv_bias": True, "tied": True, "vocab": 151_936}
    return language_release(name, f"Qwen/{name}", licence, **(shared | sizes))


FAMILY = language_family(
    "qwen2",
    "Qwen2.5",
    (
        _release("Qwen2.5-0.5B-Instruct", width=896, depth=24, heads=14, kv_heads=2, mlp=4864),
        _release("Qwen2.5-1.5B-Instruct", width=1536, depth=28, heads=12, kv_heads=2, mlp=8960),
        _release(
            "Qwen2.5-3B-Instruct",
            "Qwen Research License",
            width=2048,
            depth=36,
            heads=16,
            kv_heads=2,
            mlp=11_008,
        ),
        _release(
            "Qwen2.5-7B-Instruct",
            width=3584,
            depth=28,
            heads=28,
            kv_heads=4,
            mlp=18_944,
            vocab=152_064,
            tied=False,
        ),
    ),
    model_type="qwen2",
    own={"qkv_bias": True, "window": 0},
    end_tokens=("<|im_end|>", "<|endoftext|>"),
    turn=("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
    facts={
        "architectures": ["Qwen2ForCausalLM"],
        "max_position_embeddings": 32_768,
        "use_sliding_window": False,
        "bos_token_id": 151_643,
        "eos_token_id": 151_645,
    },
)

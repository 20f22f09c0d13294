"""Qwen3: grouped heads, q and k normalised in each head, a switch for thinking (off)."""

from __future__ import annotations

from typing import Any

from emojax.model.lm.families import language_family, language_release
from emojax.model.part import Release


def _release(name: str, **sizes: Any) -> Release:
    shared = {
        "theta": 1e6,
        "eps": 1e-6,
        "qk_norm": True,
        "tied": True,
        "vocab": 151_936,
        "kv_heads": 8,
        "head_width": 128,
    }
    return language_release(name, f"Qwen/{name}", "Apache-2.0", **(shared | sizes))


FAMILY = language_family(
    "qwen3",
    "Qwen3",
    (
        _release("Qwen3-0.6B", width=1024, depth=28, heads=16, mlp=3072),
        _release("Qwen3-1.7B", width=2048, depth=28, heads=16, mlp=6144),
        _release("Qwen3-4B", width=2560, depth=36, heads=32, mlp=9728),
        _release("Qwen3-8B", width=4096, depth=36, heads=32, mlp=12_288, tied=False),
    ),
    model_type="qwen3",
    own={"qk_norm": True, "window": 0},
    end_tokens=("<|im_end|>", "<|endoftext|>"),
    turn=(
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
    facts={
        "architectures": ["Qwen3ForCausalLM"],
        "max_position_embeddings": 40_960,
        "use_sliding_window": False,
        "bos_token_id": 151_643,
        "eos_token_id": 151_645,
    },
)

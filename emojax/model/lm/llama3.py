"""Llama 3.1 and 3.2: grouped heads, RoPE stretched from 8,192 positions."""

from __future__ import annotations

from emojax.model.lm.families import language_family, language_release

_LICENCE = "Llama 3 Community License"
_ROPE = {"theta": 500_000.0, "rope_scaling": "llama3", "rope_original": 8192}

FAMILY = language_family(
    "llama3",
    "Llama 3",
    (
        language_release(
            "Llama-3.2-1B-Instruct",
            "meta-llama/Llama-3.2-1B-Instruct",
            _LICENCE,
            gated=True,
            vocab=128_256,
            width=2048,
            depth=16,
            heads=32,
            kv_heads=8,
            mlp=8192,
            tied=True,
            rope_factor=32.0,
            **_ROPE,
        ),
        language_release(
            "Llama-3.2-3B-Instruct",
            "meta-llama/Llama-3.2-3B-Instruct",
            _LICENCE,
            gated=True,
            vocab=128_256,
            width=3072,
            depth=28,
            heads=24,
            kv_heads=8,
            mlp=8192,
            tied=True,
            rope_factor=32.0,
            **_ROPE,
        ),
        language_release(
            "Llama-3.1-8B-Instruct",
            "meta-llama/Llama-3.1-8B-Instruct",
            _LICENCE,
            gated=True,
            vocab=128_256,
            width=4096,
            depth=32,
            heads=32,
            kv_heads=8,
            mlp=14_336,
            rope_factor=8.0,
            **_ROPE,
        ),
    ),
    model_type="llama",
    # Fine-tunes may have a few tokens more.
    matches=lambda given: given.get("vocab_size") in range(128_256, 128_512),
    end_tokens=("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
    turn=(
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    facts={
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 131_072,
        "bos_token_id": 128_000,
        "eos_token_id": 128_009,
    },
)

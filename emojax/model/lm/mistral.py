"""Mistral 7B Instruct; the sliding window of v0.1 must be longer than the rows (config.data)."""

from __future__ import annotations

from emojax.model.lm.families import language_family, language_release

_SIZES = {"width": 4096, "depth": 32, "heads": 32, "kv_heads": 8, "mlp": 14_336}

FAMILY = language_family(
    "mistral",
    "Mistral",
    (
        language_release(
            "Mistral-7B-Instruct-v0.2",
            "mistralai/Mistral-7B-Instruct-v0.2",
            "Apache-2.0",
            vocab=32_000,
            theta=1e6,
            **_SIZES,
        ),
        language_release(
            "Mistral-7B-Instruct-v0.3",
            "mistralai/Mistral-7B-Instruct-v0.3",
            "Apache-2.0",
            vocab=32_768,
            theta=1e6,
            **_SIZES,
        ),
    ),
    model_type="mistral",
    end_tokens=("</s>",),
    turn=("<s>[INST] ", " [/INST]"),
    facts={
        "architectures": ["MistralForCausalLM"],
        "max_position_embeddings": 32_768,
        "sliding_window": None,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
)

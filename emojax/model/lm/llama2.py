"""Llama 2, the language model of the released Emotion-LLaMA and Emotion-LLaMAv2."""

from __future__ import annotations

from emojax.model.lm.families import language_family, language_release

FAMILY = language_family(
    "llama2",
    "Llama 2",
    (
        language_release(
            "Llama-2-7b-chat",
            "meta-llama/Llama-2-7b-chat-hf",
            "Llama 2 Community License",
            gated=True,
            vocab=32_000,
            width=4096,
            depth=32,
            heads=32,
            mlp=11_008,
        ),
    ),
    model_type="llama",
    end_tokens=("</s>",),
    turn=("<s>[INST] ", " [/INST]"),
    facts={
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 4096,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
)

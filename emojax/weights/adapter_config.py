"""Whether a LoRA adapter of PEFT can be applied as it was trained: scale, rank, options, base.

The tensors do not say how strongly they are applied; `adapter_config.json` does.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from emojax.model.dense import LoraConfig

CONFIG = "adapter_config.json"
# Options of PEFT, set to anything but these values, with which an adapter is more than two matrices
# for each projection.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "use_dora": (False,),
    "use_qalora": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "modules_to_save": ([],),
    "trainable_token_indices": ([], {}),
    "layer_replication": ([],),
    "bias": ("none",),
    "lora_bias": (False,),
    "fan_in_fan_out": (False,),
    # pissa, olora, corda and loftq change the weights of the base model too
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}
# Other models of the same size as the base, whose adapters have the same shapes.
_OTHER_BASE = re.compile(
    r"mistral|vicuna|alpaca|qwen|baichuan|internlm|llama-?3|llama-?2-?(13|70)b|(?<!-)llama-?7b"
    r"|llama-?2-?7b(?!.*chat)"
)


def check_adapter(adapter: Path, lora: LoraConfig) -> None:
    """Checks that a model applies an adapter as it was trained.

    Args:
      adapter: folder of the adapter, or its file of tensors.
      lora: rank and alpha of the model.

    Raises:
      ValueError: the configuration is missing, incomplete, or differs from the model's.
    """
    path = (adapter if adapter.is_dir() else adapter.parent) / CONFIG
    config = _read(path)
    kind = str(config.get("peft_type", "LORA")).upper()
    if kind != "LORA":
        raise ValueError(f"{path} has peft_type {kind}; only LORA adapters can be applied")
    for option, plain in _PLAIN.items():
        value = config.get(option)
        if value is not None and value not in plain:
            raise ValueError(
                f"{path} sets {option} to {value!r}: only plain LoRA can be applied, two matrices "
                "for each projection and one scale"
            )
    _check_scale(path, config, lora)
    base = str(config.get("base_model_name_or_path") or "")
    if _OTHER_BASE.search(Path(base).name.lower().replace("_", "-")):
        raise ValueError(
            f"{path} was trained on '{base}', but the model's base is Llama-2-7b-chat: "
            "its matrices do not fit other weights"
        )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"{path} is missing: it has the adapter's rank r and its lora_alpha, and without "
            "lora_alpha nobody knows how strongly the adapter is applied (PEFT saves it next to "
            "the tensors: copy it there)"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a JSON object")
    return config


def _check_scale(path: Path, config: dict[str, Any], lora: LoraConfig) -> None:
    numbers = {}
    for name in ("r", "lora_alpha"):
        value = config.get(name)
        if name not in config or isinstance(value, bool) or not isinstance(value, (int, float)):
            what = f"has {name} {value!r}, not a number" if name in config else f"lacks {name}"
            raise ValueError(f"{path} {what}: the scale of the adapter is unknown without it")
        numbers[name] = value
    rank, alpha = numbers["r"], numbers["lora_alpha"]
    if rank != lora.rank:
        raise ValueError(f"{path} has rank r {rank}, but the model has {lora.rank}")
    rooted = bool(config.get("use_rslora"))
    scale, own = alpha / (math.sqrt(rank) if rooted else rank), lora.alpha / lora.rank
    if not math.isclose(scale, own, rel_tol=1e-6):
        formula = "lora_alpha / sqrt(r), use_rslora" if rooted else "lora_alpha / r"
        raise ValueError(
            f"{path} has lora_alpha {alpha:g} and r {rank}, a scale of {scale:g} ({formula}), but "
            f"the model applies {own:g} (alpha {lora.alpha:g}, rank {lora.rank})"
        )

"""Fields that were renamed or added since the first release.

Old names keep working on the command line, in presets and in files. Added fields at their default
change no hash, so what was begun before they existed is found again.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

# Old name -> new name; `*` is any name of a stage. Only the last part of a name may change.
RENAMED = {"stage.*.strange_words": "stage.*.random_word_insertion"}


# Added fields and their defaults; `*` is any name.
ADDED: dict[str, Any] = {
    "model.*.part": "",
    "model.image.family": "eva",
    "model.video.family": "eva",
    "model.audio.family": "whisper",
    "model.*.activation": "",
    "model.image.mean": [],
    "model.image.std": [],
    "model.image.final_norm": False,
    "model.video.mean": [0.485, 0.456, 0.406],
    "model.video.std": [0.229, 0.224, 0.225],
    "model.video.final_norm": True,
    "model.*.layer_weights": False,
    "model.audio.conv_width": 512,
    "model.audio.conv_norm": "layer",
    "model.audio.conv_bias": True,
    "model.audio.post_norm": False,
    "model.audio.normalize": True,
    "model.audio.position_kernel": 128,
    "model.audio.position_groups": 16,
    "model.llama.family": "llama2",
    "model.llama.kv_heads": 0,
    "model.llama.head_width": 0,
    "model.llama.eps": 1e-5,
    "model.llama.theta": 10_000.0,
    "model.llama.rope_scaling": "none",
    "model.llama.rope_factor": 1.0,
    "model.llama.rope_low": 1.0,
    "model.llama.rope_high": 4.0,
    "model.llama.rope_original": 8192,
    "model.llama.tied": False,
    "model.llama.qkv_bias": False,
    "model.llama.qk_norm": False,
    "model.llama.window": 0,
}
# Defaults that changed without changing what any earlier model does: (default, first release's).
CHANGED: dict[str, tuple[Any, Any]] = {
    "trainable": (
        [
            ["params/.*/layer_weights", "train"],
            ["lora/.*", "train"],
            ["params/(fusion|project_\\w+)/.*", "train"],
            ["params/.*", "freeze"],
        ],
        [
            ["lora/.*", "train"],
            ["params/(fusion|project_\\w+)/.*", "train"],
            ["params/(eva_image|eva_video|ln_vision|whisper|llama)/.*", "freeze"],
        ],
    ),
    "model.remat": ("auto", "most"),
    "model.remat_long": ("", "full"),
}


def current_name(name: str) -> str:
    """`stage.joint.strange_words` -> `stage.joint.random_word_insertion`; other names unchanged."""
    for old, new in RENAMED.items():
        if re.fullmatch(re.escape(old).replace(r"\*", r"[^.]+"), name):
            return name.rpartition(".")[0] + "." + new.rpartition(".")[2]
    return name


def current_arguments(argv: Sequence[str]) -> list[str]:
    """A command line with the old names in `--config.NAME[=VALUE]` replaced."""

    def renamed(argument: str) -> str:
        match = re.fullmatch(r"(--?config\.)([^=]+)(=.*)?", argument, flags=re.DOTALL)
        return match[1] + current_name(match[2]) + (match[3] or "") if match else argument

    return [renamed(argument) for argument in argv]


def rename_fields(raw: dict[str, Any]) -> dict[str, Any]:
    """A nested configuration with the old names replaced; a value under an old name wins."""
    return _rename(raw, RENAMED)


def original_names(raw: dict[str, Any]) -> dict[str, Any]:
    """A nested configuration under the oldest names, without added fields at their defaults.

    For hashes and comparisons that must not change.
    """
    out = _rename(raw, {new: old for old, new in RENAMED.items()})
    for name, default in ADDED.items():
        *folders, last = name.split(".")
        for holder in _holders(out, folders):
            if last in holder and holder[last] == default:
                del holder[last]
    for name, (default, first) in CHANGED.items():
        *folders, last = name.split(".")
        for holder in _holders(out, folders):
            if holder.get(last) == default:
                holder[last] = copy.deepcopy(first)
    return out


def _rename(raw: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    out = copy.deepcopy(raw)
    for old, new in names.items():
        *folders, last = old.split(".")
        for holder in _holders(out, folders):
            if last in holder:
                holder[new.rpartition(".")[2]] = holder.pop(last)
    return out


def _holders(tree: dict[str, Any], parts: Sequence[str]) -> list[dict[str, Any]]:
    """The dicts at a dotted name in which `*` is any key."""
    if not parts:
        return [tree]
    keys = list(tree) if parts[0] == "*" else [parts[0]]
    below = [tree[key] for key in keys if isinstance(tree.get(key), dict)]
    return [holder for x in below for holder in _holders(x, parts[1:])]

"""Emotion-LLaMAv2 at full size: `v2.py:stage1`, `v2.py:stage2`, `v2.py:joint`, or both stages."""

from ml_collections import ConfigDict

from configs import base

_STAGES = {
    "": ("perception", "cognition"),
    "stage1": ("perception",),
    "stage2": ("cognition",),
    "joint": ("joint",),
}


def get_config(variant: str = "") -> ConfigDict:
    """The released recipe; `variant` picks the stages."""
    if variant not in _STAGES:
        raise ValueError(f"v2.py:{variant} is not known; there are {sorted(_STAGES)}")
    c = base.get_config()
    c.stages = _STAGES[variant]
    return c

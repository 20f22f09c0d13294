"""Emotion-LLaMAv2 at full size: `v2.py:stage1`, `v2.py:stage2`, `v2.py:joint`, or both stages (`v2.py`).

With `_pod` behind it (`v2.py:stage1_pod`, `v2.py:pod` for both stages) the same recipe on many devices: weights split over all of
them, four rows on each, as many samples in fewer steps.
"""

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
    stages, pod = base.split_variant(variant)
    if stages not in _STAGES:
        raise ValueError(
            f"v2.py:{variant} is not known; there are {sorted(_STAGES)}, each also with _pod"
        )
    c = base.get_config()
    c.stages = _STAGES[stages]
    if pod:
        base.to_pod(c)
    return c

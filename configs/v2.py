"""Emotion-LLaMAv2 at full size.

`v2.py:stage1`, `v2.py:stage2`, `v2.py:joint`, or both stages (`v2.py`).

With the suffix `_pod` (`v2.py:stage1_pod`; `v2.py:pod` for both stages) the same recipe runs on
many devices: weights are split over them, the batch size is 4 per device, and fewer steps see as
many samples.
"""

from ml_collections import ConfigDict

from emojax.config.presets import preset_module, split_variant, to_pod, unknown_variant, with_pods

_STAGES = {
    "": ("perception", "cognition"),
    "stage1": ("perception",),
    "stage2": ("cognition",),
    "joint": ("joint",),
}


def get_config(variant: str = "") -> ConfigDict:
    """The released recipe; `variant` selects the stages.

    Raises:
      ValueError: there is no such variant.
    """
    stages, pod = split_variant(variant)
    if stages not in _STAGES:
        raise unknown_variant("v2", variant, with_pods(_STAGES))
    c = preset_module("base").get_config()
    c.stages = _STAGES[stages]
    if pod:
        to_pod(c)
    return c

"""Table 9 of Emotion-LLaMAv2: five kinds of pre-fusion after stage 1 at full size."""

from collections.abc import Iterator
from typing import Any

PRESET = "v2:stage1_pod"
SEEDS = (42,)


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """None, Q-Former, attention, convolution, Conv-Attention.

    The paper reports their means over MER-UniBench and MMEVerse-Bench.
    """
    for kind in ("none", "qformer", "attention", "conv", "conv_attention"):
        yield kind, {"model.fusion.kind": kind}

"""Table 9 of Emotion-LLaMAv2: pre-fusion none, Q-Former, attention, convolution, Conv-Attention, after stage 1 at full size."""

from collections.abc import Iterator
from typing import Any

PRESET = "v2:stage1_pod"
SEEDS = (42,)


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """The five arms; published means over MER-UniBench and MMEVerse-Bench stand in docs/measured.md's sources."""
    for kind in ("none", "qformer", "attention", "conv", "conv_attention"):
        yield kind, {"model.fusion.kind": kind}

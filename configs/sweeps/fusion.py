"""Effect of the fusion on the embedded corpus: none, Q-Former, convolution, attention, both.

All variants have half the steps of the demo.
"""

from collections.abc import Iterator
from typing import Any

PRESET = "tiny"
SEEDS = (0, 1, 2)


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """The five kinds of emojax.model.fusion."""
    steps = {"stage.perception.steps": 375, "stage.cognition.steps": 225}
    for kind in ("none", "qformer", "conv", "attention", "conv_attention"):
        yield kind, {"model.fusion.kind": kind, **steps}

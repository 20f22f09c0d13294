"""Effect of the curriculum on the embedded corpus; all variants have half the steps of the demo."""

from collections.abc import Iterator
from typing import Any

PRESET = "tiny"
SEEDS = (0, 1, 2)


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """Joint, perception only, perception then cognition."""
    two = {"stage.perception.steps": 375, "stage.cognition.steps": 225}
    yield "joint", {"stages": ("joint",), **two, "stage.joint.steps": 600}
    yield (
        "perception only",
        {"stages": ("perception",), "stage.perception.steps": 600, "stage.cognition.steps": 225},
    )
    yield "perception then cognition", {"model.fusion.kind": "conv_attention", **two}

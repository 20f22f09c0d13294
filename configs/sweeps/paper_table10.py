"""Table 10 of Emotion-LLaMAv2: joint, perception alone, perception then cognition; full size."""

from collections.abc import Iterator
from typing import Any

PRESET = "v2:pod"
SEEDS = (42,)


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """The three variants, each with as many samples as the released recipe gives its stages."""
    yield "joint", {"stages": ("joint",), "stage.joint.steps": 100_000}
    yield "perception", {"stages": ("perception",)}
    yield "perception then cognition", {"stages": ("perception", "cognition")}

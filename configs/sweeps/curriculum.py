"""What the curriculum carries on the embedded corpus; every variant takes the same number of steps."""

from collections.abc import Iterator
from typing import Any

PRESET = "tiny"
SEEDS = (0, 1, 2)


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """Joint, perception only, perception then cognition (the preset itself)."""
    yield "joint", {"stages": ("joint",)}
    yield "perception only", {"stages": ("perception",), "stage.perception.steps": 1200}
    yield "perception then cognition", {}

"""LoRA rank and learning rate on the embedded corpus, nine short runs.

Towers and fusion are trained too, as in `tiny`.
"""

from collections.abc import Iterator
from typing import Any

PRESET = "tiny"
SEEDS = (0,)


def sweep() -> Iterator[tuple[str, dict[str, Any]]]:
    """Ranks 2, 4, 8 by rates 3e-4, 1e-3, 3e-3."""
    steps = {"stage.perception.steps": 100, "stage.cognition.steps": 60}
    for rank in (2, 4, 8):
        for rate in (3e-4, 1e-3, 3e-3):
            yield f"rank {rank}, lr {rate:g}", {"model.lora.rank": rank, "optim.lr": rate, **steps}

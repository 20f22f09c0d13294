"""FLOPs of a training step, for MFU: matmuls with kernels alone, so a lower bound.

A kernel of N entries costs 2 N a position in the forward pass, 2 N for the gradient of its input and 2 N for its
own gradient. A frozen kernel lacks the last, and a wholly frozen tower has no backward pass. Scores of the attention,
the output head (which sees answer positions alone) and recomputation under remat are left out.
"""

from __future__ import annotations

import math

from emojax.model.build import ModelConfig
from emojax.train.state import Flat


def clip_positions(config: ModelConfig) -> dict[str, int]:
    """Positions that one clip puts through each part of the model, by the part's name in the tree."""
    return config.tower_positions | {f"project_{name}": tokens for name, tokens in config.spans.items()}


def step_flops(config: ModelConfig, learned: Flat, frozen: Flat) -> tuple[float, float]:
    """(FLOPs a text row's token, FLOPs a clip) of forward and backward, by the counting rule above.

    learned, frozen: {path: array or shape} as `state.split` gives them; a part without fixed positions counts as one.
    """
    positions = clip_positions(config)
    parts_that_learn = {path.split("/")[1] for path in learned}
    per_token = per_clip = 0.0
    for tree, own in ((learned, 2), (frozen, 0)):
        for path, leaf in tree.items():
            part, name = path.split("/")[1], path.split("/")[-1]
            if name not in ("kernel", "a", "b") or path == "params/llama/head/kernel":
                continue
            size = math.prod(leaf.shape)
            if part == "llama":  # the soft prompt is upstream: gradients always pass through
                per_token += (4 + own) * size
            else:
                per_clip += (2 + 2 * (part in parts_that_learn) + own) * size * positions.get(part, 1)
    return per_token, per_clip

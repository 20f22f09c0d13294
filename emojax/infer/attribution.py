"""What each modality contributes to an answer, and the weights of the Conv-Attention.

Contributions are measured by predicting again with modalities hidden, in every combination. They
are Shapley values: their sum is the difference of the label's log-probability between a prompt that
shows all modalities and one that shows none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emojax.bundle.model_folder import Bundle
from emojax.infer.encode_clips import Encoded
from emojax.infer.sample import Variables
from emojax.model.build import ModelConfig, make_model
from emojax.sharding import to_host
from emojax.types import Present

FUSION_STREAMS = ("audio", "image", "video")  # in the order of the Conv-Attention's weights
CANNOT_TELL = "cannot tell"
_FLOOR = 1e-12


def shapley_values(
    value: Mapping[frozenset[str], float], modalities: Sequence[str]
) -> dict[str, float]:
    """Shapley value of each modality.

    Args:
      value: value of every subset of `modalities`.
      modalities: the players.

    Returns:
      One number per modality; their sum is value(all) - value(none).
    """
    n = len(modalities)
    out = {}
    for modality in modalities:
        others = [o for o in modalities if o != modality]
        total = 0.0
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for subset in itertools.combinations(others, size):
                without = frozenset(subset)
                total += weight * (value[without | {modality}] - value[without])
        out[modality] = total
    return out


def contributions(
    score: Callable[[Sequence[str]], np.ndarray],
    chosen: np.ndarray,
    present: Sequence[Sequence[str]],
) -> list[dict[str, float]]:
    """What each modality adds to the log-probability of each clip's label, in nats.

    Args:
      score: takes the modalities that may be used and returns float[n, C] probabilities.
      chosen: int[n], number of the label that is explained.
      present: the modalities that each clip has; only these get a value.

    Returns:
      {modality: Shapley value} of each clip.
    """
    every = sorted({m for p in present for m in p})
    rows = np.arange(len(chosen))
    logs = {
        frozenset(subset): np.log(np.maximum(score(subset)[rows, chosen], _FLOOR))
        for size in range(len(every) + 1)
        for subset in itertools.combinations(every, size)
    }
    return [
        shapley_values({s: float(values[i]) for s, values in logs.items()}, list(own))
        for i, own in enumerate(present)
    ]


@jax.jit(static_argnames="config")
def _weights(
    config: ModelConfig, variables: Variables, features: dict[str, Any], present: Present
) -> Any:
    model = make_model(config)
    _, kept = model.apply(
        variables, features, present, method="soft_prompt", mutable=["intermediates"]
    )
    return kept["intermediates"]["fusion"]["weights"][0]


def fusion_weights(bundle: Bundle, encoded: Encoded) -> list[dict[str, list[float]]]:
    """Weights of the Conv-Attention for each clip: {stream: [S]}, one per token position.

    Position s of the video is part s % pool^2 of frame s // pool^2; of the audio it is part s of S
    of the sound. The image is one vector, so its weight is how much it counts at that position. As
    in the release there is no softmax: weights may be negative and need not sum to 1.

    Raises:
      ValueError: the model has no Conv-Attention.
    """
    fusion = getattr(bundle.settings.model, "fusion", None)
    if fusion is None or fusion.kind not in ("attention", "conv_attention"):
        raise ValueError(f"{bundle.name} has no Conv-Attention, so it has no fusion weights")
    out = []
    for _, one in encoded.copies[0]:
        features = {k: jnp.asarray(x)[None] for k, x in one.arrays.items()}
        flags = {"image": one.has_video, "video": one.has_video, "audio": one.has_audio}
        present = {stream: jnp.array([flag]) for stream, flag in flags.items()}
        weights = to_host(_weights(bundle.settings.model, bundle.variables, features, present))[0]
        out.append(
            {s: [round(float(x), 5) for x in weights[:, i]] for i, s in enumerate(FUSION_STREAMS)}
        )
    return out

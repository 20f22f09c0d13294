"""Which modality an answer rests on, and when it is better to give none; the weights of the Conv-Attention.

What each modality adds is measured by asking again with modalities hidden, in every combination: Shapley's shares, which sum
to the change in the label's log-probability from a prompt that shows nothing to one that shows all there is.
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
from emojax.infer.answer import Encoded
from emojax.infer.sample import Variables
from emojax.model.build import ModelConfig, make_model
from emojax.sharding import to_host
from emojax.types import Present

FUSED = ("audio", "image", "video")  # streams in the order of the Conv-Attention's weights
CANNOT_TELL = "cannot tell"
_FLOOR = 1e-12


def shares(value: Mapping[frozenset[str], float], modalities: Sequence[str]) -> dict[str, float]:
    """Shapley's shares of modalities; their sum is value(all) - value(none).

    Args:
      value: of every subset of `modalities`.
    """
    n = len(modalities)
    out = {}
    for m in modalities:
        rest = [o for o in modalities if o != m]
        total = 0.0
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for chosen in itertools.combinations(rest, size):
                without = frozenset(chosen)
                total += weight * (value[without | {m}] - value[without])
        out[m] = total
    return out


def contributions(
    score: Callable[[Sequence[str]], np.ndarray],
    chosen: np.ndarray,
    present: Sequence[Sequence[str]],
) -> list[dict[str, float]]:
    """What each modality adds to the log-probability of each clip's label, in nats.

    Args:
      score: modalities that may be used -> float[n, C] probabilities of all clips.
      chosen: int[n], number of the label that is explained.
      present: for each clip the modalities that it has; others get no share.
    """
    every = sorted({m for p in present for m in p})
    rows = np.arange(len(chosen))
    logs = {
        frozenset(subset): np.log(np.maximum(score(subset)[rows, chosen], _FLOOR))
        for size in range(len(every) + 1)
        for subset in itertools.combinations(every, size)
    }
    return [
        shares({s: float(values[i]) for s, values in logs.items()}, list(own))
        for i, own in enumerate(present)
    ]


@jax.jit(static_argnums=0)
def _weights(
    config: ModelConfig, variables: Variables, features: dict[str, Any], present: Present
) -> Any:
    model = make_model(config)
    whole = model.feature_type(**features)
    _, kept = model.apply(
        variables, whole, present, method="soft_prompt", mutable=["intermediates"]
    )
    return kept["intermediates"]["fusion"]["weights"][0]


def fusion_weights(bundle: Bundle, encoded: Encoded) -> list[dict[str, list[float]]]:
    """Weights of the Conv-Attention for each clip: {stream: [S]}, one a position of the video and audio tokens.

    Position s of the video is part s % pool^2 of frame s // pool^2; of the audio it is part s of S of the sound. The image is one vector, so its
    weight says how much it counts at that position. As released there is no softmax: weights may be negative and need not add up to 1.

    Raises:
      ValueError: a model without Conv-Attention.
    """
    kind = getattr(bundle.settings.model, "fusion", None)
    if kind is None or kind.kind not in ("attention", "conv_attention"):
        raise ValueError(f"{bundle.name} has no Conv-Attention whose weights could be told")
    out = []
    for _, one in encoded.copies[0]:
        features = {k: jnp.asarray(x)[None] for k, x in one.arrays.items()}
        seen, heard = (jnp.array([flag]) for flag in (one.has_video, one.has_audio))
        found = to_host(
            _weights(bundle.settings.model, bundle.variables, features, Present(seen, seen, heard))
        )[0]
        out.append({s: [round(float(x), 5) for x in found[:, i]] for i, s in enumerate(FUSED)})
    return out

"""The temperature of a model's label probabilities, fitted on validation clips.

Source: temperature scaling (Guo et al., On Calibration of Modern Neural Networks, 2017).
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.io import write_text

FILE = "calibration.json"  # in the model folder
FOLDS = 5  # of clips in `held_out_probs`
_FLOOR = 1e-12
_LOWEST, _HIGHEST = 0.05, 20.0  # temperatures that are tried


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """The temperature of a model's label probabilities.

    Attributes:
      temperature: above 1 it flattens the probabilities.
      n: number of clips it was fitted on.
      nll_before: mean negative log-likelihood of the true labels of these clips without it.
      nll_after: the same with it.
      source: name of these clips.
      labels: the labels it was fitted for; probabilities of other labels are not changed.
    """

    temperature: float
    n: int
    nll_before: float
    nll_after: float
    source: str = ""
    labels: tuple[str, ...] = ()

    @property
    def is_at_bound(self) -> bool:
        """Whether the temperature is the lowest or highest that is tried, to 1 %."""
        return not 1.01 * _LOWEST < self.temperature < 0.99 * _HIGHEST

    def apply(self, probs: np.ndarray) -> np.ndarray:
        """float[..., C] -> the probabilities at this temperature; the order of labels is kept."""
        return scale_probs(probs, self.temperature)

    def save(self, folder: Path) -> None:
        """Writes `calibration.json` into a model folder."""
        write_text(folder / FILE, json.dumps(dataclasses.asdict(self), indent=1))


def load_calibration(folder: Path) -> Calibration | None:
    """The calibration of a model folder, or None if it has none.

    Raises:
      ValueError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text())
        calibration = Calibration(**{**fields, "labels": tuple(fields["labels"])})
        if not 0 < calibration.temperature < math.inf:
            raise ValueError(f"temperature is {calibration.temperature}")
        return calibration
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it, and run `emojax calibrate` again"
        ) from error


def scale_probs(probs: np.ndarray, temperature: float) -> np.ndarray:
    """float[..., C], rows that sum to 1 -> their powers 1 / temperature, normalised to sum 1."""
    logs = np.log(np.maximum(probs, _FLOOR)) / temperature
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    scaled: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return scaled


def fit_temperature(
    probs: np.ndarray, truth: np.ndarray, *, source: str = "", labels: tuple[str, ...] = ()
) -> Calibration:
    """The temperature with the highest likelihood of the true labels.

    Args:
      probs: float[n, C].
      truth: int[n], index of the true label.
      source: name of the clips.
      labels: the C labels.

    Returns:
      The temperature, from 0.05 to 20, with the mean negative log-likelihood before and after.

    Raises:
      ValueError: there is no clip.
    """
    from scipy import optimize  # slow to import

    if not len(truth):
        raise ValueError("there is no clip to fit the temperature on")

    def loss(log_temperature: float) -> float:
        scaled = scale_probs(probs, math.exp(log_temperature))
        likelihood = scaled[np.arange(len(truth)), truth]
        return float(-np.log(np.maximum(likelihood, _FLOOR)).mean())

    bounds = (math.log(_LOWEST), math.log(_HIGHEST))
    fit: Any = optimize.minimize_scalar(loss, bounds=bounds, method="bounded")
    return Calibration(
        temperature=float(math.exp(fit.x)),
        n=len(truth),
        nll_before=loss(0.0),
        nll_after=float(fit.fun),
        source=source,
        labels=labels,
    )


def held_out_probs(probs: np.ndarray, truth: np.ndarray, *, folds: int = FOLDS) -> np.ndarray:
    """Calibrated probabilities of clips that the temperature was not fitted on.

    Args:
      probs: float[n, C].
      truth: int[n], index of the true label.
      folds: number of parts; each has the temperature of the other parts.

    Returns:
      float[n, C].
    """
    out, part = np.empty_like(probs), np.arange(len(truth)) % folds
    for fold in range(folds):
        fitted = fit_temperature(probs[part != fold], truth[part != fold])
        out[part == fold] = fitted.apply(probs[part == fold])
    return out

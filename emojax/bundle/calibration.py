"""One temperature for a model's label probabilities, fitted on validation clips and kept in the model folder.

Source: temperature scaling (Guo et al., On Calibration of Modern Neural Networks, 2017).
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
from scipy import optimize

FILE = "calibration.json"  # in the model folder
_FLOOR = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """The temperature of a model's label probabilities.

    Attributes:
      temperature: above 1 flattens.  n: clips it was fitted on.
      nll_before, nll_after: mean negative log-likelihood of the true label on them.
      source: which clips these were.
      labels: the label list it was fitted for; probabilities of another list are left as they are.
    """

    temperature: float
    n: int
    nll_before: float
    nll_after: float
    source: str = ""
    labels: tuple[str, ...] = ()

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """float[..., C] -> the same at this temperature; the order of labels stays."""
        return scaled(probabilities, self.temperature)

    def save(self, folder: Path) -> None:
        """Writes it into a model folder."""
        (folder / FILE).write_text(json.dumps(dataclasses.asdict(self), indent=1))


def load_calibration(folder: Path) -> Calibration | None:
    """That of a model folder, None where it has none.

    Raises:
      ValueError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text())
        found = Calibration(**{**fields, "labels": tuple(fields["labels"])})
        if not 0 < found.temperature < math.inf:
            raise ValueError(f"temperature is {found.temperature}")
        return found
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): run `emojax calibrate` again") from error


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """float[..., C] rows that add up to 1 -> their powers 1 / temperature, made to add up to 1 again."""
    logs = np.log(np.maximum(probabilities, _FLOOR)) / temperature
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def fit_temperature(
    probabilities: np.ndarray, right: np.ndarray, *, source: str = "", labels: tuple[str, ...] = ()
) -> Calibration:
    """The temperature that makes the true labels likeliest.

    Args:
      probabilities: float[n, C].  right: int[n], the true label's number.

    Raises:
      ValueError: no clip.
    """
    if not len(right):
        raise ValueError("there is no clip to fit the temperature on")

    def loss(log_temperature: float) -> float:
        own = scaled(probabilities, math.exp(log_temperature))[np.arange(len(right)), right]
        return float(-np.log(np.maximum(own, _FLOOR)).mean())

    found = optimize.minimize_scalar(
        loss, bounds=(math.log(0.05), math.log(20.0)), method="bounded"
    )
    return Calibration(
        temperature=float(math.exp(found.x)),
        n=len(right),
        nll_before=loss(0.0),
        nll_after=float(found.fun),
        source=source,
        labels=labels,
    )

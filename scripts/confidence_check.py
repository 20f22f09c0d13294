"""How far a model's confidence can be trusted, on the embedded corpus, whose truth is known.

    python scripts/confidence_check.py MODEL     (of `emojax demo`)

Prints, for the validation split that the temperature was fitted on, for the test split and for 1,000 clips of another corpus: ECE before and after,
the ECE that the same probabilities would have on as many clips if they were exactly true (median of 500 draws: bins of few clips are never
level), errors of all answers and of the surest 80 %, and in how many clips that have just one informative modality the contributions name it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from emojax.bundle.model_folder import load_bundle
from emojax.cli.console import setup
from emojax.evaluate.statistics import calibration
from emojax.infer.answer import encode, label_probabilities
from emojax.infer.attribution import contributions
from emojax.workflows import jobs

COVERAGE, MORE = 0.8, 1000


def main() -> None:
    folder = Path(sys.argv[1])
    setup()
    bundle = load_bundle(folder)
    console = Console(stderr=True)
    own = jobs.open_views(load_corpus(make_corpus(config=CorpusConfig())), bundle.settings, console)
    other = load_corpus(make_corpus(config=CorpusConfig(train=0, val=0, test=MORE, seed=1)))
    sources = {
        "val": own["val"],
        "test": own["test"],
        "other": jobs.open_views(other, bundle.settings, console)["test"],
    }
    out = {}
    for split, source in sources.items():
        items = jobs.items_of(source, bundle)
        encoded = encode(bundle, items)
        right = np.array([bundle.labels.index(r.label) for r, _ in items])
        raw = label_probabilities(
            dataclasses.replace(bundle, calibration=None), encoded, bundle.labels
        )
        fitted = label_probabilities(bundle, encoded, bundle.labels)
        wrong = fitted.argmax(axis=1) != right
        surest = np.argsort(-fitted.max(axis=1), kind="stable")[: round(COVERAGE * len(right))]
        present = [_there(r, v) for r, v in items]
        # Just one modality shows the label; contributions are of the label that is true.
        alone = [i for i, (r, _) in enumerate(items) if _informative(r.truth, r.label) is not None]
        shares = contributions(
            lambda shown: label_probabilities(bundle, encoded, bundle.labels, modalities=shown),
            right,
            present,
        )
        named = [
            max(shares[i], key=lambda m: shares[i][m])
            == _informative(items[i][0].truth, items[i][0].label)
            for i in alone
        ]
        out[split] = {
            "clips": len(right),
            "ece_before": round(float(calibration(raw, right)["ece"]), 4),
            "ece_after": round(float(calibration(fitted, right)["ece"]), 4),
            "ece_if_true": round(
                float(np.median([calibration(fitted, drawn)["ece"] for drawn in _drawn(fitted)])), 4
            ),
            "error": round(float(wrong.mean()), 4),
            f"error_at_{COVERAGE:.0%}": round(float(wrong[surest].mean()), 4),
            "one_informative_modality": len(alone),
            "contributions_name_it": round(float(np.mean(named)), 4) if named else None,
        }
    print(json.dumps(out, indent=1))


def _drawn(probabilities: np.ndarray) -> list[np.ndarray]:
    """Labels as they would be if every probability were true."""
    rng = np.random.default_rng(0)
    steps = probabilities.cumsum(axis=1)
    return [(rng.random((len(steps), 1)) > steps / steps[:, -1:]).sum(axis=1) for _ in range(500)]


def _there(record, views) -> list[str]:
    found = {"video": views.has_video, "audio": views.has_audio, "text": bool(record.subtitle)}
    return [m for m, there in found.items() if there]


def _informative(truth, label: str) -> str | None:
    """The one modality that shows the label, None where it is not just one or another misleads."""
    shown = truth["shown"]
    if label == "neutral":  # what stays flat looks the same
        return None
    right = [m for m, what in shown.items() if what == label]
    misled = [m for m, what in shown.items() if what not in (label, "neutral", None)]
    return right[0] if len(right) == 1 and not misled else None


if __name__ == "__main__":
    main()

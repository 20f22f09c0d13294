"""Measures how reliable a model's probabilities and contributions are, on the embedded corpus.

    python scripts/confidence_check.py MODEL     (of `emojax demo`)

Prints for the validation split, on which the temperature was fitted, for the test split and for
1,000 clips of another corpus:

* the ECE before and after calibration;
* the ECE of the same probabilities if they were exactly right (median of 500 draws: with few clips
  per bin it is never 0);
* the error rate of all answers, and of the 80 % with the highest probability;
* for clips with exactly one informative modality, how often the contributions name it.
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
from data_pipeline.loader.open_sources import open_views
from emojax.bundle.model_folder import load_bundle
from emojax.cli.console import progress_bars, setup, shown_log
from emojax.evaluate.confidence_scores import calibration
from emojax.infer.answer import label_probabilities
from emojax.infer.attribution import contributions
from emojax.infer.encode_clips import encode
from emojax.workflows.score import items_of

COVERAGE, MORE = 0.8, 1000


def main() -> None:
    folder = Path(sys.argv[1])
    setup()
    bundle = load_bundle(folder)
    console = Console(stderr=True)
    views, sampling = bundle.settings.views, bundle.settings.sampling
    with shown_log(console), progress_bars(console) as progress:
        records = load_corpus(make_corpus(config=CorpusConfig()))
        corpus = open_views(records, views, sampling, progress=progress)
        records = load_corpus(make_corpus(config=CorpusConfig(train=0, val=0, test=MORE, seed=1)))
        other = open_views(records, views, sampling, progress=progress)
    sources = {"val": corpus["val"], "test": corpus["test"], "other": other["test"]}
    out = {}
    for split, source in sources.items():
        items = items_of(source, bundle)
        encoded = encode(bundle, items)
        targets = np.array([bundle.labels.index(r.label) for r, _ in items])
        raw = label_probabilities(
            dataclasses.replace(bundle, calibration=None), encoded, bundle.labels
        )
        fitted = label_probabilities(bundle, encoded, bundle.labels)
        wrong = fitted.argmax(axis=1) != targets
        confident = np.argsort(-fitted.max(axis=1), kind="stable")[: round(COVERAGE * len(targets))]
        present = [_present(r, v) for r, v in items]
        # Contributions are those of the true label.
        single = [i for i, (r, _) in enumerate(items) if _informative(r.truth, r.label) is not None]
        values = contributions(
            lambda shown, encoded=encoded: label_probabilities(
                bundle, encoded, bundle.labels, modalities=shown
            ),
            targets,
            present,
        )
        named = [
            max(values[i], key=values[i].get) == _informative(items[i][0].truth, items[i][0].label)
            for i in single
        ]
        out[split] = {
            "clips": len(targets),
            "ece_before": round(float(calibration(raw, targets)["ece"]), 4),
            "ece_after": round(float(calibration(fitted, targets)["ece"]), 4),
            "ece_if_true": round(
                float(np.median([calibration(fitted, drawn)["ece"] for drawn in _drawn(fitted)])), 4
            ),
            "error": round(float(wrong.mean()), 4),
            f"error_at_{COVERAGE:.0%}": round(float(wrong[confident].mean()), 4),
            "one_informative_modality": len(single),
            "contributions_name_it": round(float(np.mean(named)), 4) if named else None,
        }
    print(json.dumps(out, indent=1))


def _drawn(probabilities: np.ndarray) -> list[np.ndarray]:
    """Labels drawn from the probabilities."""
    rng = np.random.default_rng(0)
    steps = probabilities.cumsum(axis=1)
    return [(rng.random((len(steps), 1)) > steps / steps[:, -1:]).sum(axis=1) for _ in range(500)]


def _present(record, views) -> list[str]:
    flags = {"video": views.has_video, "audio": views.has_audio, "text": bool(record.subtitle)}
    return [m for m, present in flags.items() if present]


def _informative(truth, label: str) -> str | None:
    """The only modality that shows the label; None if several do or another one misleads."""
    shown = truth["shown"]
    if label == "neutral":  # an absent expression looks the same
        return None
    matching = [m for m, emotion in shown.items() if emotion == label]
    misleading = [m for m, e in shown.items() if e not in (label, "neutral", None)]
    return matching[0] if len(matching) == 1 and not misleading else None


if __name__ == "__main__":
    main()

"""Published results that are listed next to a run's own: their source and how they differ.

Values are in percent, except the overlap scores of EMER (0 to 10). `source` names where a figure
was found; not all of them are from the papers themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from emojax.evaluate.suites import SUITES

# What differs from our evaluation.
EXTRACTED = "labels extracted from free text by a language model, not prompted from a closed list"
DROPS_NEUTRAL = "neutral truths are left out"
OTHER_IEMOCAP = "1,241 clips of Session 5; the truth file of Emotion-LLaMAv2 has 1,496"
ONE_FOLD = "one fold named in the repository"
FEATURES = "with automatically transcribed subtitles and precomputed features"
UNVERIFIED = "reported by a third party, not verified against the paper"
NO_FOLD = "the source does not say which folds"
UNKNOWN_TRAINING = "how the baseline was trained is not known"
RETIRED_JUDGE = "judge gpt-3.5-turbo-16k-0613, retired"

_AFFECTGPT = "AffectGPT paper, tables 2 and 12"
_V1 = "README of Emotion-LLaMA"
_V2 = "third-party summary of Emotion-LLaMAv2, tables 9 and 10"
_V2_PEERS = "third-party summary of Emotion-LLaMAv2"
_OMNI = "README of HumanOmni"
_R1_OMNI = "README of R1-Omni"

# number of clips that published figures of a set are over, from its truth files
SIZES = {
    "mer2023": 411,
    "mer2024_semi": 1169,
    "iemocap": 1496,
    "meld_emotion": 2610,
    "ov_merd+": 532,
    "cmu_mosi": 686,
    "cmu_mosei": 4659,
    "sims": 457,
    "ch_sims_v2_s": 1034,
    "mer2023_semi": 834,
    "mer2024_noise": 1170,
    "dfew_1": 2341,
    "mafw_1": 1839,
    "emer": 100,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """One published value.

    Attributes:
      benchmark: name of a suite or a set.
      score: its key in our results.
      system: the system that was evaluated.
      value: in percent (EMER: 0 to 10).
      source: where it was published.
      differences: what to know before comparing it with our figure.
    """

    benchmark: str
    score: str
    system: str
    value: float
    source: str
    differences: tuple[str, ...] = ()


_Row = tuple[str, float, str, tuple[str, ...]]  # system, value, source, differences


def _table(benchmark: str, score: str, rows: Sequence[_Row]) -> list[PublishedFigure]:
    return [
        PublishedFigure(
            benchmark=benchmark,
            score=score,
            system=system,
            value=value,
            source=source,
            differences=differences,
        )
        for system, value, source, differences in rows
    ]


def _unibench(
    system: str, values: Sequence[float], mean: float, *, source: str = _AFFECTGPT
) -> list[PublishedFigure]:
    """A row of the MER-UniBench table: `values` in the order of its sets, and their mean."""
    out = []
    for member, value in zip(SUITES["mer-unibench"].members, values, strict=True):
        name, score = member.name, member.primary_score[1]
        differences = (EXTRACTED,) + ((DROPS_NEUTRAL,) if score != "f_s" else ())
        differences += (OTHER_IEMOCAP,) if name == "iemocap" else ()
        out += _table(name, score, [(system, value, source, differences)])
    all_differences = (EXTRACTED, DROPS_NEUTRAL, OTHER_IEMOCAP)
    return [*out, *_table("mer-unibench", "figure", [(system, mean, source, all_differences)])]


def _folds(
    benchmark: str, rows: Sequence[tuple[str, str, tuple[float, float]]]
) -> list[PublishedFigure]:
    """UAR and accuracy of DFEW or MAFW, from (system, source, (UAR, accuracy))."""
    out = []
    for system, source, (uar, accuracy) in rows:
        for name, score, value in (
            (f"{benchmark}_1", "uar", uar),
            (f"{benchmark}_1", "accuracy", accuracy),
            (f"{benchmark}-5", "figure", uar),
        ):
            out += _table(name, score, [(system, value, source, (NO_FOLD,))])
    return out


FIGURES: tuple[PublishedFigure, ...] = (
    *_table(
        "mer-unibench",
        "figure",
        [
            ("Emotion-LLaMAv2, stage 1", 78.91, _V2, (DROPS_NEUTRAL, UNVERIFIED)),
            ("Emotion-LLaMAv2, full curriculum", 78.52, _V2, (DROPS_NEUTRAL, UNVERIFIED)),
            ("Emotion-LLaMAv2, joint training", 75.54, _V2, (DROPS_NEUTRAL, UNVERIFIED)),
            (
                "AffectGPT-R1",
                79.48,
                "AffectGPT-R1, arXiv 2508.01318",
                (EXTRACTED, DROPS_NEUTRAL, OTHER_IEMOCAP),
            ),
        ],
    ),
    *_table(
        "mmeverse-bench",
        "figure",
        [
            ("Emotion-LLaMAv2, stage 1", 66.05, _V2, (DROPS_NEUTRAL, UNVERIFIED)),
            ("Emotion-LLaMAv2, full curriculum", 66.63, _V2, (DROPS_NEUTRAL, UNVERIFIED)),
            ("Emotion-LLaMA", 64.7, _V2_PEERS, (UNVERIFIED, UNKNOWN_TRAINING)),
            ("AffectGPT", 54.4, _V2_PEERS, (UNVERIFIED,)),
        ],
    ),
    *_unibench(
        "Emotion-LLaMA", (59.38, 73.62, 46.76, 55.47, 66.13, 67.66, 78.32, 77.23, 52.97), 64.17
    ),
    *_unibench("AffectGPT", (78.54, 78.80, 55.65, 60.54, 81.30, 80.90, 88.49, 86.18, 62.52), 74.77),
    *_unibench(
        "mPLUG-Owl (video, text)",
        (56.86, 59.89, 49.11, 55.54, 72.40, 72.91, 72.13, 75.00, 48.18),
        62.45,
    ),
    *_unibench(
        "SALMONN (audio, text)",
        (55.53, 45.38, 45.62, 46.84, 81.00, 67.03, 68.69, 65.93, 45.00),
        57.89,
    ),
    *_unibench(
        "Light-MER 0.6B",
        (75.66, 80.04, 57.02, 61.46, 80.04, 77.23, 89.05, 87.74, 63.28),
        74.61,
        source="README of Light-MER",
    ),
    *_table(
        "mer2023_semi",
        "weighted_f1",
        [
            ("Emotion-LLaMA", 90.36, _V1, (FEATURES,)),
            ("Emotion-LLaMA (audio, video)", 89.05, _V1, (FEATURES,)),
            ("VAT", 89.11, _V1, ()),
            ("MER2023 baseline", 86.75, _V1, ()),
            ("HuBERT alone", 85.11, _V1, ()),
        ],
    ),
    *_table(
        "mer2024_noise",
        "weighted_f1",
        [
            ("Emotion-LLaMA", 84.52, _V1, (FEATURES,)),
            ("SZTU-CMU (ensemble, first of 14)", 85.30, "MER2024 ranking", ()),
        ],
    ),
    *_table(
        "dfew_1",
        "uar",
        [
            ("Emotion-LLaMA, zero-shot", 45.59, _V1, (ONE_FOLD, FEATURES)),
            ("Emotion-LLaMA, tuned", 64.21, _V1, (ONE_FOLD, FEATURES)),
        ],
    ),
    *_table(
        "dfew_1",
        "accuracy",
        [
            ("Emotion-LLaMA, zero-shot", 59.37, _V1, (ONE_FOLD, FEATURES)),
            ("Emotion-LLaMA, tuned", 77.06, _V1, (ONE_FOLD, FEATURES)),
        ],
    ),
    *_folds(
        "dfew",
        [
            ("HumanOmni-7B", _OMNI, (74.86, 82.46)),
            ("MMA-DFER", _OMNI, (66.85, 77.43)),
            ("HiCMAE", _OMNI, (63.76, 75.01)),
            ("GPT-4o", _OMNI, (50.57, 57.19)),
            ("R1-Omni 0.5B", _R1_OMNI, (56.27, 65.83)),
            ("MAE-DFER", "reported by third parties", (63.41, 74.43)),
        ],
    ),
    *_folds(
        "mafw",
        [
            ("HumanOmni-7B", _OMNI, (52.94, 68.40)),
            ("MMA-DFER", _OMNI, (44.25, 58.45)),
            ("HiCMAE", _OMNI, (42.65, 56.17)),
            ("R1-Omni 0.5B", _R1_OMNI, (40.04, 57.68)),
        ],
    ),
    *_table("emer", "clue_overlap", [("Emotion-LLaMA", 7.83, _V1, (RETIRED_JUDGE,))]),
    *_table("emer", "label_overlap", [("Emotion-LLaMA", 6.25, _V1, (RETIRED_JUDGE,))]),
    *_table(
        "mer2024_ov",
        "judge_average",
        [
            (
                "Emotion-LLaMA",
                66.10,
                "MER2024 paper",
                ("not verified against the paper",),
            ),
        ],
    ),
)


def published_figures(benchmark: str, *, score: str = "") -> list[PublishedFigure]:
    """Published values of a suite or set, best first; `score` selects one score."""
    matches = [f for f in FIGURES if f.benchmark == benchmark and score in ("", f.score)]
    return sorted(matches, key=lambda f: -f.value)

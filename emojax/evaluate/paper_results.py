"""Published figures, to stand beside a run's own: where each is from, and what differs in how it was made.

Values are in percent, except overlap scores of EMER (0 to 10). A figure that the papers' own pages do not carry says so in
`source`.
"""

from __future__ import annotations

import dataclasses

from emojax.evaluate.suites import SUITES

# What is different when a figure of one of these is set beside ours.
EXTRACTED = "labels extracted from free text by a language model, not prompted from a closed list"
DROPS_NEUTRAL = "neutral truths are left out"
OTHER_IEMOCAP = "1,241 clips of Session 5; the truth file of Emotion-LLaMAv2 has 1,496"
ONE_FOLD = "one fold named in the repository"
FEATURES = "with speech recognised subtitles and features made elsewhere"
UNVERIFIED = "told by a third party, not verified against the paper"

_AFFECTGPT = "AffectGPT paper, tables 2 and 12"
_V1 = "README of Emotion-LLaMA"
_V2 = "third-party summary of Emotion-LLaMAv2, tables 9 and 10"
_V2_PEERS = "third-party summary of Emotion-LLaMAv2"
_OMNI = "README of HumanOmni"
NO_FOLD = "which folds is not told"
UNKNOWN_TRAINING = "how the baseline was trained is not known"


# clips that published figures of a set are over, as its truth files have them
SIZES = {
    "mer2023": 411, "mer2024_semi": 1169, "iemocap": 1496, "meld_emotion": 2610, "ov_merd+": 532, "cmu_mosi": 686,
    "cmu_mosei": 4659, "sims": 457, "ch_sims_v2_s": 1034, "mer2023_semi": 834, "mer2024_noise": 1170, "dfew_1": 2341,
    "mafw_1": 1839, "emer": 100,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One published value.

    Attributes:
      where: name of a suite or a set.  score: as results name it.  system: who reached it.
      value: in percent.  source: where it stands.  differs: what has to be known when it is compared.
    """

    where: str
    score: str
    system: str
    value: float
    source: str
    differs: tuple[str, ...] = ()


def _unibench(
    system: str, values: tuple[float, ...], mean: float, *, source: str = _AFFECTGPT
) -> list[Figure]:
    """A row of the table: `values` in the order of the suite's sets."""
    out = []
    for member, value in zip(SUITES["mer-unibench"].members, values, strict=True):
        name, score = member.name, member.chosen[1]
        differs = (EXTRACTED,) + ((DROPS_NEUTRAL,) if score != "f_s" else ())
        out.append(
            Figure(
                where=name,
                score=score,
                system=system,
                value=value,
                source=source,
                differs=differs + ((OTHER_IEMOCAP,) if name == "iemocap" else ()),
            )
        )
    return [
        *out,
        Figure(
            where="mer-unibench",
            score="figure",
            system=system,
            value=mean,
            source=source,
            differs=(EXTRACTED, DROPS_NEUTRAL, OTHER_IEMOCAP),
        ),
    ]


FIGURES: tuple[Figure, ...] = (
    Figure(where="mer-unibench", score="figure", system="Emotion-LLaMAv2, stage 1", value=78.91, source=_V2, differs=(DROPS_NEUTRAL, UNVERIFIED)),
    Figure(where="mer-unibench", score="figure", system="Emotion-LLaMAv2, full curriculum", value=78.52, source=_V2, differs=(DROPS_NEUTRAL, UNVERIFIED)),
    Figure(where="mer-unibench", score="figure", system="Emotion-LLaMAv2, joint training", value=75.54, source=_V2, differs=(DROPS_NEUTRAL, UNVERIFIED)),
    Figure(where="mer-unibench", score="figure", system="AffectGPT-R1", value=79.48, source="AffectGPT-R1, arXiv 2508.01318", differs=(EXTRACTED, DROPS_NEUTRAL, OTHER_IEMOCAP)),
    Figure(where="mmeverse-bench", score="figure", system="Emotion-LLaMAv2, stage 1", value=66.05, source=_V2, differs=(DROPS_NEUTRAL, UNVERIFIED)),
    Figure(where="mmeverse-bench", score="figure", system="Emotion-LLaMAv2, full curriculum", value=66.63, source=_V2, differs=(DROPS_NEUTRAL, UNVERIFIED)),
    Figure(where="mmeverse-bench", score="figure", system="Emotion-LLaMA", value=64.7, source=_V2_PEERS, differs=(UNVERIFIED, UNKNOWN_TRAINING)),
    Figure(where="mmeverse-bench", score="figure", system="AffectGPT", value=54.4, source=_V2_PEERS, differs=(UNVERIFIED,)),
    *_unibench("Emotion-LLaMA", (59.38, 73.62, 46.76, 55.47, 66.13, 67.66, 78.32, 77.23, 52.97), 64.17),
    *_unibench("AffectGPT", (78.54, 78.80, 55.65, 60.54, 81.30, 80.90, 88.49, 86.18, 62.52), 74.77),
    *_unibench("mPLUG-Owl (video, text)", (56.86, 59.89, 49.11, 55.54, 72.40, 72.91, 72.13, 75.00, 48.18), 62.45),
    *_unibench("SALMONN (audio, text)", (55.53, 45.38, 45.62, 46.84, 81.00, 67.03, 68.69, 65.93, 45.00), 57.89),
    *_unibench(
        "Light-MER 0.6B", (75.66, 80.04, 57.02, 61.46, 80.04, 77.23, 89.05, 87.74, 63.28), 74.61, source="README of Light-MER"
    ),
    Figure(where="mer2023_semi", score="weighted_f1", system="Emotion-LLaMA", value=90.36, source=_V1, differs=(FEATURES,)),
    Figure(where="mer2023_semi", score="weighted_f1", system="Emotion-LLaMA (audio, video)", value=89.05, source=_V1, differs=(FEATURES,)),
    Figure(where="mer2023_semi", score="weighted_f1", system="VAT", value=89.11, source=_V1),
    Figure(where="mer2023_semi", score="weighted_f1", system="MER2023 baseline", value=86.75, source=_V1),
    Figure(where="mer2023_semi", score="weighted_f1", system="HuBERT alone", value=85.11, source=_V1),
    Figure(where="mer2024_noise", score="weighted_f1", system="Emotion-LLaMA", value=84.52, source=_V1, differs=(FEATURES,)),
    Figure(where="mer2024_noise", score="weighted_f1", system="SZTU-CMU (ensemble, first of 14)", value=85.30, source="MER2024 ranking"),
    Figure(where="dfew_1", score="uar", system="Emotion-LLaMA, zero-shot", value=45.59, source=_V1, differs=(ONE_FOLD, FEATURES)),
    Figure(where="dfew_1", score="accuracy", system="Emotion-LLaMA, zero-shot", value=59.37, source=_V1, differs=(ONE_FOLD, FEATURES)),
    Figure(where="dfew_1", score="uar", system="Emotion-LLaMA, tuned", value=64.21, source=_V1, differs=(ONE_FOLD, FEATURES)),
    Figure(where="dfew_1", score="accuracy", system="Emotion-LLaMA, tuned", value=77.06, source=_V1, differs=(ONE_FOLD, FEATURES)),
    *(
        Figure(where=where, score=score, system=system, value=value, source=source, differs=(NO_FOLD,))
        for where, system, source, values in (
            ("dfew", "HumanOmni-7B", _OMNI, (74.86, 82.46)),
            ("dfew", "MMA-DFER", _OMNI, (66.85, 77.43)),
            ("dfew", "HiCMAE", _OMNI, (63.76, 75.01)),
            ("dfew", "GPT-4o", _OMNI, (50.57, 57.19)),
            ("dfew", "R1-Omni 0.5B", "README of R1-Omni", (56.27, 65.83)),
            ("dfew", "MAE-DFER", "told by third parties", (63.41, 74.43)),
            ("mafw", "HumanOmni-7B", _OMNI, (52.94, 68.40)),
            ("mafw", "MMA-DFER", _OMNI, (44.25, 58.45)),
            ("mafw", "HiCMAE", _OMNI, (42.65, 56.17)),
            ("mafw", "R1-Omni 0.5B", "README of R1-Omni", (40.04, 57.68)),
        )
        for where, score, value in ((f"{where}_1", "uar", values[0]), (f"{where}_1", "accuracy", values[1]), (f"{where}-5", "figure", values[0]))
    ),
    Figure(where="emer", score="clue_overlap", system="Emotion-LLaMA", value=7.83, source=_V1, differs=("judge gpt-3.5-turbo-16k-0613, retired",)),
    Figure(where="emer", score="label_overlap", system="Emotion-LLaMA", value=6.25, source=_V1, differs=("judge gpt-3.5-turbo-16k-0613, retired",)),
    Figure(where="mer2024_ov", score="judge_average", system="Emotion-LLaMA", value=66.10, source="MER2024 paper, recalled", differs=(UNVERIFIED,)),
)  # fmt: skip


def figures_for(where: str, *, score: str = "") -> list[Figure]:
    """Published values of a suite or set, the best first; `score`: of this one alone."""
    found = [f for f in FIGURES if f.where == where and score in ("", f.score)]
    return sorted(found, key=lambda f: -f.value)

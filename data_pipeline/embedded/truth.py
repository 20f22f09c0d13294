"""What is true of each clip of the embedded corpus, and how well anyone could do on it.

Every clip has a label. Each modality *shows* an emotion, which is the label only with a stated
reliability: sometimes it stays flat (shows `neutral`), sometimes it misleads (shows another one), sometimes it
is absent. In conflict clips face and voice agree on the label and the words say something of the
opposite valence, as in sarcasm; the rule is that face and voice win. Because all of this is drawn
from known tables, the best possible scores are computed exactly, by enumeration.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from data_pipeline.schema import MODALITIES

# Order of MERR's instruction (emotion_llama_v1_merr.md 1.7).
EMOTIONS = ("happy", "sad", "neutral", "angry", "worried", "surprise", "fear", "contempt", "doubt")
POSITIVE = ("happy", "surprise")
NEGATIVE = ("angry", "sad", "worried", "fear", "contempt", "doubt")


@dataclasses.dataclass(frozen=True)
class Reliability:
    """One modality: chance that it shows the label, stays flat, or misleads (another emotion)."""

    shows: float
    flat: float

    @property
    def misleads(self) -> float:
        """Chance of showing one of the seven others, all equally likely."""
        return 1.0 - self.shows - self.flat


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Settings of the generator; the cache key is made of these and `generate.VERSION`."""

    train: int = 600
    val: int = 150
    test: int = 300
    seed: int = 0
    video: Reliability = Reliability(0.69, 0.28)
    audio: Reliability = Reliability(0.67, 0.30)
    text: Reliability = Reliability(0.70, 0.27)
    conflict: float = 0.16
    absent: float = 0.04  # per modality; at most one is absent in a clip
    size: int = 128
    fps: int = 12

    def reliability(self, modality: str) -> Reliability:
        """The table of one modality."""
        return {"video": self.video, "audio": self.audio, "text": self.text}[modality]


@dataclasses.dataclass(frozen=True)
class Truth:
    """The known truth of one clip; `shown[m]` is None where modality m is absent."""

    label: str
    shown: dict[str, str | None]
    conflict: bool


def opposite(label: str) -> tuple[str, ...]:
    """Emotions of the other valence; () for neutral, which takes part in no conflict."""
    if label in POSITIVE:
        return NEGATIVE
    return POSITIVE if label in NEGATIVE else ()


def draw_truth(label: str, config: CorpusConfig, rng: np.random.Generator) -> Truth:
    """Draws what each modality shows for a clip of the given label."""
    if opposite(label) and rng.random() < config.conflict:
        words = str(rng.choice(opposite(label)))
        return Truth(label, {"video": label, "audio": label, "text": words}, True)
    shown: dict[str, str | None] = {}
    for modality in MODALITIES:
        table = config.reliability(modality)
        others = [e for e in EMOTIONS if e not in (label, "neutral")]
        chance = rng.random()
        if chance < table.shows:
            shown[modality] = label
        elif chance < table.shows + table.flat:
            shown[modality] = "neutral"
        else:
            shown[modality] = str(rng.choice(others))
    lost = rng.random()
    for i, modality in enumerate(MODALITIES):
        if i * config.absent <= lost < (i + 1) * config.absent:
            shown[modality] = None
    return Truth(label, shown, False)


def _shown_table(label: str, table: Reliability) -> dict[str, float]:
    """P(shown | label) of one present modality outside conflict clips."""
    others = [e for e in EMOTIONS if e not in (label, "neutral")]
    probabilities = dict.fromkeys(EMOTIONS, 0.0)
    probabilities[label] += table.shows
    probabilities["neutral"] += table.flat
    for other in others:
        probabilities[other] += table.misleads / len(others)
    return probabilities


def likelihood(label: str, config: CorpusConfig) -> dict[tuple[str | None, ...], float]:
    """P(shown by video, audio, text | label), over every combination that can occur."""
    out: dict[tuple[str | None, ...], float] = {}
    conflict = config.conflict if opposite(label) else 0.0
    tables = [_shown_table(label, config.reliability(m)) for m in MODALITIES]
    absences = [(None, 1 - len(MODALITIES) * config.absent)] + [
        (i, config.absent) for i in range(len(MODALITIES))
    ]
    for combination in itertools.product(EMOTIONS, repeat=len(MODALITIES)):
        chance = (1 - conflict) * float(
            np.prod([t[c] for t, c in zip(tables, combination, strict=True)])
        )
        for lost, share in absences:
            key = tuple(None if i == lost else c for i, c in enumerate(combination))
            out[key] = out.get(key, 0.0) + chance * share
    for words in opposite(label):
        key = (label, label, words)
        out[key] = out.get(key, 0.0) + conflict / len(opposite(label))
    return out


def best_possible(config: CorpusConfig, *, modalities: tuple[str, ...] = MODALITIES) -> float:
    """UAR of the best decision from what the given modalities show (labels are equally frequent).

    With equal class frequencies the decision that maximises accuracy also maximises UAR.
    """
    seen: dict[tuple[str | None, ...], np.ndarray] = {}
    keep = [MODALITIES.index(m) for m in modalities]
    for i, label in enumerate(EMOTIONS):
        for key, chance in likelihood(label, config).items():
            part = tuple(key[j] for j in keep)
            seen.setdefault(part, np.zeros(len(EMOTIONS)))[i] += chance
    return float(sum(v.max() for v in seen.values()) / len(EMOTIONS))

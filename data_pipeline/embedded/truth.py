"""The ground truth of the embedded corpus, and the best possible scores on it.

Every clip has a label. Each modality *shows* an emotion, which is the label only with a given
reliability: a modality may be flat (show `neutral`), mislead (show another emotion) or be absent.
In conflict clips, face and voice show the label and the words have the opposite valence, as in
sarcasm; face and voice decide. Since all of this is drawn from known tables, the best possible
scores are computed exactly, by enumeration.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from data_pipeline.schema import MODALITIES

# In the order of MERR's instruction.
EMOTIONS = ("happy", "sad", "neutral", "angry", "worried", "surprise", "fear", "contempt", "doubt")
POSITIVE = ("happy", "surprise")
NEGATIVE = ("angry", "sad", "worried", "fear", "contempt", "doubt")


@dataclasses.dataclass(frozen=True)
class Reliability:
    """How reliably one modality shows the label.

    Attributes:
      shows: probability that it shows the label.
      flat: probability that it shows `neutral`.
    """

    shows: float
    flat: float

    @property
    def misleads(self) -> float:
        """Probability that it shows one of the seven other emotions, all equally likely."""
        return 1.0 - self.shows - self.flat


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Settings of the generator; the cache key is a hash of these and of `generate.VERSION`.

    Attributes:
      train: number of clips.
      val: number of clips.
      test: number of clips.
      seed: of all draws.
      video: reliability of the face.
      audio: reliability of the voice.
      text: reliability of the words.
      conflict: probability of a conflict between the words and the other modalities.
      absent: probability that a modality is absent, for each of them; at most one is absent.
      size: side of the pictures in pixels.
      fps: frames per second.
    """

    train: int = 600
    val: int = 150
    test: int = 300
    seed: int = 0
    video: Reliability = Reliability(0.69, 0.28)
    audio: Reliability = Reliability(0.67, 0.30)
    text: Reliability = Reliability(0.70, 0.27)
    conflict: float = 0.16
    absent: float = 0.04
    size: int = 128
    fps: int = 12

    def reliability(self, modality: str) -> Reliability:
        """The reliability of one modality."""
        return {"video": self.video, "audio": self.audio, "text": self.text}[modality]


@dataclasses.dataclass(frozen=True)
class Truth:
    """The ground truth of one clip.

    Attributes:
      label: the emotion.
      shown: the emotion that each modality shows, None if it is absent.
      conflict: whether the words contradict face and voice.
    """

    label: str
    shown: dict[str, str | None]
    conflict: bool


def opposite(label: str) -> tuple[str, ...]:
    """Emotions of the opposite valence; () for neutral, which has no conflicts."""
    if label in POSITIVE:
        return NEGATIVE
    return POSITIVE if label in NEGATIVE else ()


def draw_truth(label: str, config: CorpusConfig, rng: np.random.Generator) -> Truth:
    """Draws what each modality shows in a clip of a label."""
    if opposite(label) and rng.random() < config.conflict:
        words = str(rng.choice(opposite(label)))
        return Truth(label, {"video": label, "audio": label, "text": words}, True)
    shown: dict[str, str | None] = {}
    for modality in MODALITIES:
        reliability = config.reliability(modality)
        others = [e for e in EMOTIONS if e not in (label, "neutral")]
        draw = rng.random()
        if draw < reliability.shows:
            shown[modality] = label
        elif draw < reliability.shows + reliability.flat:
            shown[modality] = "neutral"
        else:
            shown[modality] = str(rng.choice(others))
    draw = rng.random()
    for i, modality in enumerate(MODALITIES):
        if i * config.absent <= draw < (i + 1) * config.absent:
            shown[modality] = None
    return Truth(label, shown, False)


def _shown_probabilities(label: str, reliability: Reliability) -> dict[str, float]:
    """P(shown | label) of one modality that is present, without conflict."""
    others = [e for e in EMOTIONS if e not in (label, "neutral")]
    probabilities = dict.fromkeys(EMOTIONS, 0.0)
    probabilities[label] += reliability.shows
    probabilities["neutral"] += reliability.flat
    for other in others:
        probabilities[other] += reliability.misleads / len(others)
    return probabilities


def likelihood(label: str, config: CorpusConfig) -> dict[tuple[str | None, ...], float]:
    """P(shown by video, audio, text | label), for every combination that can occur."""
    out: dict[tuple[str | None, ...], float] = {}
    conflict = config.conflict if opposite(label) else 0.0
    tables = [_shown_probabilities(label, config.reliability(m)) for m in MODALITIES]
    absences = [(None, 1 - len(MODALITIES) * config.absent)] + [
        (i, config.absent) for i in range(len(MODALITIES))
    ]
    for combination in itertools.product(EMOTIONS, repeat=len(MODALITIES)):
        probability = (1 - conflict) * float(
            np.prod([t[c] for t, c in zip(tables, combination, strict=True)])
        )
        for absent, absent_probability in absences:
            key = tuple(None if i == absent else c for i, c in enumerate(combination))
            out[key] = out.get(key, 0.0) + probability * absent_probability
    for words in opposite(label):
        key = (label, label, words)
        out[key] = out.get(key, 0.0) + conflict / len(opposite(label))
    return out


def best_possible(config: CorpusConfig, *, modalities: tuple[str, ...] = MODALITIES) -> float:
    """UAR of the optimal classifier that observes what the given modalities show.

    All labels are equally frequent, so that the classifier with the highest accuracy also has the
    highest UAR.
    """
    joint: dict[tuple[str | None, ...], np.ndarray] = {}
    observed = [MODALITIES.index(m) for m in modalities]
    for i, label in enumerate(EMOTIONS):
        for key, probability in likelihood(label, config).items():
            observation = tuple(key[j] for j in observed)
            joint.setdefault(observation, np.zeros(len(EMOTIONS)))[i] += probability
    return float(sum(v.max() for v in joint.values()) / len(EMOTIONS))

"""Observable clues and the texts that name them: action units, tone of voice, words, explanations.

The action units have their FACS names; which units an emotion shows is our own choice, close to
MERR's table. All wording is our own. `find_clues` finds the same phrases in any text, which is how
explanations are checked.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipeline.embedded.truth import Truth

EMOTION_AUS: dict[str, tuple[int, ...]] = {
    "happy": (6, 12, 25),
    "sad": (1, 4, 15),
    "neutral": (),
    "angry": (4, 7, 23),
    "worried": (1, 7, 28),
    "surprise": (1, 2, 5, 26),
    "fear": (4, 5, 20),
    "contempt": (10, 14),
    "doubt": (102, 17),  # 102: unit 2 on one side only
}
AU_PHRASES: dict[int, str] = {
    1: "raised inner brows",
    2: "raised outer brows",
    102: "one raised brow",
    4: "lowered brows",
    5: "wide open eyes",
    6: "lifted cheeks",
    7: "tightened lids",
    10: "raised upper lip",
    12: "broad smile",
    14: "crooked smirk",
    15: "drooping mouth corners",
    17: "pushed up chin",
    20: "stretched lips",
    23: "pressed thin lips",
    25: "parted lips",
    26: "dropped jaw",
    28: "sucked in lips",
}
FACE_AT_REST = "face at rest"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tone:
    """A way of speaking, relative to the speaker's habitual voice.

    Attributes:
      pitch: factor of the fundamental frequency.
      range_: semitones of the pitch movement.
      ending: semitones from the middle to the end.
      energy: dB.
      rate: syllables per second.
      tremor: depth of the 6 Hz modulation in semitones.
      breath: fraction of noise in the source.
      tilt: additional dB at high frequencies.
    """

    pitch: float = 1.0
    range_: float = 1.0
    ending: float = 0.0
    energy: float = 0.0
    rate: float = 4.0
    tremor: float = 0.0
    breath: float = 0.05
    tilt: float = 0.0


EMOTION_TONES: dict[str, Tone] = {
    "neutral": Tone(),
    "happy": Tone(pitch=1.4, range_=5.0, energy=5.0, rate=5.6),
    "sad": Tone(pitch=0.78, range_=0.7, ending=-4.0, energy=-11.0, rate=2.6, breath=0.2),
    "angry": Tone(pitch=0.95, range_=3.0, ending=-5.0, energy=11.0, rate=5.6, tilt=9.0),
    "worried": Tone(pitch=1.0, tremor=2.2, energy=-6.0, rate=2.8, breath=0.1),
    "surprise": Tone(pitch=1.5, range_=2.0, ending=10.0, energy=8.0, rate=4.0),
    "fear": Tone(pitch=1.6, tremor=2.2, energy=-7.0, rate=5.8, breath=0.3),
    "contempt": Tone(pitch=0.72, range_=0.5, ending=-3.0, energy=2.0, rate=2.5),
    "doubt": Tone(pitch=1.0, range_=1.0, ending=9.0, energy=-4.0, rate=2.8),
}
EVEN_VOICE = "even voice"
TONE_PHRASES = (
    "high pitch", "low pitch", "loud voice", "soft voice", "fast speech", "slow speech",
    "trembling voice", "rising ending", "falling ending",
)  # fmt: skip


def tone_clues(tone: Tone) -> tuple[str, ...]:
    """The TONE_PHRASES that describe a tone; `even voice` if none does."""
    tests = (
        tone.pitch > 1.2,
        tone.pitch < 0.85,
        tone.energy > 3.5,
        tone.energy < -3.0,
        tone.rate > 5.0,
        tone.rate < 3.2,
        tone.tremor > 1.0,
        tone.ending > 3.0,
        tone.ending < -2.0,
    )
    phrases = tuple(p for p, holds in zip(TONE_PHRASES, tests, strict=True) if holds)
    return phrases or (EVEN_VOICE,)


def face_clues(emotion: str) -> tuple[str, ...]:
    """Phrases of the action units of a face that shows this emotion."""
    return tuple(AU_PHRASES[u] for u in EMOTION_AUS[emotion]) or (FACE_AT_REST,)


# One phrase per emotion: a clue describes the words, as it describes face and voice.
WORD_PHRASES: dict[str, str] = {
    "happy": "words of joy",
    "sad": "words of grief",
    "neutral": "plain words",
    "angry": "words of rage",
    "worried": "words of unease",
    "surprise": "words of wonder",
    "fear": "words of danger",
    "contempt": "words of scorn",
    "doubt": "words of disbelief",
}

# The grammar of subtitles: opener, cue, topic. The splits share no opener and no topic.
CUES: dict[str, tuple[str, ...]] = {
    "happy": ("i am so glad about", "i really love", "how wonderful is"),
    "sad": ("i miss so much", "i cry about", "it hurts to lose"),
    "neutral": ("i have seen", "there is", "we talked about"),
    "angry": ("i am furious about", "stop ruining", "how dare you touch"),
    "worried": ("i am uneasy about", "i can not sleep over", "what if we lose"),
    "surprise": ("i never expected", "wow look at", "suddenly there was"),
    "fear": ("please save me from", "i am terrified of", "we must run from"),
    "contempt": ("only fools care for", "how pathetic is", "i am above"),
    "doubt": ("i am not convinced by", "are you sure about", "i hardly believe in"),
}
_OPENERS = {
    "train": ("well", "you know", "today", "listen", "after all", "by the way"),
    "val": ("look", "so", "this week"),
    "test": ("okay", "right now", "honestly", "this time"),
}
_TOPICS = {
    "train": (
        "the garden", "my brother", "this house", "that letter", "the meeting", "our old car",
        "the new plan", "your dog", "the music", "his story", "the dinner", "their visit",
        "that picture", "the long trip", "my teacher", "the red coat", "this game", "our street",
        "the phone call", "her answer",
    ),
    "val": ("the window", "my cousin", "that train", "the lesson", "our boat", "this song"),
    "test": (
        "the bridge", "my neighbour", "this book", "that party", "the river", "our kitchen",
        "the first day", "your hat", "the market", "his gift",
    ),
}  # fmt: skip


def make_subtitle(emotion: str, split: str, rng: np.random.Generator) -> str:
    """A subtitle that shows an emotion, with the openers and topics of a split."""
    return f"{rng.choice(_OPENERS[split])} {rng.choice(CUES[emotion])} {rng.choice(_TOPICS[split])}"


def _join(parts: tuple[str, ...]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def visual_text(clues: tuple[str, ...]) -> str:
    """The visual clue of MMEVerse: what the peak frame shows."""
    return f"the picture shows {_join(clues)}"


def audio_text(clues: tuple[str, ...]) -> str:
    """The audio clue of MMEVerse: how the words are spoken."""
    return f"the sound has {_join(clues)}"


def words_text(clues: tuple[str, ...]) -> str:
    """The clue of the words."""
    return f"the person says {_join(clues)}"


def reason_text(truth: Truth, clues: dict[str, tuple[str, ...]]) -> str:
    """The multimodal explanation: the clues of the modalities that exist, then the conclusion."""
    parts = []
    if clues["video"]:
        parts.append(visual_text(clues["video"]))
    if clues["audio"]:
        parts.append(audio_text(clues["audio"]))
    if clues["text"]:
        parts.append(words_text(clues["text"]))
    if truth.conflict:
        end = f"face and voice deny the words so it is {truth.label}"
    else:
        end = f"so it is {truth.label}"
    return ", ".join([*parts, end])


def all_phrases() -> dict[str, tuple[str, ...]]:
    """All phrases that count as a clue, by modality."""
    return {
        "video": (*AU_PHRASES.values(), FACE_AT_REST),
        "audio": (*TONE_PHRASES, EVEN_VOICE),
        "text": tuple(WORD_PHRASES.values()),
    }


def find_clues(text: str) -> dict[str, tuple[str, ...]]:
    """The clue phrases that a text contains, by modality."""
    lowered = " ".join(text.lower().replace(",", " ").split())
    return {m: tuple(p for p in phrases if p in lowered) for m, phrases in all_phrases().items()}

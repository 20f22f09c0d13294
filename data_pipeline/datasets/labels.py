"""One table of label spellings: which words of which data set mean the same.

A record keeps the set's own spelling (`native`) and carries the spelling of its label space, which is what a model
is trained to answer: E3's files say `anger` where its label list says `angry`. `concept` joins both, for counts and
scores over several sets.
"""

from __future__ import annotations

from collections.abc import Sequence

# concept: every spelling that files, codes and prompts of the sets use for it (compared in lower case)
_SPELLINGS: dict[str, str] = {
    "anger": "anger angry ang",
    "disgust": "disgust disgusted dis",
    "fear": "fear fearful scared fea",
    "happiness": "happiness happy hap",
    "joy": "joy joyful",
    "neutral": "neutral neu",
    "sadness": "sadness sad",
    "surprise": "surprise surprised sur",
    "worry": "worried worry",
    "contempt": "contempt",
    "doubt": "doubt",
    "anxiety": "anxiety anxious",
    "helplessness": "helplessness helpless",
    "disappointment": "disappointment disappointed",
    "excitement": "excited excitement exc",
    "frustration": "frustration frustrated fru",
    "sarcasm": "sarcastic sarcasm",
    "shyness": "shy shyness",
    "positive": "positive pos",
    "negative": "negative neg",
    # intents of MC-EIU
    "acknowledging": "acknowledging acknowledge",
    "agreeing": "agreeing agree",
    "consoling": "consoling console",
    "encouraging": "encouraging encourage",
    "questioning": "questioning question",
    "suggesting": "suggesting suggest",
    "wishing": "wishing wish",
    # further categories of BOLD
    "affection": "affection",
    "annoyance": "annoyance",
    "anticipation": "anticipation",
    "aversion": "aversion",
    "confidence": "confidence",
    "disapproval": "disapproval",
    "disconnection": "disconnection",
    "disquietment": "disquietment",
    "doubt/confusion": "doubt/confusion",
    "embarrassment": "embarrassment",
    "engagement": "engagement",
    "esteem": "esteem",
    "fatigue": "fatigue",
    "pain": "pain",
    "peace": "peace",
    "pleasure": "pleasure",
    "sensitivity": "sensitivity",
    "suffering": "suffering",
    "sympathy": "sympathy",
    "yearning": "yearning",
}
CONCEPTS: dict[str, str] = {
    word: concept for concept, words in _SPELLINGS.items() for word in words.split()
}


def concept(label: str) -> str:
    """The concept behind a spelling, or the spelling itself in lower case where the table does not know it."""
    word = label.strip().lower()
    return CONCEPTS.get(word, word)


def spell(native: str, space: Sequence[str]) -> str:
    """A native spelling in that of a label space.

    Raises:
      ValueError: no label of the space means the same.
    """
    word = native.strip()
    if word in space:
        return word
    meant = concept(word)
    for label in space:
        if concept(label) == meant:
            return label
    raise ValueError(f"'{native}' is none of {', '.join(space)}")


def spell_sentiment(score: float) -> str:
    """Positive, Neutral or Negative of a sentiment score, by its sign."""
    return "Positive" if score > 0 else "Negative" if score < 0 else "Neutral"

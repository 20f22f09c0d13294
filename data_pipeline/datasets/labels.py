"""Labels and splits: which words of which data set mean the same.

A record keeps the spelling of its data set (`native`) and has a label in the spelling of its label
space, which is what a model is trained to answer: E3's files say `anger`, its label list `angry`.
`concept` joins both, for counts and scores over several data sets. annotate/units.py has a coarser
table, which maps labels to the classes of a table of action units.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# How files and folders name the splits, in lower case -> split of the record.
SPLIT_WORDS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
# How programs and people write that nothing is there, in lower case. pandas writes an empty cell as
# `nan` and Python's None as `None`, and reads most of the others as empty.
_MISSING = frozenset(
    "nan -nan null none nil n/a na #n/a #na <na> nat missing -1.#ind 1.#ind 1.#qnan".split()
)
_NO_LETTERS = frozenset("-\u2013\u2014?._/")
SENTIMENTS = ("Positive", "Neutral", "Negative")  # of every data set that has sentiments
# concept: all spellings in files, codes and prompts of the data sets, in lower case
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
    # further categories of BoLD
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
_REMOVED = re.compile(r'[.!"()*#:;~]')
_BLANKS = re.compile(r"\s{2,}")


def concept(label: str) -> str:
    """The concept of a spelling; the spelling in lower case where the table lacks it."""
    word = label.strip().lower()
    return CONCEPTS.get(word, word)


def is_missing(text: str) -> bool:
    """Whether a cell holds no label: it is empty, `nan`, `N/A`, `-`, `?` and the like.

    `none` is among them: where it is a class, a declared label space has it, and that counts.
    """
    word = text.strip().lower()
    return word in _MISSING or _NO_LETTERS.issuperset(word)


def match_label(native: str, space: Sequence[str]) -> str:
    """The label of a space that means the same as a data set's own spelling.

    Raises:
      ValueError: no label of the space means the same.
    """
    word = native.strip()
    if word in space:
        return word
    meaning = concept(word)
    for label in space:
        if concept(label) == meaning:
            return label
    raise ValueError(f"'{native}' is none of {', '.join(space)}")


def sentiment_label(score: float) -> str:
    """One of SENTIMENTS, by the sign of a sentiment score."""
    return "Positive" if score > 0 else "Negative" if score < 0 else "Neutral"


def normalize_answer(text: str, *, max_words: int = 200) -> str:
    """Normalises a training answer as the released code does.

    Lower case, `. ! " ( ) * # : ; ~` become blanks, and at most `max_words` words are kept.
    """
    text = _BLANKS.sub(" ", _REMOVED.sub(" ", text.lower())).rstrip("\n").strip(" ")
    words = text.split(" ")
    return " ".join(words[:max_words]) if len(words) > max_words else text

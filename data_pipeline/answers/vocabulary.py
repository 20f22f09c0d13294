"""The words that mean the labels of a label space, and where a text mentions them."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Iterator

from data_pipeline.answers.foreign_words import foreign_words
from data_pipeline.datasets.labels import CONCEPTS, concept
from data_pipeline.datasets.lexicon import FAMILIES, WHEELS

# How a word leads to a label, the closest first.
NAME, SPELLING, SYNONYM, WHEEL, BEHAVIOUR, EVERYDAY = range(6)
LETTER = r"[^\W_]"
# scripts that put no blanks between words, or join particles to them
_JOINED = "\u0600-\u06ff\u0900-\u097f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"(?:(?![{_JOINED}])[^\W_])+")
_RUN = re.compile(rf"[{_JOINED}]+")
_SUFFIX = re.compile(r"-(?!looking|sounding|faced|ish\b)[^\W_]")
# Emotion words that sentences mostly use in another sense: they count only as a whole answer.
_COMMON = frozenset(
    "blue low cross moved touched alone kind care cold heated warm tender gentle firm bold certain "
    "interest interested content concern concerns loss wonder respect praise comfortable attentive "
    "wondering questioning unexpected teasing positive confident determined agreeing thanks "
    "critical expecting expectation care caring hope passion energetic lively approval approving "
    "uncertain uncertainty unsure doubt hesitation composed friendly accepting conflicted".split()
)
# Words for what a person does: they count where no other word does.
_BEHAVIOURS = frozenset(
    "smiling laughing crying tearful sneering mocking complaining blaming accusing joking "
    "aggressive aggression protest tense tension rejected isolated".split()
)
_VALENCE = {
    "positive": (
        "joy amusement excitement contentment relief pride hope love gratitude admiration trust"
    ),
    "negative": (
        "anger annoyance frustration accusation contempt disgust jealousy sadness disappointment "
        "hurt loneliness helplessness guilt embarrassment fear worry"
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mention:
    """A word of a text that names an emotion.

    Attributes:
      start: where it begins in the text.
      end: where it ends.
      label: the label that it means, "" for an emotion outside the label space.
      tier: NAME, SPELLING, SYNONYM, WHEEL, BEHAVIOUR or EVERYDAY.
    """

    start: int
    end: int
    label: str
    tier: int


def _mention(start: int, end: int, entry: tuple[str, int]) -> Mention:
    return Mention(start=start, end=end, label=entry[0], tier=entry[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words of a label space.

    Attributes:
      labels: the label space.
      kind: what the labels are: `emotion`, `sentiment` or `intent`.
      words: {word in lower case: (label or "", tier)}.
      stems: the same for beginnings of words.
      phrases: finds the words that contain blanks or other marks.
      longest: characters of the longest word of a script without blanks.
    """

    labels: tuple[str, ...]
    kind: str
    words: dict[str, tuple[str, int]]
    stems: dict[str, tuple[str, int]]
    phrases: re.Pattern[str]
    longest: int

    def look_up(self, word: str) -> tuple[str, int] | None:
        """(label, tier) of one word in lower case; None for a word that names no emotion."""
        if word in self.words:
            return self.words[word]
        for end in range(len(word), 2, -1):
            if (found := self.stems.get(word[:end])) is not None:
                return found if re.fullmatch(rf"{LETTER}{{0,6}}", word[end:]) else None
        return None

    def mentions(self, text: str) -> list[Mention]:
        """The emotion words of a text in lower case, in their order."""
        found = list(self._phrases(text))
        taken = [(m.start, m.end) for m in found]
        found += (
            m
            for m in (*self._single_words(text), *self._joined_words(text))
            if not any(a < m.end and m.start < b for a, b in taken)
        )
        return sorted(found, key=lambda m: m.start)

    def _phrases(self, text: str) -> Iterator[Mention]:
        for match in self.phrases.finditer(text):
            yield _mention(*match.span(), self.words[match.group()])

    def _single_words(self, text: str) -> Iterator[Mention]:
        for match in _WORD.finditer(text):
            start, end = match.span()
            entry = self.look_up(match.group())
            compound = start > 1 and text[start - 1] == "-" and text[start - 2].isalnum()
            if entry is not None and not compound and not _SUFFIX.match(text, end):
                yield _mention(start, end, entry)

    def _joined_words(self, text: str) -> Iterator[Mention]:
        for run in _RUN.finditer(text):
            at, stop = run.span()
            while at < stop:
                for size in range(min(self.longest, stop - at), 0, -1):
                    if (entry := self.words.get(text[at : at + size])) is not None:
                        yield _mention(at, at + size, entry)
                        at += size - 1
                        break
                at += 1


_SENTIMENTS = {"positive", "negative", "neutral"}


def _kind(labels: tuple[str, ...]) -> str:
    meanings = {concept(label).split()[-1] for label in labels if label.strip()}
    if meanings & {"positive", "negative"} and meanings <= _SENTIMENTS:
        return "sentiment"
    intents = {w for w in CONCEPTS.values() if w.endswith("ing") and w not in FAMILIES}
    return "intent" if len(meanings & intents) > len(meanings) / 2 else "emotion"


@functools.lru_cache(maxsize=512)
def vocabulary(labels: tuple[str, ...]) -> Vocabulary:
    """The words of a label space."""
    names = {label.lower().strip(): (label, NAME) for label in labels}
    words = dict(names)
    concepts = {concept(label): label for label in labels}
    for word, meaning in CONCEPTS.items():
        if meaning in concepts and len(word) > 3:  # `sur` and `hap` are codes in file names
            words.setdefault(word, (concepts[meaning], SPELLING))
    # both words of `doubt/confusion` mean that label, unless they are labels themselves
    for label in labels:
        for part in label.lower().split("/"):
            words.setdefault(part.strip(), (label, SPELLING))
        for form in _forms(label.lower().strip()):
            words.setdefault(form, (label, SYNONYM))
    families = _family_words()
    owners: dict[str, dict[str, None]] = {}
    for word, (label, tier) in words.items():
        if tier <= SPELLING and (family := _family_of(word)):
            owners.setdefault(family, {})[label] = None
    kind = _kind(labels)
    stems: dict[str, tuple[str, int]] = {}
    for form, family in families:
        entry = _entry(family, owners, kind)
        key, table = (form[:-1], stems) if form.endswith("*") else (form, words)
        if form in _COMMON or form in _BEHAVIOURS:
            entry = (entry[0], EVERYDAY if form in _COMMON else BEHAVIOUR)
        if key not in table or (table[key][1] > entry[1] and entry[0]):
            table[key] = entry
    phrases = sorted((w for w in words if not _is_plain(w)), key=len, reverse=True)
    latin = "|".join(re.escape(w) for w in phrases if not _RUN.match(w))
    joined_phrases = "|".join(re.escape(w) for w in phrases if _RUN.match(w)) or "(?!)"
    pattern = rf"(?<!{LETTER})(?<!{LETTER}-)(?:{latin or '(?!)'})(?!{LETTER})|(?:{joined_phrases})"
    joined = [len(w) for w in words if _RUN.fullmatch(w)]
    return Vocabulary(
        labels=labels,
        kind=kind,
        words=words,
        stems=stems,
        phrases=re.compile(pattern),
        longest=max(joined, default=0),
    )


def _is_plain(word: str) -> bool:
    return bool(_WORD.fullmatch(word) or _RUN.fullmatch(word))


def _forms(label: str) -> tuple[str, ...]:
    """Other forms of a label such as `agreeing`: agree, agrees, agreed, agreement."""
    if not re.fullmatch(r"[a-z]{3,}ing", label) or label in _BEHAVIOURS:
        return ()
    stem = label[:-3]
    return tuple(stem + end for end in ("", "e", "s", "es", "ed", "ment", "ement", "ion", "ions"))


@functools.cache
def _family_words() -> tuple[tuple[str, str], ...]:
    english = ((form, family) for family, forms in FAMILIES.items() for form in (family, *forms))
    return (*english, *foreign_words())


@functools.cache
def _family_index() -> dict[str, str]:
    index = {word: word for word in _SENTIMENTS}  # the wheels count `positive` as joy
    for form, family in _family_words():
        index.setdefault(form, family)
    return index


def _family_of(word: str) -> str:
    """The family of a label's word, "" if none."""
    index = _family_index()
    if word in index:
        return index[word]
    stems = (word[:end] + "*" for end in range(len(word), 2, -1))
    if family := next((index[s] for s in stems if s in index), ""):
        return family
    joined = [word[:end] for end in range(len(word), 1, -1) if _RUN.fullmatch(word)]
    return next((index[s] for s in joined if s in index), "")


def _entry(family: str, owners: dict[str, dict[str, None]], kind: str) -> tuple[str, int]:
    """(label, tier) of the words of a family; the label is "" where none or several fit."""
    own = owners.get(family, {})
    if own:
        return (next(iter(own)), SYNONYM) if len(own) == 1 else ("", SYNONYM)
    if kind == "sentiment":
        for valence, members in _VALENCE.items():
            if family in members.split() and len(owners.get(valence, {})) == 1:
                return next(iter(owners[valence])), WHEEL
        return "", SYNONYM
    if kind == "intent":
        return "", SYNONYM
    votes = Counter(
        label for wheel in WHEELS if (label := _label_by_wheel(family, owners, wheel)) is not None
    )
    label, number = next(iter(votes.most_common(1)), ("", 0))
    return (label, WHEEL) if number > len(WHEELS) / 2 else ("", SYNONYM)


def _label_by_wheel(
    family: str, owners: dict[str, dict[str, None]], wheel: dict[str, str]
) -> str | None:
    """The only label whose family is in the same cluster of a wheel; None if none or several."""
    if family not in wheel:
        return None
    near = {
        label
        for other, labels in owners.items()
        if wheel.get(other) == wheel[family]
        for label in labels
    }
    return next(iter(near)) if len(near) == 1 else None

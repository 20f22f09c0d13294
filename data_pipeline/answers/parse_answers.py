"""Parses answers: the labels of a label space that a response names, or why none was found.

The strict scores use this parser. Text in think tags is ignored; `Sad.` is `sad`; a sentence counts
as the labels that it names and does not negate; `joyful` is `happy` if that is the only label of
its family. The official scores parse almost nothing (`official_parsing`).
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Sequence

from data_pipeline.answers.negation import is_negated
from data_pipeline.datasets.labels import CONCEPTS, concept
from data_pipeline.datasets.lexicon import FAMILIES

HOW = ("label", "spelling", "synonym", "sentence", "outside", "empty", "refusal", "unparsable")
_THINK = re.compile(
    r"[<\[](think|thinking|reasoning)[>\]].*?([<\[]/\1[>\]]|$)", re.DOTALL | re.IGNORECASE
)
_END_OF_THINKING = re.compile(r"[<\[]/(?:think|thinking|reasoning)[>\]]", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-z_]+>|<\|[a-z_]+\|>", re.IGNORECASE)
_FENCE = re.compile(r"```(?:json)?")
_KEYS = ("answer", "label", "emotion", "emotions", "labels", "sentiment", "intent", "prediction")
_FIELD = re.compile(
    rf"['\"](?:{'|'.join(_KEYS)})['\"]\s*:\s*(\[[^\]]*\]|'[^']*'|\"[^\"]*\")", re.IGNORECASE
)
_ITEMS = re.compile(r"['\"\[\]{},;\n]|\band\b|\bor\b|&|\+")
_EDGE = " \t\r\n.!?:;,'\"`*()[]{}“”‘’。，！？"
_CLAUSE = re.compile(
    r"[.;!?]|\bbut\b|\bhowever\b|\bwhile\b|\balthough\b|\byet\b|\bbecause\b|\bas\b|\bwith\b"
)
_STATED = re.compile(
    r"(?:\b(?:final answer|answer|label|emotion|emotional state|feeling|sentiment|mood|intent"
    r"|expression|conclusion)s?\b"
    r"(?:\s+(?:of|that|which|expressed|shown|conveyed|in|here|this|the|video|clip|person|character"
    r"|speaker|displayed|best|most|likely))*"
    r"\s*(?:(?:is|are|was|would be|seems to be|appears to be|should be|can be described as)\b"
    r"(?!n't)|=|:)"
    r"|\b(?:is|are|seems|appears|looks) most likely\b|\bmost likely (?:is|to be)?\b)[\s*:]*"
    r"(?:most likely\s)?"
)
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able|afraid)|i (?:can(?:'|no)t|could not|couldn't|won't)"
    r"|as an ai|cannot (?:determine|assist|identify|provide)"
    r"|unable to (?:determine|identify|assist|provide))\b"
)
# emotion words that sentences mostly use in another sense: they count only as a whole answer
_EVERYDAY = frozenset(
    "blue low cross moved touched alone kind care cold heated warm tender gentle firm bold certain "
    "interest interested content concern concerns loss wonder respect praise comfortable attentive "
    "wondering questioning unexpected teasing afraid".split()
)


@dataclasses.dataclass(frozen=True)
class Reading:
    """A parsed answer.

    Attributes:
      labels: labels of the label space, each once, in the order of the answer; () if none.
      how: one of HOW. `label`: the answer consists of labels only; `spelling`: of labels in another
        spelling; `synonym`: of other words of the same family; `sentence`: labels were found in a
        sentence; `outside`: the answer names an emotion outside the label space.
    """

    labels: tuple[str, ...]
    how: str


def final_answer(text: str) -> str:
    """The answer within a response: in answer tags, outside think tags, or in a JSON field."""
    text = unicodedata.normalize("NFKC", text)  # full-width letters are letters
    if answers := _ANSWER.findall(text):
        text = answers[-1]
    else:
        # a chat template may have swallowed the opening think tag
        text = _END_OF_THINKING.split(_THINK.sub(" ", text))[-1]
    text = _FENCE.sub(" ", _TAG.sub(" ", text)).strip()
    if "{" in text and (field := _FIELD.search(text)):
        return field.group(1)
    return text


@functools.lru_cache(maxsize=512)
def _words(labels: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Words of a label space.

    Returns:
      {spelling: label}, {synonym: label}, {word of another emotion: family}.
    """
    spellings = {label.lower().strip(): label for label in labels}
    concepts = {concept(label): label for label in labels}
    for word, meaning in CONCEPTS.items():
        if meaning in concepts and len(word) > 3:  # `sur` and `hap` are codes in file names
            spellings.setdefault(word, concepts[meaning])
    # both words of `doubt/confusion` mean that label, unless they are labels themselves
    for label in labels:
        for part in label.lower().split("/"):
            spellings.setdefault(part.strip(), label)
    families: dict[str, set[str]] = {}
    family_of = {form: family for family, forms in FAMILIES.items() for form in (family, *forms)}
    for word, label in spellings.items():
        if word in family_of:
            families.setdefault(family_of[word], set()).add(label)
    synonyms, others = {}, {}
    for form, family in family_of.items():
        family_labels = families.get(family, set())
        if form in spellings:
            continue
        if len(family_labels) == 1:
            synonyms[form] = next(iter(family_labels))
        else:
            others[form] = family
    return spellings, synonyms, others


@functools.lru_cache(maxsize=512)
def _word_pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(words, key=len, reverse=True)
    # a slash separates words, except in labels that contain one
    pattern = r"(?<![\w-])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w-])"
    return re.compile(pattern if words else r"(?!)")


def read_labels(response: str, labels: Sequence[str]) -> Reading:
    """The labels of a label space that a response names; see `Reading`."""
    space = tuple(labels)
    spellings, synonyms, others = _words(space)
    text = final_answer(response).lower().replace("’", "'").strip()
    plain = text.strip(_EDGE)
    if not plain:
        return Reading((), "empty")
    if reading := _read_list(plain, space):
        return reading
    if _REFUSAL.search(text):
        return Reading((), "refusal")
    first, *more = text.split("\n")  # a label, with the explanation on later lines
    if more and (reading := _read_list(first.strip(_EDGE), space)):
        return reading
    # if the text states what the answer is, that part is parsed first
    stated = [m.end() for m in _STATED.finditer(text)]
    parts = [_CLAUSE.split(text[stated[-1] :], maxsplit=1)[0]] if stated else []
    everyday = {w: label for w, label in synonyms.items() if w not in _EVERYDAY}
    for part in (*parts, text):
        for words in (spellings, everyday):
            if labels_in_part := _named_labels(part, words):
                return Reading(labels_in_part, "sentence")
    is_outside = _named_labels(text, others) or plain in others
    return Reading((), "outside" if is_outside else "unparsable")


def _read_list(plain: str, space: tuple[str, ...]) -> Reading | None:
    """The reading of an answer that consists of labels only; None if any item is another word."""
    spellings, synonyms, _ = _words(space)
    names = {label.lower().strip() for label in space}
    if plain in spellings:
        return Reading((spellings[plain],), "label" if plain in names else "spelling")
    whole = [item for part in _ITEMS.split(plain) if (item := part.strip(_EDGE))]
    # `angry/sad` is two labels, `doubt/confusion` may be one
    items = [
        i
        for item in whole
        for i in ([item] if item in spellings else filter(None, map(str.strip, item.split("/"))))
    ]
    for words, how in (
        ({w: spellings[w] for w in names}, "label"),
        (spellings, "spelling"),
        (synonyms | spellings, "synonym"),
    ):
        if items and all(i in words for i in items):
            return Reading(tuple(dict.fromkeys(words[i] for i in items)), how)
    return None


def _named_labels(text: str, words: dict[str, str]) -> tuple[str, ...]:
    """Labels whose words a text names without negating them."""
    labels: dict[str, None] = {}
    for match in _word_pattern(tuple(words)).finditer(text):
        if not is_negated(text[: match.start()]):
            labels[words[match.group()]] = None
    return tuple(labels)


def read_words(response: str, known: Sequence[str] | frozenset[str]) -> tuple[str, ...]:
    """The emotion words of an open answer.

    Args:
      response: a list of words, or sentences.
      known: words that the tables know.

    Returns:
      All items of a list, known or not; of sentences only the known words.
    """
    text = final_answer(response).lower().replace("’", "'").strip()
    items = [
        item for part in _ITEMS.split(text.strip(_EDGE)) if part and (item := part.strip(_EDGE))
    ]
    if items and all(len(i.split()) <= 2 for i in items):
        return tuple(dict.fromkeys(items))
    known = frozenset(known)
    words: dict[str, None] = {}
    for match in re.finditer(r"[a-z][a-z'-]*", text):
        word = match.group()
        if word in known and word not in _EVERYDAY and not is_negated(text[: match.start()]):
            words[word] = None
    return tuple(words)

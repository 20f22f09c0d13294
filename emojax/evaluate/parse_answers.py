"""What a response says: labels of a given space found in an answer of any form, or why none was found.

The strict scores read answers so: a think tag is no answer, `Sad.` is `sad`, a sentence counts by the labels that it names
(not those that it denies), `joyful` is `happy` where that is the only label of its family. The released scores read nothing
(released.py).
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Sequence

from data_pipeline.annotate.claims import is_negated
from data_pipeline.datasets.labels import CONCEPTS, concept
from emojax.evaluate.lexicon import FAMILIES

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
    r"(?:\b(?:final answer|answer|label|emotion|emotional state|feeling|sentiment|mood|intent|expression|conclusion)s?\b"
    r"(?:\s+(?:of|that|which|expressed|shown|conveyed|in|here|this|the|video|clip|person|character|speaker|displayed|best|most|likely))*"
    r"\s*(?:(?:is|are|was|would be|seems to be|appears to be|should be|can be described as)\b(?!n't)|=|:)"
    r"|\b(?:is|are|seems|appears|looks) most likely\b|\bmost likely (?:is|to be)?\b)[\s*:]*(?:most likely\s)?"
)
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able|afraid)|i (?:can(?:'|no)t|could not|couldn't|won't)|as an ai|cannot (?:determine|assist|identify|provide)"
    r"|unable to (?:determine|identify|assist|provide))\b"
)
# words of emotion that a sentence mostly uses otherwise: they count only where they are the whole answer
_EVERYDAY = frozenset(
    "blue low cross moved touched alone kind care cold heated warm tender gentle firm bold certain interest interested content concern concerns "
    "loss wonder respect praise comfortable attentive wondering questioning unexpected teasing afraid".split()
)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was found.

    Attributes:
      labels: of the space, each once, in the order of the answer; () where none was found.
      how: one of HOW. `label`: the answer is nothing but labels; `spelling`: in another spelling; `synonym`: other words of
        the same family; `sentence`: found inside a sentence; `outside`: an emotion that is not in the space.
    """

    labels: tuple[str, ...]
    how: str


def final_answer(text: str) -> str:
    """The part of a response that is its answer: inside answer tags, outside think tags, a field of a JSON object."""
    text = unicodedata.normalize("NFKC", text)  # full-width letters are letters
    if answers := _ANSWER.findall(text):
        text = answers[-1]
    else:
        # what thinks without an opening tag ends with a closing one
        text = _END_OF_THINKING.split(_THINK.sub(" ", text))[-1]
    text = _FENCE.sub(" ", _TAG.sub(" ", text)).strip()
    if "{" in text and (field := _FIELD.search(text)):
        return field.group(1)
    return text


@functools.lru_cache(maxsize=512)
def _words(labels: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """(spelling -> label, further words -> label, words of other emotions -> family) of a label space."""
    own = {label.lower().strip(): label for label in labels}
    spellings = dict(own)
    concepts = {concept(label): label for label in labels}
    for word, meaning in CONCEPTS.items():
        if meaning in concepts and len(word) > 3:  # `sur` and `hap` are codes of files, not words
            spellings.setdefault(word, concepts[meaning])
    for (
        label
    ) in labels:  # `doubt/confusion` answers to both words, where they are no labels themselves
        for part in label.lower().split("/"):
            spellings.setdefault(part.strip(), label)
    families: dict[str, set[str]] = {}
    family_of = {form: family for family, forms in FAMILIES.items() for form in (family, *forms)}
    for word, label in spellings.items():
        if word in family_of:
            families.setdefault(family_of[word], set()).add(label)
    synonyms, others = {}, {}
    for form, family in family_of.items():
        named = families.get(family, set())
        if form in spellings:
            continue
        if len(named) == 1:
            synonyms[form] = next(iter(named))
        else:
            others[form] = family
    return spellings, synonyms, others


@functools.lru_cache(maxsize=512)
def _finder(words: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(words, key=len, reverse=True)
    # a slash separates words, but for labels that hold one
    return re.compile(
        r"(?<![\w-])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w-])"
        if words
        else r"(?!)"
    )


def read_labels(response: str, labels: Sequence[str]) -> Reading:
    """Labels of a space that a response names; see Reading."""
    space = tuple(labels)
    spellings, synonyms, others = _words(space)
    text = final_answer(response).lower().replace("’", "'").strip()
    plain = text.strip(_EDGE)
    if not plain:
        return Reading((), "empty")
    if found := _list_of_labels(plain, space):
        return found
    if _REFUSAL.search(text):
        return Reading((), "refusal")
    first, *rest = text.split("\n")  # `sad`, and below it why
    if rest and (found := _list_of_labels(first.strip(_EDGE), space)):
        return found
    # where it says outright what the answer is, only that part is read
    stated = [m.end() for m in _STATED.finditer(text)]
    parts = [_CLAUSE.split(text[stated[-1] :], maxsplit=1)[0]] if stated else []
    everyday = {w: label for w, label in synonyms.items() if w not in _EVERYDAY}
    for part in (*parts, text):
        for words in (spellings, everyday):
            if named := _named(part, words):
                return Reading(named, "sentence")
    return Reading((), "outside" if _named(text, others) or plain in others else "unparsable")


def _list_of_labels(plain: str, space: tuple[str, ...]) -> Reading | None:
    """The reading of an answer that is nothing but labels, in any spelling; of items of which some are other words, None."""
    spellings, synonyms, _ = _words(space)
    own = {label.lower().strip() for label in space}
    if plain in spellings:
        return Reading((spellings[plain],), "label" if plain in own else "spelling")
    whole = [item for part in _ITEMS.split(plain) if (item := part.strip(_EDGE))]
    # `angry/sad` are two, `doubt/confusion` may be one label
    items = [
        i
        for item in whole
        for i in ([item] if item in spellings else filter(None, map(str.strip, item.split("/"))))
    ]
    for words, how in (
        ({w: spellings[w] for w in own}, "label"),
        (spellings, "spelling"),
        (synonyms | spellings, "synonym"),
    ):
        if items and all(i in words for i in items):
            return Reading(tuple(dict.fromkeys(words[i] for i in items)), how)
    return None


def _named(text: str, words: dict[str, str]) -> tuple[str, ...]:
    """Labels whose words a text names without denying them."""
    found: dict[str, None] = {}
    for match in _finder(tuple(words)).finditer(text):
        if not is_negated(text[: match.start()]):
            found[words[match.group()]] = None
    return tuple(found)


def read_words(response: str, known: Sequence[str] | frozenset[str]) -> tuple[str, ...]:
    """Words of an open answer: the items of a list, or of a sentence those that a table knows.

    A list keeps words that no table knows; a sentence can not be told from them.
    """
    text = final_answer(response).lower().replace("’", "'").strip()
    items = [
        item for part in _ITEMS.split(text.strip(_EDGE)) if part and (item := part.strip(_EDGE))
    ]
    if items and all(len(i.split()) <= 2 for i in items):
        return tuple(dict.fromkeys(items))
    known = frozenset(known)
    found: dict[str, None] = {}
    for match in re.finditer(r"[a-z][a-z'-]*", text):
        if (
            match.group() in known
            and match.group() not in _EVERYDAY
            and not is_negated(text[: match.start()])
        ):
            found[match.group()] = None
    return tuple(found)

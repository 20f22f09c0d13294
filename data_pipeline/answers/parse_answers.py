"""Parses answers: the labels of a label space that a response names, or why none was found.

The strict scores and the annotators use this parser. Evidence counts in this order: structured
output (JSON, tags, a box, scores by label), a field (`Emotion: sad`), a label that the answer
begins or ends with, a sentence that states the emotion, any other mention. docs/evaluation.md
describes the rules. The official scores parse almost nothing (`official_parsing`).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

from data_pipeline.answers import answer_fields as fields
from data_pipeline.answers import prose, structured
from data_pipeline.answers.clean_text import answer_part, plain_text
from data_pipeline.answers.cues import CORRECTION, IDIOMS, REFUSAL
from data_pipeline.answers.denial import is_denied
from data_pipeline.answers.vocabulary import EVERYDAY, NAME, SPELLING, Vocabulary, vocabulary
from data_pipeline.llm.reply_text import json_values

HOW = (
    *("label", "spelling", "synonym", "field", "scores", "sentence", "ambiguous"),
    *("outside", "empty", "refusal", "unparsable"),
)
_TIERS = {NAME: "label", SPELLING: "spelling"}
_ITEMS = re.compile(r"['\"\[\]{},;\n、|]|\band\b|\bor\b|\bund\b|\boder\b|\bet\b|&|\+|和|以及")
_EDGE = " \t\r\n.!?:;,'\"`*()[]{}“”‘’。，！？#>-–—•·_~"
_ITEM_MARK = re.compile(
    r"^(?:[-*•·–]\s+|\(?(?:[a-h]|\d{1,2})[.):]\s*|option\s+[a-h\d][.):]?\s*)", re.IGNORECASE
)
_ITEM_SCORE = re.compile(
    r"\s*[(\[:=-]*\s*(?:confidence|score|probability)?\W{0,3}\d+(?:\.\d+)?\s*(?:%|/\s*10+)?[)\]]*$"
)
_HEAD_END = re.compile(
    r"\n|\.{2,}|[.!;:。](?!\d)|,\s*(?:because|since|as|with|but|though|although|not|due|her|his|the|"
    r"she|he|they|因为|weil|porque|parce|perché|потому)\b|\s*[(（]|\s[-–—]+(?!>)\s?"
    r"|\s(?:because|since|due to|as the|as (?:s?he|they)|based on|weil|porque|parce que|perché"
    r"|потому)\b|因为|,因"
)
_RANKING = re.compile(
    r"\b(?:ranking|ranked(?: list)?|top[- ]?\d+|most likely first|most to least likely)\b[^:\n]*:"
)
_ARROW = re.compile("→|->|=>")
_MAX_DEPTH = 3


@dataclasses.dataclass(frozen=True)
class Reading:
    """A parsed answer.

    Attributes:
      labels: labels of the label space, each once, in the order of the answer; () if none.
      how: one of HOW. `label`: the answer consists of labels only; `spelling`: of labels in another
        spelling; `synonym`: of other words for them; `field`: a field named them; `scores`: they
        have the highest score; `sentence`: labels were found in a sentence; `ambiguous`: one label
        is asked for, and the answer settles on several; `outside`: the answer names an emotion
        outside the label space.
    """

    labels: tuple[str, ...]
    how: str


@functools.lru_cache(maxsize=8192)
def _read(response: str, labels: tuple[str, ...], *, several: bool) -> Reading:
    words = vocabulary(labels)
    reader = _Reader(words, several=several)
    if entry := words.words.get(response.strip().lower()):  # most answers are one label
        return reader.named([entry])
    part = answer_part(response)
    if not part.strip(_EDGE):
        return Reading((), "empty")
    reading = reader.read(part)
    if not several and len(reading.labels) > 1:
        return Reading(reading.labels, "ambiguous")
    return reading


def read_labels(response: str, labels: Sequence[str], *, several: bool = False) -> Reading:
    """The labels of a label space that a response settles on.

    Args:
      response: the whole answer of a model, in any of its forms.
      labels: the label space.
      several: whether all labels that fit are asked for, or one.

    Returns:
      The labels and how they were found; `ambiguous` with all of them if one was asked for.
    """
    return _read(response, tuple(labels), several=several)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads answers over one label space."""

    words: Vocabulary
    several: bool

    def read(self, part: str, depth: int = 0) -> Reading:
        """The reading of an answer, or of the value of a field."""
        if depth == 0 and (found := self._json(part)):
            return found
        text = plain_text(structured.tables_as_lines(part, self.words.kind)).lower().strip()
        if depth == 0 and "{" in text:  # an object that was cut, or is not valid JSON
            text = re.sub(r"[\"']?\s*,\s*[\"'](?=[\w ]+[\"']\s*:)", "\n", text)
            text = re.sub(r"[{}\"]", "", text).strip()
        if not text.strip(_EDGE):
            return Reading((), "empty")
        known = fields.find_fields(text, self.words.kind) if depth < _MAX_DEPTH else []
        mentions = self.words.mentions(text)
        return (
            self._ranking(text)
            or self._fields(known, (fields.FINAL, fields.ANSWER), text, depth)
            or self._scores(structured.scores_in_text(text, mentions))
            or self._list(text)
            or self._fields(known, (fields.LABEL,), text, depth)
            or self._head(text)
            or self._tail(text)
            or self._sentences(text, known)
        )

    # --- lists, heads and tails ---

    def _list(self, text: str) -> Reading | None:
        """The reading of an answer that consists of labels only; None if it has another word."""
        plain = text.strip(_EDGE)
        whole = [self._item(i) for i in (plain, *_ITEMS.split(plain))]
        if entry := self.words.words.get(plain) or self.words.words.get(whole[0]):
            return self.named([entry])
        # `angry/sad` is two labels, `doubt/confusion` may be one
        items = [
            i
            for item in whole[1:]
            if item
            for i in ([item] if item in self.words.words else map(self._item, item.split("/")))
        ]
        ranking = [self._item(i) for i in re.split("[>≥]", plain)] if len(whole) <= 2 else []
        if len(ranking) > 1 and all(map(self.words.look_up, ranking)):  # `happy > sad`
            items = ranking[:1]
        entries = [self.words.look_up(i) for i in items]
        return self.named([e for e in entries if e]) if items and all(entries) else None

    def _ranking(self, text: str) -> Reading | None:
        """The first label of a list whose heading says that it is in order of likelihood."""
        if (match := _RANKING.search(text)) is None or self.several:
            return None
        items = [
            self._item(i) for i in re.split(r"[,;\n>]|\d[.)]", text[match.end() :]) if i.strip()
        ]
        entry = self.words.look_up(items[0]) if items else None
        return self.named([entry]) if entry else None

    def _item(self, item: str) -> str:
        item = _ITEM_MARK.sub("", item.strip().strip("\"'`*_ "))
        return _ITEM_SCORE.sub("", item).strip(_EDGE)

    def named(self, entries: Sequence[tuple[str, int]]) -> Reading:
        """The reading of words: (label, tier) each, with the label "" for another emotion."""
        inside = [(label, tier) for label, tier in entries if label]
        if not inside:
            return Reading((), "outside")
        tier = max(tier for _, tier in inside)
        labels = tuple(dict.fromkeys(label for label, _ in inside))
        return Reading(labels, _TIERS.get(tier, "synonym"))

    def _head(self, text: str) -> Reading | None:
        """The labels that an answer begins with, before it explains them."""
        text = IDIOMS.sub(" ", text)
        for end in _HEAD_END.finditer(text):
            head = text[: end.start()]
            if len(head) > 80:
                break
            if (found := self._list(head)) and not is_denied(head, text[end.start() :]):
                return found
        return None

    def _tail(self, text: str) -> Reading | None:
        """The labels that are all of the last line, or of the last sentence."""
        *before, last = text.rstrip().split("\n")
        *_, behind_arrow = _ARROW.split(last)
        if behind_arrow != last and (found := self._list(behind_arrow)):
            return found
        if before and len(last) <= 80 and (found := self._list(last)):
            return found
        *_, previous, end = "", *prose.sentences(text)
        if self.several or not previous or len(end) > 80 or self._list(previous):
            return None
        found = self._list(end)
        return Reading(found.labels, "sentence") if found and found.labels else found

    # --- structured output ---

    def _scores(self, scores: Sequence[tuple[str, float]]) -> Reading | None:
        """The label of the highest score; several of them at a tie."""
        if not scores:
            return None
        highest = max(number for _, number in scores)
        if highest <= 0:
            return None
        best = [label for label, number in scores if number == highest]
        if self.several:
            scale = next(s for s in (1.0, 4.0, 10.0, 100.0, float("inf")) if highest <= s)
            enough = highest if scale == float("inf") else min(highest, scale / 2)
            best = [label for label, number in scores if number >= enough]
        labels = tuple(dict.fromkeys(filter(None, best)))
        return Reading(labels, "scores" if labels else "outside")

    def _json(self, part: str) -> Reading | None:
        readings = [self._value(value, 0) for value, _ in json_values(part)]
        found = [r for r in readings if r is not None]
        best = [r for r in found if r.labels] or found
        return best[-1] if best else None

    def _value(self, value: Any, depth: int) -> Reading | None:
        """The reading of a decoded JSON value; None if it names no emotion."""
        if depth > 6:
            return None
        if isinstance(value, str):
            found = self.read(value, 1) if value.strip() else None
            return (
                None if found is None or found.how in ("unparsable", "empty", "refusal") else found
            )
        if isinstance(value, list):
            return self._items(value, depth)
        return self._object(value, depth) if isinstance(value, dict) else None

    def _object(self, value: dict[Any, Any], depth: int) -> Reading | None:
        scores = structured.scores_of(value, self.words) or self._parallel_scores(value)
        if found := self._scores(scores):
            return found
        ranked = [(fields.field_rank(str(k), self.words.kind), c) for k, c in value.items()]
        for rank in (fields.FINAL, fields.ANSWER, fields.LABEL, fields.WEAK):
            readings = [self._value(c, depth + 1) for r, c in ranked if r == rank]
            if readings := [r for r in readings if r is not None]:
                return readings[0]
        nested = [c for r, c in ranked if r in (None, fields.PROSE) and isinstance(c, (dict, list))]
        found_in = [self._value(c, depth + 1) for c in nested]
        if found := next((r for r in found_in if r is not None), None):
            return found
        texts = [c for r, c in ranked if r is None and isinstance(c, str)]
        return self._value(texts[0], depth + 1) if len(ranked) == 1 and texts else None

    def _parallel_scores(self, value: dict[Any, Any]) -> list[tuple[str, float]]:
        """The scores of `{"labels": [...], "scores": [...]}`; [] if it is no such object."""
        lists = [c for c in value.values() if isinstance(c, list) and len(c) > 1]
        texts = [c for c in lists if all(isinstance(x, str) for x in c)]
        numbers = [c for c in lists if all(isinstance(x, (int, float)) for x in c)]
        if len(texts) != 1 or len(numbers) != 1 or len(texts[0]) != len(numbers[0]):
            return []
        entries = [self.words.look_up(self._item(t.lower())) for t in texts[0]]
        return [(e[0], n) for e, n in zip(entries, numbers[0], strict=True) if e is not None]

    def _items(self, items: list[Any], depth: int) -> Reading | None:
        if scores := structured.item_scores(items):
            entries = [(self._item(text.lower()), number) for text, number in scores]
            known = [(e[0], n) for t, n in entries if (e := self.words.look_up(t)) is not None]
            return self._scores(known)
        if items and all(isinstance(i, str) for i in items):
            return self._value(", ".join(items), depth + 1)
        readings = [r for i in items if (r := self._value(i, depth + 1)) is not None]
        labels = tuple(dict.fromkeys(label for r in readings for label in r.labels))
        return Reading(labels, readings[0].how if labels else "outside") if readings else None

    # --- fields and sentences ---

    def _fields(
        self, known: Sequence[fields.Field], ranks: Sequence[int], text: str, depth: int
    ) -> Reading | None:
        """What the fields of the first of some ranks hold that has any; the first field counts."""
        for rank in ranks:
            chosen = [f for f in known if f.rank == rank and f.value.strip(_EDGE)]
            readings = [(f, self.read(f.value, depth + 1)) for f in chosen]
            readings = [(f, r) for f, r in readings if r.labels or r.how == "outside"]
            if not readings:
                continue
            first, last = readings[0], readings[-1]
            found = first[1]
            if CORRECTION.search(text[first[0].end : last[0].start]):
                found = last[1]
            elif len({f.name for f, _ in readings}) == len(readings) > 1:
                labels = tuple(dict.fromkeys(label for _, r in readings for label in r.labels))
                found = Reading(labels, found.how if labels else "outside")
            return Reading(found.labels, "field") if found.labels else found
        return None

    def _sentences(self, text: str, known: Sequence[fields.Field]) -> Reading:
        body = text
        for field in known:
            if field.rank in (fields.ASIDE, fields.LABEL, fields.WEAK):
                blank = re.sub(r"[^\n]", " ", text[field.start : field.end])
                body = body[: field.start] + blank[:-1] + "." + body[field.end :]
        weighed = prose.weigh_text(body, self.words)
        labels, outside = prose.settle(weighed, several=self.several)
        if labels:
            return Reading(labels, "sentence")
        if not outside and (found := self._fallback(text, known)):
            return found
        if REFUSAL.search(text) or re.search(r"\bi(?:'m| am) (?:sorry|afraid)\b", text):
            return Reading((), "refusal")
        return Reading((), "outside" if outside else "unparsable")

    def _fallback(self, text: str, known: Sequence[fields.Field]) -> Reading | None:
        """Fields of weaker names where nothing else names a label; a question for one word."""
        for field in known:
            mentions = self.words.mentions(field.value)
            polar = re.search(r"positiv|negativ|neutral|中性|积极|消极", field.value)
            usable = field.rank == fields.WEAK or re.match(
                r"\W*(?:(?:overall|detected|predicted) )?(?:sentiment|emotion|mood)\w*\W*$",
                field.name,
            )
            if usable and mentions and (not polar or self.words.kind != "emotion"):
                found = self._list(field.value)
                if found and found.labels:
                    return Reading(found.labels, "field")
        named = self.words.mentions(IDIOMS.sub(" ", text))
        if len(text.split()) <= 3 and text.endswith("?") and len(named) == 1 and named[0].label:
            return Reading((named[0].label,), "sentence")
        return None


def final_answer(text: str) -> str:
    """The answer within a response: in answer tags, outside thoughts, or in a field."""
    part = answer_part(text)
    for value, _ in reversed([*json_values(part)]):
        if isinstance(value, dict):
            ranked = [(fields.field_rank(str(k), "emotion") or 0, c) for k, c in value.items()]
            ranked = [(r, c) for r, c in ranked if r >= fields.LABEL and isinstance(c, (str, list))]
            if ranked:
                content = max(ranked, key=lambda pair: pair[0])[1]
                return content if isinstance(content, str) else ", ".join(map(str, content))
    plain = plain_text(part)
    known = [f for f in fields.find_fields(plain, "emotion") if f.rank >= fields.LABEL and f.value]
    return max(known, key=lambda f: f.rank).value if known else plain


def read_label_list(response: str, labels: Sequence[str]) -> tuple[str, ...]:
    """All labels of an answer; unknown items of a plain list are kept, so that they count as wrong.

    Args:
      response: the answer.
      labels: the label space.

    Returns:
      The labels, each once; of a plain list also its other items, in lower case.
    """
    items = [i.strip().lower() for i in re.split("[,;]", final_answer(response)) if i.strip()]
    if not items or not all(len(i.split()) <= 3 for i in items):
        return read_labels(response, labels, several=True).labels
    words = vocabulary(tuple(labels))
    single = [_Reader(words, several=True).read(i, _MAX_DEPTH).labels or (i,) for i in items]
    return tuple(dict.fromkeys(label for found in single for label in found))


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
        i
        for part in _ITEMS.split(text.strip(_EDGE))
        if (i := _ITEM_MARK.sub("", part.strip()).strip(_EDGE))
    ]
    if items and all(len(i.split()) <= 2 for i in items):
        return tuple(dict.fromkeys(items))
    known = frozenset(known)
    words: dict[str, None] = {}
    text = prose.without_quotes(IDIOMS.sub(" ", text), vocabulary(("neutral",)))
    for sentence in prose.sentences(text):
        for match in re.finditer(r"[a-z][a-z'-]*", sentence):
            word = match.group()
            entry = vocabulary(("neutral",)).words.get(word)
            common = entry is not None and entry[1] == EVERYDAY
            before = sentence[max(0, match.start() - 300) : match.start()]
            after = sentence[match.end() : match.end() + 300]
            if word in known and not common and not is_denied(before, after):
                words[word] = None
    return tuple(words)

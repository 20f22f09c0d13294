"""Which labels the sentences of an answer settle on.

Every mention of an emotion gets a weight by how its sentence speaks of it. Those of the highest
weight are the answer; what is denied, quoted, asked, conceded or only listed does not count.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

from data_pipeline.answers import cues
from data_pipeline.answers.denial import is_denied
from data_pipeline.answers.vocabulary import BEHAVIOUR, EVERYDAY, Mention, Vocabulary

_MANY = 20
_REACH = 300  # characters of a sentence around a mention that say how it is meant
# Weights of a mention.
NONE, WEAK, PLAIN, PERSON, EMOTION, CHOICE = range(6)
_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)[.!?。…]+(?![\w.])|[;\n]|(?<=[。!?])")
_DOUBLE_QUOTE = re.compile(r'"([^"\n]{1,400})"|「([^」\n]{1,200})」|『([^』\n]{1,200})』')
_SINGLE_QUOTE = re.compile(r"(?<!\w)'([^'\n]{2,10}|[^\n]{3,300}?[\w.!?,])'(?!\w)")
_FROM_TO = re.compile(r"\bfrom\s+(?:\w+\s+){0,2}$|\bvon\s+$|\bde\s+$|从$")
_TO = re.compile(r"^(?:\s+\w+){0,2}\s*(?:to|into|zu|a|à|到|变|转)")
_SEPARATORS = re.compile(
    r"""[\s,/|'"&+、()•*-]*(?:\b(?:and|or|und|oder|y|o|et|ou|e|и|или)\b|和|或|以及|と|"
    r"や)?[\s,'"()]*"""
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weighed:
    """A mention and how strongly its sentence states it.

    Attributes:
      mention: the word.
      weight: NONE, WEAK, PLAIN, PERSON, EMOTION or CHOICE.
      sentence: number of its sentence.
      after_contrast: whether its sentence has a `but` before it.
      not_only: whether `not only` is before it, so that a stronger emotion follows.
    """

    mention: Mention
    weight: int
    sentence: int
    after_contrast: bool
    not_only: bool


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with the mark that ends it; a new line ends a sentence too."""
    out, at = [], 0
    for match in _SENTENCE_END.finditer(text):
        out.append(text[at : match.end()])
        at = match.end()
    return [s for s in (*out, text[at:]) if s.strip()]


def without_quotes(text: str, words: Vocabulary) -> str:
    """A text without quoted speech; a quoted label stays unless somebody says it.

    Args:
      text: the text in lower case, with plain quotation marks.
      words: of the label space.
    """

    def replace(match: re.Match[str]) -> str:
        content = next(g for g in match.groups() if g is not None)
        found = words.mentions(content)
        rest = content
        for mention in reversed(found):
            rest = rest[: mention.start] + rest[mention.end :]
        spoken = re.search(
            r"\b(?:says?|said|saying|words?|lines?|phrase|subtitles?|speech|utter\w*|asks?|replies|"
            r"shouts?|exclaims?|repliques?|sagt|dice|dit)\W*(?:\w+\W+){0,2}$|说\W*$",
            text[: match.start()],
        )
        rest = re.sub(r"\band\b|\bor\b|^[ぁ-んー]{1,2}$", "", rest)
        is_label = found and not rest.strip(" ,.!/")
        return f" {content} " if is_label and not spoken else " \u2026 "[:2]

    return _SINGLE_QUOTE.sub(replace, _DOUBLE_QUOTE.sub(replace, text))


def weigh_text(text: str, words: Vocabulary) -> list[Weighed]:
    """All mentions of a text, with their weights.

    Args:
      text: the text in lower case.
      words: of the label space.
    """
    text = cues.IDIOMS.sub(lambda m: " " * (len(m.group()) - 1) + m.group()[-1], text)
    text = without_quotes(text, words)
    out: list[Weighed] = []
    for number, sentence in enumerate(sentences(text)):
        mentions = words.mentions(sentence)
        if len(mentions) > 2 * _MANY:  # a model that repeats itself
            mentions = mentions[:_MANY] + mentions[-_MANY:]
        echoed = set(_echoed(sentence, mentions, words))
        for at, mention in enumerate(mentions):
            before = sentence[max(0, mention.start - _REACH) : mention.start]
            after = sentence[mention.end : mention.end + _REACH]
            weight = NONE if at in echoed else _weight(before, after)
            out.append(
                Weighed(
                    mention=mention,
                    weight=weight,
                    sentence=number,
                    after_contrast=bool(cues.CONTRAST.search(before)),
                    not_only=_is_not_only(before, after),
                )
            )
    return out


def _echoed(sentence: str, mentions: Sequence[Mention], words: Vocabulary) -> Iterator[int]:
    """Indices of mentions that only repeat the labels of the question."""
    run: list[int] = []
    for at, mention in enumerate(mentions):
        joined = run and _SEPARATORS.fullmatch(sentence, mentions[run[-1]].end, mention.start)
        if not joined:
            yield from _if_echo(sentence, mentions, run, words)
            run = []
        run.append(at)
    yield from _if_echo(sentence, mentions, run, words)


def _if_echo(
    sentence: str, mentions: Sequence[Mention], run: list[int], words: Vocabulary
) -> list[int]:
    if len(run) < 2:
        return []
    begin = mentions[run[0]].start
    before = sentence[max(0, begin - _REACH) : begin]
    named = {mentions[i].label for i in run}
    every = len(named) >= max(3, len(words.labels))
    listed = len(run) > 1 and bool(cues.ECHO_BEFORE.search(before))
    return run if every or (listed and not cues.BETWEEN.search(before)) else []


def _weight(before: str, after: str) -> int:
    """How strongly a sentence states the emotion between its parts `before` and `after`."""
    if after.rstrip().endswith("?") and "," not in after:
        return NONE
    refused = cues.REFUSAL.search(before) or cues.REFUSAL.search(re.split("[,;]", after)[0])
    if refused and not re.search(
        r"\bif\b|\bbut\b|\bhowever\b|但|如果|，|,|:", before[refused.end() :]
    ):
        return NONE
    if is_denied(before, after) or cues.CONCESSION.search(before) or cues.CONDITION.search(before):
        return NONE
    clause_after = re.split(r"[,;:。、.!]", after, maxsplit=1)[0]
    if cues.CONCESSION_AFTER.match(after):
        return NONE
    if _is_first_of_a_change(before, clause_after) or _is_minor(before, after):
        return WEAK
    weight = _by_subject(before)
    if cues.CUE_AFTER.match(clause_after):
        weight = min(weight, WEAK)
    elif cues.FACE_AFTER.match(clause_after):
        weight = min(weight, PLAIN)
    clause = _clause(before)
    if cues.HEDGE.search(clause) and not cues.CHOICE.search(clause):
        weight = min(weight, WEAK)
    elif cues.CHOICE.search(before) or (cues.CONCLUSION.search(before) and weight >= PLAIN):
        weight = CHOICE
    return min(CHOICE, weight + 1) if cues.MAJOR.search(before) else weight


def _is_first_of_a_change(before: str, after: str) -> bool:
    """`neutral at first`, `from neutral to happy`."""
    if _FROM_TO.search(before) and _TO.match(after):
        return True
    if re.fullmatch(r"\s*(?:before|earlier|previously)\s*", after):
        return True
    if cues.TEMPORAL.search(after) and not cues.LATER.search(after):
        return True
    if cues.TEMPORAL.search(after) or not (first := cues.TEMPORAL.search(before)):
        return False
    since = before[first.end() :].lstrip(" ,")
    return "," not in since and not cues.LATER.search(since) and not cues.CONTRAST.search(since)


def _is_minor(before: str, after: str) -> bool:
    """A shade of another emotion, a reason, or what somebody says."""
    return bool(
        cues.MINOR.search(before)
        or cues.SAID.search(before)
        or (cues.REASON.search(before) and not cues.CHOICE.search(before[-40:]))
        or cues.REASON_AFTER.match(after)
    )


def _is_not_only(before: str, after: str) -> bool:
    """`not only sad`: the answer goes on to a stronger emotion."""
    last = max((m.end() for m in cues.NOT_ONLY.finditer(before)), default=None)
    reached = last is not None and not cues.CLAUSE_START.search(before[last:].replace(" and ", " "))
    return reached or bool(cues.NOT_ONLY_AFTER.match(after))


def _clause(before: str) -> str:
    starts = [m.end() for m in cues.CLAUSE_START.finditer(before)]
    return before[starts[-1] :] if starts else before


def _by_subject(before: str) -> int:
    """The weight by the subject of the clause: the emotion, a person, or something else."""
    starts = [0, *(m.end() for m in cues.CLAUSE_START.finditer(before))]
    for start in reversed(starts):
        clause = before[start:]
        verbs = list(cues.VERB.finditer(clause))
        if not verbs:
            continue
        for number in range(len(verbs) - 1, -1, -1):
            begin = verbs[number - 1].end() if number else 0
            kind = _subject(clause[begin : verbs[number].start()])
            if kind:
                signs = any(v["sign"] or v["change"] for v in verbs[number:])
                return PERSON if kind == WEAK and signs else kind
        relative = re.search(r"\b(?:who|which|that)\s*$", before[:start])
        return (relative and _subject(_clause(before[: relative.start()].rstrip(" ,")))) or PERSON
    return PLAIN


def _subject(region: str) -> int:
    for match in cues.NOUN.finditer(region):
        if cues.POSSESSIVE.match(region[match.end() :]):
            continue
        groups = match.groupdict()
        if groups["other"] or groups["other2"]:
            return WEAK
        return EMOTION if groups["emotion"] or groups["emotion2"] else PERSON
    return NONE


def settle(weighed: Sequence[Weighed], *, several: bool = False) -> tuple[tuple[str, ...], bool]:
    """The labels that an answer settles on.

    Args:
      weighed: its mentions.
      several: whether all emotions are asked for, or one.

    Returns:
      The labels, in the order of the answer; and whether it settles on an emotion outside the label
      space, if there are none.
    """
    counted = [w for w in weighed if w.weight > NONE and w.mention.tier < EVERYDAY]
    if any(w.mention.tier < BEHAVIOUR and w.mention.label for w in counted):
        counted = [w for w in counted if w.mention.tier < BEHAVIOUR]
    inside = [w for w in counted if w.mention.label]
    outside = [w for w in counted if not w.mention.label and w.mention.tier < BEHAVIOUR]
    top_inside = max((w.weight for w in inside), default=NONE)
    top_outside = max((w.weight for w in outside), default=NONE)
    if not inside or (top_outside >= PERSON and top_outside > top_inside):
        return (), bool(outside)
    if several:
        enough = min(PLAIN, top_inside)
        return _labels([w for w in inside if w.weight >= enough]), False
    beyond = [w for w in inside if not w.not_only and w.weight >= min(PLAIN, top_inside)]
    if beyond:  # `not only sad, he is angry`
        inside, top_inside = beyond, max(w.weight for w in beyond)
    best = [w for w in inside if w.weight == top_inside]
    closest = min(w.mention.tier for w in best)
    best = [w for w in best if w.mention.tier == closest]
    if top_inside == CHOICE:  # what is concluded last
        best = [w for w in best if w.sentence == best[-1].sentence]
    if len({w.sentence for w in best}) == 1 and any(w.after_contrast for w in best):
        best = [w for w in best if w.after_contrast]
    return _labels(best), False


def _labels(weighed: Sequence[Weighed]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(w.mention.label for w in weighed))

"""Structured answers: JSON of any shape, Markdown tables, and tables of scores by label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline.answers.answer_fields import ASIDE, LABEL, field_rank
from data_pipeline.answers.vocabulary import BEHAVIOUR, Mention, Vocabulary

_LEVELS = {
    word: number
    for number, words in (
        (4.0, "very high,very strong,extreme,非常高,很高"),
        (3.0, "high,strong,yes,true,present,✓,✔,✅,是,有,高"),
        (2.0, "medium,moderate,mid,中,中等"),
        (1.0, "low,weak,slight,mild,低,弱"),
        (0.5, "very low,minimal,negligible,很低"),
        (0.0, "none,no,false,absent,not present,✗,✘,❌,×,否,无,没有"),
    )
    for word in words.split(",")
}
_LEVEL_WORDS = "|".join(sorted(map(re.escape, _LEVELS), key=len, reverse=True))
_SCORE_KEYS = re.compile(
    r"score|confidence|prob|intensity|value|percent|weight|likelihood|置信|分数"
)
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")
# what may separate a label from its score
_SCORE_AFTER = re.compile(
    r"[\"'*)\]]*[ \t]*(?P<sep>(?:[:=|(,~≈\-–—]|->|→|\bis\b|\bat\b|\bwith\b|\bscores?\b|"
    r"\bprobability\b|\bconfidence\b|\bof\b|[\"'\[]|"
    r"[ \t])*)(?P<number>\d+(?:\.\d+)?)[ \t]*(?P<unit>%|/[ \t]*\d+|percent\b|分|"
    r"％)?(?![\w])(?!\.\d)"
)
_SCORE_BEFORE = re.compile(
    r"(\d+(?:\.\d+)?)[ \t]*(?:%|percent)[ \t]*(?:of\s+|probability of\s+|-\s*)?$"
)
_BARE = re.compile(r"[ \t]+(\d+(?:\.\d+)?)(?=\s*(?:[,;\n|]|$|\.\s*$))")
_LEVEL_AFTER = re.compile(
    rf"[\"'*)\]]*(?:[ \t]*[:=|(\-–—→][ \t|]*[\"']?|[ \t]+is[ \t]+)({_LEVEL_WORDS})"
    r"(?![^\W\d_])"
)
_ROW = re.compile(r"^[ \t]*\|?(.+?\|.+?)\|?[ \t]*$")
_RULE = re.compile(r"^[ \t]*\|?[ \t]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)+\|?[ \t]*$")


def number_of(value: Any) -> float | None:
    """The number that a score states: 0.9, `90%`, `high`, true; None if it states none."""
    if isinstance(value, bool):
        return 3.0 if value else 0.0
    if isinstance(value, (int, float)):
        return float(value)
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    if text in _LEVELS:
        return _LEVELS[text]
    match = _NUMBER.match(text)
    return float(match.group().replace(",", ".")) if match and len(text) <= 12 else None


def scores_of(value: Mapping[str, Any], words: Vocabulary) -> list[tuple[str, float]]:
    """(label, score) of an object whose keys are labels; [] if they are not.

    Args:
      value: the decoded object.
      words: of the label space.
    """
    out: list[tuple[str, float]] = []
    named = [k for k in value if field_rank(str(k), words.kind) is not None]
    for key, content in value.items():
        if key in named:
            continue
        entry = words.look_up(str(key).strip().lower())
        number = number_of(content)
        if isinstance(content, dict):
            scores = (c for k, c in content.items() if _SCORE_KEYS.search(str(k).lower()))
            number = number_of(next(scores, None))
        if entry is not None and number is not None:
            out.append((entry[0], number))
    return out if len(out) >= max(1, len(value) - len(named) - 1) else []


def item_scores(items: Sequence[Any]) -> list[tuple[str, float]]:
    """(text, score) of a list of pairs, or of objects with a label and a score; [] of others."""
    out: list[tuple[str, float]] = []
    for item in items:
        if isinstance(item, dict):
            scores = [number_of(c) for k, c in item.items() if _SCORE_KEYS.search(str(k).lower())]
            texts = [
                c for k, c in item.items()
                if (isinstance(c, str) and (field_rank(str(k), "emotion") or ASIDE) >= LABEL)
                or (str(k).lower() in ("name", "type") and isinstance(c, str))
            ]  # fmt: skip
        elif isinstance(item, (list, tuple)) and len(item) == 2:
            texts, scores = [t for t in item if isinstance(t, str)][:1], [number_of(item[1])]
        else:
            return []
        if not texts or not scores or scores[0] is None:
            return []
        out.append((texts[0], scores[0]))
    return out if len(out) > 1 else []


def scores_in_text(text: str, mentions: Sequence[Mention]) -> list[tuple[str, float]]:
    """(label, score) where a text gives two or more emotions a number or level each; else [].

    Args:
      text: the text in lower case.
      mentions: the emotion words in it.
    """
    named = [m for m in mentions if m.tier < BEHAVIOUR]
    if len(named) < 2:
        return []
    limits = [m.start for m in named[1:]] + [len(text)]
    after = [_score_after(text[m.end : end]) for m, end in zip(named, limits, strict=True)]
    before = [
        float(found.group(1))
        if (found := _SCORE_BEFORE.search(text[max(0, m.start - 40) : m.start]))
        else None
        for m in named
    ]
    # `70% worried, 20% sad` has a number on both sides of the first word
    chosen = before if before and before[0] is not None else after
    out = [(m.label, n) for m, n in zip(named, chosen, strict=True) if n is not None]
    if len(out) < 2 and not re.match(r"\W*\d", text):  # `sad 7, angry 2`
        bare = [_BARE.match(text[m.end : end]) for m, end in zip(named, limits, strict=True)]
        if all(bare):
            out = [(m.label, float(b.group(1))) for m, b in zip(named, bare, strict=True) if b]
    if len({label for label, _ in out}) < 2 or len(out) < 0.6 * len(named):
        return []
    return out


def _score_after(after: str) -> float | None:
    if level := _LEVEL_AFTER.match(after):
        return _LEVELS[level.group(1)]
    match = _SCORE_AFTER.match(after)
    if match is None:
        return None
    plain = not match.group("sep").strip() and not match.group("unit")
    listed = re.match(r"[.)]\s", after[match.end() :]) and not match.group("unit")
    if (plain or listed) and "." not in match.group("number"):
        return None  # `1. happy 2. sad` numbers a list
    return float(match.group("number"))


def tables_as_lines(text: str, kind: str) -> str:
    """Markdown tables as lines `name: value`; other text stays as it is.

    Args:
      text: the answer.
      kind: what the label space is: `emotion`, `sentiment` or `intent`.
    """
    lines, out = text.split("\n"), []
    at = 0
    while at < len(lines):
        rows = []
        while at < len(lines) and _ROW.match(lines[at]):
            rows.append(lines[at])
            at += 1
        if len(rows) > 1 and any(_RULE.match(r) for r in rows):
            out += _table_lines([_cells(r) for r in rows if not _RULE.match(r)], kind)
        else:
            out += rows
        if at < len(lines) and not rows:
            out.append(lines[at])
            at += 1
    return "\n".join(out)


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def _table_lines(rows: list[list[str]], kind: str) -> list[str]:
    header, *body = rows
    if len(header) < 2 or not body:
        return [" ".join(header)]
    numbers = sum(number_of(cell) is not None for cell in body[0])
    fielded = any(field_rank(row[0], kind) is not None for row in body)
    if fielded and not (len(body) == 1 and numbers > 1):  # a table of fields
        all_rows = [header, *body] if field_rank(header[0], kind) is not None else body
        return [f"{row[0]}: {' '.join(row[1:])}" for row in all_rows]
    if len(body) == 1:
        return [f"{name}: {cell}" for name, cell in zip(header, body[0], strict=False)]
    return [f"{row[0]}: {' '.join(row[1:])}" for row in body]

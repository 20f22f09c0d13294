"""Reads the text of a reply: the answer without the thoughts before it, and the JSON in it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_pipeline.llm.replies import StoredReply, UnusableReply

CUT_OFF = "cut off at its limit of tokens: raise --max-reply"
ONLY_THOUGHTS = "thoughts without an answer"
CUT_FAULTS = (CUT_OFF, f"{ONLY_THOUGHTS}: raise --max-reply")
_CUT_FINISHES = ("length", "max_tokens", "model_length")
_FILTER_FINISHES = ("content_filter", "safety", "recitation", "blocklist", "prohibited_content")
_NAMES = "think|thinking|thought|thoughts|reasoning|analysis|reflection|scratchpad|seed:think"
_THOUGHTS = re.compile(rf"[<\[◁]({_NAMES})[>\]▷].*?[<\[◁]/\1[>\]▷]", re.S | re.I)
_END = re.compile(rf"[<\[◁]/(?:{_NAMES})[>\]▷]", re.I)
_BEGIN = re.compile(rf"[<◁](?:{_NAMES})[>▷]|\[THINK\]", re.I)
# the channels of gpt-oss, where a server passes its format on
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+).*?<\|message\|>|assistant(final)", re.S)
_CONTROL = re.compile(r"<\|[\w-]+\|>")
_FENCE = re.compile(r"[`\s]*$")
_OPENING = re.compile(r"[{\[]")
_MAX_REPAIRS = 200  # of values that are not quite JSON; each costs the time to parse it
# forms that models write in place of JSON, and their repair
_LOOSE = (
    (re.compile(r"[“”„]"), '"'),
    (re.compile(r"(?m)(?<=[\s,{}\[\]\d])//[^\n]*$"), ""),
    (re.compile(r",(?=\s*[}\]])"), ""),
    (re.compile(r"([{,]\s*)([A-Za-z_][\w ]*?)(?=\s*:)"), r'\1"\2"'),
    (re.compile(r":\s*(\d[\d.]*\s*(?:/|out of|of)\s*\d+|\d[\d.]*\s*%)(?=\s*[,}\]])"), r': "\1"'),
)


def strip_thoughts(text: str) -> str:
    """Returns a reply without its thoughts, "" if it has nothing else.

    Tags of thoughts may lack their beginning (a chat template has it) or their end (the reply was
    cut off).
    """
    if channels := list(_CHANNEL.finditer(text)):
        last = channels[-1]
        text = text[last.end() :] if "final" in (last[1], last[2]) else ""
    text = _END.split(_THOUGHTS.sub(" ", text))[-1]
    return _CONTROL.sub(" ", _BEGIN.split(text)[0]).strip()


def is_cut(stored: StoredReply) -> bool:
    """Returns whether a reply was cut off at its limit of tokens."""
    return stored.get("finish", "") in _CUT_FINISHES


def reply_fault(stored: StoredReply, *, use_cut: bool) -> str:
    """Returns why a reply has no answer whatever was asked, "" if it may have one.

    Args:
      stored: the reply, see `parse_reply`.
      use_cut: whether what is there of an answer that was cut off counts as an answer.
    """
    answer, cut = strip_thoughts(stored["text"]), is_cut(stored)
    if stored.get("finish", "") in _FILTER_FINISHES:
        return "stopped by the server's content filter"
    if answer:
        # an object at the end is whole
        complete = not cut or use_cut or _FENCE.sub("", answer).endswith("}")
        return "" if complete else CUT_OFF
    if stored["text"].strip() or stored.get("thoughts"):
        return f"{ONLY_THOUGHTS}: raise --max-reply" if cut else ONLY_THOUGHTS
    if stored.get("tool_call"):
        return "a tool call in place of an answer"
    return CUT_OFF if cut else ""


def last_object(text: str, names: Sequence[str]) -> dict[str, Any]:
    """Returns the last complete JSON object of a reply; earlier ones may be drafts.

    Args:
      text: the reply, without its thoughts.
      names: the fields that were asked for. Objects that have them are preferred, also where they
        lie within others.

    Returns:
      The object's fields; names are in lower case, with underscores, without `score` at their end.

    Raises:
      UnusableReply: there is no object, or the last one is cut off.
    """
    found = [(end, fields) for value, end in json_values(text) for fields in _nested(value)]
    wanted = [x for x in found if set(names) <= set(x[1])]
    wanted = wanted or [x for x in found if set(names) & set(x[1])] or found
    if not wanted:
        raise UnusableReply("no JSON object")
    end, fields = wanted[-1]
    rest = text[end:]
    if re.search(r"\{[^{}]*$", rest) and any(f'"{name}"' in rest.lower() for name in names):
        raise UnusableReply("the last JSON object is cut off")
    return fields


def _nested(value: Any) -> Iterator[dict[str, Any]]:
    """The objects within a value, then the value."""
    children = value.values() if isinstance(value, dict) else value
    for child in children if isinstance(value, dict | list) else ():
        yield from _nested(child)
    if isinstance(value, dict):
        yield {_field_name(str(key)): v for key, v in value.items()}


def _field_name(key: str) -> str:
    """`Clue Score` is the field `clue`."""
    return re.sub(r"_(?:score|rating)$", "", re.sub(r"\W+", "_", key.strip(" *_`").lower()))


def json_values(text: str) -> Iterator[tuple[Any, int]]:
    """Yields the outermost JSON or Python objects and lists of a text with their ends.

    Args:
      text: a reply or a part of it. Values that are cut off are left out.
    """
    closing, decoder = _closing_brackets(text), json.JSONDecoder(strict=False)
    at = repairs = 0
    while match := _OPENING.search(text, at):
        start = match.start()
        value, at = None, start + 1
        try:
            value, end = decoder.raw_decode(text, start)
        except RecursionError:  # brackets without end
            return
        except ValueError:
            end = closing.get(start, 0)
            if end and repairs < _MAX_REPAIRS:
                repairs += 1
                value = loose_json(text[start:end])
        if isinstance(value, dict) or (isinstance(value, list) and value):
            yield value, end
            at = end


def _closing_brackets(text: str) -> dict[int, int]:
    """{place of a bracket: place behind the one that closes it}."""
    open_brackets: dict[str, list[int]] = {"}": [], "]": []}
    out = {}
    for match in re.finditer(r"[{}\[\]]", text):
        if match[0] in "{[":
            open_brackets["}" if match[0] == "{" else "]"].append(match.start())
        elif places := open_brackets[match[0]]:
            out[places.pop()] = match.end()
    return out


def loose_json(text: str) -> Any:
    """Returns what a text holds that is not quite JSON, None if it cannot be read."""
    if len(text) > 20_000:  # no answer that was asked for is so long
        return None
    repaired = text
    for pattern, replacement in _LOOSE:
        repaired = pattern.sub(replacement, repaired)
    for read, form in ((json.loads, repaired), (ast.literal_eval, text)):
        try:
            return read(form)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def read_score(value: Any, *, low: float, high: float) -> float | None:
    """Returns a score on a scale.

    Args:
      value: a number, or a text such as `8`, `8/10`, `7 out of 10` or, for the share of the highest
        score, `85%`; a list of one of these, or an object with it as `score`.
      low: lowest score.
      high: highest score.

    Returns:
      The score, None if the value is not one of this scale.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping):
        lower = {str(k).strip().lower(): v for k, v in value.items()}
        value = next((lower[k] for k in ("score", "value", "rating") if k in lower), None)
    if isinstance(value, str):
        value = _score_in_text(value, high)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if low <= value <= high else None


def _score_in_text(text: str, high: float) -> float | None:
    plain = text.strip().strip("*_`\"'. ").lower()
    match = re.fullmatch(
        r"(?:score|rating)?[\s:=]*(\d+(?:[.,]\d+)?)"
        r"(?:\s*(%)|\s*(?:/|out of|of)\s*(\d+)(?:\.0)?)?(?:\s+points?)?(?:\s*[-:,(–].*)?",
        plain,
        re.S,
    )
    if match is None or re.match(r"[\d.]+\s*[-–]\s*\d", plain):  # a range is no score
        return None
    number, of = float(match[1].replace(",", ".")), float(match[3] or 0)
    if match[2] or of == 100 != high:
        return number / 100 * high
    return number if of in (0, high) else None

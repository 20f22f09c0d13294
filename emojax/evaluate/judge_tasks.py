"""The questions of each judge task, and how the judge's replies are parsed.

Sources: the procedures of AffectGPT's evaluation (EMER: overlap from 1 to 10; MER2024-OV: words are
grouped, then accuracy and recall) and of Emotion-LLaMAv2 (clue, label, completeness from 0 to 10).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_pipeline.answers.parse_answers import final_answer
from data_pipeline.llm.client import ChatClient, Reply, UnusableReply
from data_pipeline.llm.endpoint import Messages
from data_pipeline.progress import Progress
from emojax.evaluate.judge_prompts import (
    CLUE_PROMPT,
    GROUP_PROMPT,
    LABEL_PROMPT,
    LABELS_PROMPT,
    REASONING_PROMPT,
    SYSTEM_PROMPT,
)
from emojax.evaluate.label_space import answer_words
from emojax.evaluate.predictions import Prediction


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedClip:
    """The judge's scores of one clip.

    Attributes:
      clip: its id.
      scores: by name; {} if the clip could not be scored.
      fault: why it could not be scored.
      model: the model that answered.
    """

    clip: str
    scores: dict[str, float]
    fault: str = ""
    model: str = ""


JudgeTask = Callable[
    [Sequence[Prediction], Mapping[str, str], ChatClient, Progress], list[JudgedClip]
]


def task_function(task: str) -> JudgeTask:
    """The function that asks and scores a task of `judge_prompts.TASKS`."""
    return {
        "clue-overlap": _clue_overlap,
        "label-overlap": _label_overlap,
        "ov": _open_vocabulary,
        "reasoning": _reasoning,
    }[task]


# --- replies ---


def _json_object(text: str) -> dict[str, Any]:
    """The JSON object of a reply.

    Raises:
      UnusableReply: there is none; the message names the type of reply.
    """
    if not text.strip():
        raise UnusableReply("empty reply")
    answer = re.sub(
        r"<think(?:ing)?>.*?</think(?:ing)?>", " ", text, flags=re.DOTALL | re.IGNORECASE
    )
    # the first object that can be decoded; text before it may contain braces too
    for start in [m.start() for m in re.finditer(r"\{", answer)]:
        try:
            value, _ = json.JSONDecoder().raw_decode(answer[start:])
            if isinstance(value, dict):
                return value
        except ValueError:
            continue
    if re.search(r"\b(?:sorry|cannot|can't|unable|as an ai)\b", text.lower()):
        raise UnusableReply("refusal")
    letters = [c for c in text if c.isalpha()]
    if letters and sum(c.isascii() for c in letters) < len(letters) / 2:
        raise UnusableReply("other language")
    raise UnusableReply("no JSON object")


def _number(fields: Mapping[str, Any], name: str, low: int, high: int) -> float:
    value = fields.get(name)
    if isinstance(value, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise UnusableReply(f"no {name} from {low} to {high}")
    return float(value)


def _words(fields: Mapping[str, Any], name: str) -> list[str]:
    value = fields.get(name)
    if not isinstance(value, list) or not all(isinstance(w, str) for w in value):
        raise UnusableReply(f"no list of {name}")
    return list(dict.fromkeys(w.strip().lower() for w in value if w.strip()))


def _read_labels(text: str) -> list[str]:
    return _words(_json_object(text), "labels")


def _group_reader(words: Sequence[str]) -> Callable[[str], dict[str, str]]:
    """A reader of replies that group `words`: {word: first word of its group}."""

    def read(text: str) -> dict[str, str]:
        groups = _json_object(text).get("groups")
        if not isinstance(groups, list) or not all(isinstance(g, list) for g in groups):
            raise UnusableReply("no list of groups")
        first = {
            str(w).strip().lower(): str(g[0]).strip().lower()
            for g in groups
            for w in reversed(g)
            if g
        }
        if set(words) - set(first):
            raise UnusableReply("groups without some of the words")
        return first

    return read


# --- questions ---


def _messages(text: str) -> Messages:
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": text}]


def _description(row: Prediction) -> str:
    return row.reason or row.response


def _judged_clips(
    rows: Sequence[Prediction], replies: Sequence[Reply[dict[str, float]]]
) -> list[JudgedClip]:
    return [
        JudgedClip(
            clip=r.clip,
            scores=reply.value or {},
            fault="" if reply.value else reply.fault,
            model=reply.model,
        )
        for r, reply in zip(rows, replies, strict=True)
    ]


def _combined_model(*models: str) -> str:
    """The one model that answered everything about a clip, or all of them as a judge of its own."""
    return " + ".join(sorted(set(models)))


def _comparison_task(prompt: str, read: Callable[[str], dict[str, float]]) -> JudgeTask:
    """A task of one question per clip, which shows reference and response."""

    def run(
        rows: Sequence[Prediction],
        references: Mapping[str, str],
        client: ChatClient,
        progress: Progress,
    ) -> list[JudgedClip]:
        questions = [
            _messages(prompt.format(reference=references[r.clip], response=_description(r)))
            for r in rows
        ]
        return _judged_clips(rows, client.ask_all(questions, read, progress=progress))

    return run


_clue_overlap = _comparison_task(
    CLUE_PROMPT, lambda text: {"clue_overlap": _number(_json_object(text), "score", 1, 10)}
)
_reasoning = _comparison_task(
    REASONING_PROMPT,
    lambda text: {
        name: _number(_json_object(text), name, 0, 10) for name in ("clue", "label", "completeness")
    },
)


def _label_overlap(
    rows: Sequence[Prediction],
    references: Mapping[str, str],
    client: ChatClient,
    progress: Progress,
) -> list[JudgedClip]:
    """Asks for the emotion words of both descriptions, then how far they agree."""
    texts = list(dict.fromkeys([*(references[r.clip] for r in rows), *map(_description, rows)]))
    total = len(texts) + len(rows)
    extracted = client.ask_all(
        [_messages(LABELS_PROMPT.format(text=t)) for t in texts],
        _read_labels,
        progress=lambda task, done, _: progress(task, done, total),
    )
    labels = dict(zip(texts, extracted, strict=True))
    pairs = [(labels[references[r.clip]], labels[_description(r)]) for r in rows]
    usable = [i for i, (a, b) in enumerate(pairs) if a.value is not None and b.value is not None]
    questions = [
        LABEL_PROMPT.format(
            reference=", ".join(pairs[i][0].value or ["none"]),
            response=", ".join(pairs[i][1].value or ["none"]),
        )
        for i in usable
    ]
    replies = client.ask_all(
        [_messages(q) for q in questions],
        lambda text: {"label_overlap": _number(_json_object(text), "score", 1, 10)},
        progress=lambda task, done, _: progress(task, len(texts) + done, total),
    )
    out = [
        JudgedClip(clip=r.clip, scores={}, fault=(a.fault or b.fault), model=a.model)
        for r, (a, b) in zip(rows, pairs, strict=True)
    ]
    for i, judged in zip(usable, _judged_clips([rows[i] for i in usable], replies), strict=True):
        model = _combined_model(judged.model, pairs[i][0].model, pairs[i][1].model)
        out[i] = dataclasses.replace(judged, model=model)
    return out


def _open_vocabulary(
    rows: Sequence[Prediction],
    references: Mapping[str, str],
    client: ChatClient,
    progress: Progress,
) -> list[JudgedClip]:
    """Accuracy and recall of groups of words, and their mean; an answer without words gets 0 and 0.

    If an answer is prose instead of a list, the judge first extracts its emotion words.
    """
    true = [answer_words(references[r.clip]) for r in rows]
    answered = [answer_words(final_answer(r.response)) for r in rows]
    prose = [i for i, words in enumerate(answered) if any(len(w.split()) > 3 for w in words)]
    extracted = client.ask_all(
        [_messages(LABELS_PROMPT.format(text=_description(rows[i]))) for i in prose], _read_labels
    )
    extractions = dict(zip(prose, extracted, strict=True))
    for i, extraction in extractions.items():
        answered[i] = tuple(extraction.value or ())
    words = [list(dict.fromkeys([*t, *a])) for t, a in zip(true, answered, strict=True)]
    replies = client.ask_all(
        [_messages(GROUP_PROMPT.format(words=", ".join(w))) for w in words],
        [_group_reader(w) for w in words],
        progress=progress,
    )
    return [
        _overlap_of_groups(row, true[i], answered[i], reply, extractions.get(i))
        for i, (row, reply) in enumerate(zip(rows, replies, strict=True))
    ]


def _overlap_of_groups(
    row: Prediction,
    true: Sequence[str],
    answered: Sequence[str],
    reply: Reply[dict[str, str]],
    extraction: Reply[list[str]] | None,
) -> JudgedClip:
    if extraction is not None and extraction.value is None:
        return JudgedClip(clip=row.clip, scores={}, fault=extraction.fault, model=extraction.model)
    if reply.value is None:
        return JudgedClip(clip=row.clip, scores={}, fault=reply.fault, model=reply.model)
    a, b = {reply.value[w] for w in true}, {reply.value[w] for w in answered}
    accuracy, recall = len(a & b) / len(b) if b else 0.0, len(a & b) / len(a) if a else 0.0
    return JudgedClip(
        clip=row.clip,
        scores={"accuracy": accuracy, "recall": recall, "judge_average": (accuracy + recall) / 2},
        model=_combined_model(reply.model, extraction.model if extraction else reply.model),
    )

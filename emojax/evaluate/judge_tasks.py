"""The questions of each judge task, and how the judge's replies are parsed.

Sources: the procedures of AffectGPT's evaluation (EMER: overlap from 1 to 10; MER2024-OV: words are
grouped, then accuracy and recall) and of Emotion-LLaMAv2 (clue, label, completeness from 0 to 10).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_pipeline.answers.parse_answers import final_answer
from data_pipeline.llm.client import ChatClient, Reply
from data_pipeline.llm.endpoint import Messages
from data_pipeline.llm.replies import UnusableReply
from data_pipeline.llm.reply_text import last_object, read_score, strip_thoughts
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
      message: the server's own words about the fault.
    """

    clip: str
    scores: dict[str, float]
    fault: str = ""
    model: str = ""
    message: str = ""


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


def _fields(text: str, names: Sequence[str]) -> dict[str, Any]:
    """The fields of a reply's last JSON object, or of lines such as `clue: 8/10`.

    Raises:
      UnusableReply: there are none; the message names the type of reply.
    """
    answer = strip_thoughts(text)
    if not answer:
        raise UnusableReply("empty reply")
    try:
        return last_object(answer, names)
    except UnusableReply:
        if fields := _fields_without_object(answer, names):
            return fields
        if re.search(r"\b(?:sorry|cannot|can't|unable|as an ai)\b", answer.lower()):
            raise UnusableReply("refusal") from None
        letters = [c for c in answer if c.isalpha()]
        if letters and sum(c.isascii() for c in letters) < len(letters) / 2:
            raise UnusableReply("other language") from None
        raise


def _fields_without_object(answer: str, names: Sequence[str]) -> dict[str, Any]:
    """Reads lines such as `clue: 8/10`, or a reply that is the one value that was asked for."""
    lines = {
        name: re.findall(rf"(?im)^\W*{name}(?:[ _]score)?\W*[:=]\W*(.+)$", answer) for name in names
    }
    if all(lines.values()):
        return {name: found[-1].strip() for name, found in lines.items()}
    if len(names) > 1:
        return {}
    if listed := re.search(r"\[.*\]", answer, re.S):
        with contextlib.suppress(ValueError):
            return {names[0]: json.loads(listed[0])}
    is_number = re.fullmatch(r"\W*\d[\d.]*(?:\s*%|\s*(?:/|out of)\s*\d+)?\W*", answer)
    return {names[0]: answer} if is_number else {}


def _scores(text: str, names: Sequence[str], low: int, high: int) -> dict[str, float]:
    """The scores of a reply.

    Raises:
      UnusableReply: one is missing or not of the scale.
    """
    fields, out = _fields(text, names), {}
    for name in names:
        score = read_score(fields.get(name), low=low, high=high)
        if score is None:
            raise UnusableReply(f"no {name} from {low} to {high}")
        out[name] = score
    return out


def _read_labels(text: str) -> list[str]:
    value = _fields(text, ["labels"]).get("labels")
    items = re.split(r"[,;\n]", value) if isinstance(value, str) else value
    words = [_word(item) for item in items] if isinstance(items, list) else [""]
    if not all(words) and words != []:
        raise UnusableReply("no list of labels")
    return list(dict.fromkeys(words))


def _word(item: Any) -> str:
    """A word of a list, in lower case; "" if it is none."""
    if isinstance(item, dict) and len(item) >= 1:
        item = next((item[k] for k in ("label", "word", "emotion", "name") if k in item), None)
    return item.strip(" \t\r\n.\"'`*").lower() if isinstance(item, str) else ""


def _group_reader(words: Sequence[str]) -> Callable[[str], dict[str, str]]:
    """A reader of replies that group `words`: {word: first word of its group}."""

    def read(text: str) -> dict[str, str]:
        groups = _fields(text, ["groups"]).get("groups")
        groups = list(groups.values()) if isinstance(groups, dict) else groups
        if not isinstance(groups, list) or not all(isinstance(g, list) for g in groups):
            raise UnusableReply("no list of groups")
        first = {_word(w): _word(g[0]) for g in groups for w in reversed(g) if g}
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
            message="" if reply.value else reply.message,
        )
        for r, reply in zip(rows, replies, strict=True)
    ]


def _not_scored(clip: str, reply: Reply[Any]) -> JudgedClip:
    """A clip without scores because of a question that has no usable reply."""
    return JudgedClip(
        clip=clip, scores={}, fault=reply.fault, model=reply.model, message=reply.message
    )


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
    CLUE_PROMPT, lambda text: {"clue_overlap": _scores(text, ["score"], 1, 10)["score"]}
)
_reasoning = _comparison_task(
    REASONING_PROMPT,
    lambda text: _scores(text, ["clue", "label", "completeness"], 0, 10),
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
        lambda text: {"label_overlap": _scores(text, ["score"], 1, 10)["score"]},
        progress=lambda task, done, _: progress(task, len(texts) + done, total),
    )
    out = [_not_scored(r.clip, a if a.fault else b) for r, (a, b) in zip(rows, pairs, strict=True)]
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
        return _not_scored(row.clip, extraction)
    if reply.value is None:
        return _not_scored(row.clip, reply)
    a, b = {reply.value[w] for w in true}, {reply.value[w] for w in answered}
    accuracy, recall = len(a & b) / len(b) if b else 0.0, len(a & b) / len(a) if a else 0.0
    return JudgedClip(
        clip=row.clip,
        scores={"accuracy": accuracy, "recall": recall, "judge_average": (accuracy + recall) / 2},
        model=_combined_model(reply.model, extraction.model if extraction else reply.model),
    )

"""Language models as judges: overlap of clues and labels (EMER), grouping of open words (MER2024-OV), reasoning.

The prompts are our own. A result names the judge (as asked for, and as the server says who answered), the hash of the prompts
and the seed; scores of two judges never stand in one column: where several models answered under one name, each has its own
mean and there is none over all. Replies that can not be used are counted and left out, and the mean says over how many clips
it is.

Sources: the procedures of AffectGPT's evaluation (EMER: overlap 1 to 10; MER2024-OV: words grouped, then accuracy and recall)
and of Emotion-LLaMAv2 (clue, label, completeness 0 to 10).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.datasets.open_vocabulary import word_list
from data_pipeline.datasets.rows import CellError
from data_pipeline.llm.client import ChatClient, Reply, UnusableReply
from data_pipeline.llm.endpoint import Messages, prompt_hash
from data_pipeline.progress import Progress, no_progress
from emojax.evaluate import statistics
from emojax.evaluate.official_scripts import label_set
from emojax.evaluate.parse_answers import final_answer
from emojax.evaluate.predictions import Prediction

_SYSTEM = (
    "You compare two descriptions of the emotion that a person shows in a video clip. You are strict, fair and brief. "
    "You answer in English with one JSON object and nothing else."
)
CLUE_PROMPT = """Reference description:
{reference}

Description to judge:
{response}

First list the clues about emotion in each (facial expression, gesture, tone of voice, what is said, situation). Then say how far the
clues of the second agree with those of the reference: 1 = nothing in common or contradictory, 10 = the same clues. Extra clues that
do not contradict the reference cost little, contradictory ones much.
Answer: {{"reference_clues": [...], "response_clues": [...], "score": <integer 1 to 10>}}"""
LABELS_PROMPT = """Description:
{text}

Which words of emotion sum up what the person shows, by this description? At most eight, each one word, none that it denies.
Answer: {{"labels": [...]}}"""
LABEL_PROMPT = """Words of emotion of the reference: {reference}
Words of emotion to judge: {response}

How far do the two sets agree in meaning: 1 = nothing in common or contradictory, 10 = the same emotions?
Answer: {{"score": <integer 1 to 10>}}"""
GROUP_PROMPT = """Words of emotion: {words}

Put words that mean the same emotion, or forms of one word, into groups. Every word stands in exactly one group, spelled as above.
Answer: {{"groups": [[...], [...]]}}"""
REASONING_PROMPT = """Reference description:
{reference}

Description to judge:
{response}

Score three things from 0 (worst) to 10 (best):
clue: do its clues agree with those of the reference, without contradictions?
label: does it come to the same emotion?
completeness: does it lead from clues of picture, voice and words to the emotion without gaps?
Answer: {{"clue": <integer>, "label": <integer>, "completeness": <integer>}}"""
TASKS: dict[str, tuple[str, ...]] = {
    "clue-overlap": (CLUE_PROMPT,),
    "label-overlap": (LABELS_PROMPT, LABEL_PROMPT),
    "ov": (LABELS_PROMPT, GROUP_PROMPT),
    "reasoning": (REASONING_PROMPT,),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """One clip: its scores by name, {} where there are none, then `fault` says why. `model`: who answered."""

    clip: str
    scores: dict[str, float]
    fault: str = ""
    model: str = ""


def judge(
    task: str,
    rows: Sequence[Prediction],
    references: Mapping[str, str],
    client: ChatClient,
    *,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Judges predictions; a stopped run goes on from the stored replies.

    Args:
      task: one of TASKS.  references: reference text by clip; for `ov` the true words.

    Returns:
      judge, task, n, scored, not_scored (by reason), scores ({name: {mean, interval}} by the model that answered), faults,
      requests, tokens and cost (of every reply that was used, and of this run alone), and clips.

    Raises:
      ValueError: an unknown task, or a clip without a reference.
      EndpointError: the endpoint can not be used.
    """
    if task not in TASKS:
        raise ValueError(f"there is no task '{task}'; there are {', '.join(TASKS)}")
    if lost := next((r.clip for r in rows if not references.get(r.clip)), None):
        raise ValueError(f"clip '{lost}' has no reference to compare with")
    if not rows:
        raise ValueError("there is no clip to judge")
    run = {
        "clue-overlap": _clue,
        "label-overlap": _label,
        "ov": _open_words,
        "reasoning": _reasoning,
    }[task]
    found = run(
        rows,
        references,
        client,
        lambda _, done, total: progress(f"judge {task}", done, total),
    )
    by_model: dict[str, dict[str, Any]] = {}
    groups = {r.clip: r.group for r in rows}
    for model in sorted({j.model for j in found if j.scores}):
        own = [j for j in found if j.scores and j.model == model]
        by_model[model] = {"n": len(own)} | {
            name: mean_with_interval([j.scores[name] for j in own], [groups[j.clip] for j in own])
            for name in own[0].scores
        }
    one = next(iter(by_model.values())) if len(by_model) == 1 else None
    return {
        "task": task,
        "judge": {
            "asked_for": client.endpoint.model,
            "answered": sorted(by_model),
            "url": client.endpoint.url,
            "temperature": client.endpoint.temperature,
            "seed": client.endpoint.seed,
            "prompts": [prompt_hash(p) for p in TASKS[task]],
        },
        "n": len(rows),
        "scored": sum(bool(j.scores) for j in found),
        "not_scored": dict(Counter(j.fault for j in found if not j.scores)),
        "scores": {k: v for k, v in one.items() if k != "n"} if one else None,
        "by_model": by_model,
        "faults": dict(sorted(client.faults.items())),
        "requests": client.requests_sent,
        "tokens": {"prompt": client.tokens_used[0], "reply": client.tokens_used[1]},
        "cost": client.cost(client.tokens_used),
        "this_run": {
            "prompt": client.tokens_paid[0],
            "reply": client.tokens_paid[1],
            "cost": client.cost(client.tokens_paid),
        },
        "clips": [
            {"video_id": j.clip, **j.scores, **({"fault": j.fault} if j.fault else {})}
            for j in found
        ],
    }


def mean_with_interval(values: Sequence[float], groups: Sequence[str]) -> dict[str, Any]:
    """{mean, interval} over speakers or videos."""
    import scipy.sparse

    from emojax.evaluate.metrics import Tally

    rows = scipy.sparse.csr_matrix(
        np.stack([np.ones(len(values)), np.asarray(values, float)], axis=1)
    )
    tally = Tally(rows, lambda s: {"mean": s[..., 1] / np.maximum(s[..., 0], 1e-12)}, "mean")
    return {
        "mean": float(np.mean(values)),
        "interval": statistics.intervals(tally, groups).get("mean"),
    }


def _messages(text: str) -> Messages:
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": text}]


def _object(text: str) -> dict[str, Any]:
    """The JSON object of a reply.

    Raises:
      Unusable: there is none; says of what kind the reply is.
    """
    if not text.strip():
        raise UnusableReply("empty reply")
    said = re.sub(r"<think(?:ing)?>.*?</think(?:ing)?>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    starts = [m.start() for m in re.finditer(r"\{", said)]
    for (
        start
    ) in starts:  # the first object that can be read; what stands before it may hold braces too
        try:
            found, _ = json.JSONDecoder().raw_decode(said[start:])
            if isinstance(found, dict):
                return found
        except ValueError:
            continue
    if re.search(r"\b(?:sorry|cannot|can't|unable|as an ai)\b", text.lower()):
        raise UnusableReply("refusal")
    letters = [c for c in text if c.isalpha()]
    if letters and sum(c.isascii() for c in letters) < len(letters) / 2:
        raise UnusableReply("other language")
    raise UnusableReply("no JSON object")


def _number(found: Mapping[str, Any], name: str, low: int, high: int) -> float:
    value = found.get(name)
    if isinstance(value, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise UnusableReply(f"no {name} from {low} to {high}")
    return float(value)


def _words(found: Mapping[str, Any], name: str) -> list[str]:
    value = found.get(name)
    if not isinstance(value, list) or not all(isinstance(w, str) for w in value):
        raise UnusableReply(f"no list of {name}")
    return list(dict.fromkeys(w.strip().lower() for w in value if w.strip()))


def _judged(rows: Sequence[Prediction], replies: Sequence[Reply[dict[str, float]]]) -> list[Judged]:
    return [
        Judged(
            clip=r.clip,
            scores=reply.value or {},
            fault="" if reply.value else reply.fault,
            model=reply.model,
        )
        for r, reply in zip(rows, replies, strict=True)
    ]


def _compared(
    prompt: str, read: Callable[[str], dict[str, float]]
) -> Callable[[Sequence[Prediction], Mapping[str, str], ChatClient, Progress], list[Judged]]:
    """A task of one question a clip, which shows reference and response."""

    def run(
        rows: Sequence[Prediction], references: Mapping[str, str], client: ChatClient, progress: Progress
    ) -> list[Judged]:
        asked = [
            _messages(prompt.format(reference=references[r.clip], response=_text(r))) for r in rows
        ]
        return _judged(rows, client.ask_all(asked, read, progress=progress))

    return run


def _text(row: Prediction) -> str:
    return row.reason or row.response


_clue = _compared(
    CLUE_PROMPT, lambda text: {"clue_overlap": _number(_object(text), "score", 1, 10)}
)
_reasoning = _compared(
    REASONING_PROMPT,
    lambda text: {
        name: _number(_object(text), name, 0, 10) for name in ("clue", "label", "completeness")
    },
)


def _label(
    rows: Sequence[Prediction], references: Mapping[str, str], client: ChatClient, progress: Progress
) -> list[Judged]:
    texts = list(dict.fromkeys([*(references[r.clip] for r in rows), *map(_text, rows)]))
    total = len(texts) + len(rows)
    named = client.ask_all(
        [_messages(LABELS_PROMPT.format(text=t)) for t in texts],
        lambda text: _words(_object(text), "labels"),
        progress=lambda task, done, _: progress(task, done, total),
    )
    labels = dict(zip(texts, named, strict=True))
    pairs = [(labels[references[r.clip]], labels[_text(r)]) for r in rows]
    ready = [i for i, (a, b) in enumerate(pairs) if a.value is not None and b.value is not None]
    replies = client.ask_all(
        [
            _messages(
                LABEL_PROMPT.format(
                    reference=", ".join(pairs[i][0].value or ["none"]),
                    response=", ".join(pairs[i][1].value or ["none"]),
                )
            )
            for i in ready
        ],
        lambda text: {"label_overlap": _number(_object(text), "score", 1, 10)},
        progress=lambda task, done, _: progress(task, len(texts) + done, total),
    )
    out = [
        Judged(clip=r.clip, scores={}, fault=(a.fault or b.fault), model=a.model)
        for r, (a, b) in zip(rows, pairs, strict=True)
    ]
    for i, j in zip(ready, _judged([rows[i] for i in ready], replies), strict=True):
        out[i] = dataclasses.replace(
            j, model=_joined(j.model, pairs[i][0].model, pairs[i][1].model)
        )
    return out


def _joined(*models: str) -> str:
    """The one model that did everything for a clip, or all of them: they are a judge of their own."""
    return " + ".join(sorted(set(models)))


def _open_words(
    rows: Sequence[Prediction], references: Mapping[str, str], client: ChatClient, progress: Progress
) -> list[Judged]:
    """Accuracy and recall of groups of words, and their mean; an answer without words has 0 and 0.

    Of an answer that is a text, and no list of words, the judge first draws the words.
    """
    true = [_list(references[r.clip]) for r in rows]
    said = [_list(final_answer(r.response)) for r in rows]
    told = [i for i, words in enumerate(said) if any(len(w.split()) > 3 for w in words)]
    faults: dict[int, Reply[Any]] = {}
    drawn = client.ask_all(
        [_messages(LABELS_PROMPT.format(text=_text(rows[i]))) for i in told],
        lambda text: _words(_object(text), "labels"),
    )
    for i, found in zip(told, drawn, strict=True):
        said[i] = found.value or []
        if found.value is None:
            faults[i] = found
    every = [list(dict.fromkeys([*t, *s])) for t, s in zip(true, said, strict=True)]

    def read(words: Sequence[str]) -> Callable[[str], dict[str, str]]:
        def of(text: str) -> dict[str, str]:
            groups = _object(text).get("groups")
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

        return of

    asked = [_messages(GROUP_PROMPT.format(words=", ".join(words))) for words in every]
    replies = client.ask_all(
        asked, [read(words) for words in every], progress=progress
    )
    out = []
    for i, (row, t, s, reply) in enumerate(zip(rows, true, said, replies, strict=True)):
        if i in faults or reply.value is None:
            lost = faults.get(i, reply)
            out.append(Judged(clip=row.clip, scores={}, fault=lost.fault, model=lost.model))
            continue
        a, b = {reply.value[w] for w in t}, {reply.value[w] for w in s}
        accuracy, recall = len(a & b) / len(b) if b else 0.0, len(a & b) / len(a) if a else 0.0
        scores = {"accuracy": accuracy, "recall": recall, "judge_average": (accuracy + recall) / 2}
        drew = drawn[told.index(i)].model if i in told else reply.model
        out.append(Judged(clip=row.clip, scores=scores, fault="", model=_joined(reply.model, drew)))
    return out


def _list(text: str) -> list[str]:
    try:
        return list(word_list(text))
    except CellError:
        return label_set(text)


def judges_agree(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """How far two judges of the same clips agree, for each score: Spearman, quadratic kappa, mean difference.

    Raises:
      ValueError: other tasks, or no clip that both scored.
    """
    from scipy import stats

    if first["task"] != second["task"]:
        raise ValueError(f"the judges did different tasks: {first['task']} and {second['task']}")
    a, b = ({c["video_id"]: c for c in j["clips"] if "fault" not in c} for j in (first, second))
    both = sorted(set(a) & set(b))
    if not both:
        raise ValueError("no clip was scored by both judges")
    out: dict[str, Any] = {
        "judges": [j["judge"]["answered"] for j in (first, second)],
        "n": len(both),
        "scores": {},
    }
    values: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for clip in both:
        for name in a[clip]:
            if name != "video_id" and name in b[clip]:
                values[name][0].append(a[clip][name])
                values[name][1].append(b[clip][name])
    for name, (x, y) in values.items():
        constant = len(set(x)) < 2 or len(set(y)) < 2
        whole = all(float(v).is_integer() for v in (*x, *y))
        out["scores"][name] = {
            "spearman": None if constant else float(stats.spearmanr(x, y).statistic),
            "quadratic_kappa": _kappa(x, y) if whole and not constant else None,
            "mean_difference": float(np.mean(np.subtract(y, x))),
            "mean_absolute_difference": float(np.mean(np.abs(np.subtract(y, x)))),
        }
    return out


def _kappa(x: Sequence[float], y: Sequence[float]) -> float:
    """Cohen's kappa with quadratic weights over the whole scale, scores that nobody gave included."""
    from sklearn.metrics import cohen_kappa_score

    scale = list(range(int(min(*x, *y)), int(max(*x, *y)) + 1))
    return float(
        cohen_kappa_score(
            [int(v) for v in x], [int(v) for v in y], labels=scale, weights="quadratic"
        )
    )

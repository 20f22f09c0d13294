"""The two released stages of MMEVerse: weights, tasks, questions, answers, hidden streams.

Source: the data set classes of Emotion-LLaMAv2, `mer_datasets.py` and its `_ft` twin. Their quirks
are kept: a failed `audio` task trains with a zero image, IEMOCAP's small label pools require
capitalized labels, BoLD's think answers lose their separators, DFEW's answers are not checked. The
tasks of other data sets are drawn in `tasks.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_pipeline.loader import prompts
from data_pipeline.schema import STREAMS, ClipRecord

_POSITIVE_NEGATIVE = ("Positive", "Negative")
_FOUR, _THREE = ("Anger", "Sadness", "Neutral", "Happiness"), ("Anger", "Sadness", "Happiness")
_MAX_WORDS = {"perception": 120, "cognition": 200}
STAGES = tuple(_MAX_WORDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetPlan:
    """One data set in the released stages.

    Attributes:
      weights: mixture weights in perception and cognition.
      perception: tasks of the perception stage, drawn uniformly.
      cognition: tasks of the cognition stage, drawn uniformly; a repeated one is drawn more often.
      main: the label task that replaces a failed task.
      general: cognition tasks whose question comes from the general pool.
    """

    weights: tuple[float, float]
    perception: tuple[str, ...]
    cognition: tuple[str, ...]
    main: str
    general: tuple[str, ...] = ()


def _plan(
    first: float,
    main: str,
    cognition: str,
    *,
    general: str = "",
    more: str = "",
    second: float = 0.0,
) -> SetPlan:
    perception = (main if main != "intent" else "emotion", "audio", "image", *more.split())
    return SetPlan(
        weights=(first, second or first),
        perception=perception,
        cognition=tuple(cognition.split()),
        main=main,
        general=tuple(general.split()),
    )


SETS: dict[str, SetPlan] = {
    "mer2023": _plan(60, "emotion", "emotion think reason", general="reason"),
    "caer": _plan(135, "emotion", "emotion reason think"),
    "dfew": _plan(135, "emotion", "emotion reason think"),
    "mc_eiu": _plan(120, "intent", "emotion reason think intent intent", more="intent", second=150),
    "mafw": _plan(
        105,
        "emotion",
        "emotion reason think multi-label think-multi",
        general="reason",
        more="multi-label",
    ),
    "bold": _plan(135, "multi-label", "multi-label reason think"),
    "e3": _plan(195, "emotion", "emotion think reason", general="reason"),
    "iemocap": _plan(120, "emotion", "emotion think reason", general="reason"),
    "ch_sims_v2_s": _plan(60, "sentiment", "sentiment reason think"),
    "cmu_mosei": _plan(240, "sentiment", "sentiment reason think"),
    "cmu_mosi": _plan(45, "sentiment", "sentiment reason think"),
    "meld": _plan(150, "emotion", "emotion reason think sentiment", more="sentiment"),
}
# General image sets: mixture weights of both stages, tag.
IMAGE_SETS: dict[str, tuple[tuple[float, float], str]] = {
    "coco_caption": ((30, 60), "caption"),
    "refcoco": ((100, 100), "refer"),
    "refcocop": ((100, 100), "refer"),
    "refcocog": ((100, 100), "refer"),
    "coco_vqa": ((75, 75), "vqa"),
    "ok_vqa": ((50, 100), "vqa"),
    "aok_vqa": ((36, 72), "vqa"),
    "gqa": ((50, 100), "vqa"),
}


def is_released(dataset: str) -> bool:
    """Whether a data set is part of the released stages."""
    return dataset in SETS or dataset in IMAGE_SETS


def speaking_person(record: ClipRecord) -> str | None:
    """The speaker named in the prompts of E3; None for other data sets."""
    return (record.speaker or "The person") if record.dataset == "e3" else None


def released_weights(style: str) -> dict[str, float]:
    """Mixture weights by data set, in `perception` or `cognition`."""
    stage = STAGES.index(style)
    return {name: plan.weights[stage] for name, plan in SETS.items()} | {
        name: weights[stage] for name, (weights, _) in IMAGE_SETS.items()
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskDraw:
    """One drawn task.

    Attributes:
      tag: the tag in the prompt.
      question: key of the question pool.
      labels: labels offered in the question.
      answer: the answer, before normalization.
      streams: the inputs that may be used.
      text: replaces `{text}` in the question.
      exact: the answer must not be normalized (boxes).
      key: key of the answer's author in `ClipRecord.provenance`.
    """

    tag: str
    question: str
    labels: tuple[str, ...]
    answer: str
    streams: tuple[str, ...] = STREAMS
    text: str = ""
    exact: bool = False
    key: str = ""


def draw_released(record: ClipRecord, style: prompts.Style, rng: np.random.Generator) -> TaskDraw:
    """Draws the task of one clip of MMEVerse or the image sets in a released stage.

    Raises:
      ValueError: the data set is not part of the released stages, or the style has none.
    """
    if record.dataset in IMAGE_SETS:
        return _draw_picture(record, rng)
    if record.dataset not in SETS or style not in _MAX_WORDS:
        raise ValueError(f"'{record.dataset}' is not part of the released {style} stage")
    plan = SETS[record.dataset]
    tasks = plan.perception if style == "perception" else plan.cognition
    task = tasks[int(rng.integers(len(tasks)))]
    drawn = (
        _perception(record, task, rng)
        if style == "perception"
        else _cognition(record, plan, task, rng)
    )
    unchecked = style == "cognition" and record.dataset == "dfew"
    if unchecked or (drawn.answer.strip() and len(drawn.answer.split()) <= _MAX_WORDS[style]):
        return drawn
    fallback = _label(record, plan.main, plan.main, labels=_fallback_labels(record, style))
    # After a failed audio task, the released code reloads sound and frames but not the image.
    streams = ("video", "audio") if drawn.tag == "audio" else STREAMS
    return dataclasses.replace(fallback, streams=streams)


def _draw_picture(record: ClipRecord, rng: np.random.Generator) -> TaskDraw:
    tag = IMAGE_SETS[record.dataset][1]
    answer = record.answers[int(rng.integers(len(record.answers)))]
    phrases = record.question.split("\n")
    text = phrases[int(rng.integers(len(phrases)))]
    return TaskDraw(
        tag=tag,
        question=tag,
        labels=(),
        answer=answer,
        streams=("image",),
        text=text,
        exact=tag == "refer",
        key="answers",
    )


def _label(
    record: ClipRecord, task: str, tag: str, *, labels: Sequence[str] | None = None
) -> TaskDraw:
    target = record.target(task)
    space = tuple(labels) if labels is not None else target.labels if target else ()
    answer = ",".join(target.parts) if target else ""  # several labels as in the released CSV files
    return TaskDraw(tag=tag, question=task, labels=space, answer=answer, key=task)


def _single_or_several(record: ClipRecord) -> TaskDraw:
    """MAFW: the multi-label target, or else the single label under the same tag."""
    target = record.target("multi-label")
    task = "multi-label" if target and target.label else "emotion"
    return _label(record, task, "multi-label")


def _perception(record: ClipRecord, task: str, rng: np.random.Generator) -> TaskDraw:
    if task == "audio":
        key = "audio_2" if rng.random() < 0.5 else "audio"
        return TaskDraw(
            tag="audio",
            question="audio",
            labels=record.labels,
            answer=record.texts.get(key, ""),
            streams=("audio",),
            key=key,
        )
    if task == "image":
        return TaskDraw(
            tag="image",
            question="image",
            labels=record.labels,
            answer=record.texts.get("image", ""),
            streams=("image",),
            key="image",
        )
    if task == "multi-label" and record.dataset == "mafw":
        return _single_or_several(record)
    if record.dataset == "iemocap":
        return _label(record, task, task, labels=_FOUR if _iemocap_label(record) in _FOUR else None)
    return _label(record, task, task)


def _fallback_labels(record: ClipRecord, style: str) -> tuple[str, ...] | None:
    if record.dataset != "iemocap":
        return None
    if style == "perception":
        return _FOUR if _iemocap_label(record) in _FOUR else None
    return _THREE if _iemocap_label(record) in _THREE else None


def _without_neutral(
    record: ClipRecord, task: str, probability: float, rng: np.random.Generator
) -> tuple[str, ...] | None:
    """The label space without neutral, with a probability, if the label is not neutral."""
    target = record.target(task)
    if target is None or target.label.lower() == "neutral" or rng.random() >= probability:
        return None
    return tuple(label for label in target.labels if label.lower() != "neutral")


def _cognition(record: ClipRecord, plan: SetPlan, task: str, rng: np.random.Generator) -> TaskDraw:
    name = record.dataset
    if task in ("reason", "think", "think-multi"):
        return _reasoned(record, plan, task, rng)
    if task == "multi-label" and name == "mafw":
        return _single_or_several(record)
    labels = None
    if task == "emotion" and name in ("mer2023", "dfew"):
        labels = _without_neutral(record, task, 0.5, rng)
    elif task == "sentiment" and name in ("cmu_mosei", "cmu_mosi"):
        labels = _POSITIVE_NEGATIVE if _without_neutral(record, task, 0.5, rng) else None
    elif task == "emotion" and name == "iemocap":
        labels = _iemocap_labels(record, rng)
    return _label(record, task, task, labels=labels)


def _iemocap_labels(record: ClipRecord, rng: np.random.Generator) -> tuple[str, ...] | None:
    small, label = rng.random() < 0.5, _iemocap_label(record)
    if label in _THREE:
        return _THREE if small else _FOUR
    return _FOUR if label == "Neutral" and small else None


def _iemocap_label(record: ClipRecord) -> str:
    """The spelling that selects the small label pools.

    It is that of MMEVerse's file (lower-case labels never select them), or the label if the data
    set's own codes were read.
    """
    return record.label if record.native in ("ang", "hap", "sad", "neu") else record.native


def _reasoned(record: ClipRecord, plan: SetPlan, task: str, rng: np.random.Generator) -> TaskDraw:
    name = record.dataset
    label_task, key, tag = plan.main, "reason", task
    if name == "meld" and rng.random() < 0.5:
        label_task, key = "sentiment", "reason_sentiment"
    if task == "think-multi":
        several = record.target("multi-label")
        if several is None or not several.label:
            # The single label without reasoning, under the tag of several.
            return _label(record, "emotion", "think-multi")
        label_task, key, tag = "multi-label", "reason_multi", "think"
    question = "general" if task in plan.general else f"{tag}-{label_task}"
    target = record.target(label_task)
    labels = target.labels if target else ()
    if task == "think" and name in ("mer2023", "dfew"):
        without = _without_neutral(record, label_task, 0.8 if name == "mer2023" else 0.5, rng)
        labels = without or labels
        if name == "mer2023" and without is None:
            question = "general"
    answer = record.texts.get(key, "")
    if task != "reason":
        # BoLD's labels keep their semicolons here, which normalization replaces by spaces.
        label = (";" if name == "bold" else ",").join(target.parts) if target else ""
        answer = prompts.think_answer(answer, label)
    return TaskDraw(tag=tag, question=question, labels=labels, answer=answer, key=key)

"""The two stages of MMEVerse as they were released: weights of the data sets, tasks of each, and what each task asks,
answers and hides. Source: reference of the data set classes of Emotion-LLaMAv2, `mer_datasets.py` and its `_ft` twin.

Its oddities are kept: a failed `audio` task trains on a zero image, IEMOCAP's small prompts need capitalised labels,
BoLD's think answers lose their separators, DFEW's answers are not checked. Own data sets are asked by `tasks.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_pipeline.loader import prompts
from data_pipeline.schema import ClipRecord

ALL = ("image", "video", "audio")
_POSITIVE_NEGATIVE = ("Positive", "Negative")
_FOUR, _THREE = ("Anger", "Sadness", "Neutral", "Happiness"), ("Anger", "Sadness", "Happiness")
_MAX_WORDS = {"perception": 120, "cognition": 200}
STAGES = tuple(_MAX_WORDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetPlan:
    """One data set in the released stages.

    Attributes:
      weights: of the draw, in perception and in cognition.
      perception, cognition: tasks, drawn uniformly; one may stand twice.
      main: the label task that a failed one falls back to.
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
# general image sets: weights of both stages, tag
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


def speaking_person(record: ClipRecord) -> str | None:
    """Who speaks in the prompts of E3, which names somebody; None in all others."""
    return (record.speaker or "The person") if record.dataset == "e3" else None


def released_weights(style: str) -> dict[str, float]:
    """Data set -> weight of its draw in `perception` or `cognition`."""
    stage = STAGES.index(style)
    return {name: plan.weights[stage] for name, plan in SETS.items()} | {
        name: weights[stage] for name, (weights, _) in IMAGE_SETS.items()
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """One drawn task.

    Attributes:
      tag: in the prompt.  question: key of the question pool.  labels: what the question offers.
      answer: before normalisation; exact: it is not normalised (boxes).
      streams: what may be looked at.  text: fills `{text}` of the question.
      key: of the answer's provenance.
    """

    tag: str
    question: str
    labels: tuple[str, ...]
    answer: str
    streams: tuple[str, ...] = ALL
    text: str = ""
    exact: bool = False
    key: str = ""


def draw_released(record: ClipRecord, style: prompts.Style, rng: np.random.Generator) -> Asked:
    """What one clip of MMEVerse or the image sets is asked in a released stage.

    Raises:
      ValueError: a data set that takes no part, or a style without released stages.
    """
    if record.dataset in IMAGE_SETS:
        return _draw_picture(record, rng)
    if record.dataset not in SETS or style not in _MAX_WORDS:
        raise ValueError(f"'{record.dataset}' has no part in the released {style} stage")
    plan = SETS[record.dataset]
    tasks = plan.perception if style == "perception" else plan.cognition
    task = tasks[int(rng.integers(len(tasks)))]
    asked = (
        _perception(record, task, rng)
        if style == "perception"
        else _cognition(record, plan, task, rng)
    )
    unchecked = style == "cognition" and record.dataset == "dfew"
    if unchecked or (asked.answer.strip() and len(asked.answer.split()) <= _MAX_WORDS[style]):
        return asked
    back = _label(record, plan.main, plan.main, labels=_fall_back_labels(record, plan, style))
    # After a failed audio task sound and frames are loaded again, the image is not.
    return dataclasses.replace(back, streams=("video", "audio") if asked.tag == "audio" else ALL)


def _draw_picture(record: ClipRecord, rng: np.random.Generator) -> Asked:
    tag = IMAGE_SETS[record.dataset][1]
    answer = record.answers[int(rng.integers(len(record.answers)))]
    phrases = record.question.split("\n")
    text = phrases[int(rng.integers(len(phrases)))]
    return Asked(
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
) -> Asked:
    target = record.target(task)
    space = tuple(labels) if labels is not None else target.labels if target else ()
    return Asked(
        tag=tag, question=task, labels=space, answer=target.label if target else "", key=task
    )


def _single_or_several(record: ClipRecord, tag: str, *, task: str = "multi-label") -> Asked:
    """MAFW: several labels, or the single one (under the same tag) where there are none."""
    target = record.target(task)
    return _label(record, task if target and target.label else "emotion", tag)


def _perception(record: ClipRecord, task: str, rng: np.random.Generator) -> Asked:
    if task == "audio":
        key = "audio_2" if rng.random() < 0.5 else "audio"
        return Asked(
            tag="audio",
            question="audio",
            labels=record.labels,
            answer=record.texts.get(key, ""),
            streams=("audio",),
            key=key,
        )
    if task == "image":
        return Asked(
            tag="image",
            question="image",
            labels=record.labels,
            answer=record.texts.get("image", ""),
            streams=("image",),
            key="image",
        )
    if task == "multi-label" and record.dataset == "mafw":
        return _single_or_several(record, "multi-label")
    if record.dataset == "iemocap":
        return _label(record, task, task, labels=_FOUR if _iemocap_label(record) in _FOUR else None)
    return _label(record, task, task)


def _fall_back_labels(record: ClipRecord, plan: SetPlan, style: str) -> tuple[str, ...] | None:
    if record.dataset != "iemocap":
        return None
    if style == "perception":
        return _FOUR if _iemocap_label(record) in _FOUR else None
    return _THREE if _iemocap_label(record) in _THREE else None


def _without_neutral(
    record: ClipRecord, task: str, share: float, rng: np.random.Generator
) -> tuple[str, ...] | None:
    """The label space without neutral, with a chance, where the label is another."""
    target = record.target(task)
    if target is None or target.label.lower() == "neutral" or rng.random() >= share:
        return None
    return tuple(label for label in target.labels if label.lower() != "neutral")


def _cognition(record: ClipRecord, plan: SetPlan, task: str, rng: np.random.Generator) -> Asked:
    name = record.dataset
    if task in ("reason", "think", "think-multi"):
        return _reasoned(record, plan, task, rng)
    if task == "multi-label" and name == "mafw":
        return _single_or_several(record, "multi-label")
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
    """The spelling that the small pools ask for: that of MMEVerse's file (lower case never finds them), or the label where
    the set's own codes were read.
    """
    return record.label if record.native in ("ang", "hap", "sad", "neu") else record.native


def _reasoned(record: ClipRecord, plan: SetPlan, task: str, rng: np.random.Generator) -> Asked:
    name = record.dataset
    label_task, key, tag = plan.main, "reason", task
    if name == "meld" and rng.random() < 0.5:
        label_task, key = "sentiment", "reason_sentiment"
    if task == "think-multi":
        several = record.target("multi-label")
        if several is None or not several.label:
            return _label(
                record, "emotion", "think-multi"
            )  # the single label alone, under the tag of several
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
        # BoLD's labels keep their semicolons here, which the normaliser turns into blanks.
        label = "" if target is None else target.native if name == "bold" else target.label
        answer = prompts.think_answer(answer, label)
    return Asked(tag=tag, question=question, labels=labels, answer=answer, key=key)

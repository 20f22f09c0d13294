"""Prompts and answers: tags, templates and question pools.

Structure and tags follow Emotion-LLaMA and Emotion-LLaMAv2 exactly, since their released weights
depend on them. The wording of the questions is our own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from data_pipeline.loader.tokens import FEATURE_HERE, instruct
from data_pipeline.schema import VIDEO_HERE

# The two stages of Emotion-LLaMAv2, and Emotion-LLaMA.
Style = Literal["perception", "cognition", "v1"]
# Layout of a prompt at evaluation: as in training, or as in the released programs (two BOS, other
# spaces).
Layout = Literal["train", "released_eval", "released_demo"]
Wrap = Callable[..., str]  # message -> prompt in a chat template, see `Tokenizer.wrap`
TASKS = (
    "emotion",
    "sentiment",
    "intent",
    "multi-label",
    "audio",
    "image",
    "reason",
    "think",
    "reason_v2",
)
# Label tasks that explanations and reasoning are about.
LABELLED = ("emotion", "sentiment", "intent", "multi-label")
# Keys of question pools that are not tags: general image tasks, and questions by label task.
OTHER_QUESTIONS = (
    "caption",
    "vqa",
    "refer",
    "general",
    *(f"{k}-{t}" for k in ("reason", "think") for t in LABELLED),
)
V1_LEAD = f"<video>{VIDEO_HERE}</video> <feature>{FEATURE_HERE}</feature>"


def think_answer(reasoning: str, label: str) -> str:
    """An answer in the think format, before normalization."""
    return f"<think>{reasoning}</think><answer>{label}</answer>"


def character_line(subtitle: str, style: Style, *, person: str | None = None) -> str:
    """The sentence with the transcript.

    It ends with a period, except in style `cognition` without a named person (E3).
    """
    if person is not None:
        return f"{person} in video says: {subtitle}. "
    period = "" if style == "cognition" else "."
    return f"The person in video says: {subtitle}{period} "


def train_prompt(
    subtitle: str,
    task: str,
    question: str,
    style: Style,
    *,
    person: str | None = None,
    wrap: Wrap = instruct,
) -> str:
    """The training instruction in its chat template, without BOS.

    Args:
      subtitle: the transcript.
      task: the tag, without brackets.
      question: the question, see `question`.
      style: style of the prompt.
      person: name of the speaker, for data sets that give one (E3).
      wrap: puts the message into the chat template of the language model.
    """
    line = character_line(_without_tokens(subtitle), style, person=person)
    lead = V1_LEAD if style == "v1" else f"<Vid>{VIDEO_HERE}</Vid>"
    return wrap(f"{lead} {line} [{task}] {question}", thinks=task == "think")


def picture_prompt(task: str, question: str, *, wrap: Wrap = instruct) -> str:
    """The training instruction of a general image set, which has no transcript."""
    return wrap(f"<Vid>{VIDEO_HERE}</Vid> [{task}] {_without_tokens(question)}")


def released_eval_prompt(
    subtitle: str, task: str, question: str, *, dataset: str = "", person: str | None = None
) -> str:
    """The instruction of the released evaluation of Emotion-LLaMAv2.

    There are two spaces after </Vid>, except for MER2023 and MER2024, and no period after the
    transcript of OV-MERD+.

    Args:
      subtitle: the transcript.
      task: the tag, without brackets.
      question: the question, see `question`.
      dataset: name of the data set.
      person: name of the speaker, for data sets that give one (E3).
    """
    gap = " " if dataset in ("mer2023", "mer2024", "mer2024_semi") else "  "
    style: Style = "cognition" if dataset == "ov_merd+" else "perception"
    line = character_line(_without_tokens(subtitle), style, person=person)
    return f"<s>[INST] <Vid>{VIDEO_HERE}</Vid>{gap}{line} [{task}] {question}  [/INST]"


def eval_prompt(
    subtitle: str,
    task: str,
    question: str,
    style: Style,
    *,
    layout: Layout = "train",
    dataset: str = "",
    person: str | None = None,
    wrap: Wrap = instruct,
) -> str:
    """The instruction at evaluation.

    Source: eval_emotion.py and conversation.py of v1, the evaluation data sets and conversation.py
    of v2. In v1's demo the upload and the question are two user turns; the first has no closing
    tag.

    Args:
      subtitle: the transcript.
      task: the tag, without brackets.
      question: the question, see `question`.
      style: style of the prompt.
      layout: in the released layouts, `<s>` and `</s>` in the prompt are tokens.
      dataset: name of the data set; some have their own layout.
      person: name of the speaker, for data sets that give one (E3).
      wrap: as of `train_prompt`; the released layouts have LLaMA-2's template.
    """
    if layout == "train":
        return train_prompt(subtitle, task, question, style, person=person, wrap=wrap)
    line = character_line(_without_tokens(subtitle), "perception", person=person)
    message = f"{line.strip()} [{task}] {question}"
    if style == "v1":
        if layout == "released_demo":
            return f"<s>[INST] {V1_LEAD}<s>[INST] {message} [/INST]"
        return "<s>" + train_prompt(subtitle, task, question, style, person=person)
    if layout == "released_demo":
        return conversation_prompt([(message, None)])
    return released_eval_prompt(subtitle, task, question, dataset=dataset, person=person)


def _without_tokens(text: str) -> str:
    """Removes placeholders and special tokens: a prompt must contain only those of its template."""
    while (cut := re.sub(f"{VIDEO_HERE}|{FEATURE_HERE}|</?s>", "", text)) != text:
        text = cut  # a removal may have joined the parts of another token
    return text


def conversation_prompt(turns: list[tuple[str, str | None]]) -> str:
    """The chat prompt of the released demo.

    Args:
      turns: (question, answer or None); the first turn includes the clip.
    """
    out = ""
    for i, (question, answer) in enumerate(turns):
        lead = f"<Vid>{VIDEO_HERE}</Vid> " if i == 0 else ""
        out += f"<s>[INST] {lead}{question.strip()} [/INST]"
        if answer is not None:
            out += f"{answer} </s>"
    return out


# `{labels}` is replaced by the label list of the data set.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "emotion": (
        "Which one of {labels} is shown?",
        "Name the emotion: {labels}.",
        "Choose the best label from {labels}.",
    ),
    "sentiment": ("Is the sentiment one of {labels}?", "Choose the sentiment from {labels}."),
    "intent": ("Which intent of {labels} is behind it?", "Choose the intent from {labels}."),
    "multi-label": ("Which of {labels} are shown?", "List every label of {labels} that fits."),
    "audio": ("How does the voice sound?", "Describe the sound.", "What can be heard?"),
    "image": ("How does the person look?", "Describe the picture.", "What can be seen?"),
    "reason": (
        "Which clues show the emotion?",
        "Explain what the person shows.",
        "Give the reason.",
    ),
    "reason_v2": (
        "Which clues show the emotion?",
        "Explain what the person shows.",
        "Give the reason.",
    ),
    "think": ("Think, then name the emotion.", "Reason about the clues, then answer."),
    # the questions of MMEVerse, by label task
    "reason-emotion": ("Which clues show the emotion?", "Explain how the emotion is shown."),
    "reason-sentiment": ("Which clues show the sentiment?", "Explain how the sentiment is shown."),
    "reason-intent": ("Which clues show the intent?", "Explain what the person intends."),
    "reason-multi-label": (
        "Which clues show these emotions?",
        "Explain how each emotion is shown.",
    ),
    "think-emotion": (
        "Think, then name the emotion: {labels}.",
        "Reason about the clues of emotion, then choose one of {labels}.",
    ),
    "think-sentiment": (
        "Think, then name the sentiment: {labels}.",
        "Reason about the clues of sentiment, then choose one of {labels}.",
    ),
    "think-intent": (
        "Think, then name the intent: {labels}.",
        "Reason about the clues of intent, then choose one of {labels}.",
    ),
    "think-multi-label": (
        "Think, then list every label of {labels} that fits.",
        "Reason about the clues, then list the labels of {labels} that are shown.",
    ),
    "general": ("What does the clip tell?", "Put together what is seen, heard and said."),
    # `{text}` is replaced by the question or phrase of the data set.
    "caption": (
        "Describe the picture in a sentence.",
        "What does the picture show?",
        "Give a caption.",
    ),
    "vqa": ("{text}", "Give a short answer: {text}"),
    "refer": ("Where is {text}?", "Give the box of {text}.", "Locate {text}."),
}


Questions = Mapping[str, Sequence[str]]


def question_pool(
    task: str, *, custom: Questions | None = None, dataset: str = ""
) -> Sequence[str]:
    """The wordings of the question of a task.

    Args:
      task: key of the question pool.
      custom: wordings that replace the built-in ones, by DATASET/TASK or by task.
      dataset: name of the data set.
    """
    custom = custom or {}
    return custom.get(f"{dataset}/{task}") or custom.get(task) or QUESTIONS[task]


def question(
    task: str,
    labels: tuple[str, ...],
    *,
    index: int = 0,
    custom: Questions | None = None,
    dataset: str = "",
) -> str:
    """The question of a task.

    Args:
      task: key of the question pool.
      labels: label space, replaces `{labels}`.
      index: number of the wording, modulo the size of the pool.
      custom: as of `question_pool`.
      dataset: as of `question_pool`.
    """
    pool = question_pool(task, custom=custom, dataset=dataset)
    return pool[index % len(pool)].replace("{labels}", ", ".join(labels))

"""Instructions and answers: tags, templates, normaliser; the questions are our own wording.

Structure, tags and normaliser follow Emotion-LLaMA and Emotion-LLaMAv2 to the character (their released weights
expect them); the texts of the question pools are not taken from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from data_pipeline.loader.tokens import FEATURE_HERE
from data_pipeline.schema import VIDEO_HERE

Style = Literal[
    "perception", "cognition", "v1"
]  # the two stages of Emotion-LLaMAv2, and Emotion-LLaMA
# How a question is put at evaluation: as in training, or as the released programs do (two BOS, other blanks).
Layout = Literal["train", "released_eval", "released_demo"]
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
# Kinds of questions that are no tags of their own: of pictures alone, and of everything at once.
LABELLED = (
    "emotion",
    "sentiment",
    "intent",
    "multi-label",
)  # label tasks that reasons and thoughts are about
OTHER_QUESTIONS = (
    "caption",
    "vqa",
    "refer",
    "general",
    *(f"{k}-{t}" for k in ("reason", "think") for t in LABELLED),
)
V1_LEAD = f"<video>{VIDEO_HERE}</video> <feature>{FEATURE_HERE}</feature>"


def think_answer(reasoning: str, label: str) -> str:
    """The think format, before normalisation."""
    return f"<think>{reasoning}</think><answer>{label}</answer>"


def character_line(subtitle: str, style: Style, *, person: str | None = None) -> str:
    """Who says what; cognition adds no dot, the others do, and a named person (E3) always has one."""
    if person is not None:
        return f"{person} in video says: {subtitle}. "
    return (
        f"The person in video says: {subtitle} "
        if style == "cognition"
        else f"The person in video says: {subtitle}. "
    )


def train_prompt(
    subtitle: str, task: str, question: str, style: Style, *, person: str | None = None
) -> str:
    """The training instruction in its chat template, without BOS."""
    line = character_line(_harmless(subtitle), style, person=person)
    if style == "v1":
        return f"[INST] {V1_LEAD} {line} [{task}] {question}  [/INST]"
    return f"[INST] <Vid>{VIDEO_HERE}</Vid> {line} [{task}] {question}  [/INST]"


def picture_prompt(task: str, question: str) -> str:
    """The training instruction of a general image set: nobody says anything."""
    return f"[INST] <Vid>{VIDEO_HERE}</Vid> [{task}] {_harmless(question)}  [/INST]"


def released_eval_prompt(
    subtitle: str, task: str, question: str, *, dataset: str = "", person: str | None = None
) -> str:
    """The released evaluation instruction: two blanks after </Vid> but for MER2023 and MER2024; no dot in OV-MERD+."""
    gap = " " if dataset in ("mer2023", "mer2024", "mer2024_semi") else "  "
    line = character_line(
        _harmless(subtitle), "cognition" if dataset == "ov_merd+" else "perception", person=person
    )
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
) -> str:
    """The instruction that is answered; in a released layout `<s>` and `</s>` in it are tokens. `dataset`: some have a
    layout of their own. `person`: who speaks, where the set names somebody (E3).

    Source: eval_emotion.py and conversation.py of v1 (whose demo makes two user turns of upload and question, the
    first without a closing tag), the evaluation data sets and conversation.py of v2.
    """
    if layout == "train":
        return train_prompt(subtitle, task, question, style, person=person)
    said = f"{character_line(_harmless(subtitle), 'perception', person=person).strip()} [{task}] {question}"
    if style == "v1":
        if layout == "released_demo":
            return f"<s>[INST] {V1_LEAD}<s>[INST] {said} [/INST]"
        return "<s>" + train_prompt(subtitle, task, question, style, person=person)
    if layout == "released_demo":
        return conversation_prompt([(said, None)])
    return released_eval_prompt(subtitle, task, question, dataset=dataset, person=person)


def _harmless(subtitle: str) -> str:
    # The places of the soft prompt stand once in a prompt, whatever was said, and nobody says a special token.
    while (cut := re.sub(f"{VIDEO_HERE}|{FEATURE_HERE}|</?s>", "", subtitle)) != subtitle:
        subtitle = cut  # what is left may have come together to another
    return subtitle


def conversation_prompt(turns: list[tuple[str, str | None]]) -> str:
    """The demo's chat: (question, answer or None) turns; the first holds the clip."""
    out = ""
    for i, (question, answer) in enumerate(turns):
        lead = f"<Vid>{VIDEO_HERE}</Vid> " if i == 0 else ""
        out += f"<s>[INST] {lead}{question.strip()} [/INST]"
        if answer is not None:
            out += f"{answer} </s>"
    return out


# {labels} is filled with the label list of the data set.
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
    # as MMEVerse asks, by label task
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
    # {text} is filled with the question or the phrase of the set.
    "caption": (
        "Describe the picture in a sentence.",
        "What does the picture show?",
        "Give a caption.",
    ),
    "vqa": ("{text}", "Give a short answer: {text}"),
    "refer": ("Where is {text}?", "Give the box of {text}.", "Locate {text}."),
}


Questions = Mapping[str, Sequence[str]]


def question_pool(task: str, *, own: Questions | None = None) -> Sequence[str]:
    """The wordings of a task: those of `own` where it has the task."""
    return (own or {}).get(task) or QUESTIONS[task]


def question(
    task: str, labels: tuple[str, ...], pick: int = 0, own: Questions | None = None
) -> str:
    """Question number `pick` (modulo the pool) of a task, `{labels}` filled in."""
    pool = question_pool(task, own=own)
    return pool[pick % len(pool)].replace("{labels}", ", ".join(labels))

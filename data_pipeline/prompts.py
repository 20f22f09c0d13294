"""Instructions and answers of both stages: tags, templates, normaliser; the questions are our own wording.

Structure, tags and normaliser follow Emotion-LLaMAv2 to the character (its released weights expect
them); the texts of the question pools are not taken from it.
"""

from __future__ import annotations

import re
from typing import Literal

from data_pipeline.tokens import VIDEO_HERE

Style = Literal["perception", "cognition"]
TASKS = ("emotion", "sentiment", "intent", "multi-label", "audio", "image", "reason", "think")

_REMOVED = re.compile(r'[.!"()*#:;~]')
_BLANKS = re.compile(r"\s{2,}")


def normalise_answer(text: str, max_words: int = 200) -> str:
    """The normaliser of every training answer: lower case, `. ! " ( ) * # : ; ~` to blanks, at most 200 words."""
    text = _BLANKS.sub(" ", _REMOVED.sub(" ", text.lower())).rstrip("\n").strip(" ")
    words = text.split(" ")
    return " ".join(words[:max_words]) if len(words) > max_words else text


def think_answer(reasoning: str, label: str) -> str:
    """The think format, before normalisation."""
    return f"<think>{reasoning}</think><answer>{label}</answer>"


def character_line(subtitle: str, style: Style, person: str | None = None) -> str:
    """Who says what; perception adds a dot, cognition does not, and a named person (E3) always has one."""
    if person is not None:
        return f"{person} in video says: {subtitle}. "
    return (
        f"The person in video says: {subtitle}. " if style == "perception" else f"The person in video says: {subtitle} "
    )


def train_prompt(subtitle: str, task: str, question: str, style: Style, person: str | None = None) -> str:
    """The training instruction in its chat template, without BOS."""
    # The place of the soft prompt stands once in a prompt, whatever was said.
    line = character_line(subtitle.replace(VIDEO_HERE, ""), style, person)
    return f"[INST] <Vid>{VIDEO_HERE}</Vid> {line} [{task}] {question}  [/INST]"


def released_eval_prompt(subtitle: str, task: str, question: str, dataset: str = "") -> str:
    """The released evaluation instruction: two blanks after </Vid> but for MER2023 and MER2024; no dot in OV-MERD+."""
    gap = " " if dataset in ("mer2023", "mer2024_semi") else "  "
    line = character_line(subtitle, "cognition" if dataset == "ov_merd+" else "perception")
    return f"<s>[INST] <Vid>{VIDEO_HERE}</Vid>{gap}{line} [{task}] {question}  [/INST]"


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
    "reason": ("Which clues show the emotion?", "Explain what the person shows.", "Give the reason."),
    "think": ("Think, then name the emotion.", "Reason about the clues, then answer."),
}


def question(task: str, labels: tuple[str, ...], pick: int = 0) -> str:
    """Question number `pick` (modulo the pool) of a task."""
    pool = QUESTIONS[task]
    return pool[pick % len(pool)].format(labels=", ".join(labels))

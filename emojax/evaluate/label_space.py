"""The label space of a set, and the metric that fits truths that come without a set."""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_pipeline.datasets.labels import concept
from data_pipeline.datasets.open_vocabulary import word_list
from data_pipeline.datasets.rows import CellError
from emojax.evaluate.official_parsing import label_set
from emojax.evaluate.predictions import Prediction

_SENTIMENTS = {"positive", "negative", "neutral"}


def guess_metric(rows: Sequence[Prediction]) -> str:
    """The metric of rows that come without a set, by the form of their truths.

    Raises:
      ValueError: no row has an answer, or all answers are numbers.
    """
    answers = [r.answer.strip() for r in rows if r.answer.strip()]
    if not answers:
        raise ValueError("no row has an 'answer' to compare with; give --truth")
    if all(re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", a.lower()) for a in answers):
        raise ValueError(
            "every 'answer' is a number: give numbers as valence_answer and valence, or labels "
            "such as positive and negative"
        )
    if all(a.startswith("[") and a.endswith("]") for a in answers):
        return "open_vocabulary"
    if any(len(label_set(a)) > 1 for a in answers):
        return "multi_label"
    return "two_class" if {a.lower() for a in answers} <= _SENTIMENTS else "single"


def answer_words(text: str) -> tuple[str, ...]:
    """The words of an open answer: a list such as `['sad', 'tired']`, or text with separators."""
    try:
        return word_list(text)
    except CellError:
        return tuple(label_set(text))


def to_label_space(
    answers: Sequence[str], asked: Sequence[str]
) -> tuple[tuple[str, ...], list[str]]:
    """Brings truths into the spelling of the labels that the question offered.

    Args:
      answers: the truths.
      asked: the labels of the question.

    Returns:
      The label space (`asked` and any further labels of the truth), and the truths in its spelling.
    """
    space = list(asked)
    by_name = {label.lower(): label for label in space}
    by_concept = {concept(label): label for label in space}
    unknown = {
        a.strip()
        for a in answers
        if a.strip().lower() not in by_name and concept(a) not in by_concept
    }
    for label in sorted(unknown):
        if label.lower() not in by_name:  # two spellings of one label differ only in case
            by_name[label.lower()] = label
            space.append(label)
    truths = [by_name.get(a.strip().lower()) or by_concept[concept(a)] for a in answers]
    return tuple(space), truths

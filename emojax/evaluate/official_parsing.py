"""How the official scripts of Emotion-LLaMA (v1 and v2) split answers into labels and words.

They strip no tag and read no sentence: a final full stop makes a word a different word. The
official scores that use these functions are in the file of each metric; `parse_answers` has the
parser of the strict scores.

Source: score_hit_ov.py, score_split.py, score_split_sentiment_no_neutral.py and
score_multilabel.py of Emotion-LLaMAv2; eval_emotion.py of Emotion-LLaMA.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

_SEPARATORS = re.compile("[,;]")


def item_list(text: str) -> list[str]:
    """Splits `['happy', 'sad']` into its items, without changing case.

    One bracket is removed at each end; quotes and commas separate.
    """
    return [
        item
        for part in re.split("['\",]", text.removeprefix("[").removesuffix("]"))
        if (item := part.strip())
    ]


def response_items(response: str) -> list[str]:
    """The items of a response.

    The official scorer adds a pair of brackets and removes it again, so brackets of the answer
    itself stay.
    """
    return item_list(f"[{response}]")


def label_set(text: str) -> list[str]:
    """Labels of a cell or a response, separated by commas or semicolons, in lower case."""
    return [label for part in _SEPARATORS.split(text) if (label := part.strip().lower())]


def last_word(response: str, labels: Sequence[str], *, otherwise: str = "neutral") -> str:
    """The label of an answer by the rule of Emotion-LLaMA (v1): its last word after a blank.

    Args:
      response: the answer.
      labels: the label space.
      otherwise: the label of an answer whose last word is not in `labels`.
    """
    word = response.rsplit(" ", maxsplit=1)[-1]
    return word if word in labels else otherwise


def response_of(responses: Mapping[str, str], clip: str) -> str:
    """The response to a clip.

    Raises:
      ValueError: there is none.
    """
    if clip not in responses:
        raise ValueError(
            f"clip '{clip}' has no prediction; the official score needs one for each clip of the "
            "truth"
        )
    return responses[clip]


def mean_or_nan(values: Sequence[float]) -> float:
    """The mean, or NaN without values."""
    return float(np.mean(values)) if values else float("nan")

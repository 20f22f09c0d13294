"""Draws the task of a clip and builds its prompt and answer.

Rules of Emotion-LLaMAv2: one task per sample, drawn uniformly; the `audio` and `image` tasks of
perception use only that stream; an empty or too long answer falls back to the label task. The tasks
of MMEVerse in the released stages are in released_stages.py.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipeline.datasets.labels import normalize_answer
from data_pipeline.loader import prompts, released_stages
from data_pipeline.loader.tokens import instruct
from data_pipeline.schema import STREAMS, ClipRecord, Example

_TASK_STREAMS: dict[str, tuple[str, ...]] = {"audio": ("audio",), "image": ("image",)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageTasks:
    """The tasks of one curriculum stage.

    Attributes:
      style: prompt style, `perception` or `cognition`.
      tasks: drawn uniformly; repeated ones are drawn more often.
      max_words: longer answers fall back to the label task (120 and 200 in the released stages).
      label_task: the task of the fallback.
      restore_image: whether the fallback of a failed `audio` task has its image (not in the
        released code).
      drop_modality: probability of hiding one modality (0 in the released code). If the answer is
        an explanation, only a modality whose clue can be cut from it is hidden.
      random_word_insertion: probability of a made-up word at each position between words of the
        transcript (0 in the released code); inserted by samples.DrawRow.
      released: data sets of MMEVerse use the tasks of the released stage of this style
        (released_stages.py); the other fields apply to all other data sets.
    """

    style: prompts.Style
    tasks: tuple[str, ...]
    max_words: int = 120
    label_task: str = "emotion"
    restore_image: bool = True
    drop_modality: float = 0.0
    random_word_insertion: float = 0.0
    released: bool = False


def answer_text(record: ClipRecord, task: str) -> str:
    """The answer of a task before normalization; "" if the record has none."""
    if task in ("audio", "image"):
        return record.texts.get(task, "")
    if task in ("reason", "reason_v2"):
        return record.texts.get("reason", "")
    if task == "think":
        reason = record.texts.get("reason", "")
        return prompts.think_answer(reason, record.label) if reason else ""
    target = record.target(task)
    return target.label if target else record.label


def without_clue(record: ClipRecord, answer: str, hidden: str) -> str | None:
    """Removes the clause of one modality from an explanation.

    This is possible if the record contains the clue of the modality as a separate text and the
    explanation quotes it word for word, as merged explanations do. The conclusion of a conflict
    refers to every modality and is left whole.

    Args:
      record: the clip.
      answer: the explanation.
      hidden: the modality, `video`, `audio` or `text`.

    Returns:
      The rest of the explanation, None if the clause cannot be removed.
    """
    clue = record.texts.get({"video": "image"}.get(hidden, hidden), "")
    if not clue or f"{clue}, " not in answer or (record.truth or {}).get("conflict"):
        return None
    return answer.replace(f"{clue}, ", "", 1)


def insert_random_words(text: str, probability: float, rng: np.random.Generator) -> str:
    """Inserts made-up words of the text's own letters between its words.

    A model trained on few clips meets words at test time that training never contained, as pieces
    whose embeddings were never trained. Made-up words teach it that such words change neither label
    nor task. This is the random insertion of Wei and Zou 2019 (EDA) with made-up words in place of
    synonyms.

    Args:
      text: the transcript.
      probability: of an insertion before each word and after the last one.
      rng: source of the random choices.
    """
    letters = [c for c in text if c.isalnum()]
    if not letters:
        return text
    out: list[str] = []
    for word in (*text.split(" "), None):
        if rng.random() < probability:
            out.append("".join(rng.choice(letters, int(rng.integers(2, 9)))))
        if word is not None:
            out.append(word)
    return " ".join(out)


def draw_example(
    record: ClipRecord,
    stage: StageTasks,
    rng: np.random.Generator,
    *,
    no_subtitle: str = "",
    questions: prompts.Questions | None = None,
    wrap: prompts.Wrap = instruct,
) -> Example:
    """Draws one instruction sample of a clip: task, fallback, hidden modality, question.

    Args:
      record: the clip.
      stage: the tasks of the stage.
      rng: source of the random choices.
      no_subtitle: replaces an unknown or hidden transcript in the prompt.
      questions: wordings by task that replace the built-in ones.
      wrap: as of `prompts.train_prompt`.
    """
    if stage.released and released_stages.is_released(record.dataset):
        return released_example(
            record, stage.style, rng, no_subtitle=no_subtitle, questions=questions, wrap=wrap
        )
    task = stage.tasks[int(rng.integers(len(stage.tasks)))]
    answer = answer_text(record, task)
    streams = _TASK_STREAMS.get(task, STREAMS)
    if not answer or len(answer.split()) > stage.max_words:
        failed, task = task, stage.label_task
        answer = answer_text(record, task)
        streams = STREAMS if failed != "audio" or stage.restore_image else ("video", "audio")
    subtitle = record.subtitle
    if rng.random() < stage.drop_modality:
        hidden = str(rng.choice(["video", "audio", "text"]))
        shorter = answer if task == stage.label_task else without_clue(record, answer, hidden)
        if shorter is None:  # the answer would mention the hidden modality
            hidden = ""
        else:
            answer = shorter
        if hidden == "text":
            subtitle = ""
        elif hidden:
            streams = tuple(s for s in streams if (s == "audio") == (hidden == "video"))
    index = int(rng.integers(1 << 16))
    prompt = prompts.train_prompt(
        subtitle or no_subtitle,
        task,
        prompts.question(task, record.labels, index=index, custom=questions),
        stage.style,
        wrap=wrap,
    )
    author = record.provenance.get("reason" if task in ("think", "reason_v2") else task, "")
    return Example(
        clip=record,
        task=task,
        prompt=prompt,
        answer=normalize_answer(answer),
        streams=streams,
        provenance=author,
    )


def released_example(
    record: ClipRecord,
    style: prompts.Style,
    rng: np.random.Generator,
    *,
    no_subtitle: str = "",
    questions: prompts.Questions | None = None,
    wrap: prompts.Wrap = instruct,
) -> Example:
    """Draws one instruction sample of MMEVerse or an image set, as in the released stages.

    Args:
      record: the clip.
      style: the stage, `perception` or `cognition`.
      rng: source of the random choices.
      no_subtitle: replaces an unknown transcript in the prompt.
      questions: wordings by task that replace the built-in ones.
      wrap: as of `prompts.train_prompt`.

    Raises:
      ValueError: the data set is not part of the released stages, or the style has none.
    """
    drawn = released_stages.draw_released(record, style, rng)
    index = int(rng.integers(1 << 16))
    text = normalize_answer(drawn.text) if drawn.tag == "vqa" else drawn.text
    question = prompts.question(drawn.question, drawn.labels, index=index, custom=questions)
    question = question.replace("{text}", text)
    if record.dataset in released_stages.IMAGE_SETS:
        prompt = prompts.picture_prompt(drawn.tag, question, wrap=wrap)
    else:
        person = released_stages.speaking_person(record)
        prompt = prompts.train_prompt(
            record.subtitle or no_subtitle, drawn.tag, question, style, person=person, wrap=wrap
        )
    answer = drawn.answer if drawn.exact else normalize_answer(drawn.answer)
    return Example(
        clip=record,
        task=drawn.tag,
        prompt=prompt,
        answer=answer,
        streams=drawn.streams,
        provenance=record.provenance.get(drawn.key, ""),
    )

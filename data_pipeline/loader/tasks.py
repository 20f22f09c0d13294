"""Which task a clip is asked, and what is learned from it.

Rules of Emotion-LLaMAv2: one task uniformly per sample; perception's `audio` and `image` tasks see
one stream alone; an empty or over-long answer falls back to the label task. What the released stages ask each set of
MMEVerse is in curriculum.py.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipeline.datasets.labels import normalise_answer
from data_pipeline.loader import prompts, released_stages
from data_pipeline.schema import ClipRecord, Example

STREAMS = ("image", "video", "audio")
_TASK_STREAMS: dict[str, tuple[str, ...]] = {"audio": ("audio",), "image": ("image",)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageTasks:
    """What one curriculum stage asks.

    Attributes:
      style: prompt style, `perception` or `cognition`.
      tasks: drawn uniformly; a task may stand in it twice.
      max_words: longer answers fall back to the label task (120 and 200 in the released stages).
      label_task: the fall-back.
      restore_image: give the fall-back of a failed `audio` task its image back (the released code does not).
      drop_modality: chance to hide one modality (0 in the released code); from a question that is answered with
        a reason only where the hidden modality's clue can be cut from the reason.
      strange_words: chance of a made-up word before each word that is said, and behind the last (0 in the released code);
        what draws rows puts them in (pipeline.AskClip).
      released: sets of MMEVerse are asked what the released stage of this style asks them (curriculum.py); the other
        fields hold for all others.
    """

    style: prompts.Style
    tasks: tuple[str, ...]
    max_words: int = 120
    label_task: str = "emotion"
    restore_image: bool = True
    drop_modality: float = 0.0
    strange_words: float = 0.0
    released: bool = False


def answer_text(record: ClipRecord, task: str) -> str:
    """The untreated target of a task; "" where the record has none."""
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
    """A reason without the clause of one modality, None where it can not be cut out.

    It can where the record holds the modality's clue as a text of its own and the reason has it word for word, as
    merged reasons do. A conflict's conclusion speaks of every modality: it stays whole.
    """
    clue = record.texts.get({"video": "image"}.get(hidden, hidden), "")
    if not clue or f"{clue}, " not in answer or (record.truth or {}).get("conflict"):
        return None
    return answer.replace(f"{clue}, ", "", 1)


def with_strange_words(said: str, chance: float, rng: np.random.Generator) -> str:
    """The words with made-up ones of their own letters between them: nothing that was said is lost.

    A model that learns from few clips meets words at test that its training never had, in pieces whose embeddings
    never learned. It has to know beforehand that such words change nothing: neither label nor task. Random insertion of Wei and
    Zou 2019 (EDA), with words that nobody knows in place of synonyms.
    """
    letters = [c for c in said if c.isalnum()]
    if not letters:
        return said
    out: list[str] = []
    for word in (*said.split(" "), None):
        if rng.random() < chance:
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
) -> Example:
    """One instruction sample of a clip, with the stage's task draw, fall-backs and hidden modalities.

    `no_subtitle` stands in the prompt where no words are known or they are hidden. `questions`: own wordings by task.
    """
    if stage.released and (
        record.dataset in released_stages.SETS or record.dataset in released_stages.IMAGE_SETS
    ):
        return released_example(
            record, stage.style, rng, no_subtitle=no_subtitle, questions=questions
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
        left = answer if task == stage.label_task else without_clue(record, answer, hidden)
        if left is None:  # the answer would name what is hidden
            hidden = ""
        else:
            answer = left
        if hidden == "text":
            subtitle = ""
        elif hidden:
            streams = tuple(s for s in streams if (s == "audio") == (hidden == "video"))
    pick = int(rng.integers(1 << 16))
    prompt = prompts.train_prompt(
        subtitle or no_subtitle,
        task,
        prompts.question(task, record.labels, pick, questions),
        stage.style,
    )
    author = record.provenance.get("reason" if task in ("think", "reason_v2") else task, "")
    return Example(
        clip=record,
        task=task,
        prompt=prompt,
        answer=normalise_answer(answer),
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
) -> Example:
    """One instruction sample of a set of MMEVerse, as its released stage draws it."""
    asked = released_stages.draw_released(record, style, rng)
    pick = int(rng.integers(1 << 16))
    question = prompts.question(asked.question, asked.labels, pick, questions).replace(
        "{text}", normalise_answer(asked.text) if asked.tag == "vqa" else asked.text
    )
    if record.dataset in released_stages.IMAGE_SETS:
        prompt = prompts.picture_prompt(asked.tag, question)
    else:
        person = released_stages.speaking_person(record)
        prompt = prompts.train_prompt(
            record.subtitle or no_subtitle, asked.tag, question, style, person=person
        )
    answer = asked.answer if asked.exact else normalise_answer(asked.answer)
    return Example(
        clip=record,
        task=asked.tag,
        prompt=prompt,
        answer=answer,
        streams=asked.streams,
        provenance=record.provenance.get(asked.key, ""),
    )

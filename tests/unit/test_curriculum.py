"""The released stages, draw by draw.

Expected frequencies are computed by hand from the tables of the two papers' code: weights of 20
data sets, tasks of twelve, hidden streams, label lists in the questions.
"""

import math
from collections import Counter

import numpy as np
import pytest

from data_pipeline.loader import released_stages
from data_pipeline.loader.mixture import Mixture
from data_pipeline.loader.released_stages import draw_released, released_weights
from data_pipeline.loader.tasks import StageTasks, draw_example
from data_pipeline.schema import ClipRecord, Target

DRAWS = 200_000
# data set: (weight in stage 1, in stage 2)
WEIGHTS = {
    "coco_caption": (30, 60),
    "refcoco": (100, 100),
    "refcocop": (100, 100),
    "refcocog": (100, 100),
    "coco_vqa": (75, 75),
    "ok_vqa": (50, 100),
    "aok_vqa": (36, 72),
    "gqa": (50, 100),
    "mer2023": (60, 60),
    "caer": (135, 135),
    "dfew": (135, 135),
    "mc_eiu": (120, 150),
    "mafw": (105, 105),
    "bold": (135, 135),
    "e3": (195, 195),
    "iemocap": (120, 120),
    "ch_sims_v2_s": (60, 60),
    "cmu_mosei": (240, 240),
    "cmu_mosi": (45, 45),
    "meld": (150, 150),
}
# Proportion of each tag in a data set, stage 1 and stage 2.
THIRD, QUARTER, FIFTH = 1 / 3, 1 / 4, 1 / 5
EMOTION_SETS = ("mer2023", "caer", "dfew", "e3", "iemocap")
SENTIMENT_SETS = ("ch_sims_v2_s", "cmu_mosei", "cmu_mosi")
STAGE_1 = {name: {"emotion": THIRD, "audio": THIRD, "image": THIRD} for name in EMOTION_SETS}
STAGE_1 |= {name: {"sentiment": THIRD, "audio": THIRD, "image": THIRD} for name in SENTIMENT_SETS}
STAGE_1 |= {
    "mc_eiu": dict.fromkeys(("emotion", "audio", "image", "intent"), QUARTER),
    "meld": dict.fromkeys(("emotion", "audio", "image", "sentiment"), QUARTER),
    "mafw": dict.fromkeys(("emotion", "audio", "image", "multi-label"), QUARTER),
    "bold": {"multi-label": THIRD, "audio": THIRD, "image": THIRD},
}
STAGE_2 = {name: {"emotion": THIRD, "reason": THIRD, "think": THIRD} for name in EMOTION_SETS}
STAGE_2 |= {name: {"sentiment": THIRD, "reason": THIRD, "think": THIRD} for name in SENTIMENT_SETS}
STAGE_2 |= {
    "mc_eiu": {"emotion": FIFTH, "reason": FIFTH, "think": FIFTH, "intent": 2 * FIFTH},
    "meld": dict.fromkeys(("emotion", "reason", "think", "sentiment"), QUARTER),
    # A think-multi task with an answer has the tag think.
    "mafw": {"emotion": FIFTH, "reason": FIFTH, "think": 2 * FIFTH, "multi-label": FIFTH},
    "bold": {"multi-label": THIRD, "reason": THIRD, "think": THIRD},
}
PICTURES = {name: {"vqa": 1.0} for name in ("coco_vqa", "ok_vqa", "aok_vqa", "gqa")}
PICTURES |= {name: {"refer": 1.0} for name in ("refcoco", "refcocop", "refcocog")}
PICTURES |= {"coco_caption": {"caption": 1.0}}

TEXTS = {
    "audio": "loud",
    "audio_2": "soft",
    "image": "smiles",
    "reason": "because",
    "reason_sentiment": "as",
    "reason_multi": "both",
}
SPACE = ("Anger", "Sadness", "Neutral", "Happiness", "Fear")


def record(dataset: str, label: str = "Anger", **fields) -> ClipRecord:
    if dataset in released_stages.IMAGE_SETS:
        return ClipRecord(
            id="p",
            dataset=dataset,
            split="train",
            path="/p.jpg",
            label="",
            labels=(),
            question="one\ntwo",
            answers=("yes", "yes", "no"),
        )
    main = released_stages.SETS[dataset].main if dataset != "mc_eiu" else "emotion"
    targets = {
        t: Target("Positive", ("Positive", "Neutral", "Negative"))
        for t in ("sentiment", "intent")
        if t != main
    }
    targets |= {t: Target(label, SPACE) for t in ("emotion", "multi-label") if t != main}
    space, label = (
        (("Positive", "Neutral", "Negative"), "Positive") if main == "sentiment" else (SPACE, label)
    )
    defaults = {
        "texts": TEXTS,
        "targets": targets,
        "task": main,
        "native": label,
        "subtitle": "hello",
    }
    return ClipRecord(
        id="c",
        dataset=dataset,
        split="train",
        path="/c.mp4",
        label=label,
        labels=space,
        **{**defaults, **fields},
    )


def words(count: int) -> str:
    return " ".join(["w"] * count)


def within(count: int, total: int, share: float, what: str) -> None:
    """Checks that a proportion is within four standard errors of `share`."""
    error = math.sqrt(share * (1 - share) / total)
    assert abs(count / total - share) <= 4 * error + 1e-12, (
        f"{what}: {count / total:.4f}, expected {share:.4f} +- {error:.4f}"
    )


@pytest.mark.parametrize(
    ("style", "stage", "tasks"), [("perception", 0, STAGE_1), ("cognition", 1, STAGE_2)]
)
def test_200_000_draws_of_a_stage(style, stage, tasks):
    """Data sets, tasks and hidden streams, drawn by the code of the loader."""
    weights = released_weights(style)
    assert weights == {name: pair[stage] for name, pair in WEIGHTS.items()}
    total = sum(pair[stage] for pair in WEIGHTS.values())
    assert total == (2041, 2237)[stage]
    names = sorted(weights)
    mixture = Mixture(weights=tuple(float(weights[n]) for n in names), seed=42)
    records = {n: record(n) for n in names}
    sets: Counter[str] = Counter()
    tags: Counter[tuple[str, str]] = Counter()
    hidden: Counter[str] = Counter()
    second = 0
    for position in range(DRAWS):
        name = names[mixture.locate(position)[0]]
        drawn = draw_released(records[name], style, np.random.default_rng([stage, position]))
        sets[name] += 1
        tags[name, drawn.tag] += 1
        for stream in ("image", "video", "audio"):
            hidden[stream] += stream not in drawn.streams
        second += drawn.answer == "soft"
    for name, pair in WEIGHTS.items():
        within(sets[name], DRAWS, pair[stage] / total, name)
        for tag, share in (tasks.get(name) or PICTURES[name]).items():
            within(tags[name, tag], sets[name], share, f"{name} {tag}")
        assert sum(n for (s, _), n in tags.items() if s == name) == sum(
            tags[name, tag] for tag in (tasks.get(name) or PICTURES[name])
        )
    pictures = sum(WEIGHTS[n][stage] for n in PICTURES)
    if style == "cognition":  # only image sets hide streams
        assert hidden["image"] == 0
        within(hidden["audio"], DRAWS, pictures / total, "no sound")
        within(hidden["video"], DRAWS, pictures / total, "no frames")
        return
    fourths = sum(WEIGHTS[n][0] for n in ("mc_eiu", "meld", "mafw"))
    # Proportion of audio tasks, and of image tasks.
    one_task = (THIRD * (1500 - fourths) + QUARTER * fourths) / total
    within(hidden["image"], DRAWS, one_task, "no image")  # audio tasks
    # Image tasks and image sets.
    within(hidden["audio"], DRAWS, one_task + pictures / total, "no sound")
    within(hidden["video"], DRAWS, 2 * one_task + pictures / total, "no frames")
    within(second, DRAWS, one_task / 2, "the second model's text about the sound")


@pytest.mark.parametrize("batch", [4, 64])
def test_one_draw_serves_a_whole_step(batch):
    mixture = Mixture(weights=(30.0, 70.0), seed=42, per="batch", batch=batch)
    steps = 50_000 if batch == 4 else 3000
    drawn = [mixture.locate(step * batch)[0] for step in range(steps)]
    within(sum(drawn), steps, 0.7, "second set")
    for step in range(50):
        rows = [mixture.locate(step * batch + row) for row in range(batch)]
        assert len({s for s, _ in rows}) == 1 and [k for _, k in rows] == list(
            range(rows[0][1], rows[0][1] + batch)
        )


def draws(rec: ClipRecord, style: str, count: int = 4000) -> list:
    return [draw_released(rec, style, np.random.default_rng(i)) for i in range(count)]


def share(found: list, tag: str, test) -> tuple[int, int]:
    tagged = [a for a in found if a.tag == tag]
    return sum(bool(test(a)) for a in tagged), len(tagged)


def test_label_lists_of_cognition():
    """Label lists without neutral, of IEMOCAP (three, four or nine), positive and negative only."""
    no_neutral = lambda a: "Neutral" not in a.labels
    for name, tag, expected in (
        ("mer2023", "emotion", 0.5),
        ("dfew", "emotion", 0.5),
        ("dfew", "think", 0.5),
        ("mer2023", "think", 0.8),
    ):
        within(*share(draws(record(name), "cognition"), tag, no_neutral), expected, f"{name} {tag}")
        assert share(draws(record(name, "Neutral"), "cognition"), tag, no_neutral)[0] == 0
    general = lambda a: a.question == "general"
    within(
        *share(draws(record("mer2023"), "cognition"), "think", general),
        0.2,
        "general pool of think",
    )
    for name in ("mer2023", "mafw", "e3", "iemocap"):
        assert all(general(a) for a in draws(record(name), "cognition") if a.tag == "reason")
    assert not any(general(a) for a in draws(record("caer"), "cognition"))
    found = draws(record("iemocap"), "cognition")
    within(
        *share(found, "emotion", lambda a: a.labels == ("Anger", "Sadness", "Happiness")),
        0.5,
        "three classes",
    )
    within(*share(found, "emotion", lambda a: len(a.labels) == 4), 0.5, "four classes")
    neutral = draws(record("iemocap", "Neutral"), "cognition")
    within(*share(neutral, "emotion", lambda a: len(a.labels) == 4), 0.5, "four classes of neutral")
    assert (
        share(
            draws(record("iemocap", "Fear"), "cognition"), "emotion", lambda a: a.labels != SPACE
        )[0]
        == 0
    )
    lower = record("iemocap", native="anger")  # lower-case labels never select them
    assert share(draws(lower, "cognition"), "emotion", lambda a: a.labels != SPACE)[0] == 0
    assert share(draws(lower, "perception"), "emotion", lambda a: len(a.labels) == 4)[0] == 0
    assert (
        share(draws(record("iemocap"), "perception"), "emotion", lambda a: len(a.labels) != 4)[0]
        == 0
    )
    within(
        *share(draws(record("cmu_mosei"), "cognition"), "sentiment", lambda a: len(a.labels) == 2),
        0.5,
        "two classes",
    )
    assert (
        share(
            draws(record("ch_sims_v2_s"), "cognition"), "sentiment", lambda a: len(a.labels) == 2
        )[0]
        == 0
    )


def test_questions_say_what_they_offer():
    """The prompt of a think task names its label task and label list."""
    stage = StageTasks(style="cognition", tasks=(), released=True)
    for name, words in (
        ("meld", ("emotion", "sentiment")),
        ("mc_eiu", ("intent",)),
        ("bold", ("label",)),
        ("cmu_mosi", ("sentiment",)),
    ):
        found = [draw_example(record(name), stage, np.random.default_rng(i)) for i in range(200)]
        questions = [e.prompt.split("[think]")[1] for e in found if e.task == "think"]
        assert questions and all(any(w in text for w in words) for text in questions)
        assert all(", " in text for text in questions)
    found = [draw_example(record("dfew"), stage, np.random.default_rng(i)) for i in range(400)]
    questions = [e.prompt.split("[think]")[1] for e in found if e.task == "think"]
    assert {"Neutral" in text for text in questions} == {True, False}


def test_meld_reasons_by_emotion_or_sentiment():
    found = draws(record("meld"), "cognition")
    within(*share(found, "reason", lambda a: a.answer == "as"), 0.5, "reason by sentiment")
    within(
        *share(found, "think", lambda a: a.answer == "<think>as</think><answer>Positive</answer>"),
        0.5,
        "think by sentiment",
    )


def test_fallbacks():
    """Empty or long answers become the main task; the image of a failed audio task stays hidden.

    The answers of DFEW are not checked in stage 2.
    """
    bare = draws(record("caer", texts={}), "perception")
    assert {a.tag for a in bare} == {"emotion"} and {a.answer for a in bare} == {"Anger"}
    streams = Counter(a.streams for a in bare)
    within(streams[("video", "audio")], len(bare), 1 / 3, "failed audio tasks keep the zero image")
    assert set(streams) == {("image", "video", "audio"), ("video", "audio")}
    long = draws(
        record("caer", texts={**TEXTS, "image": "w " * 121, "reason": words(200)}), "perception"
    )
    assert {a.tag for a in long} == {"emotion", "audio"}
    assert {
        a.tag for a in draws(record("caer", texts={**TEXTS, "reason": words(200)}), "cognition")
    } == {
        "emotion",
        "reason",
        "think",
    }
    assert {
        a.tag for a in draws(record("caer", texts={**TEXTS, "reason": words(201)}), "cognition")
    } == {"emotion"}
    unchecked = draws(record("dfew", texts={}), "cognition")
    assert {a.answer for a in unchecked if a.tag == "reason"} == {""}
    assert {a.tag for a in unchecked} == {"emotion", "reason", "think"}
    # A think answer without an explanation is one word and is accepted.
    assert {a.answer for a in draws(record("e3", texts={}), "cognition") if a.tag == "think"} == {
        "<think></think><answer>Anger</answer>"
    }
    for name, tag in (("mc_eiu", "intent"), ("bold", "multi-label"), ("cmu_mosi", "sentiment")):
        assert {
            a.tag
            for a in draws(record(name, texts={}), "perception")
            if a.tag in ("audio", "image")
        } == set()
        assert tag in {a.tag for a in draws(record(name, texts={}), "perception")}


def test_several_labels():
    single = record("mafw", targets={})
    tags = Counter((a.tag, a.answer) for a in draws(single, "perception"))
    assert tags["multi-label", "Anger"] > 0  # the single label under the tag of several
    assert ("think-multi", "Anger") in {(a.tag, a.answer) for a in draws(single, "cognition")}
    both = record("mafw", targets={"multi-label": Target("Anger, Fear", SPACE)})
    answers = {a.answer for a in draws(both, "cognition")}
    # The released CSV files have no space after the comma.
    assert "<think>both</think><answer>Anger,Fear</answer>" in answers and "Anger,Fear" in answers
    bold = record("bold", label="Anger, Fear", native="Anger;Fear")
    stage = StageTasks(style="cognition", tasks=(), released=True)
    examples = (draw_example(bold, stage, np.random.default_rng(i)) for i in range(99))
    example = next(e for e in examples if e.task == "think")
    # The separator is lost, as released.
    assert example.answer == "<think>because</think><answer>anger fear</answer>"


def test_prompts_of_people_and_pictures():
    stage = StageTasks(style="perception", tasks=(), released=True)
    person = draw_example(record("e3", speaker="A woman"), stage, np.random.default_rng(0))
    assert "</Vid> A woman in video says: hello. " in person.prompt
    picture = draw_example(record("refcoco"), stage, np.random.default_rng(0))
    assert (
        picture.prompt.startswith("[INST] <Vid><VideoHere></Vid> [refer] ")
        and "says" not in picture.prompt
    )
    assert picture.streams == ("image",)
    box = ClipRecord(
        id="p",
        dataset="refcoco",
        split="train",
        path="/p.jpg",
        label="",
        labels=(),
        question="a hat",
        answers=("{<1><2><30><40>}",),
    )
    # Boxes are not normalized.
    assert draw_example(box, stage, np.random.default_rng(1)).answer == "{<1><2><30><40>}"
    answers = Counter(
        draw_example(record("ok_vqa"), stage, np.random.default_rng(i)).answer for i in range(3000)
    )
    within(answers["yes"], 3000, 2 / 3, "a repeated answer")
    with pytest.raises(ValueError, match="is not part of the released"):
        draw_released(
            ClipRecord(
                id="c", dataset="crema_d", split="train", path="/c", label="a", labels=("a",)
            ),
            "perception",
            np.random.default_rng(0),
        )

"""Labels read from answers of every form."""

import pytest
from answer_table import OVER_SIX, SIX, all_cases

from data_pipeline.answers.parse_answers import final_answer, read_labels, read_words


@pytest.mark.parametrize(
    ("text", "labels", "how"),
    [
        ("happy", "happy", "label"),
        (" Happy. ", "happy", "label"),
        ("['happy', 'sad']", "happy sad", "ambiguous"),
        ("happy and sad", "happy sad", "ambiguous"),
        ("angry/sad", "angry sad", "ambiguous"),
        ("sad, sad", "sad", "label"),
        ("surprised", "surprise", "spelling"),
        ("happiness", "happy", "spelling"),
        ("joyful", "happy", "synonym"),
        ("furious, mad", "angry", "synonym"),
        ("<think>he is angry</think><answer>sad</answer>", "sad", "label"),
        ("<think>angry</think> sad", "sad", "label"),
        ("angry as it seems</think>sad", "sad", "label"),
        ("<answer>sad", "sad", "label"),
        ('{"emotion": "sad", "why": "angry voice"}', "sad", "label"),
        ('```json\n{"label": ["sad", "angry"]}\n```', "sad angry", "ambiguous"),
        ("**Answer:** Neutral", "neutral", "field"),
        ("The person seems happy.", "happy", "sentence"),
        ("She is not happy but sad", "sad", "sentence"),
        ("There is no sign of being angry; she is sad", "sad", "sentence"),
        ("neutral rather than sad", "neutral", "sentence"),
        (
            "He smiles happily, yet the emotion is worried, as the voice is sad.",
            "worried",
            "sentence",
        ),
        ("He looks delighted at the gift he was given", "happy", "sentence"),
        ("sad and maybe happy too, I think", "sad", "sentence"),
        ("the emotion isn't sad; it's angry", "angry", "sentence"),
        ("didn't look sad, looked happy", "happy", "sentence"),
        ("No happiness, sadness or anger; the person is worried", "worried", "sentence"),
        ("does not show any signs of sadness or anger. She is happy.", "happy", "sentence"),
        ("doesn't seem to be very happy at all; angry", "angry", "sentence"),
        ("not at all happy, rather sad", "sad", "sentence"),
        ("He is not angry, he is sad", "sad", "sentence"),
        ("without a doubt happy", "happy", "sentence"),
        ("never been so happy", "happy", "sentence"),
        ("far from happy", "", "unparsable"),
        ("Answer: angry, sad", "angry sad", "ambiguous"),
        ("happy/excited", "happy", "synonym"),
        ("Neutral/calm", "neutral", "label"),
        ("a man in a blue shirt in a low light room", "", "unparsable"),
        ("I'm sorry, I can't identify emotions such as happy or sad.", "", "refusal"),
        (
            "Among angry, happy, neutral, sad, surprise and worried, "
            "the person is most likely sad.",
            "sad",
            "sentence",
        ),
        ("Sad\nReason: his eyes look angry.", "sad", "label"),
        ("<thinking>angry</thinking>sad", "sad", "label"),
        ('Here is the JSON: {"Emotion": "sad", "reason": "angry voice"}', "sad", "label"),
        ("ｈａｐｐｙ", "happy", "label"),
        ("As an AI I cannot determine if the person is angry.", "", "refusal"),
        ("contempt", "", "outside"),
        ("She seems scared and alarmed", "worried", "sentence"),  # nearest by the wheels
        ("", "", "empty"),
        ("<think>angry all along", "", "empty"),
        ("I'm sorry, I cannot determine that.", "", "refusal"),
        ("banana", "", "unparsable"),
        ("not sad", "", "unparsable"),
        ("sadly-named.mp4", "", "unparsable"),
    ],
)
def test_read_labels(text, labels, how):
    found = read_labels(text, SIX)
    assert (" ".join(found.labels), found.how) == (labels, how)


def test_spaces_of_other_kinds():
    assert read_labels("Doubt and confusion", ("doubt/confusion", "pain")).labels == (
        "doubt/confusion",
    )
    assert read_labels("positive sentiment", ("Neutral", "Negative", "Positive")).labels == (
        "Positive",
    )
    assert read_labels("悲しい", ("悲しい", "嬉しい")).labels == ("悲しい",)
    assert read_labels("helpless", ("helplessness", "sadness")).labels == ("helplessness",)
    # two labels of one family: a further word of the family says neither
    assert read_labels("furious", ("anger", "rage", "joy")).how == "outside"
    assert read_labels("a (b)", ("a (b)", "c")).labels == ("a (b)",)


def test_several_labels_in_sentences():
    space = ("anger", "disgust", "fear", "happiness", "sadness")
    for text in (
        "The emotions are anger, fear and sadness.",
        "Answer: anger, fear, sadness",
        "anger & fear + sadness",
    ):
        assert read_labels(text, space).labels == ("anger", "fear", "sadness"), text
    assert read_labels("It is neither anger nor fear", space).labels == ()


def test_final_answer_leaves_other_text_alone():
    assert final_answer("no tags <here") == "no tags <here"
    assert final_answer("{not json") == "{not json"
    assert final_answer("<answer>a</answer> then <answer>b</answer>") == "b"


def test_read_words():
    known = frozenset(("worried", "unhappy", "angry"))
    assert read_words("He looks worried and rather unhappy today, not angry", known) == (
        "worried",
        "unhappy",
    )
    assert read_words("['Worried', 'fed up', 'zorb']", known) == ("worried", "fed up", "zorb")
    assert read_words("", known) == ()


# known misreadings of the table, at most 2 %
MISREAD = ("Not: happy. Yes: sad.",)


def test_the_table_of_answers():
    """At least 150 answers, six languages besides English, at most 2 % misread, each listed."""
    cases = all_cases()
    assert len({(space, text) for space, text, _ in cases}) == len(cases) >= 150
    languages = ("Chinese", "German", "Spanish", "French", "Japanese", "Korean")
    assert all(len(OVER_SIX[name]) >= 2 for name in languages)
    wrong = {
        text: "|".join(read_labels(text, space).labels)
        for space, text, label in cases
        if "|".join(read_labels(text, space).labels) != label
    }
    assert sorted(wrong) == sorted(MISREAD), wrong
    assert len(MISREAD) <= 0.02 * len(cases)

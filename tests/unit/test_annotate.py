"""Filters, claims, the coarse template and stored annotations, on hand-made clips."""

import dataclasses
import json

import pytest
from annotators import made

from data_pipeline.annotate import filters
from data_pipeline.annotate.agents import ClipContext, agent
from data_pipeline.annotate.annotation import Annotation
from data_pipeline.annotate.describe import coarse_description
from data_pipeline.annotate.recipe import Recipe
from data_pipeline.annotate.runner import read_state
from data_pipeline.annotate.verify import Check, check_claims
from data_pipeline.llm.replies import UnusableReply
from data_pipeline.media.prosody import Voice


def left_out(kind, annotations, **settings):
    recipe = Recipe(name="x", filters=((kind, settings),))
    return filters.apply(recipe, annotations, check_claims(annotations))


def test_filters():
    assert left_out("votes", [made("a"), made("b", units=(), peak_units=(12,))]) == {
        "b": "the action units speak for happy, contempt, the label is angry"
    }
    unmeasured = made("c", ever=None, units=(), peak_units=())
    assert (
        left_out("votes", [unmeasured]) == {}
        and "no action units" in left_out("votes", [unmeasured], unmeasured="drop")["c"]
    )
    assert left_out("votes", [made("d", "neutral", units=(), peak_units=(12,))]) == {}
    other = made("e")
    other.notes["reasoning"]["label"] = "sad"
    assert left_out("contradiction", [other]) == {
        "e": "the reasoning concludes sad, the label is angry"
    }
    wrong = made("f", reason="She smiles and is wide eyed, wide eyes, so it is angry.")
    assert left_out("contradiction", [made("a"), wrong]) == {
        "f": "2 of 2 claims are contradicted by what was measured"
    }
    twin = made("g", media="a", words="how dare you, a")
    assert left_out("duplicates", [made("a"), twin]) == {"g": "the same as a"}
    spans = [
        made("p", media="a", words="", start=0.0, end=1.0),
        made("q", media="a", words="", start=1.0, end=2.0),
    ]
    assert left_out("duplicates", spans) == {}
    odd = dataclasses.replace(twin, label="sad")
    assert left_out("duplicates", [made("a"), odd]) == {
        "g": "the same as a, whose label is angry, not sad"
    }
    same = made("h", reason="He frowns so he is angry.", words="no")
    assert left_out("duplicates", [same, dataclasses.replace(same, clip="i", media="i")]) == {
        "i": "the same as h"
    }
    assert left_out("length", [made("j", reason="Angry.")]) == {"j": "the reason has 1 words"}
    chinese = made("m", reason="他皱着眉头，声音很大，所以他很生气")
    assert left_out("length", [chinese]) == {}
    assert left_out("length", [made("k", left_out="visual: refusal")]) == {"k": "visual: refusal"}


def test_claims_that_cannot_be_checked_do_not_count():
    """One of two checked claims is wrong, which is more than 0.4; of all four it is a quarter."""
    verdicts = ("contradicted", "supported", "unknown", "unknown")
    checks = [Check(phrase="x", modality="video", verdict=v, by="") for v in verdicts]
    recipe = Recipe(name="x", filters=(("contradiction", {"most": 0.4}),))
    assert filters.apply(recipe, [made("a")], {"a": checks}) == {
        "a": "1 of 2 claims are contradicted by what was measured"
    }


def test_balance_and_neutral_clips():
    many = (
        [made(f"a{i}") for i in range(20)]
        + [made(f"s{i}", "sad") for i in range(2)]
        + [made("h0", "happy")]
    )
    gone = left_out("balance", many, times=3.0)  # the median label has 2 clips
    assert (
        len(gone) == 14
        and all(c.startswith("a") for c in gone)
        and gone == left_out("balance", many[::-1], times=3.0)
    )
    neutral = [made(f"n{i}", "neutral") for i in range(30)] + [made(f"a{i}") for i in range(7)]
    assert len(left_out("neutral", neutral, share=0.3)) == 27  # 3 of 10 are left


def test_claims_are_checked_against_face_voice_and_words():
    voices = [Voice(loudness=-30.0, pitch=150.0, pitch_range=2.0, voiced=0.8, rate=4.0)] * 4
    quiet = [made(f"q{i}", voice=v, speaker="x") for i, v in enumerate(voices)]
    loud = made(
        "l",
        voice=Voice(loudness=-20.0, pitch=150.0, pitch_range=2.0, voiced=0.8, rate=4.0),
        speaker="x",
        reason="He frowns, smiles, speaks in a loud, high-pitched voice and says 'how dare you'. "
        "He says 'never mind'.",
    )
    found = {(c.modality, c.phrase): c.verdict for c in check_claims([*quiet, loud])["l"]}
    assert found == {
        ("video", "frowns"): "supported",
        ("video", "smiles"): "contradicted",
        ("audio", "loud"): "supported",
        ("audio", "high-pitched"): "contradicted",
        ("text", "how dare you"): "supported",
        ("text", "never mind"): "contradicted",
    }
    blind = dataclasses.replace(loud, ever=None, voice=None, words="")
    assert {c.verdict for c in check_claims([blind])["l"]} == {"unknown"}


def test_the_evidence_names_what_a_voice_is_compared_with():
    voice = Voice(loudness=-30.0, pitch=150.0, pitch_range=2.0, voiced=0.8, rate=4.0)
    for speaker, number, others, reference in (
        ("x", 4, "y", "the speaker's median"),
        ("x", 2, "y", "the median of all clips"),
        ("", 4, "y", "the median of all clips without a speaker"),
        ("", 4, "", "the median of all clips"),
    ):
        clips = [
            made(f"{group}{i}", voice=voice, speaker=name, reason="A loud voice.")
            for group, name, n in (("own", speaker, number), ("other", others, 4))
            for i in range(n)
        ]
        [check] = check_claims(clips)["own0"]
        assert check.by == f"loudness +0.0 dB against {reference}"
    [check] = check_claims(clips[:1])["own0"]
    assert check.verdict == "unknown" and check.by == "loudness was measured in fewer than 4 voices"


def test_the_coarse_template():
    assert coarse_description(made("a")) == (
        "A man leans in, a. The face shows lowered brows. The tone of voice is angry. "
        'The person says: "how dare you, a".'
    )
    assert (
        coarse_description(made("b", notes={}, ever=(), units=(), peak_units=(), words=""))
        == "The face is at rest."
    )


def test_an_annotation_is_read_back_from_its_line():
    whole = made(
        "a",
        voice=Voice(loudness=-20.0, pitch=None, pitch_range=None, voiced=0.5, rate=4.0),
        remarks=("r",),
        votes={"angry": 1},
    )
    assert Annotation.from_json(whole.to_json()) == whole
    with pytest.raises(ValueError):
        Annotation.from_json('{"version": 0}')


def test_an_incomplete_last_line_is_removed(tmp_path):
    path = tmp_path / "annotations.jsonl"
    path.write_text(made("a").to_json() + "\n" + made("b").to_json()[:50])
    before = path.read_bytes()
    assert list(read_state(path)) == ["a"] and path.read_bytes() == before, (
        "without repair the file is unchanged"
    )
    assert list(read_state(path, repair=True)) == ["a"]
    with path.open("a") as file:
        file.write(made("c").to_json() + "\n")
    assert list(read_state(path)) == ["a", "c"]


@pytest.mark.parametrize(
    ("label", "read"),
    [
        ("happy", "happy"),
        ("Happy.", "happy"),
        (" **HAPPY** ", "happy"),
        (["happy"], "happy"),
        ({"label": "happy"}, "happy"),
        ("happiness", "happy"),
        ("joyful", "happy"),
        ("the person is happy", "happy"),
        ("happy, not sad", "happy"),
        ("neutral", "neutral"),
        ("happy, sad", ""),
        (["happy", "sad"], ""),
        ("puzzled", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_the_label_in_a_reply(label, read):
    context = ClipContext(
        label="",
        labels=("happy", "sad", "neutral"),
        words="",
        peak=None,
        scale=5.0,
        frames=None,
        sound=None,
    )
    fields = {"reason": ["She smiles.", "So it is."], "short": "A smile.", "label": label}
    reply = "I cannot see it all.\n</think>\n" + json.dumps(fields)
    if read:
        found = agent("reasoning").read(context, reply)
        assert (found["label"], found["reason"]) == (read, "She smiles. So it is.")
    else:
        with pytest.raises(UnusableReply, match="not offered|several labels"):
            agent("reasoning").read(context, reply)


def test_a_refusal_is_told_as_that():
    with pytest.raises(UnusableReply, match="refusal"):
        agent("visual").read(None, "I'm sorry, I can't describe people.")
    beside = 'I can\'t name her. {"description": "She smiles."}'
    assert agent("visual").read(None, beside) == {"description": "She smiles."}

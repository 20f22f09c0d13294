"""Claims of a reason are checked against words, voice and action units; voices are measured."""

import numpy as np
import pytest
from recording import speech

from data_pipeline.annotate.evidence import baseline, check_reason
from data_pipeline.annotate.unit_tracks import read_units
from data_pipeline.media.prosody import Voice, measure_voice
from data_pipeline.media.transcript import Cue, Transcript
from emojax.infer.timeline import complete_spans
from emojax.infer.timeline_records import Span, TimelineOptions
from emojax.types import Answer


def test_words_without_times_cannot_be_found_at_a_place():
    words = Transcript(
        cues=(Cue(start=0.0, end=3600.0, text="i am fine " + "and so on " * 1000),),
        source="t.txt",
    )
    early = check_reason(
        "She says 'i am fine'.", 0, 5, motion=None, voice=None, norm=baseline([]), transcript=words
    )[0]
    late = check_reason(
        "She says 'i am fine'.",
        1800,
        1805,
        motion=None,
        voice=None,
        norm=baseline([]),
        transcript=words,
    )[0]
    assert (
        early.verdict == "supported"
        and late.verdict == "not checkable"
        and len(early.by + late.by) < 300
    )


def test_voice_of_known_pitch_and_loudness():
    t = np.arange(32000) / 16000
    for hertz in (90.0, 180.0, 320.0):
        tone = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 8)).astype(np.float32)
        voice = measure_voice(0.1 * tone)
        assert voice.pitch == pytest.approx(hertz, rel=0.02) and voice.voiced > 0.9
    second = sum(
        a * np.sin(2 * np.pi * 120 * k * t + k) for k, a in ((1, 1.0), (2, 1.6), (3, 0.7))
    ).astype(np.float32)
    assert measure_voice(0.1 * second).pitch == pytest.approx(120, rel=0.02), (
        "a loud second harmonic is not the pitch"
    )
    square = measure_voice(np.sign(np.sin(2 * np.pi * 200 * t)).astype(np.float32) * 0.1)
    assert square.loudness == pytest.approx(-20, abs=0.2)  # 20 log10(0.1)
    assert measure_voice(np.zeros(16000, np.float32)) == Voice(
        loudness=None, pitch=None, pitch_range=None, voiced=0.0, rate=None
    )
    noise = measure_voice(np.random.default_rng(0).standard_normal(32000).astype(np.float32) * 0.1)
    assert noise.voiced < 0.1
    assert measure_voice(speech(3.0)).rate == pytest.approx(
        4.0, abs=0.5
    )  # made of four syllables a second


def test_claims_are_checked_against_measurements():
    usually = [Voice(loudness=-30.0, pitch=150.0, pitch_range=3.0, voiced=0.8, rate=4.0)] * 5
    loud = Voice(loudness=-20.0, pitch=150.0, pitch_range=3.0, voiced=0.8, rate=2.5)
    words = Transcript(
        cues=(
            Cue(start=10.0, end=12.0, text="I am fine, thank you"),
            Cue(start=12.0, end=13.0, text="really"),
        ),
        source="t.srt",
    )
    reason = (
        "The voice is loud and the speech is slow, with a high pitch and a joyful tone. "
        "He says 'I am fine thank you' and \"you are mad\". There is a broad smile."
    )
    found = {
        e.phrase: e
        for e in check_reason(
            reason, 10, 14, motion=11.5, voice=loud, norm=baseline(usually), transcript=words
        )
    }
    verdicts = {k: e.verdict for k, e in found.items()}
    assert verdicts["loud"] == "supported" and "+10.0 dB" in found["loud"].by
    assert next(v for k, v in verdicts.items() if k.startswith("slow")) == "supported"
    assert (
        next(v for k, v in verdicts.items() if k.startswith("high")) == "unsupported"
    )  # the usual pitch
    assert next(v for k, v in verdicts.items() if k.startswith("joyful")) == "not checkable"
    quote = next(e for k, e in found.items() if k.startswith("i am fine"))
    assert (quote.verdict, quote.start, quote.end) == ("supported", 10.0, 12.0)
    assert verdicts["you are mad"] == "unsupported"
    smile = next(e for k, e in found.items() if "smil" in k)
    assert smile.verdict == "not checkable" and smile.start == 11.5
    with_units = check_reason(
        reason,
        10,
        14,
        motion=11.5,
        voice=loud,
        norm=baseline(usually),
        transcript=words,
        units=frozenset({"AU12"}),
    )
    assert next(e for e in with_units if "smil" in e.phrase).verdict == "supported"
    few = check_reason(
        "The voice is loud.",
        10,
        14,
        motion=None,
        voice=loud,
        norm=baseline(usually[:2]),
        transcript=Transcript(),
    )
    assert few[0].verdict == "not checkable", "nothing is usual in a recording of two voices"


def test_claims_about_the_face_are_checked_against_measured_units(tmp_path):
    rows = "".join(
        f"{n + 1},{n / 10:.1f},{2.0 if n == 14 else 0.5:.1f},0.0,{int(10 <= n < 20)},0\n"
        for n in range(20)
    )
    (tmp_path / "talk.csv").write_text("frame,timestamp,AU04_r,AU12_r,AU04_c,AU12_c\n" + rows)
    answer = Answer(
        path="talk.mp4",
        label="angry",
        probabilities={"angry": 0.8, "sad": 0.2},
        reason="He frowns and smiles, so it is angry.",
        modalities=("video",),
        seconds=0.1,
    )
    spans = [
        Span(
            index=i,
            start=float(i),
            end=i + 1.0,
            ends_at="cut",
            speech=None,
            person="",
            words="",
            speakers=(),
            answer=answer,
            voice=None,
            motion=i + 0.2,
        )
        for i in range(2)
    ]
    units = read_units(tmp_path / "talk.csv")
    options, words = TimelineOptions(), Transcript()
    done, _ = complete_spans(
        spans, ("angry", "sad"), options=options, transcript=words, units=units
    )
    verdicts = [{(e.phrase, e.verdict) for e in s.evidence} for s in done]
    assert verdicts[0] == {("frowns", "unsupported"), ("smiles", "unsupported")}
    assert verdicts[1] == {("frowns", "supported"), ("smiles", "unsupported")}
    assert {e.start for e in done[1].evidence} == {1.4}, "the peak of the units of anger"
    without, _ = complete_spans(spans, ("angry", "sad"), options=options, transcript=words)
    assert {e.verdict for s in without for e in s.evidence} == {"not checkable"}

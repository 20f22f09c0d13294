"""Smoothing, the likeliest track and its changes by hand and by trying all tracks; valence, words with times, evidence, voices."""

import itertools
import math

import numpy as np
import pytest
from recording import speech

from data_pipeline.annotate.evidence import baseline, check_reason
from data_pipeline.media.prosody import Voice, measure_voice
from data_pipeline.media.transcript import Cue, Transcript, find_subtitles, read_transcript
from emojax.infer.face_tracks import Faces, WholePicture, join, overlap
from emojax.infer.smoothing import changes, likeliest_track, smooth
from emojax.infer.valence_arousal import valence_arousal

STARTS, ENDS = np.array([0.0, 2.0, 4.0]), np.array([2.0, 4.0, 6.0])


def test_smoothing_by_hand():
    p = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    out = smooth(p, STARTS, ENDS, 2.0)
    near, far = math.exp(-0.5), math.exp(-2.0)  # one and two standard deviations away
    assert out[0, 0] == pytest.approx((1 + far) / (1 + near + far))
    assert out[1, 1] == pytest.approx(1 / (1 + 2 * near))
    np.testing.assert_allclose(out.sum(axis=1), 1)
    np.testing.assert_array_equal(smooth(p, STARTS, ENDS, 0), p)
    # A segment of 6 s counts three times one of 2 s: middles 4 s apart, two standard deviations.
    uneven = smooth(p[:2], np.array([0.0, 2.0]), np.array([2.0, 8.0]), 2.0)
    assert uneven[0, 1] == pytest.approx(3 * far / (1 + 3 * far))


def test_the_track_is_the_best_of_all_tracks():
    rng = np.random.default_rng(0)
    for _ in range(30):
        n, labels, price = 6, 3, rng.uniform(0, 3)
        p = rng.dirichlet([0.5] * labels, n)
        ends = np.cumsum(rng.uniform(0.5, 5, n))
        starts = np.concatenate([[0.0], ends[:-1]])
        weight = np.minimum(ends - starts, 3.0)

        loss = -np.log(np.maximum(p, 1e-6)) * weight[:, None]
        costs = {
            track: sum(loss[i, k] for i, k in enumerate(track))
            + price * sum(a != b for a, b in itertools.pairwise(track))
            for track in itertools.product(range(labels), repeat=n)
        }
        found = tuple(likeliest_track(p, starts, ends, price).tolist())
        assert costs[found] == pytest.approx(min(costs.values()))


def test_changes_say_when_and_how_sure():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    track = likeliest_track(p, STARTS, ENDS, 1.0)
    assert track.tolist() == [0, 1, 1]
    (one,) = changes(track, p, STARTS, ENDS, ["sad", "happy"])
    assert (one.time, one.before, one.after) == (2.0, "sad", "happy")
    assert one.gain == pytest.approx(2 * math.log(4) + 2 * math.log(9), abs=1e-3)
    assert likeliest_track(p, STARTS, ENDS, 50.0).tolist() == [1, 1, 1], (
        "a high price: one label for all"
    )


def test_valence_and_arousal_are_weighted_means_of_published_points():
    valence, arousal, share = valence_arousal({"angry": 0.75, "happy": 0.25})
    assert (valence, arousal, share) == (
        pytest.approx(0.75 * -0.51 + 0.25 * 0.81),
        pytest.approx(0.75 * 0.59 + 0.25 * 0.51),
        1.0,
    )
    assert valence_arousal({"questioning": 0.7, "sad": 0.3}) == (None, None, 0.3)
    assert valence_arousal({"neutral": 1.0}) == (0.0, 0.0, 1.0)


SRT = "1\n00:00:01,000 --> 00:00:03,000\nANNA: Hello <i>you</i> there now\n\n2\n00:00:04,000 --> 00:00:05,000\nTwo\nlines\n"
VTT = "WEBVTT\n\n00:01.000 --> 00:03.000\n<v Anna>Hello <b>you</b> there now</v>\n\n00:04.000 --> 00:05.000\nTwo lines\n"


@pytest.mark.parametrize("suffix,text", [(".srt", SRT), (".vtt", VTT)])
def test_subtitles(tmp_path, suffix, text):
    path = tmp_path / f"talk{suffix}"
    path.write_text(text)
    found = read_transcript(path)
    assert [(c.start, c.end, c.text) for c in found.cues] == [
        (1.0, 3.0, "Hello you there now"),
        (4.0, 5.0, "Two lines"),
    ]
    assert found.cues[0].speaker.lower() == "anna" and found.cues[1].speaker == ""
    assert find_subtitles(tmp_path / "talk.mp4") == path and found.source == path.name
    # A cue over a border: each word goes to one side.
    assert (found.words(0, 2), found.words(2, 4), found.words(2, 9)) == (
        "Hello you",
        "there now",
        "there now Two lines",
    )
    assert found.speakers(0, 2)[0].lower() == "anna" and found.speakers(3.5, 9) == ()


def test_texts_and_bad_subtitles(tmp_path):
    (tmp_path / "t.txt").write_text("one two\nthree four")
    assert read_transcript(tmp_path / "t.txt", duration=8.0).words(0, 4) == "one two"
    (tmp_path / "b.srt").write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(ValueError, match="save it as UTF-8"):
        read_transcript(tmp_path / "b.srt")
    said = "1\n00:00:01,000 --> 00:00:02,000\ncafé\n"
    for encoding, name in (("cp1252", "Windows-1252"), ("utf-16", "UTF-16")):
        (tmp_path / "e.srt").write_bytes(said.encode(encoding))
        found = read_transcript(tmp_path / "e.srt")
        assert found.words(0, 3) == "café" and found.source == f"e.srt (read as {name})"
    (tmp_path / "c.srt").write_text("no cue in here")
    with pytest.raises(ValueError, match="c.srt"):
        read_transcript(tmp_path / "c.srt")
    with pytest.raises(ValueError, match="are read from"):
        read_transcript(tmp_path / "t.docx")
    (tmp_path / "v.en.vtt").write_text(VTT)
    assert (
        find_subtitles(tmp_path / "v.mp4") == tmp_path / "v.en.vtt"
        and find_subtitles(tmp_path / "w.mp4") is None
    )


def test_who_is_named_as_speaking(tmp_path):
    lines = ["<v Speaker 1>Hello", "<v Élise>Salut", "Speaker 2: hi &amp; bye", "Remember: never give up", "He said this: no",
             "Anna: yes", "<00:00:03.500>Anna: no", "DR. WHO: run"]  # fmt: skip
    text = "WEBVTT\n\n" + "".join(
        f"00:0{i}.000 --> 00:0{i + 1}.000\n{line}\n\n" for i, line in enumerate(lines)
    )
    (tmp_path / "n.vtt").write_text(text)
    found = [(c.speaker, c.text) for c in read_transcript(tmp_path / "n.vtt").cues]
    assert found == [
        ("Speaker 1", "Hello"), ("Élise", "Salut"), ("Speaker 2", "hi & bye"), ("", "Remember: never give up"),
        ("", "He said this: no"), ("Anna", "yes"), ("Anna", "no"), ("DR. WHO", "run"),
    ]  # fmt: skip


def test_words_without_times_can_not_be_found_at_a_place():
    words = Transcript(
        (Cue(start=0.0, end=3600.0, text="i am fine " + "and so on " * 1000),), "t.txt"
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


def test_claims_are_held_against_what_was_measured():
    usually = [Voice(loudness=-30.0, pitch=150.0, pitch_range=3.0, voiced=0.8, rate=4.0)] * 5
    loud = Voice(loudness=-20.0, pitch=150.0, pitch_range=3.0, voiced=0.8, rate=2.5)
    words = Transcript(
        (
            Cue(start=10.0, end=12.0, text="I am fine, thank you"),
            Cue(start=12.0, end=13.0, text="really"),
        ),
        "t.srt",
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
    said = next(e for k, e in found.items() if k.startswith("i am fine"))
    assert (said.verdict, said.start, said.end) == ("supported", 10.0, 12.0)
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


def test_faces_become_tracks():
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    a, b = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)
    moved = (2.0, 0.0, 12.0, 10.0)
    tracks = join([[a, b], [b, moved], [moved], [b]])
    assert [sorted(t) for t in tracks] == [[0, 1, 2], [0, 1, 3]]
    assert tracks[0][2] == moved


def test_people_keep_their_names_over_segments(tmp_path):
    from recording import record

    from data_pipeline.media.clip import Sampling
    from data_pipeline.media.segments import SegmentConfig, read_segments

    class Two:
        name = "two boxes"

        def __call__(self, picture):
            return [(5.0, 5.0, 25.0, 25.0), (35.0, 5.0, 60.0, 30.0)]

    path = record(tmp_path / "two.mp4", [(3.0, 1), (3.0, 2)], [])
    found = list(read_segments(str(path), SegmentConfig(), Sampling(num_frames=4)))
    faces = Faces(Two(), margin=0.5)
    names = [[name for name, _ in faces.split(s)] for s in found]
    assert names == [["person 1", "person 2"]] * len(found) and len(found) >= 2
    name, clip = next(Faces(Two(), margin=0.5).split(found[0]))
    assert clip.frames.shape[1:] == clip.image.shape and clip.image.shape[0] < 64
    assert clip.waveform is found[0].clip.waveform
    assert [n for n, _ in WholePicture().split(found[0])] == [""]


def test_claims_about_the_face_are_held_against_measured_units(tmp_path):
    from data_pipeline.annotate.unit_tracks import read_units
    from emojax.infer.timeline import Options, Span, finish
    from emojax.types import Answer

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
    done, _ = finish(
        spans, ("angry", "sad"), Options(), Transcript(), units=read_units(tmp_path / "talk.csv")
    )
    verdicts = [{(e.phrase, e.verdict) for e in s.evidence} for s in done]
    assert verdicts[0] == {("frowns", "unsupported"), ("smiles", "unsupported")}
    assert verdicts[1] == {("frowns", "supported"), ("smiles", "unsupported")}
    assert {e.start for e in done[1].evidence} == {1.4}, "the peak of the units of anger"
    without, _ = finish(spans, ("angry", "sad"), Options(), Transcript())
    assert {e.verdict for s in without for e in s.evidence} == {"not checkable"}

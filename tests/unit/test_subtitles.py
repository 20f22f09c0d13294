"""Subtitles as they are found: rolling, of another clock, without length, in many encodings.

Each right answer is what a viewer of these subtitles hears, written out by hand.
"""

import pytest

from data_pipeline.media.subtitles import (
    TranscriptError,
    _choice_notes,
    find_subtitles,
    read_transcript,
)


def srt(*cues):
    """Cues as (start, end, text), or texts of a second each."""
    stamped = [
        (f"00:00:{i:02d},000", f"00:00:{i + 1:02d},000", c) if isinstance(c, str) else c
        for i, c in enumerate(cues)
    ]
    return "".join(f"{i}\n{a} --> {b}\n{t}\n\n" for i, (a, b, t) in enumerate(stamped, 1))


def read(tmp_path, text, *, name="talk.srt", duration=6.0, encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    found = read_transcript(path, duration=duration)
    return found, found.words(0, duration)


YOUTUBE = """WEBVTT
Kind: captions

00:00:00.000 --> 00:00:02.000 align:start position:0%
\x20
hello<00:00:00.500><c> my</c><00:00:01.000><c> friend</c>

00:00:02.000 --> 00:00:02.010 align:start position:0%
hello my friend
\x20

00:00:02.010 --> 00:00:05.000 align:start position:0%
hello my friend
how<00:00:03.000><c> are</c><00:00:04.000><c> you</c>
"""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("r.vtt", YOUTUBE, "hello my friend how are you"),
        ("r.srt", srt("one", "one two", "one two 3", "4", "4 5"), "one two 3 4 5"),
        ("r.srt", srt("a b", "a b\nc d", "a b\nc d\ne f", "c d\ne f\ng h"), "a b c d e f g h"),
    ],
)
def test_rolling_captions_give_each_word_once(tmp_path, name, text, words):
    found, got = read(tmp_path, text, name=name)
    assert got == words and any("rolling" in note for note in found.notes)


def test_people_who_repeat_themselves_are_not_rolling(tmp_path):
    found, words = read(tmp_path, srt("No.", "No.", "No way.", "Yes yes", "Yes yes"))
    assert words == "No. No. No way. Yes yes Yes yes" and not found.notes


@pytest.mark.parametrize("hour", ["01:00:0{}:00", "10:00:0{},000", "01:00:0{}"])
def test_a_broadcast_clock_is_subtracted(tmp_path, hour):
    found, words = read(
        tmp_path, srt(*((hour.format(i), hour.format(i + 1), f"w{i}") for i in (0, 3)))
    )
    assert words == "w0 w3" and [c.start for c in found.cues] == [0.0, 3.0]
    assert "was subtracted" in found.notes[0]


def test_cues_outside_of_the_recording_are_reported(tmp_path):
    text = srt(("00:01:00,000", "00:01:02,500", "gone"), ("00:00:03,000", "00:00:04,000", "here"))
    found, words = read(tmp_path, text)
    assert words == "here" and "1 of 2 cues of talk.srt is outside" in found.notes[0]
    found, words = read(tmp_path, srt(("00:00:01,000", "00:01:00,000", "a long last cue")))
    assert words == "a long last cue" and "ends at 00:01:00.000" in found.notes[0]
    found, _ = read(tmp_path, text, duration=0.0)  # of a file whose length is not known
    assert found.notes == ()


@pytest.mark.parametrize("end", ["00:00:01,000", "00:00:00,500"])
def test_cues_without_length_keep_their_words(tmp_path, end):
    text = srt(("00:00:01,000", end, "absolutely"), ("00:00:01,600", "00:00:05,000", "see you"))
    found, words = read(tmp_path, text)
    assert words == "absolutely see you" and found.cues[0].end == 1.6
    assert "1 of 2 cues" in found.notes[0]


def test_times_that_cannot_be_read_are_reported(tmp_path):
    found, _ = read(tmp_path, srt("good", ("tomorrow", "00:00:05", "day")))
    assert "1 of 2 cues of talk.srt has times that cannot be read" in found.notes[0]
    assert read(tmp_path, "")[0].notes == ("talk.srt contains no words",)


@pytest.mark.parametrize(
    ("encoding", "name", "said"),
    [
        ("utf-8-sig", "UTF-8", "café"),
        ("utf-16", "UTF-16", "café"),
        ("utf-16-be", "UTF-16", "café"),
        ("cp1252", "Windows-1252", "C’est déjà l’été"),
        ("gb18030", "GB18030", "你好，我不知道"),
        ("big5", "Big5", "我很高興見到你"),
        ("shift_jis", "Shift-JIS", "何を言っているの？"),
        ("euc_kr", "EUC-KR", "무슨 말이야?"),
        ("cp1251", "Windows-1251", "Я не знаю, о чём ты"),
    ],
)
def test_encodings_are_found(tmp_path, encoding, name, said):
    found, words = read(tmp_path, srt(said), encoding=encoding)
    assert words == said
    assert found.source == ("talk.srt" if name == "UTF-8" else f"talk.srt (read as {name})")
    assert bool(found.notes) == (not name.startswith("UTF"))


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        (r"{\an8}<font color='#ff0'>ANNA: hello</font>", [("ANNA", "hello")]),
        ("- Hi there\n- Good <i>day</i>", [("", "Hi there"), ("", "Good day")]),
        ("-ANNA: one\n-BEN: two", [("ANNA", "one"), ("BEN", "two")]),
        ("[Anna] well\n[Ben] no", [("Anna", "well"), ("Ben", "no")]),
        ("ANNA:\ngood morning", [("ANNA", "good morning")]),
        (">> CARL: it is -5 degrees", [("CARL", "it is -5 degrees")]),
        ("[laughs] I see (door slams)", [("", "I see")]),
        ("安娜：你好\n安娜：再见", [("安娜", "你好"), ("安娜", "再见")]),
        ("Q&amp;A &lt;3", [("", "Q&A <3")]),
        ("[Music]", []),
        ("♪ la la ♪", [("", "la la")]),
    ],
)
def test_speakers_and_what_nobody_says(tmp_path, text, turns):
    found, _ = read(tmp_path, srt(text))
    assert [(c.speaker, c.text) for c in found.cues] == turns


def test_voices_of_one_cue(tmp_path):
    text = (
        "WEBVTT\n\n00:00.000 --> 00:04.000\n<v Anna>One <v.loud Ben>two three four</v>\n\n"
        "last one\n00:04.000 --> 00:05.000\nfive\n"
    )
    found, _ = read(tmp_path, text, name="t.vtt")
    assert [(c.start, c.end, c.speaker, c.text) for c in found.cues] == [
        (0.0, 1.0, "Anna", "One"),
        (1.0, 4.0, "Ben", "two three four"),
        (4.0, 5.0, "", "five"),
    ]
    assert found.turns(0, 2) == (("Anna", "One"), ("Ben", "two"))


@pytest.mark.parametrize(
    ("names", "best", "note"),
    [
        (["TALK.SRT"], "TALK.SRT", ""),
        (["talk.mp4.srt"], "talk.mp4.srt", ""),
        (["talk.en-US.vtt", "other.srt"], "talk.en-US.vtt", ""),
        (["talk.en.forced.srt", "talk.en.srt"], "talk.en.srt", ""),
        (["talk.forced.srt"], "talk.forced.srt", "only a part"),
        (["talk.de.srt", "talk.en.srt"], "talk.de.srt", "not of talk.en.srt"),
        (["talk.en.sdh.srt", "talk.en.srt", "talk.srt"], "talk.srt", "talk.en.srt"),
        (["talk.Spanish.srt", "talk.emotions.srt", "talking.srt"], "talk.Spanish.srt", ""),
    ],
)
def test_names_of_subtitle_files(tmp_path, names, best, note):
    for name in names:
        (tmp_path / name).write_text(srt("hello"))
    found = find_subtitles(tmp_path / "talk.mp4")
    assert found[0].name == best
    notes = " ".join(_choice_notes(found))
    assert (note in notes) if note else not notes


def test_files_named_txt_hold_subtitles_or_words(tmp_path):
    path = tmp_path / "talk.txt"
    path.write_text("[00:00:01.000 --> 00:00:02.000]  one\n[00:00:03.000 --> 00:00:04.000]  two\n")
    assert [(c.start, c.text) for c in read_transcript(path, duration=9).cues] == [
        (1, "one"),
        (3, "two"),
    ]
    path.write_text('<?xml version="1.0"?><tt><p begin="0s">I am fine.</p></tt>')
    with pytest.raises(TranscriptError, match="is not plain text: it begins with '<.xml"):
        read_transcript(path)


def test_other_formats_of_subtitles_are_named(tmp_path):
    (tmp_path / "talk.sbv").write_text("0:00:01.000,0:00:02.000\none\n")
    assert [c.text for c in read_transcript(tmp_path / "talk.sbv", duration=9).cues] == ["one"]
    (tmp_path / "talk.sub").write_text("{1}{20}one\n")
    with pytest.raises(TranscriptError, match="convert it to .srt"):
        read_transcript(tmp_path / "talk.sub")

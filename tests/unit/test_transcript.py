"""Subtitle and text files: formats, encodings, speakers, words of a span."""

import pytest

from data_pipeline.media.subtitles import find_subtitles, read_transcript
from data_pipeline.media.transcript import Cue, Transcript

SRT = (
    "1\n00:00:01,000 --> 00:00:03,000\nANNA: Hello <i>you</i> there now\n\n"
    "2\n00:00:04,000 --> 00:00:05,000\nTwo\nlines\n"
)
VTT = (
    "WEBVTT\n\n00:01.000 --> 00:03.000\n<v Anna>Hello <b>you</b> there now</v>\n\n"
    "00:04.000 --> 00:05.000\nTwo lines\n"
)


@pytest.mark.parametrize(("suffix", "text"), [(".srt", SRT), (".vtt", VTT)])
def test_subtitles(tmp_path, suffix, text):
    path = tmp_path / f"talk{suffix}"
    path.write_text(text)
    found = read_transcript(path)
    assert [(c.start, c.end, c.text) for c in found.cues] == [
        (1.0, 3.0, "Hello you there now"),
        (4.0, 5.0, "Two lines"),
    ]
    assert found.cues[0].speaker.lower() == "anna" and found.cues[1].speaker == ""
    assert find_subtitles(tmp_path / "talk.mp4") == [path] and found.source == path.name
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
    subtitles = "1\n00:00:01,000 --> 00:00:02,000\ncafé\n"
    for encoding, name in (("cp1252", "Windows-1252"), ("utf-16", "UTF-16")):
        (tmp_path / "e.srt").write_bytes(subtitles.encode(encoding))
        found = read_transcript(tmp_path / "e.srt")
        assert found.words(0, 3) == "café" and found.source == f"e.srt (read as {name})"
    (tmp_path / "c.srt").write_text("no cue in here")
    with pytest.raises(ValueError, match="c.srt"):
        read_transcript(tmp_path / "c.srt")
    with pytest.raises(ValueError, match="transcripts must be .* convert it to .srt"):
        read_transcript(tmp_path / "t.docx")
    (tmp_path / "v.en.vtt").write_text(VTT)
    assert find_subtitles(tmp_path / "v.mp4") == [tmp_path / "v.en.vtt"]
    assert find_subtitles(tmp_path / "w.mp4") == []


def test_who_is_named_as_speaking(tmp_path):
    lines = [
        "<v Speaker 1>Hello",
        "<v Élise>Salut",
        "Speaker 2: hi &amp; bye",
        "Remember: never give up",
        "He said this: no",
        "Anna: yes",
        "<00:00:03.500>Anna: no",
        "DR. WHO: run",
    ]
    text = "WEBVTT\n\n" + "".join(
        f"00:0{i}.000 --> 00:0{i + 1}.000\n{line}\n\n" for i, line in enumerate(lines)
    )
    (tmp_path / "n.vtt").write_text(text)
    found = [(c.speaker, c.text) for c in read_transcript(tmp_path / "n.vtt").cues]
    assert found == [
        ("Speaker 1", "Hello"),
        ("Élise", "Salut"),
        ("Speaker 2", "hi & bye"),
        ("", "Remember: never give up"),
        ("", "He said this: no"),
        ("Anna", "yes"),
        ("Anna", "no"),
        ("DR. WHO", "run"),
    ]


def test_the_middle_of_a_word_decides():
    """Two words in 2 s: their middles are at 0.5 and 1.5 s."""
    found = Transcript(cues=(Cue(start=0.0, end=2.0, text="one two"),))
    assert (found.words(0, 1.2), found.words(1.2, 2), found.words(0.6, 1.4)) == ("one", "two", "")

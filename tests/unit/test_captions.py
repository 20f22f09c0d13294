"""Times and texts of subtitles, written out by hand."""

import pytest

from emojax.infer.timeline_records import Span, Timeline
from emojax.reports.captions import clock, to_srt, to_vtt
from emojax.types import Answer


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "00:00:00,000"),
        (62.345, "00:01:02,345"),
        (59.9996, "00:01:00,000"),
        (3661.5, "01:01:01,500"),
        (-0.1, "00:00:00,000"),
    ],
)
def test_clock(seconds, text):
    assert clock(seconds, ",") == text


def test_a_segment_in_both_formats():
    answer = Answer(
        path="a.mp4",
        label="sad",
        probabilities={"sad": 0.75, "happy": 0.25},
        reason="",
        modalities=("text",),
        seconds=0.1,
    )
    span = Span(
        index=0,
        start=61.0,
        end=62.5,
        ends_at="end",
        speech=None,
        person="Anna",
        words="oh no",
        speakers=(),
        answer=answer,
    )
    timeline = Timeline(
        path="a.mp4",
        seconds=62.5,
        model="m",
        labels=("sad", "happy"),
        spans=(span,),
        changes={},
        words="",
        language="",
        people="",
        purpose="",
        settings={},
        notes=(),
    )
    srt = "1\n00:01:01,000 --> 00:01:02,500\nAnna: [sad 75%] oh no\n"
    assert to_srt(timeline).decode() == srt
    assert to_vtt(timeline).decode() == (
        "WEBVTT\n\n00:01:01.000 --> 00:01:02.500\nAnna: [sad 75%] oh no\n"
    )

"""The page of a recording in a browser: play, follow, seek; a recording that is not found."""

import dataclasses

import numpy as np
import pytest
from browser import chromium, url_of
from recording import record

from data_pipeline.media.prosody import Voice
from data_pipeline.media.transcript import Cue, Transcript
from emojax.infer.timeline import complete_spans
from emojax.infer.timeline_records import Span, Timeline, TimelineOptions
from emojax.reports.recording_page import to_html
from emojax.types import Answer

LABELS = ("happy", "sad", "angry")
SURE = [(0, 0.9), (0, 0.8), (1, 0.9), (2, 0.7), (2, 0.9), (0, 0.6)]


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    return record(
        tmp_path_factory.mktemp("report") / "talk.mp4", [(2.0, i) for i in range(6)], [(0.2, 11.5)]
    )


def timeline(path, people=("",)) -> Timeline:
    spans = []
    words = Transcript(
        cues=tuple(
            Cue(start=2.0 * i, end=2.0 * i + 2, text=f"these are words {i}", speaker="ANNA")
            for i in range(6)
        ),
        source="talk.srt",
    )
    for i, (best, p) in enumerate(SURE):
        for person in people:
            rest = (1 - p) / 2
            probs = {name: p if k == best else rest for k, name in enumerate(LABELS)}
            reason = f"The voice is loud. She says 'these are words {i}'. So it is {LABELS[best]}."
            answer = Answer(
                path=str(path),
                label=LABELS[best],
                probabilities=probs,
                reason=reason,
                modalities=("video", "audio", "text"),
                seconds=0.1,
            )
            if i == 3:
                answer = dataclasses.replace(answer, label="cannot tell", leading=("angry", "sad"))
            if i == 5:
                answer = dataclasses.replace(
                    answer, contributions={"video": 0.5, "audio": -0.2, "text": 0.1}
                )
            voice = Voice(loudness=-30.0 + i, pitch=150.0, pitch_range=3.0, voiced=0.8, rate=4.0)
            spans.append(
                Span(
                    index=i,
                    start=2.0 * i,
                    end=2.0 * i + 2,
                    ends_at="cut",
                    speech=0.9,
                    person=person,
                    words=f"these are words {i}",
                    speakers=("ANNA",),
                    answer=answer,
                    voice=voice,
                )
            )
    done, changes = complete_spans(spans, LABELS, options=TimelineOptions(), transcript=words)
    return Timeline(
        path=str(path),
        seconds=12.0,
        model="model",
        labels=LABELS,
        spans=done,
        changes=changes,
        words="talk.srt",
        language="",
        people="whole picture",
        purpose="a test",
        settings={},
        notes=("a note",),
    )


def test_play_follow_and_seek(talk, tmp_path):
    (tmp_path / "report.html").write_bytes(to_html(timeline(talk), embed="always"))
    with chromium() as (page, faults):
        page.goto(url_of(tmp_path / "report.html"))
        page.wait_for_function("document.getElementById('player').readyState >= 2")
        now = lambda: page.evaluate("document.getElementById('player').currentTime")
        label = page.locator("#now .label").first.inner_text
        assert page.evaluate("document.getElementById('player').duration") == pytest.approx(
            12.0, abs=0.2
        )
        assert page.locator("tr.row").count() == 6 and label() == "happy"
        page.locator("tr.row").nth(2).click()
        assert now() == pytest.approx(4.0, abs=0.05) and label() == "sad"
        assert "on" in page.locator("tr.row").nth(2).get_attribute("class")
        page.locator("svg rect.seg[data-i='3']").first.click()
        assert now() == pytest.approx(6.0, abs=0.05) and label() == "cannot tell: angry or sad"
        page.keyboard.press("ArrowRight")
        assert now() == pytest.approx(8.0, abs=0.05) and label() == "angry"
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert now() == pytest.approx(4.0, abs=0.05)
        page.locator("#changes button").first.click()
        assert now() == pytest.approx(4.0, abs=0.05)
        claim = page.locator("small.claim", has_text="these are words 4")
        assert "ok" in claim.get_attribute("class") and "supported" in claim.get_attribute("title")
        claim.click()
        assert now() == pytest.approx(8.0, abs=0.05)
        # while it plays, the page follows
        page.locator("tr.row").nth(0).click()
        page.evaluate("document.getElementById('player').muted = true")
        page.evaluate("void document.getElementById('player').play()")
        page.wait_for_function("document.getElementById('player').currentTime > 4.3", timeout=20000)
        page.wait_for_function(
            "document.querySelector('#now .label').textContent == 'sad'", timeout=5000
        )
        before = page.evaluate("document.querySelector('#head').getAttribute('x1')")
        page.locator("#in").click()
        assert float(
            page.evaluate("document.querySelector('#head').getAttribute('x1')")
        ) > 1.5 * float(before)
        bars = page.locator("#now .bar i").evaluate_all(
            "all => all.map(e => parseFloat(e.style.width))"
        )
        np.testing.assert_allclose(bars, [90, 5, 5], atol=0.1)
        assert faults == []


def test_each_person_has_a_lane_and_the_words_are_shown(talk, tmp_path):
    (tmp_path / "report.html").write_bytes(
        to_html(timeline(talk, ("person 1", "person 2")), embed="always")
    )
    with chromium() as (page, faults):
        page.goto(url_of(tmp_path / "report.html"))
        texts = page.locator("svg text").all_text_contents()
        assert "person 1" in texts and "person 2" in texts
        assert page.locator("tr.row").count() == 12 and page.locator("#now .label").count() == 2
        assert "these are words 0" in page.locator("#now").inner_text()
        assert "purpose: a test" in page.inner_text(
            "body"
        ) and "not what a person feels" in page.inner_text(".notice")
        assert faults == []


def test_a_recording_that_is_not_next_to_the_page(talk, tmp_path):
    whole = dataclasses.replace(timeline(talk), path=str(tmp_path / "gone.mp4"))
    (tmp_path / "report.html").write_bytes(to_html(whole, folder=tmp_path))
    with chromium() as (page, _):
        page.goto(url_of(tmp_path / "report.html"))
        page.wait_for_selector("#lost", state="visible")
        page.set_input_files("#pick", str(talk))
        page.wait_for_function("document.getElementById('player').readyState >= 2")
        assert not page.locator("#lost").is_visible()
        page.locator("tr.row").nth(5).click()
        assert page.evaluate("document.getElementById('player').currentTime") == pytest.approx(
            10.0, abs=0.05
        )


def test_a_large_recording_is_loaded_from_its_own_file(talk, tmp_path):
    page_file = tmp_path / "deep" / "report.html"
    page_file.parent.mkdir()
    page_file.write_bytes(to_html(timeline(talk), embed="never", folder=page_file.parent))
    assert b"base64" not in page_file.read_bytes()
    with chromium() as (page, faults):
        page.goto(url_of(page_file))
        page.wait_for_function("document.getElementById('player').readyState >= 2")
        assert not page.locator("#lost").is_visible() and faults == []

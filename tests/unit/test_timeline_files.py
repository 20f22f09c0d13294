"""Outputs of recordings replace only outputs of the same recording."""

import json
import os
import sys
from pathlib import Path

import pytest

from data_pipeline.media.fingerprint import recording_fingerprint
from emojax.infer.answer_cache import AnswerCache
from emojax.infer.timeline_records import Span, Timeline
from emojax.reports.recording import write_all
from emojax.types import Answer
from emojax.workflows.timeline_files import output_stems, state_file

FORMATS = ("json", "csv", "parquet", "srt", "vtt", "eaf", "html")
SPAN = Span(
    index=0,
    start=0.0,
    end=1.0,
    ends_at="end",
    speech=None,
    person="",
    words="",
    speakers=(),
    answer=Answer(
        path="a.mp4",
        label="sad",
        probabilities={"sad": 0.75, "happy": 0.25},
        reason="",
        modalities=("video",),
        seconds=0.1,
    ),
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two recordings of one name."""
    monkeypatch.chdir(tmp_path)
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(name.encode() * 5_000_000)
    return tmp_path


def stems(paths, **options):
    return [str(s) for s in output_stems(paths, **options)]


def run(path, formats=FORMATS, *, model="m", **options):
    """What a run writes, without a model."""
    (stem,) = output_stems([path], formats=formats, **options)
    timeline = Timeline(
        path=path,
        fingerprint=recording_fingerprint(path),
        seconds=1.0,
        model=model,
        labels=("sad", "happy"),
        spans=(SPAN,),
        changes={},
        words="none",
        language="",
        people="whole picture",
        purpose="",
        settings={},
    )
    page = Path(options["page"]) if "page" in options else None
    return write_all(timeline, stem, formats=formats, embed="never", page=page)


def test_no_two_recordings_get_one_name():
    two = stems(["x/a.mp4", "y/a.mp4", "z/a-2.mp4"], out="o")
    assert two == ["o/a", "o/a-2", "o/a-2-2"]
    assert stems(["talk.mp4"], page="talk.html") == ["talk.emotions"]
    assert stems(["in/talk.mp4"], out="in") == ["in/talk.emotions"]
    assert stems(["in/talk.mp4"]) == ["talk-emotions/talk"]


def test_outputs_of_another_recording_stay(place, caplog):
    for number in range(2):  # the second time each recording has its outputs
        first = run("x/a.mp4", out="o", model=str(number))
        content = [f.read_bytes() for f in first]
        assert {f.stem for f in first} == {"a"} and not caplog.text.count("output of x/a.mp4")
        assert {f.stem for f in run("y/a.mp4", out="o")} == {"a-2"}
        assert "o/a.json exists and is not known to be an output of y/a.mp4" in caplog.text
        assert [f.read_bytes() for f in first] == content
    assert len(list((place / "o").iterdir())) == 2 * len(FORMATS)
    (place / "copy").mkdir()
    (place / "x" / "a.mp4").rename(place / "copy" / "a.mp4")
    assert {f.stem for f in run("copy/a.mp4", out="o")} == {"a"}, "moved, but the same recording"


def test_files_that_were_edited_or_made_by_hand_stay(place):
    (srt, *_) = run("x/a.mp4", ("srt", "json"), out="o")
    run("x/a.mp4", ("csv",), out="o", model="other")  # the list of the JSON file grows
    run("x/a.mp4", ("csv", "json"), out="o")
    assert {f.stem for f in run("x/a.mp4", ("csv", "srt"), out="o")} == {"a"}
    srt.write_text("corrected by hand")
    assert {f.stem for f in run("x/a.mp4", out="o")} == {"a-2"}
    assert srt.read_text() == "corrected by hand"
    for name in ("csv", "parquet", "html", "svg"):  # recognised without a JSON file
        for _ in range(2):
            assert [f.name for f in run("y/a.mp4", (name,), out="p")] == [f"a.{name}"]
    (place / "p" / "a.csv").write_text("mine")
    assert [f.name for f in run("y/a.mp4", ("csv",), out="p")] == ["a-2.csv"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are UTF-8 elsewhere")
def test_a_name_that_is_not_utf8_gets_all_outputs_and_recognises_them(place):
    path = os.fsdecode(b"x/caf\xe9.mp4")
    Path("x/a.mp4").rename(path)
    for model in ("m", "other"):
        files = run(path, out="o", model=model)
        assert {os.fsencode(f.name) for f in files} == {
            b"caf\xe9." + suffix.encode() for suffix in FORMATS
        }
    listed = json.loads(files[0].read_text())["files"]
    assert {os.fsencode(name) for name in listed} == {os.fsencode(f.name) for f in files[1:]}


def test_the_page_replaces_only_the_page_of_its_recording(place):
    (place / "r.json").write_text("precious")
    page = place / "r.html"
    for _ in range(2):
        files = run("x/a.mp4", ("json", "html"), page=str(page))
        assert sorted(f.name for f in files) == ["r-2.json", "r.html"]
    assert (place / "r.json").read_text() == "precious"
    before = page.read_bytes()
    with pytest.raises(ValueError, match=r"r\.html: this file exists.*page of y/a\.mp4"):
        run("y/a.mp4", ("json", "html"), page=str(page))
    assert page.read_bytes() == before


def test_kept_answers_of_another_recording_stay(place):
    state = state_file(place / "o" / "a")
    with AnswerCache(state, "key", fingerprint=recording_fingerprint("x/a.mp4")):
        pass
    assert stems(["x/a.mp4"], out="o") == ["o/a"] and stems(["y/a.mp4"], out="o") == ["o/a-2"]
    state.write_text(json.dumps({"schema": 1, "key": "of an older version"}) + "\n")
    assert stems(["y/a.mp4"], out="o") == ["o/a"]
    assert stems(["y/a.mp4", "x/a.mp4"], out="o", answered={"y/a.mp4"}) == ["o/a", "o/a-2"]

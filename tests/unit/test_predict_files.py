"""One file never stops the others, whatever its content, name or length."""

import io
import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipeline.annotate.clip_lists import read_clip_list
from data_pipeline.embedded.generate import write_mp4
from data_pipeline.io import write_json
from data_pipeline.loader.tokens import RowTooLong
from data_pipeline.media.clip import Sampling, read_clip
from data_pipeline.schema import ClipRecord, read_records, write_records
from emojax.cli.console import escape_unprintable
from emojax.cli.output import answer_text
from emojax.infer import predict as predicting
from emojax.infer.timeline_records import Timeline
from emojax.reports.elan import to_eaf
from emojax.reports.recording_page import to_html
from emojax.reports.recording_tables import to_csv, to_json
from emojax.types import Answer
from emojax.workflows.timeline_files import output_stems

LATIN_1 = os.fsdecode(b"caf\xe9")


@pytest.fixture
def bundle(monkeypatch):
    monkeypatch.setattr(predicting, "clips_at_once", lambda bundle: 4)
    settings = SimpleNamespace(sampling=lambda peak: Sampling(index=peak, num_frames=2))
    return SimpleNamespace(name="m", labels=("happy", "sad"), settings=settings)


def answer(path: str, notes: tuple[str, ...] = ()) -> Answer:
    return Answer(
        path=path, label="sad", probabilities={"sad": 1.0}, reason="", modalities=("video",),
        seconds=0.0, error=None, model="m", notes=notes,
    )  # fmt: skip


def film(path) -> str:
    write_mp4(path, [np.full((48, 64, 3), 90 * i, np.uint8) for i in range(3)], None, 12)
    return str(path)


def test_an_error_in_one_clip_refuses_it_alone(bundle, tmp_path, monkeypatch):
    paths = [film(tmp_path / f"{i}.mp4") for i in range(3)]
    (tmp_path / "text.mp4").write_text("nothing")

    def answer_clips(bundle, clips, labels, *, options):
        if any(path == paths[1] for path, _ in clips):
            raise AttributeError("no codec")
        return [answer(path) for path, _ in clips]

    monkeypatch.setattr(predicting, "answer_clips", answer_clips)
    answers = list(predicting.predict(bundle, [*paths, str(tmp_path / "text.mp4")]))
    assert [a.label for a in answers] == ["sad", None, "sad", None]
    assert answers[1].error == "the clip cannot be answered (AttributeError: no codec)"
    assert "it is a text" in answers[3].error

    def too_long(bundle, clips, labels, *, options):
        raise RowTooLong("too long", 9, 8)

    monkeypatch.setattr(predicting, "answer_clips", too_long)
    with pytest.raises(RowTooLong):
        list(predicting.predict(bundle, paths))


def test_a_long_recording_is_sent_to_where_it_is_answered_in_parts(bundle, tmp_path):
    path = film(tmp_path / "a.mp4")
    for options, way in (
        (None, "--timeline answers recordings of any length"),
        (predicting.PredictOptions(for_recordings="send it to /v1/jobs"), "send it to /v1/jobs"),
    ):
        (refused,) = predicting.predict(bundle, [path], timeout=-1.0, options=options)
        assert "decoding took more than" in refused.error and way in refused.error


@pytest.mark.parametrize(
    ("options", "right"),  # (--words, --subtitle), (words, note)
    [
        ((None, ""), ("so sorry", "words: a.en.srt")),
        ((None, "given"), ("given", "")),
        (("none", ""), ("", "")),
        (("other.txt", ""), ("oh no", "words: other.txt")),
    ],
)
def test_clips_have_the_words_of_their_subtitles(bundle, tmp_path, monkeypatch, options, right):
    """By the rule of timelines; the cue after the end is not of the clip."""
    (words, subtitle), (used, note) = options, right
    cues = "1\n00:00:00,000 --> 00:00:00,200\nso sorry\n\n2\n00:09:00,000 --> 00:09:01,000\nx\n"
    (tmp_path / "a.en.srt").write_text(cues)
    (tmp_path / "other.txt").write_text("oh no")
    (tmp_path / "b.srt").write_bytes(b"1\n\0\x01\x02")
    paths = [film(tmp_path / "a.mp4"), film(tmp_path / "b.mp4")]
    clips = []

    def answer_clips(bundle, pairs, labels, *, options):
        clips.extend(clip for _, clip in pairs)
        return [answer(path) for path, _ in pairs]

    monkeypatch.setattr(predicting, "answer_clips", answer_clips)
    monkeypatch.chdir(tmp_path)
    wanted = predicting.PredictOptions(words=words)
    _, second = predicting.predict(bundle, paths, subtitle=subtitle, options=wanted)
    assert clips[0].subtitle == used and [n for n in clips[0].notes if "words:" in n] == (
        [note] if note else []
    )
    assert ("text" in clips[0].modalities) == bool(used)
    damaged = words is None and not subtitle
    assert ("b.srt is not text" in (second.error or "")) == damaged


def test_names_of_other_bytes_reach_every_output(tmp_path, monkeypatch):
    path = film(tmp_path / f"{LATIN_1}.mp4")
    clip = read_clip(path, sampling=Sampling(temporal="window", num_frames=2))
    assert clip.id == "caf\ufffd"
    timeline = Timeline(
        path=path, seconds=0.25, model="m", labels=("happy", "sad"), spans=(), changes={},
        words="", language="", people="", purpose="", settings={},
    )  # fmt: skip
    assert b"caf%E9.mp4" in to_eaf(timeline, tmp_path)
    assert "caf\ufffd.mp4" in json.loads(to_json(timeline))["path"]
    assert to_csv(timeline) and b"caf?.mp4" in to_html(timeline, embed="never", folder=tmp_path)
    # JSON keeps the name as an escape, from which the file is found again.
    write_json(tmp_path / "skipped.json", [path])
    assert json.loads((tmp_path / "skipped.json").read_text()) == [path]
    (record,) = read_clip_list(tmp_path, labels=("happy", "sad"))
    assert record.id == "caf\ufffd" and record.path == path
    write_records(tmp_path / "records.jsonl", [record])
    assert read_records(tmp_path / "records.jsonl") == [record]
    assert ClipRecord.from_json(record.to_json().encode()) == record
    for encoding in ("utf-8", "ascii"):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        escape_unprintable()
        print(json.dumps({"path": path, "text": "你好"}, ensure_ascii=False), flush=True)
        assert json.loads(out.buffer.getvalue()) == {"path": path, "text": "你好"}


def test_an_annotated_folder_leaves_out_pipes_and_broken_links(tmp_path):
    film(tmp_path / "a.mp4")
    os.mkfifo(tmp_path / "b.mp4")
    (tmp_path / "c.mp4").symlink_to("nowhere.mp4")
    assert [r.id for r in read_clip_list(tmp_path, labels=("happy", "sad"))] == ["a"]


def test_outputs_of_long_names_fit_a_file_system(tmp_path):
    long = ["é" * 120 + f"{i}.mp4" for i in range(2)]  # 241 bytes
    first, second = output_stems(long, out=str(tmp_path))
    assert first.name == "é" * 95 and second.name == f"{first.name}-2"
    for stem in (first, second):
        stem.with_name(f"{stem.name}.unfinished.jsonl").touch()


def test_an_answer_is_printed_on_its_lines_and_repeated_notes_are_counted():
    quiet, late = "there is no sound", "the sound starts at 1.00 s"
    assert answer_text(answer("a\nb.mp4", (quiet,))) == (
        "a b.mp4\n  sad   sad 1.00\n  from video; there is no sound"
    )
    text = answer_text(answer(f"{LATIN_1}.mp4", (quiet, late)), known={quiet})
    assert text.startswith("caf .mp4\n") and text.endswith(f"from video; {late}; 1 note as above")

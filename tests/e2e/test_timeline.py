"""`emojax predict --timeline` on a recording of synthetic clips: outputs, interruptions, errors.

Each output format is read back by another library.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pysubs2
import pytest
from random_model import LABELS, save_random_model
from recording import record, restamped

from emojax.cli.main import main

SCENES = [(3.0, 1), (4.0, 2), (3.5, 3), (3.0, 4), (2.5, 0)]
SAID = [(0.3, 2.7), (3.2, 6.8), (7.2, 10.2), (10.7, 13.3)]
SRT = (
    "1\n00:00:00,300 --> 00:00:02,700\nANNA: the <b>first</b> & words\n\n"
    "2\n00:00:03,200 --> 00:00:06,800\n=so it is 'happy'\n"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    path = record(tmp_path_factory.mktemp("media") / "my talk.mp4", SCENES, SAID, moving=True)
    path.with_suffix(".srt").write_text(SRT)
    return path


@pytest.fixture(scope="module")
def outputs(model, talk, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    page = out / "report.html"
    code = main(
        [
            "predict",
            str(talk),
            "--model",
            str(model),
            "--timeline",
            "--report",
            str(page),
            "--purpose",
            "a test",
            "--contributions",
        ]
    )
    assert code == 0
    return out


def test_every_format_is_there_and_nothing_else(outputs):
    names = sorted(p.name for p in outputs.iterdir())
    assert names == sorted(
        f"report.{f}" for f in ("json", "csv", "parquet", "srt", "vtt", "eaf", "png", "html")
    )


def test_json_has_everything(outputs, talk):
    found = json.loads((outputs / "report.json").read_text())
    assert found["schema"] == 1 and found["purpose"] == "a test" and found["words"] == "my talk.srt"
    assert found["people"] == "whole picture" and "not what a person feels" in found["notice"]
    segments = found["segments"]
    np.testing.assert_allclose(
        [s["end"] for s in segments], np.cumsum([s for s, _ in SCENES]), atol=0.15
    )
    *spoken, nobody = segments  # the last one is grey with faint noise
    assert (nobody["label"], nobody["track"], nobody["signs"]) == ("cannot tell", None, [])
    assert nobody["smoothed"] == {} and nobody["reason"] == ""
    assert [n.split(":")[0] for n in nobody["notes"][-3:]] == [
        "the picture is blank",
        "no speech is found in the sound",
        "nobody is seen, heard or quoted",
    ]
    for s in spoken:
        assert "speech" in s["signs"]
        assert s["probabilities"].keys() == set(LABELS) and sum(
            s["probabilities"].values()
        ) == pytest.approx(1, abs=1e-4)
        assert (
            s["label"] == max(s["probabilities"], key=s["probabilities"].get)
            and s["track"] in LABELS
        )
        assert sum(s["smoothed"].values()) == pytest.approx(1, abs=1e-3)
        assert set(s["contributions"]) == set(s["modalities"])
    assert segments[0]["words"] == "the first & words" and segments[0]["speakers"] == ["ANNA"]
    assert "text" in segments[0]["modalities"] and "text" not in segments[3]["modalities"]
    at = [c["time"] for c in found["changes"]]
    tracks = [s["track"] for s in spoken]
    assert at == [
        s["start"] for a, b, s in zip(tracks, tracks[1:], spoken[1:], strict=False) if a != b
    ]


def test_csv_and_parquet_are_the_same_tidy_table(outputs):
    from pyarrow import parquet

    with (outputs / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = parquet.read_table(outputs / "report.parquet").to_pylist()
    truth = json.loads((outputs / "report.json").read_text())["segments"]
    assert len(rows) == len(table) == len(truth)
    for row, typed, s in zip(rows, table, truth, strict=True):
        assert (
            float(row["start"]) == typed["start"] == s["start"]
            and row["label"] == typed["label"] == s["label"]
        )
        assert float(row["p_sad"]) == typed["p_sad"] == s["probabilities"]["sad"]
        assert (row["words"].removeprefix("'") or None) == typed["words"] and (
            typed["words"] or ""
        ) == s["words"]
        assert typed["calibrated"] is False and row["purpose"] == "a test"
    assert rows[1]["words"].startswith("'="), "no spreadsheet runs spoken words as a formula"


def test_subtitles_are_read_back(outputs):
    truth = json.loads((outputs / "report.json").read_text())["segments"]
    for suffix in ("srt", "vtt"):
        found = pysubs2.load(str(outputs / f"report.{suffix}"))
        assert [(e.start, e.end) for e in found] == [
            (round(1e3 * s["start"]), round(1e3 * s["end"])) for s in truth
        ]
        assert all(f"[{s['label']}" in e.plaintext for e, s in zip(found, truth, strict=True))
    assert "first &amp; words" in (outputs / "report.vtt").read_text()


def test_elan_is_read_back(outputs, talk):
    import pympi

    truth = json.loads((outputs / "report.json").read_text())["segments"]
    eaf = pympi.Elan.Eaf(str(outputs / "report.eaf"))
    assert set(eaf.get_tier_names()) == {"emotion", "probability", "track", "reason", "words"} | {
        "words of ANNA"
    }
    assert "ANNA: the first" in (outputs / "report.srt").read_text()
    found = sorted(eaf.get_annotation_data_for_tier("emotion"))
    assert found == [(round(1e3 * s["start"]), round(1e3 * s["end"]), s["label"]) for s in truth]
    assert eaf.get_linked_files()[0]["MEDIA_URL"] == talk.absolute().as_uri()
    words = sorted(eaf.get_annotation_data_for_tier("words"))
    assert [w[2] for w in words] == [s["words"] for s in truth if s["words"]]


def test_picture_and_page(outputs):
    from PIL import Image

    with Image.open(outputs / "report.png") as picture:
        assert picture.size[0] == 1400
    text = (outputs / "report.html").read_text()
    assert text.count("</script>") == 2
    assert (
        "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    )
    assert "data:video/mp4;base64," in text and "purpose: a test" in text


def test_a_killed_run_continues_and_answers_nothing_twice(model, talk, tmp_path):
    """After SIGKILL the next run keeps the answers; outputs equal those of an undisturbed run."""
    command = [
        sys.executable,
        "-m",
        "emojax.cli",
        "predict",
        str(talk),
        "--model",
        str(model),
        "--timeline",
        "--window",
        "0.5",
    ]
    command += ["--formats", "json", "--out"]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, str(whole)], env=env, check=True, capture_output=True)
    state = killed / "my talk.unfinished.jsonl"
    process = subprocess.Popen(
        [*command, str(killed)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(2400):
        if state.exists() and len(state.read_bytes().splitlines()) > 5:
            break
        assert process.poll() is None, "it must still be running"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = state.read_bytes()
    with state.open("ab") as file:
        file.write(b'{"at": [99, ""], "ans')  # a torn line
    answers = {
        tuple(f["at"]): f["answer"]["seconds"] for f in map(json.loads, kept.splitlines()[1:])
    }
    subprocess.run([*command, str(killed)], env=env, check=True, capture_output=True)
    assert not state.exists()
    first, second = (json.loads((d / "my talk.json").read_text()) for d in (whole, killed))
    for s in second["segments"]:
        if (s["index"], s["person"]) in answers:
            assert s["seconds"] == answers[(s["index"], s["person"])], (
                "this answer was there already"
            )
    for found in (first, second):
        del found["took"]
        for s in found["segments"]:
            del s["seconds"]
    assert first == second and len(first["segments"]) == 32


def test_another_question_does_not_reuse_answers(model, talk, tmp_path):
    from data_pipeline.media.transcript import Transcript
    from emojax.bundle.model_folder import load_bundle
    from emojax.infer.answer_cache import answer_key
    from emojax.infer.face_tracks import WholePicture
    from emojax.infer.timeline_records import TimelineOptions

    bundle = load_bundle(model)
    key = lambda **other: answer_key(
        bundle,
        str(talk),
        TimelineOptions(**other),
        labels=LABELS,
        transcript=Transcript(),
        people=WholePicture(),
    )
    assert key() == key(purpose="another", smoothing=9.0)
    assert len({key(), key(abstain=0.5), key(reasons=False)}) == 3


def test_answers_are_kept_until_the_outputs_are_written(model, talk, tmp_path, monkeypatch):
    from emojax.reports import recording

    def full(timeline):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(recording.FORMATS, "csv", full)
    base = [
        "predict",
        str(talk),
        "--model",
        str(model),
        "--timeline",
        "--formats",
        "csv",
        "--label-only",
        "--out",
    ]
    assert main([*base, str(tmp_path)]) == 2
    assert len((tmp_path / "my talk.unfinished.jsonl").read_text().splitlines()) == 6
    monkeypatch.undo()
    assert main([*base, str(tmp_path)]) == 0 and sorted(p.name for p in tmp_path.iterdir()) == [
        "my talk.csv"
    ]


def test_a_bad_subtitle_file_stops_only_its_own_recording(model, talk, tmp_path, capsys):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(talk.read_bytes())
    (tmp_path / "a.srt").write_bytes(b"\x00\x80\x81")
    code = main(
        [
            "predict",
            str(tmp_path),
            "--model",
            str(model),
            "--timeline",
            "--label-only",
            "--formats",
            "json",
            "--out",
            str(tmp_path / "o"),
        ]
    )
    assert code == 3 and "a.srt is not text" in capsys.readouterr().out
    assert (tmp_path / "o" / "b.json").exists() and not (tmp_path / "o" / "a.json").exists()


def test_words_are_transcribed_where_none_are_given(model, talk, tmp_path, capsys):
    """Whisper's decoder reads the model's encoder states; its text is used as given words are."""
    from whisper_release import WORDS, write_release

    folder = write_release(tmp_path / "whisper")
    silent = tmp_path / "silent.mp4"
    silent.write_bytes(talk.read_bytes())
    base = ["predict", str(silent), "--model", str(model), "--transcribe", str(folder)]
    assert main([*base, "--json", "--language", "en"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["heard"]["language"] == "en" and set(answer["heard"]["text"].split()) <= set(
        WORDS
    )
    assert answer["heard"]["text"] and "text" in answer["modalities"]
    assert main([*base, "--subtitle", "so it is happy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["heard"] is None, "given words are preferred"
    assert (
        main([*base, "--timeline", "--formats", "json", "--label-only", "--out", str(tmp_path)])
        == 0
    )
    found = json.loads((tmp_path / "silent.emotions.json").read_text())
    assert found["words"] == "transcribed" and found["language"] in ("en", "de")
    spoken = [s for s in found["segments"] if s["heard"]]
    assert spoken and all(
        s["words"] == s["heard"]["text"] and "text" in s["modalities"] for s in spoken
    )
    for s in spoken:
        assert all(
            0 <= c["start"] < c["end"] <= s["end"] - s["start"] + 0.01 for c in s["heard"]["cues"]
        )
    capsys.readouterr()
    assert main([*base[:4], "--language", "en"]) == 2
    assert "for --transcribe" in capsys.readouterr().err


def test_errors_are_reported(model, talk, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    base = ["predict", "--model", str(model)]
    assert (
        main([*base, str(tmp_path / "broken.mp4"), "--timeline", "--out", str(tmp_path / "o")]) == 3
    )
    assert "refused: not a media file" in capsys.readouterr().out
    for options, message in (
        (["--out", "o"], "give --timeline"),
        (["--window", "2", "--one-speaker"], "segments of a recording"),
        (["--timeline", "--formats", "xls"], "'xls' is not one of json"),
        (["--timeline", "--words", str(tmp_path / "no.srt")], "no.srt"),
        (["--timeline", "--longest", "0.1"], "segments of"),
        (["--timeline", "--faces", str(tmp_path / "no.onnx")], "no such file"),
        (["--timeline", "--faces", str(tmp_path / "faces")], "does not exist"),
        ([str(talk), "--timeline", "--report", "x.html"], "for one recording"),
    ):
        assert main([*base, str(talk), *options]) == 2, options
        assert message in " ".join(capsys.readouterr().err.split()), options


def test_words_cannot_break_any_format():
    """Words with characters that HTML, XML, subtitles and spreadsheets interpret."""
    from xml.etree import ElementTree

    from emojax.infer.timeline_records import Span, Timeline
    from emojax.reports.captions import to_srt, to_vtt
    from emojax.reports.elan import to_eaf
    from emojax.reports.recording_page import to_html
    from emojax.reports.recording_tables import to_csv
    from emojax.types import Answer

    bad = "</script><img src=x onerror=alert(1)> --> \x00\x0b ]]> & \n\n99\n=1+1"
    answer = Answer(
        path="a.mp4",
        label="sad",
        probabilities={"sad": 0.75, "happy": 0.25},
        reason=bad,
        modalities=("audio",),
        seconds=0.1,
    )
    span = Span(
        index=0,
        start=0.0,
        end=1.5,
        ends_at="end",
        speech=1.0,
        person=bad,
        words=bad,
        speakers=(bad,),
        answer=answer,
        smoothed={"sad": 0.75, "happy": 0.25},
        track="sad",
    )
    whole = Timeline(
        path="<b>.mp4",
        seconds=1.5,
        model="m",
        labels=("sad", "happy"),
        spans=(span,),
        changes={},
        words=bad,
        language="",
        people=bad,
        purpose=bad,
        settings={},
        notes=(bad,),
    )
    page = to_html(whole, embed="never").decode()
    assert page.count("</script>") == 2 and "<img" not in page and "<b>.mp4" not in page
    for text in (to_srt(whole).decode(), to_vtt(whole).decode()):
        assert text.count("-->") == 1 and "\n99\n" not in text
    assert "<img" not in to_vtt(whole).decode()
    root = ElementTree.fromstring(to_eaf(whole))
    assert any("onerror" in (e.text or "") for e in root.iter("ANNOTATION_VALUE"))
    (row,) = csv.DictReader(to_csv(whole).decode().splitlines(keepends=True))
    assert row["reason"] == bad


def test_a_recording_is_cut_and_answered_alike_in_every_container(model, talk, tmp_path):
    """Four containers give one timeline, whose rows in a manifest give the segments' answers."""
    names = ["a.mp4", "b.mkv", "c.ts", "d.MTS"]
    (tmp_path / "a.mp4").write_bytes(talk.read_bytes())
    restamped(talk, tmp_path / "b.mkv", start=10.0)
    restamped(talk, tmp_path / "c.ts", start=3600.0, form="mpegts")
    restamped(talk, tmp_path / "d.MTS", start=1.2, form="mpegts", camera=True)
    out = tmp_path / "out"
    command = ["predict", *(str(tmp_path / n) for n in names), "--timeline", "--label-only"]
    assert main([*command, "--model", str(model), "--formats", "json", "--out", str(out)]) == 0
    found = [json.loads((out / f"{n[0]}.json").read_text())["segments"] for n in names]
    times = [[(s["start"], s["end"]) for s in segments] for segments in found]
    for other in times[1:]:
        np.testing.assert_allclose(other, times[0], atol=0.05)

    rows = [(n, s) for n, segments in zip(names, found, strict=True) for s in segments]
    lines = ["path,label,start,end"]
    lines += [f"{n},{LABELS[i % 4]},{s['start']},{s['end']}" for i, (n, s) in enumerate(rows)]
    (tmp_path / "cuts.csv").write_text("\n".join(lines))
    command = ["evaluate", str(model), "--manifest", str(tmp_path / "cuts.csv")]
    assert main([*command, "--out", str(tmp_path / "scores"), "--resamples", "0"]) == 0
    answers = (tmp_path / "scores" / "predictions" / "test.jsonl").read_text().splitlines()
    answered = {(Path(a["path"]).name, a["start"]): a for a in map(json.loads, answers)}
    assert len(answered) == len(rows)
    for name, segment in rows:
        answer = answered[name, segment["start"]]
        best = max(segment["probabilities"], key=segment["probabilities"].get)
        assert answer["end"] == segment["end"] and answer["response"] == best
        for label, p in segment["probabilities"].items():
            assert answer["probabilities"][label] == pytest.approx(p, abs=1e-4)

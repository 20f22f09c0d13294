"""`emojax evaluate`, `compare` and `suites` on predictions files, and `evaluate` with a server."""

import dataclasses
import json

import numpy as np
import pytest
from chat_server import Chat, serve
from prediction_rows import jsonl, row
from suite_fixture import drawn_clips

from data_pipeline.llm import client
from data_pipeline.media.clip import read_clip
from data_pipeline.schema import ClipRecord
from emojax.cli.main import main
from emojax.evaluate.server_answers import decode_for_server

NOTHING = "http://127.0.0.1:9/v1"  # where nothing listens


def test_the_command_writes_every_file_and_twice_the_same(tmp_path, capsys):
    clip = drawn_clips()[0]
    rows = [
        row(
            f"c{i}",
            ("happy", "sad", "neutral")[i % 3],
            ("happy", "Sad.", "sad")[i % 3],
            speaker=f"s{i % 15}",
            path=str(clip),
            probabilities={"happy": 0.5, "sad": 0.3, "neutral": 0.2},
            duration=1.5,
            modalities=["video"],
        )
        for i in range(30)
    ]
    path = jsonl(tmp_path / "preds.jsonl", *rows)
    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        assert main(["evaluate", "--predictions", str(path), "--out", str(out)]) == 0
    names = sorted(p.relative_to(outs[0]) for p in outs[0].rglob("*") if p.is_file())
    assert [str(n) for n in names] == [
        "clips.csv",
        "confusion_predictions.png",
        "evaluation.json",
        "evaluation.md",
        "predictions/predictions.jsonl",
        "reader_differences.csv",
        "reliability_predictions.png",
        "report.html",
    ]
    for name in names:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name
    found = json.loads((outs[0] / "evaluation.json").read_text())
    assert found["confusion"] == [[10, 0, 0], [0, 0, 10], [0, 0, 10]] and found["labels"] == [
        "happy",
        "neutral",
        "sad",
    ]
    assert found["accuracy"] == pytest.approx(2 / 3) == found["uar"]
    assert found["released"]["accuracy"] == pytest.approx(
        1 / 3
    )  # `sad.` is another string than `sad`
    assert found["calibration"]["ece"] == pytest.approx(abs(0.5 - 1 / 3))
    assert found["interval_method"].startswith("bootstrap over 15 speakers")
    assert found["groups"] == {"drawn_over": "speaker", "n": 15, "clips_alone": 0}
    page = (outs[0] / "report.html").read_text()
    assert "worst clips" in page and "data:image/jpeg;base64," in page and "<script" not in page
    printed = capsys.readouterr().out
    assert "0.667" in printed and "clips.csv, predictions/" in printed


def test_wrong_usage_is_reported(tmp_path, capsys):
    path = jsonl(tmp_path / "p.jsonl", row("a", ""))
    numbers = jsonl(tmp_path / "n.jsonl", row("a", "1.5", "2"), row("b", "-0.5", "1"))
    two = jsonl(tmp_path / "t.jsonl", row("a", "happy"), row("b", "sad"))
    other = jsonl(tmp_path / "u.jsonl", row("a", "happy"), row("b", "happy"))
    out = ["--out", str(tmp_path / "o")]
    for arguments, message in (
        (["--predictions", str(path)], "no row has an 'answer' to compare with; give --truth"),
        ([], "give a model (a folder or a name), --endpoint URL, or --predictions FILE"),
        (["model"], "give the clips: --manifest FILE, or --suite NAME with --data FOLDER"),
        (["model", "--suite", "caer"], "--suite needs --data FOLDER"),
        (["model", "--suite", "cear", "--data", "x"], "did you mean 'caer'"),
        (
            ["--endpoint", "localhost", "--served", "m", "--suite", "caer", "--data", "x"],
            "--endpoint: 'localhost' is not a valid address",
        ),
        (
            ["--endpoint", "http://x", "--suite", "caer", "--data", "x"],
            "--endpoint needs --served NAME",
        ),
        (
            ["--predictions", str(path), "--metric", "best"],
            "--metric: 'best' is not one of hit_rate",
        ),
        (["--predictions", str(path), "--limit", "5"], "--limit has no use with --predictions"),
        (
            ["--predictions", str(path), "--suite", "meld"],
            "there are no predictions of MELD: name files, or the `set` of each row,",
        ),
        (["--predictions", str(numbers)], "every 'answer' is a number"),
        (
            ["--predictions", str(two), "--labels", "happy"],
            "the truth 'sad' is not among --labels happy",
        ),
        (
            ["--predictions", str(two), "--truth", str(other)],
            "has the answer 'sad' here and 'happy' in the file of truths",
        ),
        (["--predictions", str(path), "--tables", str(tmp_path)], "has no format.csv"),
        (["m", "--predictions", str(path)], "leave out the model"),
    ):
        assert main(["evaluate", *arguments, *out]) == 2
        assert message in " ".join(capsys.readouterr().err.split()), arguments
    for option, value, message in (
        ("--resamples", "-1", "'-1' is not a whole number of at least 0"),
        ("--seed", "-1", "'-1' is not a whole number of at least 0"),
        ("--batch", "0", "'0' is not a whole number of at least 1"),
        ("--concurrency", "0", "'0' is not a whole number of at least 1"),
        ("--timeout", "nan", "'nan' is not a number of seconds above 0"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["evaluate", "--predictions", str(path), f"{option}={value}", *out])
        assert f"{option}: {message}" in capsys.readouterr().err


def test_labels_and_metric_can_be_given(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", row("a", "x", "y"), row("b", "y", "y"))
    assert (
        main(
            [
                "evaluate",
                "--predictions",
                str(path),
                "--out",
                str(tmp_path / "o"),
                "--labels",
                "x,y,z",
                "--resamples",
                "0",
            ]
        )
        == 0
    )
    found = json.loads((tmp_path / "o" / "evaluation.json").read_text())
    assert found["labels"] == ["x", "y", "z"] and "intervals" not in found


def test_suites_are_listed(capsys):
    assert main(["suites", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sets"]["bold"]["metric"] == "multi_label" and "dfew-5" in found["suites"]


# --- comparisons ---


def test_runs_are_compared_by_name_of_test(tmp_path, capsys):
    rng = np.random.default_rng(0)
    truth = [str(x) for x in rng.choice(["happy", "sad", "angry"], 90)]
    worse = [t if rng.random() < 0.6 else "happy" for t in truth]
    for name, responses in (("one", truth), ("two", worse)):
        path = jsonl(
            tmp_path / f"{name}.jsonl",
            *(
                row(f"c{i}", t, s, speaker=f"s{i % 9}")
                for i, (t, s) in enumerate(zip(truth, responses, strict=True))
            ),
        )
        assert (
            main(
                [
                    "evaluate",
                    "--predictions",
                    str(path),
                    "--out",
                    str(tmp_path / name),
                    "--resamples",
                    "20",
                ]
            )
            == 0
        )
    out = tmp_path / "c"
    assert (
        main(
            [
                "compare",
                str(tmp_path / "one"),
                str(tmp_path / "two"),
                "--score",
                "accuracy",
                "--permutations",
                "500",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    (found,) = json.loads((out / "comparison.json").read_text())["comparisons"]
    share = np.mean([t == w for t, w in zip(truth, worse, strict=True)])
    assert found["values"] == pytest.approx([1.0, share]) and found["test"][
        "difference"
    ] == pytest.approx(share - 1)
    assert (
        found["mcnemar"]["only_first"] == round(90 * (1 - share))
        and found["test"]["p_holm"] == found["test"]["p_value"]
    )
    text = (out / "comparison.md").read_text()
    assert (
        "*" in text.splitlines()[4] and "paired permutation test over groups, two-sided" in text
    )  # stars, and of what
    same = ["compare", *map(str, (tmp_path / "one", tmp_path / "two" / ".." / "one"))]
    capsys.readouterr()
    assert main([*same, "--permutations", "20", "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "two/../one is the folder that it is compared with" in printed
    assert "corrected by Holm's method for 1 test." in printed
    assert main(["compare", *map(str, (tmp_path / "one", tmp_path)), "--out", str(out)]) == 2
    assert "contains no evaluation" in capsys.readouterr().err
    jsonl(tmp_path / "three.jsonl", *(row(f"c{i}", "sad", "sad") for i in range(90)))
    assert (
        main(
            [
                "evaluate",
                "--predictions",
                str(tmp_path / "three.jsonl"),
                "--out",
                str(tmp_path / "three"),
            ]
        )
        == 0
    )
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "three"), "--out", str(out)]) == 2
    assert "in one run and 'sad' in the other" in " ".join(capsys.readouterr().err.split())


# --- servers ---


def test_a_multimodal_server_answers_a_manifest(tmp_path, capsys):
    clips = drawn_clips()[:4]
    manifest = tmp_path / "m.csv"
    lines = [
        f"{c},{label},well then"
        for c, label in zip(clips, ("happy", "sad", "happy", "sad"), strict=True)
    ]
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    manifest.write_text(
        "path,label,subtitle\n" + "\n".join([*lines, f"{tmp_path}/broken.mp4,sad,"]) + "\n"
    )
    seen = []

    def reply(body, number):
        parts = body["messages"][0]["content"]
        seen.append([p["type"] for p in parts])
        text = parts[-1]["text"]
        assert "happy, sad" in text and 'says: "well then"' in text
        return "The person looks happy." if len(seen) != 2 else ""

    out = tmp_path / "o"
    command = [
        "evaluate",
        "--served",
        "omni",
        "--manifest",
        str(manifest),
        "--out",
        str(out),
        "--concurrency",
        "1",
    ]
    with serve(Chat(reply)) as chat:
        assert main([*command, "--endpoint", chat.url, "--price", "1", "2"]) == 0
        asked = sum(chat.asked.values())
        assert main([*command, "--endpoint", chat.url]) == 0
        assert sum(chat.asked.values()) == asked  # everything is stored
    kinds = {k for s in seen for k in s}
    assert kinds <= {"image_url", "input_audio", "text"} and {"image_url", "text"} <= kinds
    found = json.loads((out / "evaluation.json").read_text())
    assert found["n"] == 5 and found["clips"] == {"answered": 4, "refused": 1, "missing_media": 0}
    assert found["answers"]["read_as"]["sentence"] == 4 and found["unparsable_by_class"] == [0, 1]
    assert found["accuracy"] == pytest.approx(2 / 5)
    message = " ".join(capsys.readouterr().out.split())
    assert (
        "1 x empty reply" in message
        and "cost 0.00" in message
        and "5 (1 unanswered)" in message
        and "test: 1 clip could not be decoded: counted as wrong" in message
    )
    assert found["unanswered"] == {"refused": 1}
    assert "test: 1 clip could not be decoded" in (out / "evaluation.md").read_text()


@pytest.mark.parametrize("command", ["evaluate", "judge"])
def test_without_any_usable_reply_there_is_no_score(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(client, "RETRIES", 0)
    table = tmp_path / "m.csv"
    table.write_text(
        "path,label,clip,response,reference\n"
        + "".join(f"{clip},sad,{clip},x,y\n" for clip in drawn_clips()[:3])
    )
    out = tmp_path / "new" / "o"
    given = {
        "evaluate": ["--served", "m", "--manifest", str(table), "--labels", "happy,sad"],
        "judge": [
            *("--model", "m", "--task", "reasoning"),
            *(f"--{option}={table}" for option in ("predictions", "references")),
        ],
    }[command]
    with serve(Chat(lambda body, n: (503, "no such luck"))) as chat:
        for url, fault in ((chat.url, "3 x 503 (no such luck)"), (NOTHING, "3 x no connection (")):
            assert main([command, *given, "--endpoint", url, "--out", str(out)]) == 2
            printed, fault_text = capsys.readouterr()
            assert f"{url} gave no usable reply about any clip ({fault}" in fault_text
            assert "so there is no score" in fault_text
            assert "UAR" not in printed and "mean" not in printed
    if command == "evaluate":
        assert not out.parent.exists()


def test_without_any_clip_that_can_be_decoded_there_is_no_score(tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    (tmp_path / "m.csv").write_text("path,label\nbroken.mp4,sad\n")
    out = tmp_path / "o"
    place = ["--manifest", str(tmp_path / "m.csv"), "--out", str(out), "--labels", "happy,sad"]
    assert main(["evaluate", *place, "--served", "m", "--endpoint", NOTHING]) == 2
    error = capsys.readouterr().err
    assert "no clip has an answer, so there is no score; clip 'broken#2': refused: " in error
    assert not out.exists()


def test_a_part_of_a_file_is_sent_as_frames_and_sound():
    """A file is sent as video only where the clip is all of it; its sound is never left out."""
    clip = next(c for c in drawn_clips() if read_clip(c).waveform is not None)
    whole = ClipRecord(
        id="a", dataset="x", split="test", path=str(clip), label="sad", labels=("sad",)
    )
    decode = decode_for_server("video", frames=2)
    assert [p["type"] for p in decode(whole).views] == ["video_url"]
    part = decode(dataclasses.replace(whole, start=0.0, end=1.0))
    assert [p["type"] for p in part.views] == ["image_url", "image_url", "input_audio"]

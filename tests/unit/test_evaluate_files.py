"""Predictions of other systems: every format, faults by name, the files of a result; fetched tables; comparisons; servers."""

import dataclasses
import http.server
import json
import threading
from functools import partial

import numpy as np
import pytest
from chat_server import Chat, serve
from suite_fixture import drawn_clips

from emojax.cli.main import main
from emojax.evaluate import official_files
from emojax.evaluate.emotion_wheels import builtin_tables, find_tables
from emojax.evaluate.predictions import (
    Prediction,
    PredictionError,
    prediction_of,
    read_predictions,
    read_truth,
)
from emojax.evaluate.results_folder import Options, read_files, results_of
from emojax.evaluate.suites import SETS, SUITES, suite_of
from emojax.reports.evaluation_tables import headline, published_rows

OPTIONS = Options(tables=builtin_tables(), resamples=50)
SILENT = lambda text: None


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def row(clip, answer="happy", response="happy", **more):
    return {"video_id": clip, "mode": "test", "answer": answer, "response": response, **more}


# --- formats ---


def test_rows_of_emotion_llama_v2(tmp_path):
    path = jsonl(
        tmp_path / "p.jsonl",
        row("a", new_response="sad", extra=1),
        {"name": "b", "response": ["x", "y"]},
    )
    a, b = read_predictions(path)
    assert (a.clip, a.answer, a.response, a.said, a.mode) == ("a", "happy", "happy", "sad", "test")
    assert (b.clip, b.response, b.said) == ("b", "x, y", "x, y")
    assert prediction_of(json.loads(a.to_json())) == a
    (tmp_path / "list.json").write_text(json.dumps([row("a"), row("b")]))
    assert len(read_predictions(tmp_path / "list.json")) == 2


def test_every_field_survives_a_file():
    full = Prediction(
        clip="c", answer="happy", response="sad", mode="test", set="caer", new_response="sad.", probabilities={"happy": 0.25, "sad": 0.75}, speaker="s", video="v", modalities=("video",), duration=1.5, language="en", path="/p.mp4",
        start=1.0, end=2.5, subtitle="words", reason="because", valence=0.1, valence_answer=0.2, error="refused: x",
    )  # fmt: skip
    assert all(getattr(full, f.name) not in (f.default, None, "") for f in dataclasses.fields(full))
    assert prediction_of(json.loads(full.to_json())) == full


def test_npz_of_affectgpt(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        name2reason=np.array({"c1": "she smiles", "c2": "he frowns"}, dtype=object),
    )
    assert [(r.clip, r.response) for r in read_predictions(tmp_path / "a.npz")] == [
        ("c1", "she smiles"),
        ("c2", "he frowns"),
    ]
    np.savez(
        tmp_path / "b.npz",
        filenames=np.array(["c1", "c2"]),
        fileitems=np.array(["[happy, sad]", "[]"]),
    )
    assert [r.response for r in read_predictions(tmp_path / "b.npz")] == ["[happy, sad]", "[]"]
    lists = np.empty(2, dtype=object)
    lists[:] = [["happy", "sad"], ["calm"]]
    np.savez(tmp_path / "c.npz", filenames=np.array(["c1", "c2"]), fileitems=lists)
    assert [r.response for r in read_predictions(tmp_path / "c.npz")] == ["happy, sad", "calm"]
    np.savez(tmp_path / "d.npz", other=np.array([1]))
    with pytest.raises(PredictionError, match="holds other; read are 'name2reason'"):
        read_predictions(tmp_path / "d.npz")


def test_csv_of_emer(tmp_path):
    (tmp_path / "e.csv").write_text("names,chi_reasons\nsample_1,she smiles\n")
    assert read_predictions(tmp_path / "e.csv") == [
        Prediction(clip="sample_1", response="she smiles")
    ]
    (tmp_path / "f.csv").write_text("who,what\na,b\n")
    with pytest.raises(PredictionError, match=r"has the columns \['who', 'what'\]"):
        read_predictions(tmp_path / "f.csv")


def test_truth_from_elsewhere(tmp_path):
    np.savez(tmp_path / "gt.npz", a=np.array("happy"), b=np.array("sad"))
    (tmp_path / "gt.csv").write_text("name,openset\na,\"['happy']\"\n")
    jsonl(tmp_path / "gt.jsonl", row("a"))
    assert read_truth(tmp_path / "gt.npz") == {"a": "happy", "b": "sad"}
    assert read_truth(tmp_path / "gt.csv") == {"a": "['happy']"}
    assert read_truth(tmp_path / "gt.jsonl") == {"a": "happy"}
    path = jsonl(
        tmp_path / "p.jsonl", {"video_id": "a", "response": "x"}, {"video_id": "z", "response": "y"}
    )
    assert [r.answer for r in read_predictions(path, truth={"a": "happy"})] == ["happy"]
    with pytest.raises(
        PredictionError, match="no prediction for 1 clips of the truth, such as 'b'"
    ):
        read_predictions(path, truth={"a": "happy", "b": "sad"})
    with pytest.raises(PredictionError, match="no clip in common"):
        read_predictions(path, truth={"q": "happy"})


@pytest.mark.parametrize(
    "text, fault",
    [
        ('{"video_id": "a"}', "row 1: has no 'response'"),
        ('{"video_id": "a", "response": "x"}\n{broken', "line 2: no JSON"),
        (
            '{"video_id": "a", "response": "x"}\n{"video_id": "a", "response": "y"}',
            "clip 'a' stands there twice .rows 1 and 2",
        ),
        (
            '{"video_id": "a", "response": "x", "duration": "long"}',
            "row 1: duration is 'long', needs a number",
        ),
        (
            '{"video_id": "a", "response": "x", "probabilities": {"a": -1}}',
            "row 1: 'probabilities' add up to -1",
        ),
        (
            '{"video_id": "a", "response": "x", "probabilities": [1]}',
            "needs an object of label: number",
        ),
        ('{"video_id": "a", "response": {"x": 1}}', "row 1: 'response' is .*needs text"),
        ("[1]", "row 1: needs a JSON object"),
        ("", "holds no prediction"),
    ],
)
def test_faults_of_rows(tmp_path, text, fault):
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(PredictionError, match=fault):
        read_predictions(tmp_path / "p.jsonl")


def test_faults_of_files(tmp_path):
    for name, fault in (
        ("none.jsonl", "there is no predictions file"),
        ("p.xlsx", "are read from .jsonl"),
    ):
        (tmp_path / "p.xlsx").write_bytes(b"x")
        with pytest.raises(PredictionError, match=fault):
            read_predictions(tmp_path / name)
    (tmp_path / "l.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(PredictionError, match="is not UTF-8"):
        read_predictions(tmp_path / "l.jsonl")


# --- sets and suites ---


def test_a_folder_of_sets_makes_a_suite(tmp_path):
    folder = tmp_path / "MERUniBench-ht"
    folder.mkdir()
    jsonl(
        folder / "mer2023.jsonl",
        {**row("a"), "mode": "test1"},
        {**row("b", "sad", "happy"), "mode": "test1"},
        {**row("c"), "mode": "test2"},
    )
    nn = tmp_path / "MERUniBench-nn"
    nn.mkdir()
    jsonl(nn / "sims.jsonl", row("a", "Positive", "positive"), row("b", "Negative", "negative"))
    (tmp_path / "score_log.txt").write_text("not read")
    told = []
    by_set = read_files(tmp_path)
    results, scored, kept = results_of(SUITES["mer-unibench"], by_set, OPTIONS, told.append)
    assert told == ["mer2023: 2 of 3 rows count, those of mode test1"]
    assert results["sets"]["mer2023"]["released"]["hit_rate"] == 0.5 and len(kept["mer2023"]) == 2
    assert (
        results["figure"]["sets"] == {"mer2023": 0.5, "sims": 1.0}
        and results["figure"]["value"] == 0.75
    )
    low, high = results["figure"]["interval"]
    assert (low, high) == (0.0, 1.0)  # of two clips nothing is known
    assert headline(results) == "mer-unibench, over 2 of its 9 sets: 0.750 [0.000, 1.000]"
    assert not any(r[0] == "mer-unibench" for r in published_rows(results))
    note = next(r for r in published_rows(results) if r[:3] == ["mer2023", "hit rate", "this run"])[
        -1
    ]
    assert note == "2 clips, published over 411; words: emojax built-in lexicon"
    assert len(results["missing_sets"]) == 7 and results["word_tables"] == "emojax built-in lexicon"
    with pytest.raises(PredictionError, match="holds no predictions file named after a set"):
        (tmp_path / "empty").mkdir()
        read_files(tmp_path / "empty")


def test_folds_and_rows_that_name_their_set(tmp_path):
    path = jsonl(
        tmp_path / "all.jsonl", row("a", set="dfew_1"), row("a", "sad", "sad", set="dfew_2")
    )
    results, _, _ = results_of(SUITES["dfew-5"], read_files(path), OPTIONS, SILENT)
    assert results["figure"]["sets"] == {"dfew_1": 1.0, "dfew_2": 1.0}
    assert results["missing_sets"] == ["dfew_3", "dfew_4", "dfew_5"]


def test_rows_of_another_part_are_named(tmp_path):
    path = jsonl(tmp_path / "mer2023.jsonl", row("a"))
    with pytest.raises(PredictionError, match="mer2023: no row of mode test1; there are 'test'"):
        results_of(None, read_files(path), OPTIONS, SILENT)
    bold = jsonl(
        tmp_path / "bold.jsonl",
        row("a", "Anger", "Anger"),
        {**row("b", "Fear", "Fear"), "mode": "val"},
    )
    assert (
        results_of(None, read_files(bold), OPTIONS, SILENT)[0]["n"] == 2
    )  # the official script looks at no mode
    results, _, _ = results_of(
        None, read_files(path), Options(tables=builtin_tables(), resamples=0, mode="test"), SILENT
    )
    assert results["metric"] == "hit_rate" and results["set"] == "mer2023"


def test_a_set_for_judges_alone(tmp_path, capsys):
    rows = [{"video_id": "a", "mode": "test", "response": "she smiles"}]
    path = jsonl(tmp_path / "emer.jsonl", *rows)
    assert (
        main(
            [
                "evaluate",
                "--predictions",
                str(path),
                "--suite",
                "emer",
                "--out",
                str(tmp_path / "o"),
            ]
        )
        == 0
    )
    assert "emer: is scored by a judge alone" in capsys.readouterr().out
    found = json.loads((tmp_path / "o" / "evaluation.json").read_text())
    assert found["sets"] == {} and found["missing_sets"] == [] and "figure" not in found
    assert len(read_predictions(tmp_path / "o" / "predictions" / "Other" / "emer.jsonl")) == 1


def test_folders_that_the_official_script_has_scored(tmp_path):
    jsonl(tmp_path / "mer2023.jsonl", {**row("a"), "mode": "test1"})
    np.savez(tmp_path / "mer2023.npz", filenames=np.array(["a"]), fileitems=np.array(["[happy]"]))
    assert list(read_files(tmp_path)) == ["mer2023"]


def test_truths_that_files_do_not_hold(real_data, tmp_path, monkeypatch):
    rows = [
        {
            "video_id": "samplenew3_00000062",
            "mode": "test",
            "answer": "unknown",
            "response": "worried, surprised",
        }
    ]
    path = jsonl(tmp_path / "ov_merd+.jsonl", *rows)
    monkeypatch.setattr(official_files, "folder", lambda: tmp_path)
    with pytest.raises(
        PredictionError, match="rows have no truth in 'answer': `emojax fetch mer-unibench`"
    ):
        results_of(None, read_files(path), OPTIONS, SILENT)
    monkeypatch.setattr(
        official_files, "folder", lambda: real_data / "annotations/emotion_llama_v2_evaluation"
    )
    results, _, kept = results_of(
        None, read_files(path), Options(tables=find_tables(), resamples=0), SILENT
    )
    # the first worked example's first clip: precision 1, recall by wheel 0.5 to 1
    assert (
        results["released"]["by_wheel"][0]["precision"] == 1.0
        and "shocked" in kept["ov_merd+"][0].answer
    )


def test_names_of_sets_are_no_paths(tmp_path):
    for name in ("../../evil", "a/b", ".x"):
        with pytest.raises(PredictionError, match="'set' is .* needs a plain name"):
            read_predictions(jsonl(tmp_path / "p.jsonl", row("a", set=name)))


def test_one_label_alone_has_no_official_multi_label_score(tmp_path):
    path = jsonl(tmp_path / "bold.jsonl", row("a", "Fear", "Fear"))
    results, _, _ = results_of(None, read_files(path), OPTIONS, SILENT)
    assert (
        results["f1_micro"] == 1.0
        and results["released"]["f1_micro"] is None
        and "two labels" in results["released"]["why_not"]
    )


def test_suites_are_complete():
    assert len(SUITES["mmeverse-bench"].members) == 18 and len(SUITES["mer-unibench"].members) == 9
    assert (
        len(suite_of("dfew-5").members) == 5
        and suite_of("caer").members[0].benchmark is SETS["caer"]
    )
    with pytest.raises(ValueError, match="did you mean 'mer-unibench'"):
        suite_of("mer-unibensh")


# --- the command ---


def test_the_command_writes_every_file_and_twice_the_same(tmp_path, capsys):
    clip = drawn_clips()[0]
    rows = [
        row(f"c{i}", ("happy", "sad", "neutral")[i % 3], ("happy", "Sad.", "sad")[i % 3], speaker=f"s{i % 15}", path=str(clip),
            probabilities={"happy": 0.5, "sad": 0.3, "neutral": 0.2}, duration=1.5, modalities=["video"])
        for i in range(30)
    ]  # fmt: skip
    path = jsonl(tmp_path / "preds.jsonl", *rows)
    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        assert main(["evaluate", "--predictions", str(path), "--out", str(out)]) == 0
    names = sorted(p.relative_to(outs[0]) for p in outs[0].rglob("*") if p.is_file())
    assert [str(n) for n in names] == [
        "clips.csv", "confusion_predictions.png", "evaluation.json", "evaluation.md", "predictions/predictions.jsonl", "report.html",
    ]  # fmt: skip
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
    assert "0.667" in capsys.readouterr().out


def test_wrong_usage_is_told(tmp_path, capsys):
    path = jsonl(tmp_path / "p.jsonl", row("a", ""))
    numbers = jsonl(tmp_path / "n.jsonl", row("a", "1.5", "2"), row("b", "-0.5", "1"))
    two = jsonl(tmp_path / "t.jsonl", row("a", "happy"), row("b", "sad"))
    other = jsonl(tmp_path / "u.jsonl", row("a", "happy"), row("b", "happy"))
    out = ["--out", str(tmp_path / "o")]
    for arguments, told in (
        (["--predictions", str(path)], "no row has an 'answer' to compare with; give --truth"),
        ([], "give a model (a folder or a name), --endpoint URL, or --predictions FILE"),
        (["model"], "give the clips: --manifest FILE, or --suite NAME with --data FOLDER"),
        (["model", "--suite", "caer"], "--suite needs --data FOLDER"),
        (["model", "--suite", "cear", "--data", "x"], "did you mean 'caer'"),
        (
            ["--endpoint", "localhost", "--served", "m", "--suite", "caer", "--data", "x"],
            "give an address",
        ),
        (
            ["--endpoint", "http://x", "--suite", "caer", "--data", "x"],
            "--endpoint needs --served NAME",
        ),
        (["--predictions", str(path), "--metric", "best"], "--metric best: it must be one of hit_rate"),
        (["--predictions", str(path), "--limit", "5"], "--limit has no use with --predictions"),
        (
            ["--predictions", str(path), "--suite", "meld"],
            "there are no predictions of MELD: files, or a `set` of each row, are named",
        ),
        (["--predictions", str(numbers)], "every 'answer' is a number"),
        (
            ["--predictions", str(two), "--labels", "happy"],
            "the truth 'sad' is none of --labels happy",
        ),
        (
            ["--predictions", str(two), "--truth", str(other)],
            "has the answer 'sad', the truth says 'happy'",
        ),
        (["--predictions", str(path), "--resamples", "-1"], "--resamples must be a number of 0 or more"),
        (["--predictions", str(path), "--tables", str(tmp_path)], "has no format.csv"),
        (["m", "--predictions", str(path)], "leave out the model"),
    ):
        assert main(["evaluate", *arguments, *out]) == 2
        assert told in " ".join(capsys.readouterr().out.split()), arguments


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


# --- official files ---


@pytest.fixture
def mirror(real_data):
    """The official files, given out by a server on this machine."""
    folder = real_data / "annotations/emotion_llama_v2_evaluation"

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetched_tables_are_checked_and_used(mirror, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMOJAX_CACHE", str(tmp_path))
    monkeypatch.setenv("EMOJAX_MER_UNIBENCH", mirror)
    assert find_tables().name == "emojax built-in lexicon"
    assert main(["fetch", "mer-unibench"]) == 0
    assert find_tables().name == "MER-UniBench word tables"
    truth = official_files.truth("mer2023")
    assert len(truth) == 411 and official_files.truth("caer") is None
    rows = [{"video_id": c, "mode": "test1", "answer": a, "response": a} for c, a in truth.items()]
    rows[0]["answer"] = rows[0]["response"] = "angry"  # it is worried
    path = jsonl(tmp_path / "mer2023.jsonl", *rows[:400])
    assert (
        main(
            [
                "evaluate",
                "--predictions",
                str(path),
                "--out",
                str(tmp_path / "o"),
                "--resamples",
                "0",
            ]
        )
        == 0
    )
    found = json.loads((tmp_path / "o" / "evaluation.json").read_text())
    assert (
        found["word_tables"] == "MER-UniBench word tables" and found["released"]["hit_rate"] == 1.0
    )
    assert found["official_clips"] == {"all": 411, "scored": 400, "not_in_it": 0, "other_label": 1}
    assert "1 truths are not those of the official file" in capsys.readouterr().out
    assert "400 clips, published over 411" in (tmp_path / "o" / "evaluation.md").read_text()
    damaged = official_files.folder() / "emotion_wheel" / "wheel1.xlsx"
    damaged.write_bytes(b"x")
    assert main(["evaluate", "--predictions", str(path), "--out", str(tmp_path / "o")]) == 2
    assert "is not the official file" in capsys.readouterr().out
    assert main(["fetch", "mer-unibench"]) == 2  # it is deleted, and the next fetch brings it
    assert main(["fetch", "mer-unibench"]) == 0 and find_tables().name == "MER-UniBench word tables"


# --- comparisons ---


def test_runs_are_compared_by_name_of_test(tmp_path, capsys):
    rng = np.random.default_rng(0)
    truth = [str(x) for x in rng.choice(["happy", "sad", "angry"], 90)]
    worse = [t if rng.random() < 0.6 else "happy" for t in truth]
    for name, said in (("one", truth), ("two", worse)):
        path = jsonl(
            tmp_path / f"{name}.jsonl",
            *(
                row(f"c{i}", t, s, speaker=f"s{i % 9}")
                for i, (t, s) in enumerate(zip(truth, said, strict=True))
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
    assert main(["compare", str(tmp_path / "one"), str(tmp_path), "--out", str(out)]) == 2
    assert "holds no evaluation" in capsys.readouterr().out
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
    assert "in one run and 'sad' in the other" in " ".join(capsys.readouterr().out.split())


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
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "1 empty reply" in told and "cost 0.00" in told and "1 clips could not be decoded" in told
    )

"""Predictions files scored set by set: suites, folds, modes, official truths and word tables."""

import http.server
import json
import logging
import threading
from functools import partial

import numpy as np
import pytest
from prediction_rows import jsonl, row

from emojax.cli.main import main
from emojax.evaluate import official_files
from emojax.evaluate.emotion_wheels import builtin_tables, find_tables
from emojax.evaluate.prediction_files import read_predictions
from emojax.evaluate.predictions import Prediction, PredictionError
from emojax.evaluate.score_files import ScoringOptions, read_files, score_predictions, score_sets
from emojax.evaluate.suites import SETS, SUITES, find_suite
from emojax.reports.evaluation_tables import headline, published_rows

OPTIONS = ScoringOptions(tables=builtin_tables(), resamples=50)


def test_a_folder_of_sets_makes_a_suite(tmp_path, caplog):
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
    by_set = read_files(tmp_path)
    with caplog.at_level(logging.INFO, "emojax"):
        results, scored = score_predictions(SUITES["mer-unibench"], by_set, OPTIONS)
    assert caplog.messages == ["mer2023: 2 of 3 rows are scored, those of mode test1"]
    assert (
        results["sets"]["mer2023"]["released"]["hit_rate"] == 0.5
        and len(scored["mer2023"].rows) == 2
    )
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
    with pytest.raises(PredictionError, match="contains no predictions file named after a set"):
        (tmp_path / "empty").mkdir()
        read_files(tmp_path / "empty")


def test_folds_and_rows_that_name_their_set(tmp_path):
    path = jsonl(
        tmp_path / "all.jsonl", row("a", set="dfew_1"), row("a", "sad", "sad", set="dfew_2")
    )
    results, _ = score_predictions(SUITES["dfew-5"], read_files(path), OPTIONS)
    assert results["figure"]["sets"] == {"dfew_1": 1.0, "dfew_2": 1.0}
    assert results["missing_sets"] == ["dfew_3", "dfew_4", "dfew_5"]


def test_rows_of_another_part_are_named(tmp_path):
    path = jsonl(tmp_path / "mer2023.jsonl", row("a"))
    with pytest.raises(PredictionError, match="mer2023: no row of mode test1; there are 'test'"):
        score_predictions(None, read_files(path), OPTIONS)
    bold = jsonl(
        tmp_path / "bold.jsonl",
        row("a", "Anger", "Anger"),
        {**row("b", "Fear", "Fear"), "mode": "val"},
    )
    assert (
        score_predictions(None, read_files(bold), OPTIONS)[0]["n"] == 2
    )  # the official script looks at no mode
    results, _ = score_predictions(
        None, read_files(path), ScoringOptions(tables=builtin_tables(), resamples=0, mode="test")
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
    assert "emer: only a judge can score it" in capsys.readouterr().out
    found = json.loads((tmp_path / "o" / "evaluation.json").read_text())
    assert found["sets"] == {} and found["missing_sets"] == [] and "figure" not in found
    assert len(read_predictions(tmp_path / "o" / "predictions" / "Other" / "emer.jsonl")) == 1


def test_progress_counts_sets_that_are_not_scored():
    rows = [
        Prediction(clip="a", answer="happy", response="happy"),
        Prediction(clip="b", mode="test", answer="happy", response="she smiles"),
    ]
    calls = []
    score_sets({"": rows[:1], "emer": rows[1:]}, OPTIONS, progress=lambda *c: calls.append(c))
    assert calls == [("score", 1, 2), ("score", 2, 2)]


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
        score_predictions(None, read_files(path), OPTIONS)
    monkeypatch.setattr(
        official_files, "folder", lambda: real_data / "annotations/emotion_llama_v2_evaluation"
    )
    results, scored = score_predictions(
        None, read_files(path), ScoringOptions(tables=find_tables(), resamples=0)
    )
    # the first worked example's first clip: precision 1, recall by wheel 0.5 to 1
    assert (
        results["released"]["by_wheel"][0]["precision"] == 1.0
        and "shocked" in scored["ov_merd+"].rows[0].answer
    )


def test_names_of_sets_are_no_paths(tmp_path):
    for name in ("../../evil", "a/b", ".x"):
        with pytest.raises(PredictionError, match="'set' is .* needs a plain name"):
            read_predictions(jsonl(tmp_path / "p.jsonl", row("a", set=name)))


def test_one_label_alone_has_no_official_multi_label_score(tmp_path):
    path = jsonl(tmp_path / "bold.jsonl", row("a", "Fear", "Fear"))
    results, _ = score_predictions(None, read_files(path), OPTIONS)
    assert (
        results["f1_micro"] == 1.0
        and results["released"]["f1_micro"] is None
        and "two labels" in results["released"]["why_not"]
    )


def test_suites_are_complete():
    assert len(SUITES["mmeverse-bench"].members) == 18 and len(SUITES["mer-unibench"].members) == 9
    assert (
        len(find_suite("dfew-5").members) == 5
        and find_suite("caer").members[0].benchmark is SETS["caer"]
    )
    with pytest.raises(ValueError, match="did you mean 'mer-unibench'"):
        find_suite("mer-unibensh")


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
    assert "1 truths differ from the official file" in capsys.readouterr().out
    assert "400 clips, published over 411" in (tmp_path / "o" / "evaluation.md").read_text()
    damaged = official_files.folder() / "emotion_wheel" / "wheel1.xlsx"
    damaged.write_bytes(b"x")
    assert main(["evaluate", "--predictions", str(path), "--out", str(tmp_path / "o")]) == 2
    assert "is not the official file" in capsys.readouterr().err
    assert main(["fetch", "mer-unibench"]) == 2  # it is deleted, and the next fetch brings it
    assert main(["fetch", "mer-unibench"]) == 0 and find_tables().name == "MER-UniBench word tables"

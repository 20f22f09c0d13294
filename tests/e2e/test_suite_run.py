"""A tiny model on all eighteen sets of MMEVerse-Bench: reports, interruptions, equal results."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from chat_server import Chat, serve
from data_jobs import save_random_model
from suite_fixture import write_suite

from data_pipeline.llm import client
from data_pipeline.llm.endpoint import Endpoint, EndpointError
from emojax.bundle.calibration import Calibration
from emojax.evaluate import partial_answers, predictions, suite_runner
from emojax.evaluate.emotion_wheels import builtin_tables
from emojax.evaluate.prediction_files import read_predictions
from emojax.evaluate.score_files import ScoringOptions
from emojax.evaluate.suites import SUITES, find_suite
from emojax.workflows import evaluate

SUITE = SUITES["mmeverse-bench"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    return write_suite(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model"), **{"data.max_answer": 6})


def run_suite(model: Path, suite: Path, out: Path, **more) -> dict:
    options = ScoringOptions(tables=builtin_tables(), resamples=50)
    more = {"devices": jax.devices()[:1], **more}
    return evaluate.evaluate_suite(model, SUITE, suite, out=out, options=options, batch=2, **more)


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole(model, suite, tmp_path_factory) -> Path:
    """A run without interruption."""
    out = tmp_path_factory.mktemp("whole")
    run_suite(model, suite, out, answers="both")
    return out


def test_every_report_is_there(whole):
    results = json.loads((whole / "evaluation.json").read_text())
    assert set(results["sets"]) == {m.name for m in SUITE.members} and results["missing_sets"] == []
    assert results["suite"] == "mmeverse-bench" and set(results["figure"]["sets"]) == set(
        results["sets"]
    )
    for name, s in results["sets"].items():
        assert {"released", "intervals", "by", "answers", "clips"} <= set(s), name
        assert s["clips"] == {"answered": s["clips"]["answered"], "refused": 0, "missing_media": 0}
        assert set(s["by"]) == {"modalities", "duration"}, name
    # closed questions have probabilities, and so calibration
    assert {n for n, s in results["sets"].items() if "calibration" in s} == {
        m.name for m in SUITE.members if m.benchmark.metric in ("hit_rate", "two_class", "single")
    }
    assert results["sets"]["iemocap"]["labels"] == [
        "Anger",
        "Sadness",
        "Happiness",
        "neutral",
    ]  # neutral is not asked for
    page = (whole / "report.html").read_text()
    assert page.count("<h2>") == 1 + 18 and "data:image/jpeg" in page and "http" not in page
    assert "**published figures** (percent)" in (whole / "evaluation.md").read_text()
    assert (whole / "predictions" / "MERUniBench-ht" / "mer2023.jsonl").exists()
    rows = read_predictions(whole / "predictions" / "Multi" / "bold.jsonl")
    assert [r.answer for r in rows] == ["Happiness;Pleasure", "Anger;Annoyance", "Doubt/Confusion"]
    assert len((whole / "clips.csv").read_text().splitlines()) == 1 + sum(
        s["n"] for s in results["sets"].values()
    )


def test_stops_at_ten_random_points(whole, model, suite, tmp_path, monkeypatch):
    """Stopped while answering and while writing: no clip is answered twice, results are equal."""
    rng = np.random.default_rng(0)
    answered: list[str] = []
    append = suite_runner.append_batch
    left = [0]

    def stopping(path, number, rows):
        left[0] -= 1
        if left[0] < 0:
            if rng.random() < 0.7:  # killed while writing a line, maybe inside a character
                with path.open("ab") as file:
                    line = partial_answers.batch_line(number, rows)
                    file.write((line[: int(rng.integers(1, 60))] + "高").encode()[:-1])
            raise KeyboardInterrupt
        append(path, number, rows)
        answered.extend(f"{path.name}/{r.clip}" for r in rows)

    monkeypatch.setattr(suite_runner, "append_batch", stopping)
    total = sum(1 for _ in (whole / "predictions").rglob("*.jsonl"))
    assert total == 18
    stops = 0
    for _ in range(10):
        left[0] = int(rng.integers(0, 4))
        with pytest.raises(KeyboardInterrupt):
            run_suite(model, suite, tmp_path, answers="both")
        stops += 1
    # and between the files that complete a set: its rows, then its identity
    left[0] = 10_000
    write_text = suite_runner.write_text
    modules = (suite_runner, partial_answers, predictions)
    for point in (0, 1):
        places = [point]

        def ending(path, text, *, durable=False, places=places):
            if ".partial" not in path.name and not path.exists():
                places[0] -= 1
                if places[0] < 0:
                    path.with_name(path.name + ".part").write_text(text[: len(text) // 2])
                    raise KeyboardInterrupt
            write_text(path, text, durable=durable)

        for module in modules:
            monkeypatch.setattr(module, "write_text", ending)
        with pytest.raises(KeyboardInterrupt):
            run_suite(model, suite, tmp_path, answers="both")
    for module in modules:
        monkeypatch.setattr(module, "write_text", write_text)
    for leftover in (tmp_path / "predictions").rglob("*.part"):
        leftover.unlink()
    run_suite(model, suite, tmp_path, answers="both")
    assert stops == 10 and len(answered) == len(set(answered)) == sum(
        len(p.read_text().splitlines()) for p in (tmp_path / "predictions").rglob("*.jsonl")
    )
    assert contents(tmp_path) == contents(whole)
    before = len(answered)
    run_suite(
        model, suite, tmp_path, answers="both"
    )  # repeated over its own results: nothing is asked again
    assert len(answered) == before and contents(tmp_path) == contents(whole)


@pytest.mark.full
def test_kills_at_ten_random_points(whole, model, suite, tmp_path):
    command = [
        sys.executable,
        "-m",
        "emojax.cli",
        "evaluate",
        str(model),
        "--suite",
        "mmeverse-bench",
        "--data",
        str(suite),
    ]
    command += ["--out", str(tmp_path), "--answers", "both", "--batch", "2", "--resamples", "50"]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    }
    dice, kills = random.Random(1), 0
    while kills < 10:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        begin, lines = time.monotonic(), _lines(tmp_path)
        while (
            process.poll() is None and _lines(tmp_path) <= lines and time.monotonic() - begin < 240
        ):
            time.sleep(0.05)  # until it has answered a batch
        time.sleep(dice.random())
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert kills == 10
    for path in (whole / "predictions").rglob("*.jsonl"):
        assert (tmp_path / path.relative_to(whole)).read_bytes() == path.read_bytes()


def _lines(out: Path) -> int:
    return sum(p.read_bytes().count(b"\n") for p in (out / "predictions").rglob("*.jsonl"))


def test_a_calibration_is_of_its_own_labels_alone(whole, model, suite, tmp_path):
    shutil.copytree(model, tmp_path / "m")
    asked = find_suite("caer").members[0].benchmark.labels
    options, one = ScoringOptions(tables=builtin_tables(), resamples=0), jax.devices()[:1]
    plain = read_predictions(whole / "predictions/Single/caer.jsonl")
    for labels, same in ((("angry", "happy", "sad"), True), (asked, False)):
        Calibration(
            temperature=3.0, n=99, nll_before=0.0, nll_after=0.0, source="", labels=labels
        ).save(tmp_path / "m")
        out = tmp_path / str(same)
        evaluate.evaluate_suite(
            tmp_path / "m",
            find_suite("caer"),
            suite,
            out=out,
            options=options,
            answers="both",
            batch=2,
            devices=one,
        )
        rows = read_predictions(out / "predictions/Single/caer.jsonl")
        assert (
            all(a.probabilities == b.probabilities for a, b in zip(rows, plain, strict=True))
            == same
        )


def test_rows_are_spread_over_devices(whole, model, suite, tmp_path):
    options = ScoringOptions(tables=builtin_tables(), resamples=0)
    evaluate.evaluate_suite(
        model,
        find_suite("caer"),
        suite,
        out=tmp_path,
        options=options,
        answers="both",
        batch=2,
    )
    one, eight = (read_predictions(o / "predictions/Single/caer.jsonl") for o in (whole, tmp_path))
    assert [r.response for r in one] == [r.response for r in eight]
    for a, b in zip(one, eight, strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, abs=2e-6)


def test_a_server_that_was_away_is_asked_again(suite, tmp_path):
    away = [3]  # of the clips, in the order in which they are asked about

    def reply(body, number):
        place = list(chat.asked).index(json.dumps(body["messages"]))
        return (503, "busy") if place < away[0] else "neutral"

    chat = Chat(reply)
    options = ScoringOptions(tables=builtin_tables(), resamples=0)
    with serve(chat):
        run = lambda: evaluate.evaluate_server(
            Endpoint(url=chat.url, model="omni"),
            find_suite("caer"),
            suite,
            split=None,
            out=tmp_path,
            options=options,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "RETRIES", 0)
            with pytest.raises(EndpointError, match="no usable reply about any clip .3 x 503"):
                run()
            assert not [p for p in tmp_path.rglob("*") if p.is_file()]
            away[0] = 1
            first = run()["sets"]["caer"]
        assert first["clips"] == {"answered": 2, "refused": 0, "missing_media": 0, "no_answer": 1}
        assert first["unanswered"] == {"no_answer": 1}
        away[0] = 0
        again = run()["sets"]["caer"]
        asked = sum(chat.asked.values())
        assert again["clips"]["answered"] == 3 and again["accuracy"] == pytest.approx(1 / 3)
        run()
    assert sum(chat.asked.values()) == asked


def test_other_clips_under_the_same_names_are_refused(whole, model, suite, tmp_path):
    shutil.copytree(suite, tmp_path / "sets")
    films = sorted((tmp_path / "sets" / "CAER" / "video").iterdir())
    films[0].write_bytes(films[0].read_bytes() + b"x")
    with pytest.raises(ValueError, match="caer.jsonl was answered with another clips"):
        run_suite(model, tmp_path / "sets", whole, answers="both")


def test_another_model_and_clips_that_are_not_there(whole, model, suite, tmp_path):
    other = save_random_model(tmp_path / "other", seed=1, **{"data.max_answer": 6})
    with pytest.raises(ValueError, match="was answered with another model, weights"):
        run_suite(other, suite, whole, answers="both")
    with pytest.raises(ValueError, match="was answered with another answers"):
        run_suite(model, suite, whole, answers="text")
    with pytest.raises(ValueError, match="holds no clip of MMEVerse-Bench"):
        run_suite(model, tmp_path, tmp_path / "o")


def test_damaged_and_missing_clips_are_counted(model, tmp_path):
    suite = write_suite(tmp_path / "sets")
    videos = sorted((suite / "CAER" / "video").iterdir())
    videos[0].write_bytes(b"no film")
    videos[1].unlink()
    options = ScoringOptions(tables=builtin_tables(), resamples=0)
    one = find_suite("caer")
    results = evaluate.evaluate_suite(
        model,
        one,
        suite,
        out=tmp_path / "o",
        options=options,
        answers="labels",
        batch=2,
        devices=jax.devices()[:1],
    )
    s = results["sets"]["caer"]
    assert s["n"] == 2 and s["clips"] == {"answered": 1, "refused": 1, "missing_media": 1}
    assert s["answers"]["unparsable"] == 1 and s["answered_by"].startswith(
        "probabilities of the labels"
    )
    assert (tmp_path / "o" / "predictions/Single/caer.jsonl").read_text().count(
        '"error": "refused: '
    ) == 1

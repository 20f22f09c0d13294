"""`emojax annotate` when things fail: faulty endpoints, budgets, Ctrl-C, kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from annotators import (
    FLIGHT,
    Faulty,
    agent_of,
    annotate_command,
    annotation_lines,
    chat,
    plain_reply,
    question_of,
)
from chat_server import serve

from data_pipeline.annotate.runner import STATE, read_state
from data_pipeline.embedded.generate import make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from emojax.cli.main import main


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(
        config=CorpusConfig(train=0, val=0, test=45, size=64),
        folder=tmp_path_factory.mktemp("corpus") / "c",
    )


def test_a_persistent_refusal_is_left_out_with_its_reason(corpus, tmp_path):
    def reply(body, number):
        return (
            "I'm sorry, I can't describe people."
            if agent_of(body) == "visual"
            else plain_reply(body)
        )

    with serve(chat(reply)) as server:
        assert main(annotate_command(corpus, tmp_path, server.url, "--limit", "6")) == 0
    found = [
        a
        for a in annotation_lines(tmp_path)
        if "visual" in a["faults"] and a["faults"]["visual"] == "refusal"
    ]
    assert found and all(
        a["left_out"] == "visual: refusal" and "reasoning" not in a["notes"] for a in found
    )
    assert "visual: refusal" in (tmp_path / "left_out.csv").read_text()


def test_an_unreachable_endpoint_leaves_clips_for_the_next_run(corpus, tmp_path, capsys):
    up = False

    def reply(body, number):
        return plain_reply(body) if up or agent_of(body) != "audio" else (503, "away")

    with serve(chat(reply)) as server:
        command = annotate_command(corpus, tmp_path, server.url, "--limit", "6", "--retries", "1")
        assert main(command) == 3
        assert "unfinished" in capsys.readouterr().err
        assert "audio: 503" in (tmp_path / "unfinished.csv").read_text()
        before = Counter(map(question_of, server.bodies))
        up = True
        assert main(command) == 0
        after = Counter(map(question_of, server.bodies))
    assert len(annotation_lines(tmp_path)) == 6
    visual = [
        q
        for q in before
        if before[q]
        and after[q] > before[q]
        and q in {question_of(b) for b in server.bodies if agent_of(b) == "visual"}
    ]
    assert visual == []


def test_the_budget_stops_a_run_that_more_money_continues(corpus, tmp_path, capsys):
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        prices = ("--price-in", "10", "--price-out", "10", "--max-reply", "50")
        command = annotate_command(corpus, tmp_path, server.url, *prices)
        assert main([*command, "--most-money", "0.06"]) == 3
        assert "the budget is reached" in capsys.readouterr().err
        first = len(server.bodies)
        assert 110 * 10 * first / 1e6 <= 0.06
        assert main([*command, "--most-money", "5"]) == 0
        assert len(server.bodies) - len({question_of(b) for b in server.bodies}) == 0
    assert len(annotation_lines(tmp_path)) == 45


def test_unusable_replies_are_asked_for_again_on_request(corpus, tmp_path, capsys):
    good = [False]
    with serve(
        chat(lambda body, number: plain_reply(body) if good[0] else "no form at all")
    ) as server:
        command = annotate_command(corpus, tmp_path, server.url, "--limit", "4")
        assert main(command) == 0
        assert "nothing was kept: left_out.csv gives the reason" in " ".join(
            capsys.readouterr().err.split()
        )
        sent, good[0] = len(server.bodies), True
        assert main(command) == 0 and len(server.bodies) == sent
        assert not any(a["notes"] for a in annotation_lines(tmp_path))
        assert main([*command, "--ask-again"]) == 0 and len(server.bodies) > sent
        assert all(a["notes"] and not a["left_out"] for a in annotation_lines(tmp_path))
        sent = len(server.bodies)
        assert (
            main([*command, "--ask-again"]) == 0 and len(server.bodies) == sent
        )  # usable ones stay


def test_an_endpoint_that_refuses_all_is_reported_in_one_sentence(corpus, tmp_path, capsys):
    with serve(chat(lambda body, number: (401, "no such key"))) as server:
        assert main(annotate_command(corpus, tmp_path, server.url, "--limit", "2")) == 3
        output = " ".join(capsys.readouterr().err.split())
        assert (
            "answers 401 (no such key): check address, key and model, "
            "then run the same command again to continue" in output
        )
        assert "give more" not in output and f"unfinished: 2 {server.url} answers 401" in output
        assert (
            main(
                annotate_command(
                    corpus, tmp_path, server.url, "--limit", "2", "--key-from", "NO_SUCH_KEY"
                )
            )
            == 2
        )
        assert "no variable NO_SUCH_KEY" in capsys.readouterr().err


def test_the_address_is_not_part_of_a_question(corpus, tmp_path):
    with (
        serve(chat(lambda body, number: plain_reply(body))) as one,
        serve(chat(lambda b, n: plain_reply(b))) as other,
    ):
        assert main(annotate_command(corpus, tmp_path, one.url, "--limit", "5")) == 0
        assert main(annotate_command(corpus, tmp_path, other.url + "/", "--limit", "5")) == 0
        assert one.bodies and not other.bodies


def test_refused_requests_are_reported_and_asked_again_later(corpus, tmp_path, capsys):
    up = False

    def reply(body, number):
        return (
            plain_reply(body)
            if up or agent_of(body) != "visual"
            else (400, '{"error": "at most 1 image"}')
        )

    with serve(chat(reply)) as server:
        command = annotate_command(corpus, tmp_path, server.url, "--limit", "5")
        assert main(command) == 3
        assert "at most 1 image" in (tmp_path / "unfinished.csv").read_text()
        up = True
        assert main(command) == 0 and len(annotation_lines(tmp_path)) == 5


def test_an_endpoint_that_refuses_everything_leaves_correct_outputs(corpus, tmp_path, capsys):
    with serve(chat(lambda body, number: (401, "no key"))) as server:
        assert main(annotate_command(corpus, tmp_path, server.url)) == 3
        assert "check address, key and model" in " ".join(capsys.readouterr().err.split())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (
        summary["kept"] == 0
        and sum(summary["unfinished"].values()) + sum(summary["left_out"].values()) == 45
    )


def test_requests_in_flight_do_not_count_as_spent(corpus, tmp_path):
    """Four concurrent requests could exceed the budget, so they wait for each other."""
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        command = annotate_command(
            corpus,
            tmp_path,
            server.url,
            "--limit",
            "6",
            "--max-reply",
            "50",
            "--most-tokens",
            "12000",
        )
        assert main(command) == 0
        assert 110 * len(server.bodies) <= 12000


def test_ctrl_c_stops_all_requests(corpus, tmp_path):
    faulty = Faulty(every=10**9, reply=lambda body: (time.sleep(0.4), plain_reply(body))[1])
    with serve(chat(faulty)) as server:
        # A shell that runs the tests in the background makes them ignore SIGINT: the child begins
        # by restoring it. Not with preexec_fn, which forks, and JAX warns about every fork.
        restore = (
            "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        command = annotate_command(corpus, tmp_path, server.url, "--timeout", "9")
        process = subprocess.Popen(
            [sys.executable, "-c", restore, sys.executable, "-m", "emojax.cli", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        while faulty.count < 8 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        begin, sent = time.monotonic(), faulty.count
        output = process.communicate(timeout=30)[1]
        assert process.returncode == 130 and "run the same command again" in " ".join(
            output.split()
        )
        assert time.monotonic() - begin < 8 and faulty.count - sent <= 2 * FLIGHT


def killed_run(corpus, out, kills: int, seed: int, within: float) -> tuple[Faulty, int]:
    """Runs the command, kills it `kills` times at random moments, then lets it finish."""
    rng = random.Random(seed)
    faulty = Faulty(every=29)
    with serve(chat(faulty)) as server:
        command = [sys.executable, "-m", "emojax.cli", *annotate_command(corpus, out, server.url)]
        done = 0
        while done < kills:
            seen = faulty.count
            process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"JAX_PLATFORMS": "cpu"},
            )
            end = time.monotonic() + 60
            while faulty.count == seen and process.poll() is None and time.monotonic() < end:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, within))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
        assert (
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
            == 0
        )
    return faulty, done


def check_after_kills(corpus, out, clips, faulty, kills):
    found = annotation_lines(out)
    assert len(found) == clips and len({a["clip"] for a in found}) == clips
    assert (
        len((out / "records.jsonl").read_text().splitlines())
        + len((out / "left_out.csv").read_text().splitlines())
        - 1
        == clips
    )
    assert read_state(out / STATE).keys() == {a["clip"] for a in found}
    print(f"{kills} kills, {faulty.count} requests, {faulty.repeated} repeated")
    assert faulty.repeated <= kills * FLIGHT * 2, (
        "two endpoints: the second audio agent has a seed of its own"
    )


def test_kills_lose_and_repeat_nothing(corpus, tmp_path):
    faulty, kills = killed_run(corpus, tmp_path / "out", 4, 1, 0.2)
    assert kills >= 3
    check_after_kills(corpus, tmp_path / "out", 45, faulty, kills)


@pytest.mark.full
def test_a_thousand_records_and_twenty_kills(tmp_path):
    corpus = make_corpus(
        config=CorpusConfig(train=0, val=0, test=1000, size=64), folder=tmp_path / "corpus"
    )
    faulty, kills = killed_run(corpus, tmp_path / "out", 20, 2, 1.5)
    assert kills == 20
    check_after_kills(corpus, tmp_path / "out", 1000, faulty, kills)

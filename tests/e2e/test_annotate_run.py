"""`emojax annotate` against scripted endpoints of the real protocol: faults, kills, budgets, changes, and what people send back."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from annotators import Faulty, agent_of, chat, parts, plain_reply, question_of, text_of
from chat_server import serve

from data_pipeline.annotate.runner import STATE, read_state
from data_pipeline.embedded.generate import make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from emojax.cli.main import main

FLIGHT = 4  # requests that may be under way at once, as the kill test asks for


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(
        config=CorpusConfig(train=0, val=0, test=45, size=64),
        folder=tmp_path_factory.mktemp("corpus") / "c",
    )


def options(corpus, out, url, *more):
    return [
        "annotate", str(corpus / "manifest.csv"), "--out", str(out), "--units", str(corpus / "units"), "--endpoint", url,
        "--model", "agent", "--timeout", "2", "--backoff", "0.01", "--concurrency", str(FLIGHT), *more,
    ]  # fmt: skip


def lines(out):
    return [json.loads(x) for x in (out / STATE).read_text().splitlines()]


def test_every_clip_has_one_record_and_faults_are_told(corpus, tmp_path, capsys):
    faulty = Faulty()
    with serve(chat(faulty)) as server:
        assert main(options(corpus, tmp_path, server.url, "--json", "--licence", "CC0")) == 0
    summary = json.loads(capsys.readouterr().out)
    found = lines(tmp_path)
    assert [a["clip"] for a in found] == [f"test_{i:05d}" for i in range(45)]
    assert {"429", "503", "timeout", "malformed reply", "empty", "refusal"} <= set(
        summary["faults"]
    )
    assert summary["kept"] + sum(summary["left_out"].values()) == 45 and not summary["unfinished"]
    # on a busy machine a good reply may come too late, too
    assert faulty.repeated <= summary["faults"]["timeout"] - faulty.silent
    with_face = [a for a in found if a["units_from"]]
    assert with_face and all(
        set(a["notes"]) == {"visual", "audio", "audio_2", "reasoning"}
        for a in with_face
        if a["voice"]
    )
    # nothing is asked again, whatever is written anew
    sent = faulty.count
    with serve(chat(faulty)) as server:
        again = options(corpus, tmp_path, server.url)
        again[again.index("--endpoint") + 1] = summary["endpoints"]["visual"]["url"]
        assert main([*again, "--seed", "3"]) == 0
    assert faulty.count == sent


def test_the_label_is_told_or_not(corpus, tmp_path):
    for recipe, told in (("mmeverse", True), ("merr_coarse", False)):
        with serve(chat(lambda body, number: plain_reply(body))) as server:
            assert (
                main(
                    options(
                        corpus, tmp_path / recipe, server.url, "--recipe", recipe, "--limit", "9"
                    )
                )
                == 0
            )
            asked = [text_of(b) for b in server.bodies]
            assert asked and all(("the person shows" in text) == told for text in asked)


def test_labels_by_the_action_units_and_by_the_model(corpus, tmp_path):
    """A folder without labels: MERR's way by votes, and a reasoning agent that is not told."""
    labels = "happy,sad,neutral,angry,worried,surprise,fear,contempt,doubt"
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        own = options(
            corpus, tmp_path / "votes", server.url, "--recipe", "merr_coarse", "--labels", labels
        )
        own[1] = str(corpus / "clips")
        assert main(own) == 0
        (tmp_path / "free.toml").write_text(
            'name = "free"\nlabel = "model"\nlabel_guided = false\nagents = ["visual", "reasoning"]\n'
        )
        own = options(
            corpus,
            tmp_path / "model",
            server.url,
            "--recipe",
            str(tmp_path / "free.toml"),
            "--labels",
            labels,
        )
        own[1] = str(corpus / "clips")
        assert main(own) == 0
    shown = {
        json.loads(x)["id"]: json.loads(x)["truth"]["shown"]["video"]
        for x in (corpus / "records.jsonl").read_text().splitlines()
    }
    by_votes = {
        a["clip"]: a["label"] for a in lines(tmp_path / "votes") if a["label_from"] == "votes"
    }
    right = [
        by_votes[c] == e for c, e in shown.items() if e in ("happy", "angry", "surprise", "neutral")
    ]
    assert len(by_votes) >= 40 and sum(right) / len(right) >= 0.9
    assert {a["label_from"] for a in lines(tmp_path / "model")} == {"model"}


def test_a_refusal_that_lasts_is_left_out_with_its_reason(corpus, tmp_path):
    def reply(body, number):
        return (
            "I'm sorry, I can't describe people."
            if agent_of(body) == "visual"
            else plain_reply(body)
        )

    with serve(chat(reply)) as server:
        assert main(options(corpus, tmp_path, server.url, "--limit", "6")) == 0
    found = [
        a for a in lines(tmp_path) if "visual" in a["faults"] and a["faults"]["visual"] == "refusal"
    ]
    assert found and all(
        a["left_out"] == "visual: refusal" and "reasoning" not in a["notes"] for a in found
    )
    assert "visual: refusal" in (tmp_path / "left_out.csv").read_text()


def test_an_endpoint_that_is_away_leaves_clips_for_the_next_run(corpus, tmp_path, capsys):
    up = False

    def reply(body, number):
        return plain_reply(body) if up or agent_of(body) != "audio" else (503, "away")

    with serve(chat(reply)) as server:
        command = options(corpus, tmp_path, server.url, "--limit", "6", "--retries", "1")
        assert main(command) == 3
        assert "unfinished" in capsys.readouterr().err
        assert "audio: 503" in (tmp_path / "unfinished.csv").read_text()
        before = Counter(map(question_of, server.bodies))
        up = True
        assert main(command) == 0
        after = Counter(map(question_of, server.bodies))
    assert len(lines(tmp_path)) == 6
    visual = [
        q
        for q in before
        if before[q]
        and after[q] > before[q]
        and q in {question_of(b) for b in server.bodies if agent_of(b) == "visual"}
    ]
    assert visual == []


def test_the_budget_stops_it_before_and_more_goes_on(corpus, tmp_path, capsys):
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        prices = ("--price-in", "10", "--price-out", "10", "--max-reply", "50")
        command = options(corpus, tmp_path, server.url, *prices)
        assert main([*command, "--most-money", "0.06"]) == 3
        told = capsys.readouterr().err
        assert "the budget is reached" in told
        first = len(server.bodies)
        assert 110 * 10 * first / 1e6 <= 0.06
        assert main([*command, "--most-money", "5"]) == 0
        assert len(server.bodies) - len({question_of(b) for b in server.bodies}) == 0
    assert len(lines(tmp_path)) == 45


def test_what_changes_is_made_again_and_nothing_else(corpus, tmp_path):
    manifest = corpus / "changed.csv"
    rows = (corpus / "manifest.csv").read_text().splitlines()
    manifest.write_text("\n".join(rows[:10]) + "\n")
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        command = options(corpus, tmp_path, server.url)
        command[1] = str(manifest)
        assert main(command) == 0
        first = len(server.bodies)
        cells = rows[3].split(",")
        manifest.write_text(
            "\n".join([*rows[:3], ",".join([*cells[:2], "other words", *cells[3:]]), *rows[4:10]])
            + "\n"
        )
        assert main(command) == 0
        assert 1 <= len(server.bodies) - first <= 4
    assert len(lines(tmp_path)) == 9


def test_clips_that_people_send_back_are_asked_again(corpus, tmp_path, capsys):
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        command = options(corpus, tmp_path, server.url, "--limit", "6")
        assert main(command) == 0
        clip = lines(tmp_path)[1]["clip"]
        digest = read_state(tmp_path / STATE)[clip].digest
        (tmp_path / "marks").mkdir()
        for name, result in (("anna", True), ("ben", False)):
            marks = dict.fromkeys(("audio", "visual", "text", "reasoning"), True) | {
                "result": result
            }
            again = "She does not frown." if name == "ben" else None
            line = {"clip": clip, "of": digest, "marks": marks, "again": again}
            (tmp_path / "marks" / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
        assert main(["verify", str(tmp_path), "--send-back"]) == 0
        assert "result" in capsys.readouterr().err and (tmp_path / "agreement.png").exists()
        first = len(server.bodies)
        before = {a["clip"]: a for a in lines(tmp_path)}
        assert main(command) == 0
        fresh = server.bodies[first:]
        assert 1 <= len(fresh) <= 4 and all("She does not frown." in text_of(b) for b in fresh)
        after = {a["clip"]: a for a in lines(tmp_path)}
        assert {c for c in after if after[c] != before[c]} == {clip}
        sent = len(server.bodies)
        assert main(command) == 0 and len(server.bodies) == sent
        # what else was marked counts, and what does not any more is told
        other = next(c for c in after if c != clip)
        line |= {"clip": other, "of": read_state(tmp_path / STATE)[other].digest, "again": None}
        with (tmp_path / "marks" / "ben.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        capsys.readouterr()
        assert main(["verify", str(tmp_path), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["clips"], told["lapsed"]) == (1, [clip])
        assert main(["verify", str(tmp_path)]) == 0
        assert "1 marked clips do not count" in " ".join(capsys.readouterr().err.split())
        (tmp_path / "marks" / "ben.jsonl").unlink()
        # the marks were of the old text: there is nothing to send back
        assert main(["verify", str(tmp_path), "--send-back"]) == 2
        assert "nobody has marked any" in capsys.readouterr().err
        assert main(command) == 0 and len(server.bodies) == sent


def test_what_was_answered_without_use_is_asked_again_where_that_is_wanted(
    corpus, tmp_path, capsys
):
    good = [False]
    with serve(
        chat(lambda body, number: plain_reply(body) if good[0] else "no form at all")
    ) as server:
        command = options(corpus, tmp_path, server.url, "--limit", "4")
        assert main(command) == 0
        assert "nothing was kept: left_out.csv says why" in " ".join(
            capsys.readouterr().err.split()
        )
        sent, good[0] = len(server.bodies), True
        assert main(command) == 0 and len(server.bodies) == sent
        assert not any(a["notes"] for a in lines(tmp_path))
        assert main([*command, "--ask-again"]) == 0 and len(server.bodies) > sent
        assert all(a["notes"] and not a["left_out"] for a in lines(tmp_path))
        sent = len(server.bodies)
        assert main([*command, "--ask-again"]) == 0 and len(server.bodies) == sent  # good ones stay


def test_an_endpoint_that_refuses_all_is_told_in_one_sentence(corpus, tmp_path, capsys):
    with serve(chat(lambda body, number: (401, "no such key"))) as server:
        assert main(options(corpus, tmp_path, server.url, "--limit", "2")) == 3
        told = " ".join(capsys.readouterr().err.split())
        assert (
            "answers 401 (no such key): check address, key and model, then run the same command again to continue"
            in told
        )
        assert "give more" not in told and f"unfinished: 2 {server.url} answers 401" in told
        assert (
            main(options(corpus, tmp_path, server.url, "--limit", "2", "--key-from", "NO_SUCH_KEY"))
            == 2
        )
        assert "no variable NO_SUCH_KEY" in capsys.readouterr().err


def test_an_address_is_no_part_of_a_question(corpus, tmp_path):
    with (
        serve(chat(lambda body, number: plain_reply(body))) as one,
        serve(chat(lambda b, n: plain_reply(b))) as other,
    ):
        assert main(options(corpus, tmp_path, one.url, "--limit", "5")) == 0
        assert main(options(corpus, tmp_path, other.url + "/", "--limit", "5")) == 0
        assert one.bodies and not other.bodies


def test_requests_that_are_refused_are_asked_again_later_and_told(corpus, tmp_path, capsys):
    up = False

    def reply(body, number):
        return (
            plain_reply(body)
            if up or agent_of(body) != "visual"
            else (400, '{"error": "at most 1 image"}')
        )

    with serve(chat(reply)) as server:
        command = options(corpus, tmp_path, server.url, "--limit", "5")
        assert main(command) == 3
        assert "at most 1 image" in (tmp_path / "unfinished.csv").read_text()
        up = True
        assert main(command) == 0 and len(lines(tmp_path)) == 5


def test_an_endpoint_that_refuses_everything_leaves_true_outputs(corpus, tmp_path, capsys):
    with serve(chat(lambda body, number: (401, "no key"))) as server:
        assert main(options(corpus, tmp_path, server.url)) == 3
        assert "check address, key and model" in " ".join(capsys.readouterr().err.split())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (
        summary["kept"] == 0
        and sum(summary["unfinished"].values()) + sum(summary["left_out"].values()) == 45
    )


def test_nothing_is_asked_about_clips_that_can_not_be_kept(corpus, tmp_path):
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        own = options(
            corpus, tmp_path / "a", server.url, "--recipe", "merr_fine", "--units", "none"
        )
        assert main(own) == 0 and server.bodies == []
        assert "no action units were measured" in (tmp_path / "a" / "left_out.csv").read_text()
        own = options(corpus, tmp_path / "b", server.url, "--labels", "happy,sad")
        own[1] = str(corpus / "clips")
        assert main(own) == 0
        found = lines(tmp_path / "b")
        assert {a["label"] for a in found if a["notes"]} == {"happy", "sad"}
        assert any("which is not offered" in a["left_out"] for a in found)


def test_what_is_under_way_does_not_count_as_spent(corpus, tmp_path):
    """Four requests at once could go over the budget, one after the other they do not: they wait for each other."""
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        command = options(
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


def test_ctrl_c_asks_nothing_more(corpus, tmp_path):
    faulty = Faulty(every=10**9, reply=lambda body: (time.sleep(0.4), plain_reply(body))[1])
    with serve(chat(faulty)) as server:
        # A shell that put the tests into the background has SIGINT ignored in all of them: the child
        # begins by taking it back. Not with preexec_fn, which forks, and JAX warns of every fork.
        again = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
        arguments = ["-m", "emojax.cli", *options(corpus, tmp_path, server.url, "--timeout", "9")]
        process = subprocess.Popen(
            [sys.executable, "-c", again, sys.executable, *arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )  # fmt: skip
        while faulty.count < 8 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        begin, sent = time.monotonic(), faulty.count
        told = process.communicate(timeout=30)[1]
        assert process.returncode == 130 and "run the same command again" in " ".join(told.split())
        assert time.monotonic() - begin < 8 and faulty.count - sent <= 2 * FLIGHT


def test_wrong_usage_is_told(corpus, tmp_path, capsys):
    url = "http://127.0.0.1:9/v1"
    manifest = str(corpus / "manifest.csv")
    for arguments, fault in [
        (["annotate"], "give clips"),
        (["annotate", manifest, "--out", str(tmp_path)], "asks visual, audio, reasoning"),
        (["annotate", manifest, "--out", str(tmp_path), "--endpoint", "localhost", "--model", "m"], "is not a valid address"),
        (["annotate", manifest, "--out", str(tmp_path), "--endpoint", url], "needs --model"),
        (["annotate", manifest, "--out", str(tmp_path), "--endpoint", url, "--model", "m", "--most-money", "3"], "prices"),
        (["annotate", manifest, "--out", str(tmp_path), "--endpoint", url, "--model", "m", "--units", "/no"], "neither a folder"),
        (["annotate", str(corpus / "clips"), "--out", str(tmp_path), "--endpoint", url, "--model", "m"], "--labels"),
        (["annotate", manifest, "--out", str(tmp_path), "--recipe", "none"], "there are merr_coarse"),
        (["verify", str(tmp_path)], "no annotations"),
        (["annotate", manifest, "--out", str(tmp_path), "--endpoint", url, "--model", "m", "--name", "../x"], "plain name"),
        (["annotate", manifest, "--out", str(tmp_path), "--endpoint", url, "--model", "m", "--text-column", "mode"], "two names"),
        (["annotate", manifest, "--out", manifest, "--endpoint", url, "--model", "m"], "give a folder"),
        (["annotate", manifest, "--out", str(tmp_path), "--endpoint", url, "--model", "m", "--eight-units", "a,b"], "eight numbers"),
    ]:  # fmt: skip
        assert main(arguments) == 2
        assert fault in " ".join(capsys.readouterr().err.split()), arguments
    agents = tmp_path / "agents.toml"
    for fields, fault in [
        ('max_tokens = "5"', "needs a number"),
        ("key_from = 5", "needs text"),
        ('key_from = "NO_SUCH"', "no variable"),
    ]:
        agents.write_text(f'[visual]\nurl = "{url}"\nmodel = "m"\n{fields}\n')
        assert (
            main(["annotate", manifest, "--out", str(tmp_path / "o"), "--agents", str(agents)]) == 2
        )
        assert fault in " ".join(capsys.readouterr().err.split())
    agents.write_text(f'[nose]\nurl = "{url}"\nmodel = "m"\n')
    assert main(["annotate", manifest, "--out", str(tmp_path / "o"), "--agents", str(agents)]) == 2
    assert "[nose] is not an agent" in " ".join(capsys.readouterr().err.split())


def test_each_agent_has_its_own_endpoint_and_key(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY_OF_EYES", "secret-eyes")
    with (
        serve(chat(lambda b, n: plain_reply(b), "eyes")) as eyes,
        serve(chat(lambda b, n: plain_reply(b), "rest")) as rest,
    ):
        agents = tmp_path / "agents.toml"
        agents.write_text(
            f'[visual]\nurl = "{eyes.url}"\nmodel = "v"\nkey_from = "KEY_OF_EYES"\nmax_tokens = 99\n'
        )
        command = options(
            corpus, tmp_path / "out", rest.url, "--agents", str(agents), "--limit", "6"
        )
        assert main(command) == 0
        assert {agent_of(b) for b in eyes.bodies} == {"visual"} and {
            b["max_tokens"] for b in eyes.bodies
        } == {99}
        assert set(eyes.keys) == {"Bearer secret-eyes"}
        assert {agent_of(b) for b in rest.bodies} == {"audio", "reasoning"} and not any(
            parts(b, "image_url") for b in rest.bodies
        )
    everything = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert b"secret-eyes" not in everything
    assert {a["authors"].get("visual") for a in lines(tmp_path / "out")} <= {"eyes", None}


def killed_run(corpus, out, kills: int, seed: int, within: float) -> tuple[Faulty, int]:
    """Runs the command, killed `kills` times at random moments while it works, then to its end."""
    rng = random.Random(seed)
    faulty = Faulty(every=29)
    with serve(chat(faulty)) as server:
        command = [sys.executable, "-m", "emojax.cli", *options(corpus, out, server.url)]
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


def whole_after_kills(corpus, out, clips, faulty, kills):
    found = lines(out)
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
    whole_after_kills(corpus, tmp_path / "out", 45, faulty, kills)


@pytest.mark.full
def test_a_thousand_records_and_twenty_kills(tmp_path):
    corpus = make_corpus(
        config=CorpusConfig(train=0, val=0, test=1000, size=64), folder=tmp_path / "corpus"
    )
    faulty, kills = killed_run(corpus, tmp_path / "out", 20, 2, 1.5)
    assert kills == 20
    whole_after_kills(corpus, tmp_path / "out", 1000, faulty, kills)


def test_words_are_heard_where_none_are_given(corpus, tmp_path):
    from data_pipeline.annotate.clip_lists import read_clip_list
    from data_pipeline.annotate.recipe import load_recipe
    from data_pipeline.annotate.runner import Job, run_job
    from data_pipeline.llm.endpoint import Endpoint

    labels = (
        "happy",
        "sad",
        "neutral",
        "angry",
        "worried",
        "surprise",
        "fear",
        "contempt",
        "doubt",
    )
    records = read_clip_list(corpus / "clips", labels=labels)[:4]
    heard = []

    def transcribe(wave):
        heard.append(len(wave))
        return "what was heard", "en"

    with serve(chat(lambda body, number: plain_reply(body))) as server:
        job = Job(
            recipe=load_recipe("merr_coarse"),
            out=tmp_path,
            endpoints={"audio": Endpoint(url=server.url, model="m")},
            units=str(corpus / "units"),
        )
        done = run_job(job, records, transcribe=transcribe, transcriber="a test")
    with_sound = [a for a in done.annotations if a.voice is not None]
    assert len(heard) == len(with_sound) >= 3
    assert {(a.words, a.words_from) for a in with_sound} == {("what was heard", "transcribed")}
    assert all("what was heard" in text_of(b) for b in server.bodies)
    assert all(
        a.coarse.endswith('The person says: "what was heard".')
        for a in with_sound
        if not a.left_out
    )

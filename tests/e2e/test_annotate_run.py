"""`emojax annotate` with scripted endpoints: records, labels, changes, clips sent back, usage."""

import json

import pytest
from annotators import (
    Faulty,
    agent_of,
    annotate_command,
    annotation_lines,
    chat,
    parts,
    plain_reply,
    text_of,
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


def test_every_clip_has_one_record_and_faults_are_counted(corpus, tmp_path, capsys):
    faulty = Faulty()
    with serve(chat(faulty)) as server:
        assert (
            main(annotate_command(corpus, tmp_path, server.url, "--json", "--licence", "CC0")) == 0
        )
    summary = json.loads(capsys.readouterr().out)
    found = annotation_lines(tmp_path)
    assert [a["clip"] for a in found] == [f"test_{i:05d}" for i in range(45)]
    assert {"429", "503", "timeout", "web page", "empty", "refusal"} <= set(summary["faults"])
    assert summary["kept"] + sum(summary["left_out"].values()) == 45 and not summary["unfinished"]
    # on a busy machine a good reply may come too late as well
    assert faulty.repeated <= summary["faults"]["timeout"] - faulty.silent
    with_face = [a for a in found if a["units_from"]]
    assert with_face and all(
        set(a["notes"]) == {"visual", "audio", "audio_2", "reasoning"}
        for a in with_face
        if a["voice"]
    )
    # nothing is asked again when only outputs change
    sent = faulty.count
    with serve(chat(faulty)) as server:
        again = annotate_command(corpus, tmp_path, server.url)
        again[again.index("--endpoint") + 1] = summary["endpoints"]["visual"]["url"]
        assert main([*again, "--seed", "3"]) == 0
    assert faulty.count == sent


def test_prompts_contain_the_label_or_not(corpus, tmp_path):
    for recipe, guided in (("mmeverse", True), ("merr_coarse", False)):
        with serve(chat(lambda body, number: plain_reply(body))) as server:
            assert (
                main(
                    annotate_command(
                        corpus, tmp_path / recipe, server.url, "--recipe", recipe, "--limit", "9"
                    )
                )
                == 0
            )
            asked = [text_of(b) for b in server.bodies]
            assert asked and all(("the person shows" in text) == guided for text in asked)


def test_labels_by_the_action_units_and_by_the_model(corpus, tmp_path):
    """A folder without labels: by votes as in MERR, and by a reasoning agent without label."""
    labels = "happy,sad,neutral,angry,worried,surprise,fear,contempt,doubt"
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        own = annotate_command(
            corpus, tmp_path / "votes", server.url, "--recipe", "merr_coarse", "--labels", labels
        )
        own[1] = str(corpus / "clips")
        assert main(own) == 0
        (tmp_path / "free.toml").write_text(
            'name = "free"\nlabel = "model"\nlabel_guided = false\n'
            'agents = ["visual", "reasoning"]\n'
        )
        own = annotate_command(
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
        a["clip"]: a["label"]
        for a in annotation_lines(tmp_path / "votes")
        if a["label_from"] == "votes"
    }
    right = [
        by_votes[c] == e for c, e in shown.items() if e in ("happy", "angry", "surprise", "neutral")
    ]
    assert len(by_votes) >= 40 and sum(right) / len(right) >= 0.9
    assert {a["label_from"] for a in annotation_lines(tmp_path / "model")} == {"model"}


def test_only_changed_clips_are_annotated_again(corpus, tmp_path):
    manifest = corpus / "changed.csv"
    rows = (corpus / "manifest.csv").read_text().splitlines()
    manifest.write_text("\n".join(rows[:10]) + "\n")
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        command = annotate_command(corpus, tmp_path, server.url)
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
    assert len(annotation_lines(tmp_path)) == 9


def test_clips_that_are_sent_back_are_asked_again(corpus, tmp_path, capsys):
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        command = annotate_command(corpus, tmp_path, server.url, "--limit", "6")
        assert main(command) == 0
        clip = annotation_lines(tmp_path)[1]["clip"]
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
        before = {a["clip"]: a for a in annotation_lines(tmp_path)}
        assert main(command) == 0
        fresh = server.bodies[first:]
        assert 1 <= len(fresh) <= 4 and all("She does not frown." in text_of(b) for b in fresh)
        after = {a["clip"]: a for a in annotation_lines(tmp_path)}
        assert {c for c in after if after[c] != before[c]} == {clip}
        sent = len(server.bodies)
        assert main(command) == 0 and len(server.bodies) == sent
        # other marks still count; marks of changed texts are reported as lapsed
        other = next(c for c in after if c != clip)
        line |= {"clip": other, "of": read_state(tmp_path / STATE)[other].digest, "again": None}
        with (tmp_path / "marks" / "ben.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        capsys.readouterr()
        assert main(["verify", str(tmp_path), "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["clips"], result["lapsed"]) == (1, [clip])
        assert main(["verify", str(tmp_path)]) == 0
        assert "1 marked clips do not count" in " ".join(capsys.readouterr().err.split())
        (tmp_path / "marks" / "ben.jsonl").unlink()
        # the marks belong to the old text: there is nothing to send back
        assert main(["verify", str(tmp_path), "--send-back"]) == 2
        assert "nobody has marked any" in capsys.readouterr().err
        assert main(command) == 0 and len(server.bodies) == sent


def test_nothing_is_asked_about_clips_that_cannot_be_kept(corpus, tmp_path):
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        own = annotate_command(
            corpus, tmp_path / "a", server.url, "--recipe", "merr_fine", "--units", "none"
        )
        assert main(own) == 0 and server.bodies == []
        assert "no action units were measured" in (tmp_path / "a" / "left_out.csv").read_text()
        own = annotate_command(corpus, tmp_path / "b", server.url, "--labels", "happy,sad")
        own[1] = str(corpus / "clips")
        assert main(own) == 0
        found = annotation_lines(tmp_path / "b")
        assert {a["label"] for a in found if a["notes"]} == {"happy", "sad"}
        assert any("which is not offered" in a["left_out"] for a in found)


def test_wrong_usage_is_reported(corpus, tmp_path, capsys):
    url = "http://127.0.0.1:9/v1"
    manifest = str(corpus / "manifest.csv")
    start = ["annotate", manifest, "--out", str(tmp_path)]
    server = ["--endpoint", url, "--model", "m"]
    folder = ["annotate", str(corpus / "clips"), "--out", str(tmp_path)]
    for arguments, fault in [
        (["annotate"], "give clips"),
        (start, "asks visual, audio, reasoning"),
        ([*start, "--endpoint", "localhost", "--model", "m"], "is not a valid address"),
        ([*start, "--endpoint", url], "needs --model"),
        ([*start, *server, "--most-money", "3"], "prices"),
        ([*start, *server, "--units", "/no"], "neither a folder"),
        ([*folder, *server], "--labels"),
        ([*start, "--recipe", "none"], "there are merr_coarse"),
        (["verify", str(tmp_path)], "no annotations"),
        ([*start, *server, "--name", "../x"], "plain name"),
        ([*start, *server, "--text-column", "mode"], "two names"),
        (["annotate", manifest, "--out", manifest, *server], "give a folder"),
        ([*start, *server, "--eight-units", "a,b"], "eight numbers"),
    ]:
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
        serve(chat(lambda b, n: plain_reply(b), "others")) as others,
    ):
        agents = tmp_path / "agents.toml"
        agents.write_text(
            f'[visual]\nurl = "{eyes.url}"\nmodel = "v"\n'
            'key_from = "KEY_OF_EYES"\nmax_tokens = 99\n'
        )
        command = annotate_command(
            corpus, tmp_path / "out", others.url, "--agents", str(agents), "--limit", "6"
        )
        assert main(command) == 0
        assert {agent_of(b) for b in eyes.bodies} == {"visual"} and {
            b["max_tokens"] for b in eyes.bodies
        } == {99}
        assert set(eyes.keys) == {"Bearer secret-eyes"}
        assert {agent_of(b) for b in others.bodies} == {"audio", "reasoning"} and not any(
            parts(b, "image_url") for b in others.bodies
        )
    everything = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert b"secret-eyes" not in everything
    assert {a["authors"].get("visual") for a in annotation_lines(tmp_path / "out")} <= {
        "eyes",
        None,
    }


def test_clips_without_words_are_transcribed(corpus, tmp_path):
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
    lengths = []

    def transcribe(wave):
        lengths.append(len(wave))
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
    assert len(lengths) == len(with_sound) >= 3
    assert {(a.words, a.words_from) for a in with_sound} == {("what was heard", "transcribed")}
    assert all("what was heard" in text_of(b) for b in server.bodies)
    assert all(
        a.coarse.endswith('The person says: "what was heard".')
        for a in with_sound
        if not a.left_out
    )

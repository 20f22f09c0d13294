"""The judge with a local server: faults are counted, retried or reported, never averaged."""

import json

import pytest
from chat_server import Chat, serve

from data_pipeline.llm.client import ChatClient
from data_pipeline.llm.endpoint import Endpoint, EndpointError
from data_pipeline.llm.replies import UnusableReply
from emojax.cli.main import main
from emojax.evaluate.llm_judge import judge, judge_agreement, mean_with_interval
from emojax.evaluate.predictions import Prediction

ROWS = [Prediction(clip=f"c{i}", response=f"text {i}", speaker=f"s{i % 4}") for i in range(8)]
REFERENCES = {r.clip: f"truth of {r.clip}" for r in ROWS}


def number_of(body) -> int:
    """The number of the clip that a question is about."""
    return int(body["messages"][-1]["content"].split("truth of c")[1].split()[0])


def run(chat, tmp_path, task="clue-overlap", rows=ROWS, references=REFERENCES, **more):
    settings = {"timeout": 0.5, "key": "secret", **more.pop("endpoint", {})}
    with ChatClient(
        Endpoint(url=chat.url, model="judge", **settings), tmp_path, backoff=0.01, **more
    ) as client:
        return judge(task, rows, references, client)


def test_scores_are_averaged_with_who_judged(tmp_path):
    with serve(Chat(lambda body, n: json.dumps({"score": 1 + number_of(body)}))) as chat:
        found = run(chat, tmp_path, endpoint={"price_in": 2.0, "price_out": 10.0, "seed": 7})
    assert found["scored"] == 8 and found["not_scored"] == {}
    assert found["scores"]["clue_overlap"]["mean"] == 4.5
    low, high = found["scores"]["clue_overlap"]["interval"]
    assert low < 4.5 < high
    assert (
        found["judge"]["asked_for"] == "judge"
        and found["judge"]["answered"] == ["judge-1"]
        and found["judge"]["seed"] == 7
    )
    assert len(found["judge"]["prompts"][0]) == 16
    assert found["tokens"] == {"prompt": 800, "reply": 80} and found["cost"] == pytest.approx(
        800 * 2e-6 + 80 * 10e-6
    )
    assert set(chat.keys) == {"Bearer secret"} and "secret" not in json.dumps(found)
    assert all("secret" not in p.read_text() for p in tmp_path.iterdir())
    assert {b["seed"] for b in chat.bodies} == {7} and {b["temperature"] for b in chat.bodies} == {
        0.0
    }


FAULTS = {
    0: lambda n: 2.0 if n == 1 else '{"score": 5}',  # times out once
    1: lambda n: (429, "slow down") if n < 3 else '{"score": 5}',
    2: lambda n: (500, "oh") if n == 1 else '{"score": 5}',
    3: lambda n: (200, "<html>no JSON") if n == 1 else '{"score": 5}',
    4: lambda n: "I'm sorry, I can't do that.",
    5: lambda n: "这个人看起来很高兴，没有矛盾。",
    6: lambda n: '{"score": 55}' if n == 1 else 'Here: {"score": "5"} as asked',
    7: lambda n: "",
}


def test_faults_are_counted_and_never_averaged(tmp_path):
    with serve(Chat(lambda body, n: FAULTS[number_of(body)](n))) as chat:
        found = run(chat, tmp_path, rereads=1)
        assert found["scores"]["clue_overlap"]["mean"] == 5.0 and found["scored"] == 5
        assert found["not_scored"] == {"refusal": 1, "other language": 1, "empty reply": 1}
        assert found["faults"] == {
            "429": 2,
            "500": 1,
            "timeout": 1,
            "web page": 1,
            "refusal": 2,
            "other language": 2,
            "empty reply": 2,
            "no score from 1 to 10": 1,
        }
        assert {c["video_id"]: c.get("fault") for c in found["clips"]}["c4"] == "refusal"
        asked = sum(chat.asked.values())
        again = run(chat, tmp_path, rereads=1)
        assert sum(chat.asked.values()) == asked  # nothing is asked again, bad replies neither
        assert (
            again["requests"] == 0
            and again["scores"] == found["scores"]
            and again["not_scored"] == found["not_scored"]
        )


def test_a_server_that_stays_away_is_reported_for_every_clip(tmp_path):
    with serve(Chat(lambda body, n: (503, "busy"))) as chat:
        found = run(chat, tmp_path, retries=2)
    assert found["scored"] == 0 and found["scores"] is None and found["not_scored"] == {"503": 8}
    assert found["faults"] == {"503": 24}
    with ChatClient(
        Endpoint(url="http://127.0.0.1:9/v1", model="judge"),
        tmp_path / "x",
        retries=1,
        backoff=0.01,
    ) as client:
        assert judge("clue-overlap", ROWS[:1], REFERENCES, client)["not_scored"] == {
            "no connection": 1
        }


def test_a_server_that_is_away_is_not_asked_for_ever(tmp_path):
    rows = [Prediction(clip=f"c{i}", response="x") for i in range(40)]
    with serve(Chat(lambda body, n: (503, "busy"))) as chat:
        with pytest.raises(EndpointError, match="no reply to 10 questions in a row .503.") as away:
            run(
                chat,
                tmp_path,
                rows=rows,
                references={r.clip: f"truth of {r.clip}" for r in rows},
                retries=0,
            )
        assert sum(chat.asked.values()) < 20
    assert "kept" not in str(away.value), "there are no replies"


def test_one_question_that_is_refused_does_not_stop_the_others(tmp_path):
    with serve(
        Chat(lambda body, n: (400, "too long") if number_of(body) == 3 else '{"score": 2}')
    ) as chat:
        found = run(chat, tmp_path)
    assert found["scored"] == 7 and found["not_scored"] == {"refused with 400": 1}


def test_replies_that_think_aloud(tmp_path):
    with serve(Chat(lambda body, n: '<think>{weighing}</think> {so} {"score": 7}')) as chat:
        assert run(chat, tmp_path)["scores"]["clue_overlap"]["mean"] == 7.0


def test_tokens_are_those_of_the_task_and_of_this_run(tmp_path):
    with serve(Chat(lambda body, n: '{"score": 7}')) as chat:
        run(chat, tmp_path, rows=ROWS[:3])
        found = run(chat, tmp_path, endpoint={"price_in": 1.0, "price_out": 1.0})
    assert found["tokens"] == {"prompt": 800, "reply": 80} and found["cost"] == pytest.approx(
        880e-6
    )
    assert found["this_run"] == {"prompt": 500, "reply": 50, "cost": pytest.approx(550e-6)}


def test_words_drawn_by_one_model_and_scored_by_another_are_a_judge_of_their_own(tmp_path):
    def reply(body, n):
        chat.model = (
            "drawer" if body["messages"][-1]["content"].startswith("Description:") else "scorer"
        )
        return '{"labels": ["sad"], "score": 4}'

    with serve(Chat(reply)) as chat:
        found = run(chat, tmp_path, "label-overlap", ROWS[:1], concurrency=1)
    assert found["judge"]["answered"] == ["drawer + scorer"]


def test_a_refused_key_stops_at_once(tmp_path):
    with serve(Chat(lambda body, n: (401, '{"error": "no such key"}'))) as chat:
        with pytest.raises(
            EndpointError, match="answers 401 .*no such key.*check address, key and model"
        ):
            run(chat, tmp_path, concurrency=1)
        assert sum(chat.asked.values()) == 1


def test_a_stopped_run_goes_on_from_stored_replies(tmp_path):
    stop = [5]

    def reply(body, n):
        stop[0] -= 1
        return (401, "gone") if stop[0] < 0 else '{"score": 3}'

    with serve(Chat(reply)) as chat:
        with pytest.raises(EndpointError):
            run(chat, tmp_path, concurrency=1)
        first = set(chat.asked)
        chat.reply = lambda body, n: '{"score": 3}'
        found = run(chat, tmp_path)
    assert found["scored"] == 8 and len(first) == 6
    assert sorted(chat.asked.values()) == [1] * 7 + [
        2
    ]  # the one that was refused is asked again, no other


def test_two_models_under_one_name_have_no_common_mean(tmp_path):
    with serve(Chat(lambda body, n: '{"score": 4}')) as chat:
        run(chat, tmp_path, rows=ROWS[:3])
        chat.model, chat.reply = "judge-2", lambda body, n: '{"score": 8}'
        found = run(chat, tmp_path)
    assert found["scores"] is None and found["judge"]["answered"] == ["judge-1", "judge-2"]
    means = {m: (s["n"], s["clue_overlap"]["mean"]) for m, s in found["by_model"].items()}
    assert means == {"judge-1": (3, 4.0), "judge-2": (5, 8.0)}


def test_another_seed_or_prompt_is_another_question(tmp_path):
    with serve(Chat(lambda body, n: '{"score": 4}')) as chat:
        run(chat, tmp_path, rows=ROWS[:1])
        run(chat, tmp_path, rows=ROWS[:1], endpoint={"seed": 1})
        run(chat, tmp_path, rows=ROWS[:1], references={"c0": "truth of c0 indeed"})
        assert sum(chat.asked.values()) == 3


def test_label_overlap_names_labels_first(tmp_path):
    def reply(body, n):
        text = body["messages"][-1]["content"]
        if text.startswith("Description:"):
            return json.dumps(
                {"labels": ["Sad", "sad", "lonely"] if "truth" in text else ["happy"]}
            )
        assert "reference: sad, lonely" in text and "judge: happy" in text
        return '{"score": 2}'

    with serve(Chat(reply)) as chat:
        found = run(chat, tmp_path, "label-overlap", ROWS[:2])
    assert found["scores"]["label_overlap"]["mean"] == 2.0
    assert found["requests"] == 4 + 1  # both pairs of lists are the same question


def test_label_overlap_without_labels_is_not_scored(tmp_path):
    with serve(Chat(lambda body, n: '{"labels": 7}')) as chat:
        found = run(chat, tmp_path, "label-overlap", ROWS[:1], rereads=0)
    assert found["scored"] == 0 and found["not_scored"] == {"no list of labels": 1}


def test_open_words_are_grouped(tmp_path):
    rows = [
        Prediction(clip="a", response="glad, furious"),
        Prediction(clip="b", response=""),
        Prediction(clip="c", response="['sad']"),
    ]
    references = {"a": "['happy', 'calm']", "b": "['sad']", "c": "['gloomy', 'sad']"}

    def reply(body, n):
        words = (
            body["messages"][-1]["content"]
            .split("\n")[0]
            .removeprefix("Words of emotion: ")
            .split(", ")
        )
        groups = [
            [w for w in words if w in g]
            for g in (("happy", "glad"), ("sad", "gloomy"), ("calm",), ("furious",))
        ]
        return json.dumps({"groups": [g for g in groups if g]})

    with serve(Chat(reply)) as chat:
        found = run(chat, tmp_path, "ov", rows, references)
    assert {c["video_id"]: (c["accuracy"], c["recall"]) for c in found["clips"]} == {
        "a": (0.5, 0.5),
        "b": (0.0, 0.0),
        "c": (1.0, 1.0),
    }
    assert found["scores"]["judge_average"]["mean"] == 0.5
    prose = [Prediction(clip="b", response="The man looks gloomy while he speaks of his loss")]
    drawing = lambda body, n: (
        '{"labels": ["gloomy"]}'
        if body["messages"][-1]["content"].startswith("Description:")
        else reply(body, n)
    )
    with serve(Chat(drawing)) as chat:
        assert (
            run(chat, tmp_path / "t", "ov", prose, references)["scores"]["judge_average"]["mean"]
            == 1.0
        )
    with serve(Chat(lambda body, n: "no")) as chat:
        found = run(chat, tmp_path / "n", "ov", prose, references, rereads=0)
    assert found["not_scored"] == {"no JSON object": 1} and found["scored"] == 0
    with serve(Chat(lambda body, n: '{"groups": [["happy"]]}')) as chat:
        lost = run(chat, tmp_path / "x", "ov", rows[:1], references, rereads=0)
    assert lost["not_scored"] == {"groups without some of the words": 1}


def test_reasoning_has_three_scores(tmp_path):
    with serve(Chat(lambda body, n: '{"clue": 8, "label": 6, "completeness": 10}')) as chat:
        found = run(chat, tmp_path, "reasoning")
    assert {k: v["mean"] for k, v in found["scores"].items()} == {
        "clue": 8.0,
        "label": 6.0,
        "completeness": 10.0,
    }


def test_two_judges_agreement_by_hand():
    judged = lambda values, model: {
        "task": "clue-overlap",
        "judge": {"answered": [model]},
        "clips": [{"video_id": f"c{i}", "clue_overlap": v} for i, v in enumerate(values)],
    }
    found = judge_agreement(judged([1, 2, 3, 4], "a"), judged([2, 2, 4, 4], "b"))["scores"][
        "clue_overlap"
    ]
    assert found["mean_difference"] == 0.5 and found["mean_absolute_difference"] == 0.5
    assert found["spearman"] == pytest.approx(0.8944, abs=1e-4)
    # weighted disagreement 1 + 0 + 1 + 0 against that of chance (products of the margins)
    chance = sum((x - y) ** 2 for x in (1, 2, 3, 4) for y in (2, 2, 4, 4)) / 16 * 4
    assert found["quadratic_kappa"] == pytest.approx(1 - 2 / chance)
    # unused scores are part of the scale: quadratic weights of 1..10, products of the margins
    x, y = [1, 10, 10, 2, 2, 1], [2, 10, 10, 1, 10, 1]
    gap = judge_agreement(judged(x, "a"), judged(y, "b"))["scores"]["clue_overlap"][
        "quadratic_kappa"
    ]
    seen = sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) / 6
    assert gap == pytest.approx(1 - seen / (sum((p - q) ** 2 for p in x for q in y) / 36))
    with pytest.raises(ValueError, match="no clip was scored by both"):
        judge_agreement(judged([1], "a"), {**judged([], "b")})


def test_a_clip_without_a_reference_is_named(tmp_path):
    with (
        serve(Chat(lambda body, n: "{}")) as chat,
        pytest.raises(ValueError, match="clip 'c0' has no reference"),
    ):
        run(chat, tmp_path, references={})


def test_mean_of_equal_scores():
    assert mean_with_interval([3.0, 3.0], ["", ""]) == {"mean": 3.0, "interval": None}


def test_unusable_replies_are_named_by_the_reader(tmp_path):
    def read(text):
        raise UnusableReply("of no use")

    with (
        serve(Chat(lambda body, n: "x")) as chat,
        ChatClient(Endpoint(url=chat.url, model="m"), tmp_path, rereads=0) as client,
    ):
        reply = client.ask([{"role": "user", "content": "?"}], read)
    assert reply.value is None and reply.fault == "of no use" and client.faults == {"of no use": 1}


def test_the_command(tmp_path, capsys, monkeypatch):
    predictions, references = tmp_path / "p.csv", tmp_path / "r.csv"
    predictions.write_text("names,chi_reasons\na,she smiles\nb,he frowns\n")
    references.write_text(
        "name,chinese,english\na,,truth of c0 is joy\nb,,truth of c1 is anger\nc,,truth of c2\n"
    )
    monkeypatch.setenv("MY_KEY", "sesame")
    out = tmp_path / "out"
    with serve(Chat(lambda body, n: '{"score": 6}')) as chat:
        command = [
            "judge",
            "--predictions",
            str(predictions),
            "--references",
            str(references),
            "--task",
            "clue-overlap",
        ]
        command += [
            "--endpoint",
            chat.url,
            "--model",
            "org/judge",
            "--key-from",
            "MY_KEY",
            "--out",
            str(out),
        ]
        assert main(command) == 0
        assert set(chat.keys) == {"Bearer sesame"}
    output = capsys.readouterr().out
    assert "not scored: 1 of 3 references without a prediction" in output and "6.000" in output
    found = json.loads((out / "judge_clue-overlap_org-judge.json").read_text())
    assert found["scores"]["clue_overlap"]["mean"] == 6.0 and found["n"] == 2
    assert (
        main(["judge", "--agreement", *[str(out / "judge_clue-overlap_org-judge.json")] * 2]) == 0
    )
    assert json.loads(capsys.readouterr().out)["scores"]["clue_overlap"]["mean_difference"] == 0.0
    assert (
        main(["judge", "--task", "ov"]) == 2
        and "--predictions is missing" in capsys.readouterr().err
    )

"""The server as a process: answers, chat, a full queue, and jobs that survive a SIGKILL."""

import asyncio
import base64
import concurrent.futures
import contextlib
import io
import json
import signal
import socket
import time
from collections import Counter

import httpx2
import numpy as np
import pytest
from random_model import LABELS, save_random_model
from recording import record
from served import AUTH, Server, upload

WORDS = "well, hello"  # without words, where nobody is seen or heard, each reply is "cannot tell"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return record(
        tmp_path_factory.mktemp("media") / "clip.mp4", [(1.5, 1)], [(0.2, 1.3)], moving=True
    )


@pytest.fixture(scope="module")
def server(model, clip, tmp_path_factory):
    limits = ["--max-mb", "2", "--max-seconds", "10", "--queue", "4"]
    found = Server(model, tmp_path_factory.mktemp("serve"), "--allow", str(clip.parent), *limits)
    yield found
    found.stop()


def test_a_clip_is_answered(server, clip):
    answer = server.post(
        "/v1/analyze", **upload(clip, subtitle="so it is", contributions="1", purpose="tests")
    )
    assert answer.status_code == 200
    found = answer.json()
    assert found["label"] in LABELS and sum(found["probabilities"].values()) == pytest.approx(1)
    assert (
        set(found["contributions"]) == {"video", "audio", "text"}
        and found["purpose"] == "tests"
        and found["reason"]
    )
    named = server.post(
        "/v1/analyze", json={"path": str(clip), "labels": ["happy", "sad"], "label_only": True}
    ).json()
    assert set(named["probabilities"]) == {"happy", "sad"} and named["reason"] == ""
    assert server.left() == []


def test_metrics_and_models(server, clip):
    server.post("/v1/analyze", **upload(clip))
    text = httpx2.get(f"{server.url}/metrics", headers=AUTH).text
    count = next(
        x
        for x in text.splitlines()
        if x.startswith('emojax_requests_total{route="/v1/analyze",status="200"}')
    )
    assert (
        float(count.split()[-1]) >= 1
        and "emojax_seconds_bucket" in text
        and "emojax_waiting" in text
    )
    assert httpx2.get(f"{server.url}/v1/models", headers=AUTH).json()["data"][0]["id"] == "tiny"


def test_fields_are_checked(server, clip):
    """Labels count once, null is a missing field, everything else is refused in one sentence."""
    ask = lambda **fields: server.post(
        "/v1/analyze", json={"path": str(clip), "label_only": True, **fields}
    )
    twice = ask(labels=["happy", "sad", "happy"]).json()["probabilities"]
    assert twice == pytest.approx(ask(labels=["happy", "sad"]).json()["probabilities"]) and sum(
        twice.values()
    ) == pytest.approx(1)
    nothing = ask(subtitle=None, purpose=None, labels=None, abstain=None).json()
    assert (
        "text" not in nothing["modalities"]
        and nothing["probabilities"] == ask().json()["probabilities"]
    )
    for fields, fault in [
        ({"labels": "happy,happy"}, "different"),
        ({"labels": [{"a": 1}, 2]}, "labels"),
        ({"labels": ["a", ""]}, "labels"),
        ({"labels": [f"the label of number {i}" for i in range(200)]}, "give fewer labels"),
        ({"subtitle": {"a": 1}}, "subtitle: a text"),
        ({"label_only": "maybe"}, "true or false"),
        ({"mood": 1}, "no field mood"),
        ({"path": str(clip.parent / ("a" * 300))}, "--allow"),
    ]:
        answer = ask(**fields)
        assert answer.status_code in (403, 422) and fault in answer.json()["error"]["message"], (
            fields,
            answer.text,
        )
    for key in ("subtitle", "purpose", "path", "labels"):
        body = json.dumps({"path": str(clip), key: "a,\ud800"})
        answer = server.post(
            "/v1/analyze", content=body, headers=AUTH | {"Content-Type": "application/json"}
        )
        assert answer.status_code == 422 and "surrogate" in answer.json()["error"]["message"], key
    assert httpx2.get(f"{server.url}/nowhere", headers=AUTH).json()["error"]["code"] == 404
    assert httpx2.get(f"{server.url}/v1/analyze", headers=AUTH).json()["error"]["code"] == 405


def test_a_folder_has_one_server_and_a_port_too(server, model, capsys):
    from emojax.cli.main import main

    for more, fault in [
        (["--folder", str(server.folder)], "another server"),
        (["--port", str(server.port)], "cannot be opened"),
        (["--port", "99999"], "from 1 to 65535"),
    ]:
        options = ["--port", "0"] if "--port" not in more else []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            options = ["--port", str(free.getsockname()[1])] if options else []
        assert main(["serve", "--model", str(model), *options, *more]) == 2
        assert fault in " ".join(capsys.readouterr().err.split())
    assert httpx2.get(f"{server.url}/health").status_code == 200


def test_tokens_with_any_letters(model, tmp_path, monkeypatch):
    import served

    monkeypatch.setattr(served, "TOKEN", "clé è ü")
    found = Server(model, tmp_path / "serve", "--no-page")
    try:
        for header, status in [
            ("Bearer clé è ü", 200),
            ("bearer clé è ü", 200),
            ("clé è ü", 401),
            ("Bearer cle", 401),
        ]:
            answer = httpx2.get(
                f"{found.url}/v1/models", headers={"Authorization": header.encode()}
            )
            assert answer.status_code == status, header
        assert httpx2.get(f"{found.url}/ui/").status_code == 404
    finally:
        found.stop()


def message(clip, text="[reason] What is shown?", **more):
    film = "data:video/mp4;base64," + base64.b64encode(clip.read_bytes()).decode()
    content = [{"type": "text", "text": text}, {"type": "video_url", "video_url": {"url": film}}]
    messages = [{"role": "user", "content": content}]
    return {"model": "any", "messages": messages, "subtitle": WORDS, **more}


def events(answer) -> list[dict]:
    lines = [x.removeprefix("data: ") for x in answer.text.split("\n\n") if x]
    assert lines[-1] == "[DONE]"
    return [json.loads(x) for x in lines[:-1]]


def test_chat_whole_and_streamed(server, clip):
    whole = server.post("/v1/chat/completions", json=message(clip, "Why?")).json()
    text = whole["choices"][0]["message"]["content"]
    assert whole["object"] == "chat.completion" and text
    used = whole["usage"]
    assert used["prompt_tokens"] > 20 and used["total_tokens"] == sum(
        used[f"{kind}_tokens"] for kind in ("prompt", "completion")
    )
    streamed = events(server.post("/v1/chat/completions", json=message(clip, "Why?", stream=True)))
    parts = [e["choices"][0]["delta"].get("content", "") for e in streamed]
    assert "".join(parts) == text and len([p for p in parts if p]) > 1
    assert streamed[-1]["choices"][0]["finish_reason"] == "length"  # a random model never stops
    other = server.post("/v1/chat/completions", json=message(clip, "Another question?")).json()
    assert other["choices"][0]["message"]["content"] != text
    drawn = [
        server.post("/v1/chat/completions", json=message(clip, temperature=1.5, seed=n)).json()
        for n in (1, 1, 2)
    ]
    texts = [d["choices"][0]["message"]["content"] for d in drawn]
    assert texts[0] == texts[1] != texts[2]


def test_chat_as_our_own_client_sends_it(server, clip):
    """Images separate from the audio, as `emojax evaluate --endpoint` sends them."""
    from data_pipeline.llm.messages import image_part
    from data_pipeline.media.clip import Sampling, read_clip

    own = read_clip(str(clip), sampling=Sampling(num_frames=4))
    pictures = [image_part(p, width=448, height=448) for p in own.frames]
    content = [{"type": "text", "text": "Which one is shown?"}, *pictures]
    answer = server.post(
        "/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]}
    )
    assert answer.status_code == 200 and answer.json()["choices"][0]["message"]["content"]


def ask(server, *parts, messages=None, **fields):
    """(status, answer or error) of a chat request."""
    content = [{"type": "text", "text": "Which one is shown?"}, *parts]
    messages = messages or [{"role": "user", "content": content}]
    body = {"messages": messages, "subtitle": WORDS, **fields}
    answer = server.post("/v1/chat/completions", json=body)
    if answer.status_code != 200:
        return answer.status_code, answer.json()["error"]["message"]
    return 200, answer.json()["choices"][0]


def data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.encodebytes(data).decode()}"  # with line breaks


@pytest.fixture(scope="module")
def media(clip):
    """(a picture, the same lying on its side with a note that says so, a sound) as data URLs."""
    from PIL import Image

    from data_pipeline.llm.messages import audio_part

    small = (np.arange(64 * 48 * 3) % 251).astype(np.uint8).reshape(64, 48, 3)
    picture, turned = io.BytesIO(), io.BytesIO()
    Image.fromarray(small).save(picture, "PNG")
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: shown 90 degrees clockwise
    Image.fromarray(np.rot90(small)).save(turned, "PNG", exif=exif)
    tone = 0.3 * np.sin(np.arange(16_000, dtype=np.float32) / 9)
    wav = base64.b64decode(audio_part(tone)["input_audio"]["data"])
    return [
        data_url(kind, data)
        for kind, data in (
            ("image/png", picture.getvalue()),
            ("image/png", turned.getvalue()),
            ("audio/wav", wav),
        )
    ]


def test_every_part_of_a_question_is_used(server, media):
    picture, turned, wav = media
    image = {"type": "image_url", "image_url": {"url": picture}}
    sound = {"type": "input_audio", "input_audio": {"data": wav, "format": "wav"}}
    url = {"type": "audio_url", "audio_url": {"url": wav}}
    alone, heard = ask(server, image), ask(server, image, sound)
    assert alone[0] == heard[0] == 200 and alone[1] != heard[1]
    assert (
        ask(server, image, url) == heard and ask(server, image, {**url, "audio_url": wav}) == heard
    )
    assert ask(server, {**image, "image_url": {"url": turned}}, sound) == heard
    # two messages of the user, and one of the system, are one question
    user = {"role": "user", "content": [image, sound]}
    text = {"role": "user", "content": "Which one is shown?"}
    assert ask(server, messages=[text, user]) == heard
    system = {"role": "system", "content": "Which one"}
    rest = {"role": "user", "content": "is shown?"}
    assert ask(server, messages=[system, rest, user]) == heard
    nothing = {"n": 1, "stop": None, "tools": [], "logprobs": False, "user": "me", "model": "any"}
    assert ask(server, image, sound, **nothing) == heard
    _, cut = ask(server, image, sound, max_tokens=3)
    assert cut["finish_reason"] == "length"
    assert heard[1]["message"]["content"].startswith(cut["message"]["content"])


def test_chat_about_nobody_is_answered_as_analyze_does(server, media, tmp_path):
    """A tone gets the same label and the same notes, which name who is missing."""
    picture, _, wav = media
    tone = tmp_path / "tone.wav"
    tone.write_bytes(base64.b64decode(wav.partition(",")[2]))
    expected = server.post("/v1/analyze", **upload(tone)).json()
    sound = {"type": "audio_url", "audio_url": {"url": wav}}
    body = message(tone, subtitle=None)
    body["messages"][0]["content"][1] = sound
    answer = server.post("/v1/chat/completions", json=body).json()
    assert expected["label"] == answer["choices"][0]["message"]["content"] == "cannot tell"
    assert answer["notes"] == expected["notes"] != []
    image = {"type": "image_url", "image_url": {"url": picture}}
    status, reply = ask(server, image, subtitle=None)
    assert status == 200 and reply["message"]["content"] == "cannot tell"


def test_what_is_not_used_is_refused_by_its_name(server, media, clip):
    picture, _, wav = media
    image = {"type": "image_url", "image_url": {"url": picture}}
    junk = base64.b64encode(b"neither sound nor film").decode()
    for part, words in [
        ({"type": "smell", "smell": {"data": junk}}, "'smell' is not read"),
        ({"type": "file", "file": {"file_data": junk}}, "'file' is not read"),
        ({"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{junk}"}}, ""),
        ({"type": "input_audio", "input_audio": {"data": junk, "format": "wav"}}, ""),
        ({"type": "input_audio", "input_audio": {"data": picture}}, "no sound"),
        ({"type": "input_audio", "input_audio": {"url": wav}}, '{"data": ...}'),
        ({"text": "no type"}, "None is not read"),
    ]:
        status, told = ask(server, image, part)
        assert status in (400, 422) and words in told, (part, told)
    for fields in (
        {"n": 2}, {"stop": ["."]}, {"tools": [{"type": "function"}]}, {"logprobs": True},
        {"response_format": {"type": "json_object"}}, {"presence_penalty": 1}, {"mood": 1},
        {"stream": "yes"}, {"max_tokens": 0}, {"stream_options": {"every": 2}},
    ):  # fmt: skip
        status, told = ask(server, image, **fields)
        assert status in (400, 422) and next(iter(fields)) in told, (fields, told)
    user = {"role": "user", "content": [{"type": "text", "text": "And now?"}, image]}
    for role in ("assistant", "tool", "narrator"):
        status, told = ask(server, messages=[user, {"role": role, "content": "Sad."}, user])
        assert status == 400 and f"role '{role}'" in told and "one question" in told


def test_half_a_character_is_not_streamed(monkeypatch):
    from emojax.serve import chat

    steps = ["so \ufffd", "so \ufffd\ufffd", "so \U0001f600", "so \U0001f600 it"]

    def answer_chat(bundle, request, *, on_text):
        for step in steps:
            on_text(step)
        return chat.Written(text=steps[-1], prompt_tokens=7, reply_tokens=4)

    class Service:
        bundle = None

        async def run_on_model(self, task):
            return task()

    class Request:
        stream_usage = True

    async def collect():
        return [x async for x in chat._events(Service(), Request(), {})]

    monkeypatch.setattr(chat, "answer_chat", answer_chat)
    sent = [json.loads(x.removeprefix(b"data: ")) for x in asyncio.run(collect())[:-1]]
    pieces = [c["delta"].get("content", "") for e in sent for c in e["choices"]]
    assert "".join(pieces) == steps[-1] and not any("\ufffd" in p for p in pieces)
    assert sent[-2]["choices"][0]["finish_reason"] == "stop"
    assert sent[-1]["usage"]["total_tokens"] == 11


def burst(server, clip, people: int, seconds: float):
    body, end = clip.read_bytes(), time.monotonic() + seconds
    statuses: Counter[int] = Counter()
    times: list[float] = []

    def one(_):
        with httpx2.Client(timeout=120, headers=AUTH) as client:
            while time.monotonic() < end:
                begin = time.monotonic()
                answer = client.post(
                    server.url + "/v1/analyze",
                    files={"file": ("c.mp4", body)},
                    data={"label_only": "1"},
                )
                statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    times.append(time.monotonic() - begin)
                else:
                    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) >= 1
                    time.sleep(0.05)

    with concurrent.futures.ThreadPoolExecutor(people) as pool:
        list(pool.map(one, range(people)))
    return statuses, sorted(times)


def test_a_full_queue(server, clip):
    burst(server, clip, 8, 2.0)
    before = server.memory()
    statuses, _ = burst(server, clip, 24, 6.0)
    # More than the queue holds: the server goes on answering, however busy the machine is.
    assert set(statuses) == {200, 429} and statuses[200] > 8, statuses
    assert server.memory() < 1.1 * before + 20
    assert server.left() == []


@pytest.mark.full
def test_sixty_four_people_for_three_minutes(server, clip):
    burst(server, clip, 64, 10.0)
    before = server.memory()
    statuses, times = burst(server, clip, 64, 180.0)
    after = server.memory()
    p95 = times[int(0.95 * len(times))]
    print(
        f"{dict(statuses)}, p50 {times[len(times) // 2]:.2f} s, p95 {p95:.2f} s,"
        f" {before} MB before, {after} MB after"
    )
    assert set(statuses) == {200, 429} and after < 1.1 * before + 20 and server.left() == []


def test_no_accepted_job_is_lost(model, tmp_path_factory):
    """After two SIGKILLs during uploads and jobs, every accepted job ends with its outputs."""
    folder = tmp_path_factory.mktemp("jobs")
    talk = record(folder / "talk.mp4", [(2.0, 1), (2.0, 2), (2.0, 3)], [(0.2, 5.5)])
    accepted: list[str] = []

    def send(server):
        for _ in range(4):
            with contextlib.suppress(httpx2.HTTPError):
                answer = server.post(
                    "/v1/jobs",
                    **upload(talk, label_only="1", subtitle="so it is", contributions="1"),
                )
                if answer.status_code == 202:
                    accepted.append(answer.json()["id"])

    for _ in range(2):
        server = Server(model, folder / "serve")
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            sending = [pool.submit(send, server) for _ in range(3)]
            for _ in range(300):
                if len(accepted) >= 2:
                    break
                time.sleep(0.02)
            time.sleep(0.3)
            server.stop(signal.SIGKILL)
            for s in sending:
                s.result()
    assert len(accepted) >= 2
    server = Server(model, folder / "serve")
    try:
        for job in accepted:
            for _ in range(1200):
                state = httpx2.get(f"{server.url}/v1/jobs/{job}", headers=AUTH).json()
                if state["state"] != "waiting":
                    break
                time.sleep(0.1)
            assert state["state"] == "done" and state["segments"] == 3, state
            result = httpx2.get(f"{server.url}/v1/jobs/{job}/json", headers=AUTH).json()
            assert [s["ends_at"] for s in result["segments"]] == ["cut", "cut", "end"]
            assert result["words"] == "option" and result["segments"][0]["contributions"]
        half = [
            p for p in (folder / "serve" / "jobs").iterdir() if not (p / "request.json").exists()
        ]
        assert half == [], "incomplete uploads are deleted"
    finally:
        server.stop()

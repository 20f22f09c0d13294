"""Malformed replies: half characters, no content, wrong token counts, no end."""

import contextlib
import json
import socket
import threading
import time

import pytest
from chat_server import Chat, serve

from data_pipeline.llm.budget import BudgetReached, Ledger
from data_pipeline.llm.client import ChatClient
from data_pipeline.llm.endpoint import Endpoint, EndpointError
from data_pipeline.llm.replies import UnusableReply

ASKED = [{"role": "user", "content": "x" * 84}]  # at most 100 tokens, see test_budget.py


def raw(content, usage=None, **message):
    choice = {"message": {"content": content, **message}, "finish_reason": "stop"}
    return 200, json.dumps({"choices": [choice], "usage": usage})


def some(text: str) -> str:
    if not text:
        raise UnusableReply("empty reply")
    return text


def test_half_an_emoji_becomes_a_replacement_character(tmp_path):
    with (
        serve(Chat(lambda body, number: raw("a smile \ud83d"))) as chat,
        ChatClient(Endpoint(url=chat.url, model="m"), tmp_path) as client,
    ):
        found = [client.ask(ASKED, some) for _ in range(2)]
        assert [(r.value, r.cached) for r in found] == [
            ("a smile \ufffd", False),
            ("a smile \ufffd", True),
        ]
    with (
        serve(Chat(lambda body, number: raw("\ud83d\ude00"))) as chat,
        ChatClient(Endpoint(url=chat.url, model="n"), tmp_path) as client,
    ):
        assert client.ask(ASKED, some).value == "\U0001f600"  # two halves that form a pair


@pytest.mark.parametrize(("refusal", "text"), [(None, "empty reply"), ("I can not.", "I can not.")])
def test_a_reply_without_content_is_a_reply(tmp_path, refusal, text):
    """It is settled at its cost and requested again with another seed a limited number of times."""
    usage = {"prompt_tokens": 40, "completion_tokens": 7}
    with serve(Chat(lambda body, number: raw(None, usage, refusal=refusal))) as chat:
        ledger = Ledger(tmp_path / "ledger", max_tokens=10_000)
        with ChatClient(
            Endpoint(url=chat.url, model="m"), tmp_path / "replies", rereads=1, ledger=ledger
        ) as client:
            reply = client.ask(ASKED, some)
            assert text in (reply.fault, reply.value)
            sent = len(chat.bodies)
            client.ask(ASKED, some)
            assert len(chat.bodies) == sent == (1 if refusal else 2)
            spent = ledger.spending()
            assert (spent.tokens, spent.requests, spent.lost) == (47 * sent, sent, 0)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -6_000_000, "completion_tokens": 1},
        {"prompt_tokens": "many"},
        {"prompt_tokens": True},
        "none",
        None,
    ],
)
def test_impossible_counts_leave_a_request_at_its_maximum(tmp_path, usage):
    with serve(Chat(lambda body, number: raw(f"reply {number}", usage))) as chat:
        ledger = Ledger(tmp_path / "ledger", max_tokens=300)
        with ChatClient(
            Endpoint(url=chat.url, model="m", max_tokens=50), tmp_path / "replies", ledger=ledger
        ) as client:
            client.ask(ASKED, some)
            client.ask([{"role": "user", "content": "y" * 84}], some)
            with pytest.raises(BudgetReached, match="300 of 300"):
                client.ask([{"role": "user", "content": "z" * 84}], some)
    assert len(chat.bodies) == 2


def test_a_redirect_is_reported_and_costs_nothing(tmp_path):
    with serve(Chat(lambda body, number: (302, "elsewhere"))) as chat:
        ledger = Ledger(tmp_path / "ledger")
        with (
            ChatClient(
                Endpoint(url=chat.url, model="m"), tmp_path / "replies", ledger=ledger
            ) as client,
            pytest.raises(EndpointError, match=r"answers 302 \(elsewhere\): check address"),
        ):
            client.ask(ASKED, some)
        assert ledger.spending().tokens == 0


def test_replies_without_a_count_are_estimated(tmp_path):
    """A token has about four bytes: 84 + 16 bytes of the question, 12 of the reply."""
    with (
        serve(Chat(lambda body, number: raw("x" * 12, {"prompt_tokens": None}))) as chat,
        ChatClient(Endpoint(url=chat.url, model="m"), tmp_path) as client,
    ):
        assert client.ask(ASKED, some).tokens == (25, 3)
        assert (client.tokens_used, client.estimated) == ([25, 3], 1)


def test_a_redirect_names_its_place(tmp_path):
    class Moved(Chat):
        def answer(self, body):
            return 307, b"", {"Location": "https://login.example.org/"}

    with (
        serve(Moved(str)) as chat,
        ChatClient(Endpoint(url=chat.url, model="m"), tmp_path) as client,
        pytest.raises(EndpointError, match=r"answers 307: .* redirects to https://login.example"),
    ):
        client.ask(ASKED, some)


@pytest.mark.parametrize(
    ("refused", "words", "advice"),
    [
        (
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "--leave-out max_tokens or --rename max_tokens=max_completion_tokens",
        ),
        (
            "temperature",
            "Unsupported value: 'temperature' does not support 0 with this model. "
            "Only the default (1) value is supported.",
            "--leave-out temperature",
        ),
        ("temperature", "temperature must be 1 for this model", "--leave-out temperature"),
        ("seed", "Extra inputs are not permitted: body.seed", "--leave-out seed"),
    ],
)
def test_a_field_that_a_server_refuses_can_be_left_out(tmp_path, refused, words, advice):
    def reply(body, number):
        error = json.dumps({"error": {"message": words}})
        return (400, error) if refused in body else raw(f"without {refused}")

    with serve(Chat(reply)) as chat:
        with (
            ChatClient(Endpoint(url=chat.url, model="m"), tmp_path) as client,
            pytest.raises(EndpointError, match=rf"answers 400 .*run again with {advice}$"),
        ):
            client.ask(ASKED, some)
        without = Endpoint(url=chat.url, model="m", left_out=(refused,))
        with ChatClient(without, tmp_path) as client:
            assert client.ask(ASKED, some).value == f"without {refused}"
        renamed = (("max_tokens", "max_completion_tokens"), ("temperature", "heat"), ("seed", "s"))
        other_names = Endpoint(url=chat.url, model="m", renamed=renamed)
        with ChatClient(other_names, tmp_path / "renamed") as client:
            assert client.ask(ASKED, some).value
        last = chat.bodies[-1]
        assert (last["max_completion_tokens"], last["heat"], last["s"]) == (512, 0.0, 0)


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 4096 tokens, max_tokens is 512.",
        "max_tokens must be at least 1, got -200.",
    ],
)
def test_a_prompt_that_is_too_long_stops_no_other(tmp_path, words):
    with (
        serve(Chat(lambda body, number: (400, words))) as chat,
        ChatClient(Endpoint(url=chat.url, model="m"), tmp_path) as client,
    ):
        reply = client.ask(ASKED, some)
        assert reply.explanation == f"refused with 400 ({words})"


def test_an_error_inside_a_success_is_an_error(tmp_path):
    """Of a status that passes it is retried, without cost; of another one it stops the run."""
    errors = {1: {"code": 429, "message": "tokens per day"}, 2: {"code": 401, "message": "no key"}}
    ledger = Ledger(tmp_path / "ledger", max_tokens=10_000)
    with (
        serve(Chat(lambda body, number: (200, json.dumps({"error": errors[number]})))) as chat,
        ChatClient(
            Endpoint(url=chat.url, model="m"), tmp_path / "r", backoff=0.01, ledger=ledger
        ) as client,
    ):
        with pytest.raises(EndpointError, match=r"answers 401 \(no key\)"):
            client.ask(ASKED, some)
        assert client.faults == {"429": 1} and ledger.spending().tokens == 0


def test_a_long_wait_is_left_to_a_later_run(tmp_path):
    class Closed(Chat):
        def answer(self, body):
            self.bodies.append(body)
            return 503, b'{"detail": "closed for the night"}', {"Retry-After": "3600"}

    with (
        serve(Closed(str)) as chat,
        ChatClient(Endpoint(url=chat.url, model="m"), tmp_path) as client,
    ):
        fault = client.ask(ASKED, some).explanation
        assert fault == "503 (closed for the night; it asks to wait 3600 s)"
        assert len(chat.bodies) == 1


def test_a_reply_that_was_cut_off_is_asked_for_once(tmp_path):
    """What is there of it is read where that is wanted, and counted."""
    choice = {"message": {"content": "Happy, as she"}, "finish_reason": "length"}
    cut = json.dumps({"choices": [choice], "usage": None})
    with serve(Chat(lambda body, number: (200, cut))) as chat:
        with ChatClient(Endpoint(url=chat.url, model="m"), tmp_path) as client:
            assert "raise --max-reply" in client.ask(ASKED, some).fault
        with ChatClient(Endpoint(url=chat.url, model="m"), tmp_path, use_cut=True) as client:
            assert client.ask(ASKED, some).value == "Happy, as she" and client.cut == 1
        assert len(chat.bodies) == 1


@pytest.mark.parametrize(
    ("packed", "piece", "pause", "fault"),
    [
        ("identity", b" ", 0.1, "timeout"),
        ("identity", b" " * 1_000_000, 0.0, "malformed reply"),
        ("gzip", b"this is no gzip", 0.1, "malformed reply"),
    ],
)
def test_a_reply_without_an_end(tmp_path, packed, piece, pause, fault):
    """Too slow as a whole, longer than any reply, or not decompressible."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def answer():
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Encoding: {packed}\r\n\r\n".encode())
            while not over.is_set():
                connection.sendall(piece)
                time.sleep(pause)

    serving = threading.Thread(target=answer)
    serving.start()
    try:
        url, begin = f"http://127.0.0.1:{listening.getsockname()[1]}/v1", time.monotonic()
        with ChatClient(
            Endpoint(url=url, model="m", timeout=1.5), tmp_path / "replies", retries=0
        ) as client:
            assert client.ask(ASKED, some).fault == fault
        assert time.monotonic() - begin < 6 and not list((tmp_path / "replies").glob("*.json"))
    finally:
        over.set()
        listening.close()
        serving.join(10)


@pytest.mark.parametrize("head", ["Transfer-Encoding: chunked\r\n\r\n50", "Content-Length: 80\r\n"])
def test_a_reply_that_ends_early(tmp_path, head):
    listening = socket.create_server(("127.0.0.1", 0))

    def answer():
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(f'HTTP/1.1 200 OK\r\n{head}\r\n{{"choices": ['.encode())

    serving = threading.Thread(target=answer)
    serving.start()
    with listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        with ChatClient(Endpoint(url=url, model="m"), tmp_path, retries=0) as client:
            assert client.ask(ASKED, some).fault == "connection broken off"
        serving.join(10)

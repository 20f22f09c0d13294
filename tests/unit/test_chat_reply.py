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

"""The budget: no request is sent that might exceed it, in any run, by any process."""

import json
import subprocess
import sys
import threading
import time

import pytest
from chat_server import Chat, serve

from data_pipeline.llm.budget import BudgetReached, Ledger
from data_pipeline.llm.client import ChatClient
from data_pipeline.llm.endpoint import Endpoint

ASKED = [
    {"role": "user", "content": "x" * 84}
]  # 84 bytes and 16 for the message: at most 100 tokens


def test_reserved_at_the_maximum_and_settled_at_the_actual_cost(tmp_path):
    ledger = Ledger(tmp_path / "ledger", max_tokens=250)
    first = ledger.reserve(0.0, 100, 50)
    with pytest.raises(
        BudgetReached,
        match="150 of 250 tokens are spent or reserved, the next request may take 150",
    ):
        ledger.reserve(0.0, 100, 50)
    ledger.settle(first, 0.0, 40, 10)
    ledger.settle(ledger.reserve(0.0, 100, 50), 0.0, 0, 0, answered=False)
    spent = ledger.spending()
    assert (spent.tokens_in, spent.tokens_out, spent.requests, spent.lost) == (40, 10, 1, 0)


def test_money_and_a_process_that_was_killed(tmp_path):
    path = tmp_path / "ledger"
    code = (
        "import os, pathlib; from data_pipeline.llm.budget import Ledger; "
        f"Ledger(pathlib.Path({str(path)!r})).reserve(0.3, 1, 1); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    with path.open("ab") as file:
        file.write(b'{"t": "torn')
    ledger = Ledger(path, max_money=0.5)
    assert ledger.spending().money == pytest.approx(0.3) and ledger.spending().lost == 1
    with pytest.raises(BudgetReached, match=r"0\.3000 of 0\.5"):
        ledger.reserve(0.21, 1, 1)
    assert ledger.reserve(0.2, 1, 1)


def test_processes_share_a_ledger(tmp_path):
    path = tmp_path / "ledger"
    code = (
        "from data_pipeline.llm.budget import *\n"
        f"l = Ledger(Path({str(path)!r}), max_tokens=1000)\n"
        "n = 0\n"
        "try:\n"
        "  while True: l.settle(l.reserve(0, 10, 0), 0, 10, 0); n += 1\n"
        "except BudgetReached: print(n)"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    counts = [int(r.communicate(timeout=60)[0]) for r in runs]
    assert sum(counts) == 100, counts


@pytest.mark.parametrize(("most", "sent"), [(459, 3), (460, 4), (1000, 13)])
def test_requests_stop_before_the_budget_is_exceeded(tmp_path, most, sent):
    """A reply costs 110 tokens, 100 + 30 are reserved: a fourth request needs 330 + 130."""
    endpoint = Endpoint(url="", model="m", max_tokens=30)
    with serve(Chat(lambda body, number: "fine")) as chat:
        endpoint = Endpoint(url=chat.url, model="m", max_tokens=30, price_in=10.0, price_out=20.0)
        ledger = Ledger(tmp_path / "ledger", max_tokens=most)
        with ChatClient(endpoint, tmp_path / "replies", ledger=ledger) as client:
            done = 0
            try:
                for i in range(99):
                    client.ask([{"role": "user", "content": f"{i:084d}"}], str)
                    done += 1
            except BudgetReached:
                pass
        expected = sent if most < 1000 else (1000 - 130) // 110 + 1
        assert done == expected == len(chat.bodies)
        assert ledger.spending().tokens == 110 * done <= most
        assert ledger.spending().money == pytest.approx(done * (100 * 10 + 10 * 20) / 1e6)


def test_refused_requests_cost_nothing_and_malformed_replies_count(tmp_path):
    replies = [(429, "no"), (500, "no"), (200, "no JSON"), "fine"]
    with serve(Chat(lambda body, number: replies[number - 1])) as chat:
        ledger = Ledger(tmp_path / "ledger")
        endpoint = Endpoint(url=chat.url, model="m", max_tokens=30)
        with ChatClient(
            endpoint, tmp_path / "replies", ledger=ledger, sleep=lambda _: None
        ) as client:
            assert client.ask(ASKED, str).value == "fine"
            assert client.ask(ASKED, str).cached
        spent = ledger.spending()
        # refused requests cost nothing; a malformed reply was probably billed
        assert (spent.requests, spent.lost, spent.tokens) == (1, 1, 110 + 130)
        lines = [json.loads(x) for x in (tmp_path / "ledger").read_text().splitlines()]
        assert sum("most" in x for x in lines) == 4


def test_concurrency_is_limited(tmp_path):
    under_way, most, lock = 0, 0, threading.Lock()

    def reply(body, number):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.05)
        with lock:
            under_way -= 1
        return "fine"

    with (
        serve(Chat(reply)) as chat,
        ChatClient(Endpoint(url=chat.url, model="m"), tmp_path, concurrency=2) as client,
    ):
        threads = [
            threading.Thread(target=client.ask, args=([{"role": "user", "content": str(i)}], str))
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        same = [threading.Thread(target=client.ask, args=(ASKED, str)) for _ in range(4)]
        for thread in same:
            thread.start()
        for thread in same:
            thread.join()
    assert most == 2 and len(chat.bodies) == 9, "four threads with one question send it once"


def test_images_and_audio_have_an_upper_bound(tmp_path):
    content = [
        {"type": "text", "text": "é"},
        {"type": "image_url", "image_url": {"url": "data:"}},
        {
            "type": "input_audio",
            "input_audio": {"data": "A" * 128_000},
        },  # 3 s of 16-bit sound at 16 kHz
    ]
    found = Endpoint(url="", model="m", image_tokens=700, second_tokens=50).max_prompt_tokens(
        [{"role": "user", "content": content}]
    )
    assert found == 16 + 2 + 700 + 200

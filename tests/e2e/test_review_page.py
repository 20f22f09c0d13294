"""The page of `emojax verify` in a real browser, by keyboard alone, and invalid requests."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from annotators import chat, plain_reply
from browser import chromium
from chat_server import serve

from data_pipeline.annotate.verify import ASPECTS, read_marks
from data_pipeline.embedded.generate import make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from emojax.cli.main import main


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotated")
    corpus = make_corpus(
        config=CorpusConfig(train=0, val=0, test=9, size=64), folder=folder / "corpus"
    )
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        command = [
            "annotate",
            str(corpus / "manifest.csv"),
            "--out",
            str(folder / "out"),
            "--units",
            str(corpus / "units"),
        ]
        (folder / "plain.toml").write_text(
            'name = "plain"\n[[filter]]\nkind = "length"\nleast = 3\n'
        )
        assert (
            main(
                [
                    *command,
                    "--endpoint",
                    server.url,
                    "--model",
                    "m",
                    "--recipe",
                    str(folder / "plain.toml"),
                ]
            )
            == 0
        )
    return folder / "out"


@contextlib.contextmanager
def page_of(out, annotator, sample=4):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "emojax.cli",
        "verify",
        str(out),
        "--annotator",
        annotator,
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        [*command, "--sample", str(sample)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            assert process.poll() is None
            with contextlib.suppress(httpx2.HTTPError):
                httpx2.get(url, timeout=1)
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def test_a_whole_check_by_keyboard(annotated):
    with page_of(annotated, "anna") as url, chromium() as (page, faults):
        page.goto(url)
        page.wait_for_function("document.querySelectorAll('.aspect').length === 5")
        page.wait_for_function("document.getElementById('clip').readyState >= 1")
        where = lambda: page.locator("#where").inner_text()
        assert where() == "clip 1 of 4, 0 marked"
        press = page.keyboard.press
        press("Enter")
        assert (
            "not marked yet: audio, visual, text, reasoning, result"
            in page.locator("#hint").inner_text()
        )
        press("1")  # agrees
        press("2"), press("2")  # does not
        press("3"), press("3"), press("3")  # cannot tell
        press("4"), press("5")
        assert [page.locator(".aspect .mark").nth(i).inner_text() for i in range(5)] == [
            "agrees", "does not", "cannot tell", "agrees", "agrees",
        ]  # fmt: skip
        press("Enter")
        page.wait_for_function(
            "document.getElementById('where').innerText === 'clip 2 of 4, 1 marked'"
        )
        press("p")
        peak = page.evaluate("data.items[1].peak")
        if peak is not None:
            page.wait_for_function(
                "p => Math.abs(document.getElementById('clip').currentTime - p) < 0.05", arg=peak
            )
        press("a")
        press("5")
        press("b")
        # keys in the text field are not marks
        page.keyboard.type("1 The brows are raised, not lowered")
        press("Enter")
        page.wait_for_function(
            "document.getElementById('where').innerText === 'clip 3 of 4, 2 marked'"
        )
        press("ArrowLeft")
        assert "sent back: 1 The brows are raised" in page.locator("#hint").inner_text()
        press("ArrowRight")
        for _ in range(2):
            press("a")
            press("Enter")
            page.wait_for_timeout(300)
        assert "All clips are marked" in page.locator("#hint").inner_text() and where().endswith(
            "4 marked"
        )
        assert faults == []
    (anna,) = read_marks(annotated)
    first, second, *others = anna.marks.values()
    assert first == dict(zip(ASPECTS, (True, False, None, True, True), strict=True))
    assert second["result"] is False and second["audio"] is True
    assert list(anna.again.values()) == ["1 The brows are raised, not lowered"] and all(
        all(m.values()) for m in others
    )


def test_a_second_annotator_sees_the_same_clips_and_continues_later(annotated, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(annotated, out, ignore=shutil.ignore_patterns("marks"))
    with page_of(out, "anna") as url:
        first = httpx2.get(f"{url}/items").json()["items"]
        marks = dict.fromkeys(ASPECTS, True) | {"visual": False}
        assert (
            httpx2.post(
                f"{url}/marks", json={"clip": first[0]["clip"], "marks": marks, "again": None}
            ).status_code
            == 200
        )
    with page_of(out, "ben") as url, chromium() as (page, _):
        own = httpx2.get(f"{url}/items").json()
        assert [i["clip"] for i in own["items"]] == [i["clip"] for i in first] and len(first) == 4
        assert all(i["marks"] is None for i in own["items"])
        page.goto(url)
        page.wait_for_function("document.querySelectorAll('.aspect').length === 5")
        page.keyboard.press("a")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "document.getElementById('where').innerText === 'clip 2 of 4, 1 marked'"
        )
        page.reload()
        page.wait_for_function(
            "document.getElementById('where').innerText === 'clip 2 of 4, 1 marked'"
        )
    assert main(["verify", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["annotators"] == ["anna", "ben"] and found["aspects"]["visual"]["marks"] == 2
    assert list(found["differ"].values()) == [["visual"]]


def test_only_the_span_of_a_clip_is_played(annotated, tmp_path):
    clip = next(Path(annotated).parent.glob("corpus/clips/*.mp4"))
    manifest = tmp_path / "spans.csv"
    manifest.write_text(f"path,label,start,end\n{clip},happy,0,0.6\n{clip},sad,0.6,1.2\n")
    (tmp_path / "plain.toml").write_text('name = "plain"\nagents = ["visual"]\ntemplate = true\n')
    with serve(chat(lambda body, number: plain_reply(body))) as server:
        command = [
            "annotate",
            str(manifest),
            "--out",
            str(tmp_path / "out"),
            "--endpoint",
            server.url,
            "--model",
            "m",
        ]
        assert main([*command, "--recipe", str(tmp_path / "plain.toml")]) == 0
    with page_of(tmp_path / "out", "anna") as url, chromium() as (page, faults):
        items = httpx2.get(f"{url}/items").json()["items"]
        at = next(i for i, item in enumerate(items) if item["start"] == 0.6)
        assert 0.6 <= items[at]["peak"] < 1.2  # without action units: the apex of the span
        page.goto(url)
        page.wait_for_function("document.getElementById('clip').readyState >= 1")
        for _ in range(at):
            page.keyboard.press("ArrowRight")
        now = "document.getElementById('clip').currentTime"
        page.wait_for_function(f"Math.abs({now} - 0.6) < 0.05")
        assert "0.6 s to 1.2 s" in page.locator("#name").inner_text()
        for _ in range(2):  # Space restarts at the end of the span
            page.keyboard.press(" ")
            page.wait_for_function(f"{now} > 0.7")
            page.wait_for_function("document.getElementById('clip').paused")
            assert 1.15 <= page.evaluate(now) < 1.6
        assert faults == []


def test_invalid_requests_are_refused(annotated):
    with page_of(annotated, "cleo") as url:
        clip = httpx2.get(f"{url}/items").json()["items"][0]["clip"]
        for body in (
            {},
            {"clip": "other", "marks": {}},
            {"clip": clip, "marks": {"audio": "yes"}},
            {"clip": clip, "marks": 3},
            [1],
            {"clip": clip, "marks": {"audio": 1}},
            {"clip": [clip], "marks": {"audio": True}},
            {"clip": {"a": 1}, "marks": {"audio": True}},
            {"clip": clip, "marks": {"audio": True}, "again": "two\nlines"},
        ):
            assert httpx2.post(f"{url}/marks", json=body).status_code == 422
        assert (
            httpx2.post(
                f"{url}/marks", json={"clip": clip, "marks": {}, "again": "x" * 2000}
            ).status_code
            == 422
        )
        half = json.dumps({"clip": clip, "marks": {"audio": True}, "again": "\ud83d"})
        assert (
            httpx2.post(
                f"{url}/marks", content=half, headers={"Content-Type": "application/json"}
            ).status_code
            == 422
        )
        assert httpx2.get(f"{url}/items", headers={"Host": "evil.example"}).status_code == 400
        assert httpx2.get(f"{url}/media/99").status_code == 404
        assert httpx2.get(f"{url}/media/0", headers={"Range": "bytes=0-9"}).status_code == 206
    assert "cleo" not in [m.annotator for m in read_marks(annotated) if m.marks]
    for name in ("../x", "", ".hidden", "a b"):
        assert main(["verify", str(annotated), "--annotator", name]) == 2
    assert main(["verify", str(annotated), "--annotator", "anna", "--port", "99999"]) == 2

"""The page of the server in a real browser.

Login, upload, quick prompts, streamed answers, webcam, timeline and seek, broken files.
"""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from browser import chromium
from random_model import LABELS, save_random_model
from recording import record
from served import AUTH, TOKEN, Server

RECORD_TEXTS = """() => {
    window.seen = new Set();
    const record = () => {
        const all = document.querySelectorAll('#talk .bot.message, #talk .message.bot');
        if (all.length) window.seen.add(all[all.length - 1].innerText);
    };
    const changes = {subtree: true, childList: true, characterData: true};
    new MutationObserver(record).observe(document.querySelector('#talk'), changes);
}"""
PATIENCE = 90_000  # ms; the first question compiles programs


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return record(
        tmp_path_factory.mktemp("media") / "clip.mp4",
        [(2.0, 1), (2.5, 2)],
        [(0.2, 4.0)],
        moving=True,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    model = save_random_model(tmp_path_factory.mktemp("model"))
    found = Server(model, tmp_path_factory.mktemp("serve"), "--max-mb", "2", "--max-seconds", "10")
    yield found
    found.stop()


def enter(page, server):
    page.set_default_timeout(PATIENCE)
    page.goto(server.url)
    page.locator("input").nth(0).fill("emojax")
    page.locator("input[type=password]").fill(TOKEN)
    page.locator("button", has_text="Login").click()
    page.locator("#quick-emotion").wait_for()


def give(page, path):
    page.locator("#clip input[type=file]").set_input_files(str(path))
    page.locator("#clip video").first.wait_for()


def answers(page) -> list[str]:
    return page.locator("#talk .bot.message, #talk .message.bot").all_inner_texts()


def finished(page, count):
    """Until there are `count` answers and the last one has not changed for a second."""
    page.wait_for_function(
        "n => document.querySelectorAll('#talk .bot.message, #talk .message.bot').length >= n",
        arg=count,
    )
    before, end = "", time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end:
        now = answers(page)[-1]
        if now == before and now.strip() not in ("", "..."):
            return
        before = now
        time.sleep(1)
    raise AssertionError("the answer does not end")


def test_upload_ask_and_stream(server, clip):
    with chromium() as (page, faults):
        enter(page, server)
        give(page, clip)
        # Without words, parts of the answer are sent once it is known what they are about.
        page.locator("#words textarea").fill("well, hello")
        page.evaluate(RECORD_TEXTS)
        page.locator("#quick-reason").click()
        finished(page, 1)
        assert page.evaluate("window.seen.size") >= 4, "the answer was not streamed"
        bars = page.locator("#bars").inner_text()
        assert all(name in bars for name in LABELS)
        assert 97 <= sum(map(int, re.findall(r"(\d+)%", bars))) <= 103
        page.locator("#quick-sentiment").click()
        finished(page, 2)
        assert "neutral" in page.locator("#bars").inner_text()
        page.locator("#labels textarea, #labels input").first.fill("calm, tense")
        page.locator("#question textarea, #question input").first.fill("what does she show?")
        page.locator("#ask").click()
        finished(page, 3)
        assert "tense" in page.locator("#bars").inner_text()
        history = page.locator("#talk").inner_text()
        assert (
            "[reason]" in history and "[sentiment]" in history and "what does she show?" in history
        )
        page.locator("#clear").click()
        page.wait_for_function("!document.querySelector('#talk').innerText.includes('[reason]')")
        assert faults == []


def test_the_page_answers_as_the_server_does(server, clip):
    """The page and /v1/analyze give one clip the same probabilities."""
    expected = httpx2.post(
        f"{server.url}/v1/analyze",
        headers=AUTH,
        files={"file": (clip.name, clip.read_bytes())},
        timeout=120,
    ).json()["probabilities"]
    with chromium() as (page, _):
        enter(page, server)
        give(page, clip)
        page.locator("#quick-emotion").click()
        finished(page, 1)
        found = dict(re.findall(r"^(\w+)\s+(\d+)%", page.locator("#bars").inner_text(), re.M))
        percents = {k: int(v) for k, v in found.items()}
        assert percents == {k: round(100 * v) for k, v in expected.items()}


def test_timeline_and_seek(server, clip):
    with chromium() as (page, faults):
        enter(page, server)
        give(page, clip)
        page.get_by_role("tab", name="Timeline").click()
        page.locator("#purpose textarea, #purpose input").first.fill("a test of the page")
        page.locator("#run").click()
        report = page.frame_locator("#report iframe")
        report.locator("tr.row").nth(1).click()
        inside = next(f for f in page.frames if f != page.main_frame)
        assert inside.evaluate("document.getElementById('player').currentTime") == pytest.approx(
            2.0, abs=0.1
        )
        assert "a test of the page" in report.locator("body").inner_text()
        assert page.locator("#plot img").count() == 1
        names = "".join(page.locator("#files").inner_text().split())
        assert all(f"clip.{kind}" in names for kind in ("html", "json", "csv", "eaf"))
        assert faults == []
    assert server.left() == []


def test_webcam(server):
    with chromium() as (page, faults):
        enter(page, server)
        page.locator("#clip button[aria-label='Capture from camera']").click()
        page.locator("#clip button").first.click()  # allows the camera
        page.locator("#clip button[aria-label='start recording']").click()
        time.sleep(3)
        page.locator("#clip [title='stop recording']").click()
        page.locator("#clip button[aria-label='Clear']").wait_for()  # the recording is there
        page.locator("#quick-emotion").click()
        finished(page, 1)
        assert any(name in page.locator("#bars").inner_text() for name in LABELS)
        assert faults == []


def test_errors_are_shown(server, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 20)
    with chromium() as (page, faults):
        enter(page, server)
        page.locator("#quick-emotion").click()
        page.get_by_text("give a clip first").wait_for()
        page.locator("#question textarea, #question input").first.fill("is it broken?")
        page.locator("#clip input[type=file]").set_input_files(str(broken))
        time.sleep(3)
        page.locator("#ask").click()
        page.get_by_text("not a media file that can be read").first.wait_for()
        assert (
            page.locator("#question textarea, #question input").first.input_value()
            == "is it broken?"
        )
        assert page.locator("#talk").inner_text().count("...") == 0
        page.get_by_role("tab", name="Timeline").click()
        page.locator("#run").click()
        status = "document.getElementById('status').innerText"
        page.wait_for_function(f"{status}.includes('not a media file that can be read')")
        assert [f for f in faults if "://" in f] == []
    assert httpx2.get(f"{server.url}/health").status_code == 200 and server.left() == []


def test_a_clip_that_is_too_long_is_sent_to_the_timeline(server, tmp_path):
    long = record(tmp_path / "long.mp4", [(12.0, 1)], [(0.2, 11.0)])
    with chromium() as (page, faults):
        enter(page, server)
        give(page, long)
        page.locator("#quick-emotion").click()
        page.get_by_text("clips may last 10 s, this one lasts 12 s: see Timeline").first.wait_for()
        assert page.locator("#talk").inner_text().count("...") == 0
        page.get_by_role("tab", name="Timeline").click()
        page.locator("#run").click()
        page.frame_locator("#report iframe").locator("tr.row").first.wait_for()
        assert [f for f in faults if "://" in f] == []


def test_nothing_works_without_the_token(server, clip):
    ui = f"{server.url}/ui"
    assert (
        httpx2.post(f"{ui}/login", data={"username": "emojax", "password": "wrong"}).status_code
        == 400
    )
    for path in (
        "config",
        "gradio_api/info",
        "gradio_api/file=/etc/passwd",
        "gradio_api/upload_progress?upload_id=x",
    ):
        assert httpx2.get(f"{ui}/{path}").status_code in (401, 403, 404), path
    assert (
        httpx2.post(f"{ui}/gradio_api/upload", files={"files": clip.read_bytes()}).status_code
        == 401
    )
    assert (
        httpx2.post(f"{ui}/gradio_api/queue/join", json={"data": [], "fn_index": 0}).status_code
        == 401
    )
    for path in ("/ui/../v1/models", "/ui%2f..%2fv1%2fmodels", "/uix", "/v1/models"):
        assert httpx2.get(server.url + path).status_code in (401, 404), path
    assert httpx2.get(f"{server.url}/v1/models").status_code == 401


def test_only_uploads_are_read(server, clip):
    """A request names files of the server, or addresses, as clip, in the history, as text."""
    fetched = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self):
            fetched.append(self.path)
            self.send_error(404)

    other = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    with httpx2.Client(base_url=server.url) as client:
        form = {"username": "emojax", "password": TOKEN}
        assert client.post("/ui/login", data=form).status_code == 200
        assert client.get("/ui/gradio_api/file=/etc/passwd").status_code in (403, 404)
        config = client.get("/ui/config").json()
        quick = next(
            d["id"]
            for d in config["dependencies"]
            if len(d["inputs"]) == 5 and d["targets"][0][1] == "click"
        )
        for path in ("/etc/passwd", str(clip), f"http://127.0.0.1:{other.server_port}/secret"):
            file = {"path": path, "meta": {"_type": "gradio.FileData"}}
            history = [{"role": "user", "content": {"file": file}}]
            for data in (
                [file, "", "", 0, []],
                [None, "", "", 0, history],
                [None, file, "", 0, []],
            ):
                asked = {"data": data, "fn_index": quick, "session_hash": "abc"}
                client.post("/ui/gradio_api/queue/join", json=asked)
                events = []
                with client.stream(
                    "GET", "/ui/gradio_api/queue/data?session_hash=abc", timeout=30
                ) as lines:
                    for line in lines.iter_lines():
                        if line.startswith("data:"):
                            events.append(json.loads(line[5:]))
                            if events[-1]["msg"] in ("process_completed", "close_stream"):
                                break
                assert events[-1]["msg"] == "process_completed" and not events[-1]["success"], (
                    path,
                    data,
                    events,
                )
    assert not [p for p in (server.folder / "page").rglob("*") if p.name == "passwd"]
    other.shutdown()
    other.server_close()
    assert fetched == []


def test_a_question_that_is_too_long(server, clip):
    with chromium() as (page, _):
        enter(page, server)
        give(page, clip)
        page.locator("#question textarea, #question input").first.fill("why " * 900)
        page.locator("#ask").click()
        page.get_by_text("shorten the question").wait_for()
        page.locator("#quick-emotion").click()
        finished(page, 2)

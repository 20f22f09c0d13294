"""Fetching, against a local server that speaks the hub's protocol (and plain HTTP ranges) with small files."""

import hashlib
import http.server
import json
import shutil
import threading
from collections import namedtuple

import pytest

from emojax.weights import fetch as fetch_module
from emojax.weights.catalogue import SOURCES, Source
from emojax.weights.fetch import FetchError, fetch

DATA = bytes(range(256)) * 100_000  # 26 MB: huggingface_hub keeps what it has by 10 MB
SHA = hashlib.sha256(DATA).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    """HEAD and GET of /{repo}/resolve/{revision}/{file}, with ranges; /plain/{file} is no hub."""

    protocol_version = "HTTP/1.1"
    state: dict = {}

    def log_message(self, *args):
        pass

    def answer(self, body: bool) -> None:
        state = self.state
        state["requests"].append((self.command, self.path, self.headers.get("Range")))
        gated = "/gated/" in self.path and self.headers.get("Authorization") != "Bearer good"
        if gated or "/nobody/" in self.path or "/absent" in self.path:
            status, code = (
                (401, "GatedRepo")
                if gated
                else (404, "RepoNotFound" if "nobody" in self.path else "EntryNotFound")
            )
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", "no")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        data = state["data"][start:]
        self.send_response(206 if start else 200)
        for name, value in (
            ("Content-Length", str(len(data))),
            ("Accept-Ranges", "bytes"),
            ("X-Repo-Commit", "c" * 40),
            ("ETag", '"abc"'),
            ("X-Linked-Size", str(len(state["data"]))),
            ("Content-Range", f"bytes {start}-{len(state['data']) - 1}/{len(state['data'])}"),
        ):
            self.send_header(name, value)
        if state.get("etag"):
            self.send_header("X-Linked-Etag", f'"{state["etag"]}"')
        self.end_headers()
        if not body:
            return
        if state["break_after"]:
            data, state["break_after"] = data[: state["break_after"]], 0
            self.close_connection = True
        self.wfile.write(data)

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)


@pytest.fixture
def hub(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.state = {"data": DATA, "requests": [], "break_after": 0, "etag": SHA}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(fetch_module.time, "sleep", lambda seconds: None)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield address, Hub.state
    server.shutdown()
    server.server_close()
    thread.join()


def source(**fields) -> Source:
    return Source(
        title="a thing", licence="MIT", fills=lambda config: [], **{"files": ("w.bin",), **fields}
    )


def test_hub_and_plain_downloads_are_checked_and_kept(hub, tmp_path):
    address, state = hub
    said: list[str] = []
    path = fetch(source(repo="some/thing"), tmp_path / "hub", said.append)
    assert path.read_bytes() == DATA and said == []
    count = len(state["requests"])
    fetch(source(repo="some/thing"), tmp_path / "hub", said.append)
    assert not any(method == "GET" for method, _, _ in state["requests"][count:]), (
        "what is whole is kept"
    )
    ticks: list[tuple[int, int]] = []
    plain = source(url=f"{address}/plain/w.bin")
    path = fetch(plain, tmp_path / "plain", said.append, tick=lambda *t: ticks.append(t))
    assert path.read_bytes() == DATA and ticks[-1] == (len(DATA), len(DATA))
    assert (
        len(said) == 1 and "no checksum is published; recorded" in said[0] and SHA[:16] in said[0]
    )
    assert json.loads((tmp_path / "checksums.json").read_text()) == {f"{address}/plain/w.bin": SHA}


@pytest.mark.parametrize("kind", ["repo", "url"])
def test_an_interrupted_download_goes_on(hub, tmp_path, kind):
    address, state = hub
    state["break_after"] = 15_000_000
    where = {"repo": "some/thing"} if kind == "repo" else {"url": f"{address}/plain/w.bin"}
    path = fetch(source(**where), tmp_path / "d", lambda text: None)
    assert path.read_bytes() == DATA
    ranges = [r for method, _, r in state["requests"] if method == "GET" and r]
    assert any(0 < int(r.removeprefix("bytes=").split("-")[0]) <= 15_000_000 for r in ranges), (
        "it started anew"
    )


def test_a_wrong_checksum_is_refused_and_set_aside(hub, tmp_path):
    address, state = hub
    state["etag"] = "0" * 64
    with pytest.raises(FetchError, match=r"w\.bin has the checksum .* not 0000000000000000"):
        fetch(source(repo="some/thing"), tmp_path / "d", lambda text: None)
    assert (tmp_path / "d" / "w.bin.wrong").exists() and not (tmp_path / "d" / "w.bin").exists()
    with pytest.raises(FetchError, match="has the checksum"):
        known = (("w.bin", "1" * 64),)
        fetch(source(url=f"{address}/plain/w.bin", sha256=known), tmp_path / "e", lambda text: None)
    # Nothing published: the first one seen counts from then on.
    plain = source(url=f"{address}/plain/w.bin")
    fetch(plain, tmp_path / "f", lambda text: None)
    (tmp_path / "f" / "w.bin").unlink()
    state["data"] = DATA[:-1] + b"x"
    with pytest.raises(FetchError, match="set aside"):
        fetch(plain, tmp_path / "f", lambda text: None)


def test_gates_absences_and_hands(hub, tmp_path, monkeypatch):
    gated = source(repo="meta/gated", mirror="some/thing")
    with pytest.raises(
        FetchError, match=r"meta/gated is gated: ask for access .* HF_TOKEN .* add --mirror"
    ):
        fetch(gated, tmp_path / "a", print)
    assert fetch(gated, tmp_path / "b", print, mirror=True).read_bytes() == DATA
    with pytest.raises(FetchError, match="no repository nobody/thing"):
        fetch(source(repo="nobody/thing"), tmp_path / "c", print)
    with pytest.raises(FetchError, match=r"holds no file absent\.bin"):
        fetch(source(repo="some/thing", files=("absent.bin",)), tmp_path / "d", print)
    with pytest.raises(
        FetchError, match=r"Emoation_LLaMA\.pth\) can not be fetched by a program: the README"
    ):
        fetch(SOURCES["emotion-llama"], tmp_path / "e", print)
    assert fetch(source(repo="some/thing"), tmp_path / "f", print, mirror=True).exists(), (
        "one without mirror is fetched as ever"
    )
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match="there is no connection to the hub; what has come stays"):
        fetch(source(repo="some/thing"), tmp_path / "g", print)


def test_a_full_disk_is_told_before_and_while_it_fills(hub, tmp_path, monkeypatch):
    address, _ = hub
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 5_000_000))
        with pytest.raises(FetchError, match=r"room for 0\.0 GB, 2\.0 GB are still to come"):
            fetch(source(url=f"{address}/plain/w.bin", size=2_000_000_000), tmp_path / "a", print)

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch_module, "download", full)
    with pytest.raises(FetchError, match="is full; what has come stays"):
        fetch(source(url=f"{address}/plain/w.bin"), tmp_path / "b", print)

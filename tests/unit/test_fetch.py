"""Downloads from a local server that speaks the hub's protocol and plain HTTP ranges."""

import hashlib
import http.server
import json
import shutil
import threading
from collections import namedtuple

import pytest

from emojax.weights import fetch as fetch_module
from emojax.weights.catalogue import SOURCES, Source
from emojax.weights.fetch import fetch
from emojax.weights.hub import FetchError

DATA = bytes(range(256)) * 100_000  # 26 MB: huggingface_hub writes pieces of 10 MB
SHA = hashlib.sha256(DATA).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    """HEAD and GET of /{repo}/resolve/{revision}/{file} with ranges; /plain/{file}: plain HTTP."""

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


def test_hub_and_plain_downloads_are_checked_and_kept(hub, tmp_path, caplog):
    address, state = hub
    path = fetch(source(repo="some/thing"), tmp_path / "hub")
    assert path.read_bytes() == DATA and caplog.messages == []
    count = len(state["requests"])
    fetch(source(repo="some/thing"), tmp_path / "hub")
    assert not any(method == "GET" for method, _, _ in state["requests"][count:]), (
        "complete files are kept"
    )
    reports: list[tuple] = []
    plain = source(url=f"{address}/plain/w.bin")
    path = fetch(plain, tmp_path / "plain", progress=lambda *report: reports.append(report))
    assert path.read_bytes() == DATA and reports[-1] == ("fetch plain", len(DATA), len(DATA))
    (message,) = caplog.messages
    assert "no checksum is published; recorded" in message and SHA[:16] in message
    assert json.loads((tmp_path / "checksums.json").read_text()) == {f"{address}/plain/w.bin": SHA}


@pytest.mark.parametrize("kind", ["repo", "url"])
def test_an_interrupted_download_resumes(hub, tmp_path, kind):
    address, state = hub
    state["break_after"] = 15_000_000
    where = {"repo": "some/thing"} if kind == "repo" else {"url": f"{address}/plain/w.bin"}
    path = fetch(source(**where), tmp_path / "d")
    assert path.read_bytes() == DATA
    ranges = [r for method, _, r in state["requests"] if method == "GET" and r]
    assert any(0 < int(r.removeprefix("bytes=").split("-")[0]) <= 15_000_000 for r in ranges), (
        "the download started again from zero"
    )


def test_a_wrong_checksum_is_refused_and_set_aside(hub, tmp_path):
    address, state = hub
    state["etag"] = "0" * 64
    with pytest.raises(FetchError, match=r"w\.bin has the checksum .* not 0000000000000000"):
        fetch(source(repo="some/thing"), tmp_path / "d")
    assert (tmp_path / "d" / "w.bin.wrong").exists() and not (tmp_path / "d" / "w.bin").exists()
    with pytest.raises(FetchError, match="has the checksum"):
        known = (("w.bin", "1" * 64),)
        fetch(source(url=f"{address}/plain/w.bin", sha256=known), tmp_path / "e")
    # Nothing published: later downloads are compared with the first one.
    plain = source(url=f"{address}/plain/w.bin")
    fetch(plain, tmp_path / "f")
    (tmp_path / "f" / "w.bin").unlink()
    state["data"] = DATA[:-1] + b"x"
    with pytest.raises(FetchError, match="set aside"):
        fetch(plain, tmp_path / "f")


def test_gated_absent_and_manual_files(hub, tmp_path, monkeypatch):
    gated = source(repo="meta/gated", mirror="some/thing")
    with pytest.raises(
        FetchError, match=r"meta/gated is gated: ask for access .* HF_TOKEN .* add --mirror"
    ):
        fetch(gated, tmp_path / "a")
    assert fetch(gated, tmp_path / "b", mirror=True).read_bytes() == DATA
    with pytest.raises(FetchError, match="no repository nobody/thing"):
        fetch(source(repo="nobody/thing"), tmp_path / "c")
    with pytest.raises(FetchError, match=r"has no file absent\.bin"):
        fetch(source(repo="some/thing", files=("absent.bin",)), tmp_path / "d")
    with pytest.raises(
        FetchError, match=r"Emoation_LLaMA\.pth\) cannot be downloaded by a program: the README"
    ):
        fetch(SOURCES["emotion-llama"], tmp_path / "e")
    assert fetch(source(repo="some/thing"), tmp_path / "f", mirror=True).exists(), (
        "a source without a mirror is fetched from its own repository"
    )
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        FetchError, match="there is no connection to the hub; what was downloaded stays"
    ):
        fetch(source(repo="some/thing"), tmp_path / "g")


def test_a_full_disk_is_reported_before_and_during_the_download(hub, tmp_path, monkeypatch):
    address, _ = hub
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 5_000_000))
        with pytest.raises(FetchError, match=r"0\.0 GB of free space, 2\.0 GB are still to be"):
            fetch(source(url=f"{address}/plain/w.bin", size=2_000_000_000), tmp_path / "a")

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch_module, "download", full)
    with pytest.raises(FetchError, match="is full; what was downloaded stays"):
        fetch(source(url=f"{address}/plain/w.bin"), tmp_path / "b")

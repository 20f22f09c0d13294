"""The server refuses hostile requests and keeps nothing of them."""

import base64
import contextlib
import socket
import time

import httpx2
import pytest
from random_model import save_random_model
from recording import record
from served import AUTH, TOKEN, Server, upload


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return record(tmp_path_factory.mktemp("media") / "clip.mp4", [(1.5, 1)], [(0.2, 1.3)])


@pytest.fixture(scope="module")
def server(model, clip, tmp_path_factory):
    limits = ["--max-mb", "2", "--max-seconds", "10", "--queue", "4"]
    found = Server(model, tmp_path_factory.mktemp("serve"), "--allow", str(clip.parent), *limits)
    yield found
    found.stop()


def hostile(clip):
    """(name, function that makes the request)."""
    body = clip.read_bytes()
    names = [
        "../../etc/passwd",
        "/etc/shadow",
        "..\\..\\x.mp4",
        "%2e%2e/x.mp4",
        "a\x00b.mp4",
        "/proc/self/environ",
        "~/.ssh/id_rsa",
        "",
    ]
    bombs = [
        b"",
        b"\x00" * 100_000,
        b"PK\x03\x04" + b"\x00" * 5000,
        b"\x1f\x8b" + b"a" * 5000,
        b"#EXTM3U\nhttp://127.0.0.1/x\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<html>",
        body[:2000],
        b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"\xff" * 60_000,
    ]
    out = []
    for name in names:
        out.append((f"path {name!r}", lambda s, n=name: s.post("/v1/analyze", json={"path": n})))
        out.append(
            (
                f"upload named {name!r}",
                lambda s, n=name: s.post("/v1/jobs", files={"file": (n or "x", b"no media")}),
            )
        )
        out.append(
            (f"job {name!r}", lambda s, n=name: s.post("/v1/jobs/" + n.replace("\x00", "%00")))
        )
    for k in range(1, 31):  # paths that leave the allowed folder
        for start in ("", str(clip.parent) + "/"):
            out.append(
                (
                    f"{start}.. {k}",
                    lambda s, n=start + "../" * k + "etc/passwd": s.post(
                        "/v1/analyze", json={"path": n}
                    ),
                )
            )
    for bomb in bombs:
        for path in ("/v1/analyze", "/v1/jobs"):
            out.append(
                (
                    f"{path} {bomb[:8]!r}",
                    lambda s, b=bomb, p=path: s.post(p, files={"file": ("x.mp4", b)}),
                )
            )
        data = "data:video/mp4;base64," + base64.b64encode(bomb).decode()
        out.append(
            (
                f"chat {bomb[:8]!r}",
                lambda s, d=data: s.post("/v1/chat/completions", json=chat([film(d)])),
            )
        )
        picture = {"type": "image_url", "image_url": {"url": data}}
        out.append(
            (
                f"picture {bomb[:8]!r}",
                lambda s, p=picture: s.post("/v1/chat/completions", json=chat([p])),
            )
        )
    for kind in ("text/plain", "application/xml", "", "multipart/form-data", "application/json"):
        out.append(
            (
                f"type {kind!r}",
                lambda s, k=kind: s.post(
                    "/v1/analyze", content=b"{not json", headers=AUTH | {"Content-Type": k}
                ),
            )
        )
    for fields in (
        {"labels": "one"},
        {"abstain": "9"},
        {"abstain": "x"},
        {"subtitle": "a" * 200_000},
        {"labels": ",".join(f"l{i}" for i in range(300))},
    ):
        out.append(
            (
                f"fields {list(fields)}",
                lambda s, f=fields: s.post("/v1/analyze", **upload(clip, **f)),
            )
        )
    for wrong in (
        {},
        {"messages": []},
        {"messages": "x"},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": 5}]},
        [],
        "x",
        5,
        chat([]),
        chat([film("http://127.0.0.1:1/x.mp4")]),
        chat([film("file:///etc/passwd")]),
        chat([film("data:,!!!")]),
        chat([film("data:video/mp4;base64,AAAA")] * 2),
        {**chat([film("data:,AAAA")]), "temperature": "hot"},
        {**chat([film("data:,AAAA")]), "top_p": 7},
    ):
        out.append(
            (f"chat {str(wrong)[:60]}", lambda s, w=wrong: s.post("/v1/chat/completions", json=w))
        )
    for token in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic abc"},
        {"Authorization": "Bearer "},
    ):
        for path in ("/v1/analyze", "/v1/jobs", "/v1/chat/completions", "/v1/models", "/metrics"):
            out.append((f"token {token} {path}", lambda s, t=token, p=path: s.post(p, headers=t)))
    for number in range(8):
        out.append(
            (
                f"3 MB {number}",
                lambda s: s.post("/v1/analyze", files={"file": ("x.mp4", b"\x00" * 3_000_000)}),
            )
        )
        out.append(
            (
                f"3 MB without content-length {number}",
                lambda s: s.post("/v1/analyze", content=(b"\x00" * 300_000 for _ in range(10))),
            )
        )
    for number in range(8):
        nest = "[" * (2000 * (number + 1))
        out.append(
            (
                f"nested {number}",
                lambda s, n=nest: s.post(
                    "/v1/chat/completions",
                    content=n,
                    headers=AUTH | {"Content-Type": "application/json"},
                ),
            )
        )
    for path in (
        "/v1/jobs/x/../../etc",
        "/v1/jobs/abc/json",
        "/v1/jobs/..%2f..%2fetc/json",
        "/docs",
        "/openapi.json/x",
        "/.env",
    ):
        out.append((f"get {path}", lambda s, p=path: httpx2.get(s.url + p, headers=AUTH)))
    return out


def film(url):
    return {"type": "video_url", "video_url": {"url": url}}


def chat(parts):
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, *parts]}]}


def raw(server, data: bytes, wait: float = 30.0) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait) as link:
        link.sendall(data)
        with contextlib.suppress(OSError):
            return link.recv(4096)
    return b""


def test_hostile_requests_are_refused_and_leave_nothing(server, clip):
    asked = hostile(clip)
    long = record(clip.parent / "long.mp4", [(11.0, 1)], [])
    asked.append(("a clip that is too long", lambda s: s.post("/v1/analyze", **upload(long))))
    for name, call in asked:
        # The connection may be closed while a refused body is still being sent.
        with contextlib.suppress(httpx2.TransportError):
            answer = call(server)
            assert 400 <= answer.status_code < 500, (name, answer.status_code, answer.text[:200])
    head = (
        b"POST /v1/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
    )
    for length in (b"10000000000", b"-5", b"x"):
        assert b" 4" in raw(server, head + b"Content-Length: " + length + b"\r\n\r\n")[:16]
    assert len(asked) >= 200
    assert server.post("/v1/analyze", **upload(clip)).status_code == 200, "the server still answers"
    assert (
        server.left() == []
        and [p for p in (server.folder / "jobs").iterdir() if not (p / "request.json").exists()]
        == []
    )


def test_a_body_that_arrives_too_slowly(server):
    head = (
        b"POST /v1/analyze HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + TOKEN.encode()
    )
    begin = time.monotonic()
    assert b" 408 " in raw(server, head + b"\r\nContent-Length: 100\r\n\r\n{", 40.0)[:16]
    assert time.monotonic() - begin < 30

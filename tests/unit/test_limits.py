"""Limits of requests to the server: token, announced and real size of a body, allowed folders."""

import asyncio

import pytest

from data_pipeline.loader.tokens import RowTooLong
from emojax.serve.limits import (
    Guard,
    Limits,
    RequestError,
    allowed_path,
    check_duration,
    parse_labels,
)
from emojax.serve.service import prompt_must_fit


async def read_body(scope, receive, send):
    """An application that reads the whole body and answers 200."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def status(limits: Limits, *pieces: bytes, path: str = "/v1/analyze", **headers: str) -> int:
    """The status of one request."""
    messages = [
        {"type": "http.request", "body": p, "more_body": i < len(pieces)}
        for i, p in enumerate(pieces, 1)
    ]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    names = {k.replace("_", "-").encode(): v.encode() for k, v in headers.items()}
    scope = {"type": "http", "path": path, "headers": list(names.items())}
    asyncio.run(Guard(read_body, limits, lambda *_: None)(scope, receive, send))
    return sent[0]["status"]


def test_size_of_a_body():
    limits = Limits(body=10)
    assert status(limits, b"12345", b"67890", content_length="10") == 200
    assert status(limits, b"", content_length="11") == 413
    assert status(limits, b"12345", b"678901") == 413  # announces nothing
    assert status(limits, b"12345", b"678901", content_length="5") == 413  # announces too little
    for text in ("-1", "x", "1.5", "", "1 0"):
        assert status(limits, b"", content_length=text) == 400, text


def test_token():
    limits = Limits(token="secret")
    assert status(limits, b"") == 401
    assert status(limits, b"", authorization="Bearer secre") == 401
    assert status(limits, b"", authorization="secret") == 401
    assert status(limits, b"", authorization="bearer secret") == 200
    assert status(limits, b"", path="/health") == status(limits, b"", path="/ui/login") == 200
    assert status(limits, b"", path="/uix") == 401


def test_labels_durations_and_prompts():
    assert parse_labels(" a, b ,a,") == parse_labels(["a", "b "]) == ["a", "b"]
    for wrong in ("a", "", ["a", ""], ["a", 1], ["a", "b" * 81], [str(i) for i in range(201)], 7):
        with pytest.raises(RequestError, match="2 to 200 different texts"):
            parse_labels(wrong)
    check_duration(60.0, 60.0)
    with pytest.raises(RequestError, match="clips may last 60 s, this one lasts 61 s: see here"):
        check_duration(61.0, 60.0, hint="see here")
    with (
        pytest.raises(RequestError, match="words and labels have 9 tokens, .* reads 8: cut") as e,
        prompt_must_fit("labels", "cut"),
    ):
        raise RowTooLong("raise a setting", 9, 8)
    assert e.value.status == 422


def test_paths_are_below_the_allowed_folders(tmp_path):
    inside, outside = tmp_path / "in" / "a.mp4", tmp_path / "b.mp4"
    inside.parent.mkdir()
    for file in (inside, outside):
        file.write_bytes(b"x")
    folders = (tmp_path / "in",)
    assert allowed_path(str(inside), folders) == inside
    (tmp_path / "in" / "link.mp4").symlink_to(outside)
    for text in (outside, tmp_path / "in" / ".." / "b.mp4", tmp_path / "in" / "link.mp4"):
        with pytest.raises(RequestError, match="--allow"):
            allowed_path(str(text), folders)

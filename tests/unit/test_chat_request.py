"""Chat requests: what is not used or not valid is refused by its name, without a model."""

import base64
import types

import pytest

from emojax.serve.chat_request import read_request, split_task
from emojax.serve.limits import RequestError

JUNK = base64.b64encode(b"neither sound nor film").decode()
SERVICE = types.SimpleNamespace(
    bundle=types.SimpleNamespace(
        settings=types.SimpleNamespace(sampling=lambda _: types.SimpleNamespace(num_frames=2)),
        answer_tokens=5,
    )
)


def image(data: str) -> dict:
    return {"type": "image_url", "image_url": {"url": data}}


def refusal(*parts: dict, text: str = "What?", **fields) -> tuple[int, str]:
    """(status, message) of a request that is refused."""
    content = [{"type": "text", "text": text}, *parts]
    with pytest.raises(RequestError) as error:
        read_request({"messages": [{"role": "user", "content": content}], **fields}, SERVICE)
    return error.value.status, error.value.message


def test_media_that_cannot_be_read_are_named_by_their_part():
    sound = {"type": "input_audio", "input_audio": {"data": "!", "format": "wav"}}
    film = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,!"}}
    assert refusal(image("data:,!!!")) == (422, "image_url: not valid base64")
    assert refusal(sound) == (422, "input_audio: not valid base64")
    assert refusal(film) == (422, "video_url: not valid base64")
    status, message = refusal(image(JUNK), image(JUNK))
    assert status == 422 and message.startswith("image_url 1 of 2: not a picture")
    status, message = refusal(image("http://example.org/a.png"))
    assert status == 422 and message.startswith("image_url: send media as base64")


def test_a_tag_must_name_a_task():
    status, message = refusal(image(JUNK), text="[foo] what?")
    assert status == 422 and message.startswith("there is no task 'foo'; there are emotion,")
    assert "did you mean 'reason'?" in refusal(image(JUNK), text="[Reson] what?")[1]
    assert split_task(" [Reason]  why?") == ("reason", "why?")
    assert split_task("why [reason]?") == ("", "why [reason]?")
    assert split_task("[2 people] who?") == ("", "[2 people] who?")


def test_fields_that_are_not_used_are_400_and_wrong_values_422():
    for fields in ({"n": 2}, {"mood": 1}, {"stream_options": {"every": 2}}):
        assert refusal(image(JUNK), **fields)[0] == 400, fields
    for fields in ({"seed": -1}, {"stream": "yes"}, {"temperature": 9}):
        assert refusal(image(JUNK), **fields)[0] == 422, fields

"""Replies of chat endpoints in the forms that servers send: texts, thoughts, JSON, scores, faults.

The forms are those of vLLM, Ollama, OpenRouter, Azure, DeepSeek, Qwen, Mistral and gpt-oss.
"""

import datetime
import email.utils
import json

import httpx2
import pytest

from data_pipeline.llm.replies import (
    ERROR,
    NotAReply,
    UnusableReply,
    count_faults,
    parse_reply,
    retry_after,
    server_message,
)
from data_pipeline.llm.reply_text import (
    CUT_FAULTS,
    CUT_OFF,
    ONLY_THOUGHTS,
    last_object,
    read_score,
    reply_fault,
    strip_thoughts,
)


def respond(body, status=200, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.Response(status, content=content, headers=headers)


def completion(message, finish="stop", usage=None):
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (completion({"content": "happy"}), "happy"),
        (completion({"content": [{"type": "text", "text": "hap"}, {"text": "py"}]}), "happy"),
        (completion({"content": ["hap", "py"]}), "happy"),
        (completion({"content": {"type": "text", "text": "happy"}}), "happy"),
        (completion({"content": {"label": "happy"}}), '{"label": "happy"}'),
        (completion({"content": None, "refusal": "I will not."}), "I will not."),
        (
            completion(
                {
                    "content": [
                        {"type": "thinking", "thinking": [{"type": "text", "text": "sad?"}]},
                        {"type": "text", "text": "happy"},
                    ]
                }
            ),
            "happy",
        ),
        ({"choices": [{"text": "happy", "finish_reason": "stop"}]}, "happy"),
        (
            {"choices": [{"message": {"content": ""}}, {"message": {"content": "happy"}}]},
            "happy",
        ),
        ({**completion({"content": "happy"}), "error": None}, "happy"),
        (completion({"content": None, "reasoning_content": "it may be sad"}), ""),
    ],
)
def test_the_text_of_a_reply(body, text):
    assert parse_reply(respond(body))["text"] == text


@pytest.mark.parametrize(
    ("message", "finish", "fault"),
    [
        ({"content": "happy"}, "stop", ""),
        ({"content": ""}, "stop", ""),  # the reader of the text says so
        ({"content": None, "reasoning_content": "let me see"}, "stop", ONLY_THOUGHTS),
        ({"content": "", "reasoning": "let me see"}, "length", CUT_FAULTS[1]),
        ({"content": "<think>let me see"}, "length", CUT_FAULTS[1]),
        ({"content": "", "tool_calls": [{"id": "1"}]}, "tool_calls", "a tool call in place of"),
        ({"content": "the person"}, "length", CUT_OFF),
        ({"content": ""}, "MAX_TOKENS", CUT_OFF),
        ({"content": '```json\n{"label": "happy"}\n```'}, "length", ""),  # it ends as a whole
        ({"content": "the person"}, "content_filter", "stopped by the server's content filter"),
    ],
)
def test_faults_that_the_server_names(message, finish, fault):
    stored = parse_reply(respond(completion(message, finish)))
    found = reply_fault(stored, use_cut=False)
    assert found == fault or (fault and found.startswith(fault))
    if fault == CUT_OFF and message["content"]:
        assert reply_fault(stored, use_cut=True) == ""


PAGE = b"<!DOCTYPE html><html><head><title>Sign in &amp; pay</title></head><body>Hi</body></html>"


@pytest.mark.parametrize(
    ("response", "fault", "status", "message", "billed"),
    [
        (respond({"error": {"message": "no credits", "code": 402}}), ERROR, 402, "no credits", 0),
        (respond({"error": {"message": "busy", "code": "503"}}), ERROR, 503, "busy", 0),
        (respond({"error": "model not loaded"}), ERROR, 0, "model not loaded", 0),
        (respond({"object": ERROR, "message": "too long", "code": 400}), ERROR, 400, "too", 0),
        (respond({"detail": [{"loc": ["body", "n"], "msg": "odd"}]}), ERROR, 0, "body.n: odd", 0),
        (
            respond({"choices": [{"error": {"code": 502, "message": "upstream is gone"}}]}),
            ERROR,
            502,
            "upstream is gone",
            0,
        ),
        (respond(PAGE), "web page", 0, 'a web page (HTML), "Sign in & pay"', 0),
        (respond(b"Please log in", **{"Content-Type": "text/html"}), "web page", 0, "log in", 0),
        (respond(b"ok"), "malformed reply", 0, "not JSON: ok", 1),
        (respond(b""), "malformed reply", 0, "no content", 1),
        (respond({"done": True}), "malformed reply", 0, 'no chat completion: {"done": true}', 1),
        (respond({"choices": []}), "malformed reply", 0, "no chat completion", 1),
        (respond(completion({"content": 5})), "malformed reply", 0, "no chat completion", 1),
    ],
)
def test_what_is_not_a_reply(response, fault, status, message, billed):
    with pytest.raises(NotAReply) as found:
        parse_reply(response)
    error = found.value
    assert (error.fault, error.status, error.billed) == (fault, status, bool(billed))
    assert message in error.message


def test_the_words_of_a_server():
    provider = {"error": {"message": "Provider error", "metadata": {"raw": "quota of the day"}}}
    assert server_message(respond(provider, 429)) == "Provider error; quota of the day"
    assert server_message(respond(b"slow\x1b[31m down\n\n now", 503)) == "slow [31m down now"
    assert len(server_message(respond(b"x" * 5000, 500))) == 303
    assert server_message(respond({"error": {"code": 7}}, 500)) == '{"error": {"code": 7}}'
    again = "audio: 429 (request 1)", "audio: 429 (request 2)", "audio: timeout"
    assert count_faults(again) == {"audio: 429 (request 1)": 2, "audio: timeout": 1}


def test_the_wait_that_a_server_asks_for():
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    date = email.utils.format_datetime(later, usegmt=True)
    assert 80 < retry_after(respond({}, 429, **{"Retry-After": date})) <= 90
    for given, seconds in (("7", 7.0), ("1.5", 1.5), ("-3", 0.0), ("soon", 0.0), ("", 0.0)):
        assert retry_after(respond({}, 429, **{"Retry-After": given})) == seconds


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 12, "completion_tokens": 3}, [12, 3]),
        ({"prompt_tokens": "12", "completion_tokens": 3.0}, [12, 3]),
        ({"input_tokens": 12, "output_tokens": 3}, [12, 3]),
        ({"prompt_tokens": 12, "completion_tokens": None}, [12, 0]),
        ({"prompt_tokens": -1, "completion_tokens": True}, [0, 0]),
        ({"prompt_tokens": 1e300, "completion_tokens": "many"}, [0, 0]),
        (None, [0, 0]),
        ("none", [0, 0]),
    ],
)
def test_counts_of_tokens(usage, tokens):
    assert parse_reply(respond(completion({"content": "x"}, usage=usage)))["tokens"] == tokens


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("happy", "happy"),
        ("<think>sad?</think> happy", "happy"),
        ("sad? no.\n</think>\n\nhappy", "happy"),
        ("[THINK]sad?[/THINK]happy", "happy"),
        ("◁think▷sad?◁/think▷happy", "happy"),
        ("<think>a<think>sad?</think>b</think>happy", "happy"),
        ("<think>sad? I should", ""),
        ("<think>sad?</think>", ""),
        (
            "<|channel|>analysis<|message|>sad?<|end|><|start|>assistant<|channel|>final"
            "<|message|>happy<|return|>",
            "happy",
        ),
        ("analysisIs it sad? No.assistantfinalhappy", "happy"),
        ("<|channel|>analysis<|message|>sad?", ""),
    ],
)
def test_thoughts_are_no_answer(text, answer):
    assert strip_thoughts(text) == answer


OBJECT = '{"clue": 8, "label": 9}'
DRAFT = '{"clue": 1, "label": 1}'


@pytest.mark.parametrize(
    "text",
    [
        OBJECT,
        f"Draft: {DRAFT}, too strict. {OBJECT}",
        f"```json\n{OBJECT}\n```\nI hope that this helps {{you}}.",
        f'{OBJECT}\n{{"note": "that is all"}}',
        f'{DRAFT} so {{"scores": {OBJECT}, "note": {{"clue": 3}}}}',
        f"[{OBJECT}]",
        '{"Clue": 8, "Label Score": 9}',
        '{"clue": 8, "label": 9,}',
        "{'clue': 8, 'label': 9, 'note': None}",
        "{clue: 8, label: 9}",
        "{“clue”: 8, “label”: 9}",
        '{"clue": 8, // as said\n "label": 9}',
        '{"clue": 8, "label": 9, "note": "two\nlines"}',
    ],
)
def test_the_last_object_with_the_fields_counts(text):
    fields = last_object(text, ["clue", "label"])
    assert (fields["clue"], fields["label"]) == (8, 9)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("none here", "no JSON object"),
        ("{so} be it", "no JSON object"),
        (f'{DRAFT}, no: {{"clue": 8, "la', "the last JSON object is cut off"),
        ("{" * 30_000, "no JSON object"),
        ('{"a":' * 30_000, "no JSON object"),
    ],
)
def test_without_a_whole_object(text, fault):
    with pytest.raises(UnusableReply, match=fault):
        last_object(text, ["clue", "label"])


@pytest.mark.parametrize(
    ("value", "score"),
    [
        (6, 6), (6.5, 6.5), ("6", 6), ("6/10", 6), ("6 / 10", 6), ("7 out of 10", 7),
        ("7 of 10", 7),
        ("85%", 8.5), ("85/100", 8.5), ("8,5", 8.5), ("**8**", 8), ("8 - most clues agree", 8),
        ("8 (good)", 8), ("Score: 8/10", 8), ([8], 8), ({"score": "8/10", "reason": "x"}, 8),
        ("7-8", None), ("7 to 8", None), ("4/5", None), ("11", None), ("-1", None), ("high", None),
        (True, None), (None, None), ([8, 9], None), ("8 or 9", None),
    ],
)  # fmt: skip
def test_scores_of_a_scale(value, score):
    assert read_score(value, low=0, high=10) == score

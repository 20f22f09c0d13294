"""Parses responses of OpenAI's chat protocol; names what was received in place of a reply."""

from __future__ import annotations

import datetime
import email.utils
import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpx2

from data_pipeline.llm.endpoint import EndpointError

# Longer responses are malformed: the endpoint ignores every token limit.
MAX_RESPONSE_BYTES = 8_000_000
_MAX_MESSAGE = 300  # characters of a server's message that are kept
ERROR = "error in place of a reply"
StoredReply = dict[str, Any]  # see parse_reply
_TEXT_PARTS = (None, "text", "output_text")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_MESSAGE_KEYS = ("error", "message", "detail", "details", "error_description", "errors", "msg")
_PROMPT_COUNTS = ("prompt_tokens", "input_tokens")
_REPLY_COUNTS = ("completion_tokens", "output_tokens")


class UnusableReply(ValueError):
    """Raised by functions that read replies; the message is the fault that is counted."""


class NotAReply(Exception):
    """A response with a status of success that is not a chat completion.

    Attributes:
      fault: its type.
      message: the server's own words.
      status: the HTTP status that an error in the body names, 0 if none.
      billed: whether the server may have answered and billed the request.
    """

    def __init__(self, fault: str, message: str, *, status: int = 0, billed: bool = False):
        super().__init__(fault)
        self.fault, self.message, self.status, self.billed = fault, message, status, billed


def retry_after(response: httpx2.Response) -> float:
    """Returns the seconds that the endpoint asks to wait: given as a number or a date, or 0."""
    given = response.headers.get("Retry-After", "").strip()
    try:
        seconds = float(given or 0)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(given)
        except ValueError:
            return 0.0
        now = datetime.datetime.now(datetime.UTC)
        seconds = (date.replace(tzinfo=date.tzinfo or datetime.UTC) - now).total_seconds()
    return seconds if seconds > 0 else 0.0


def server_message(response: httpx2.Response) -> str:
    """Returns what a response says in words: the message in its JSON, or its text.

    Args:
      response: the HTTP response.

    Returns:
      One line of at most 300 characters. A web page is named as one, with its title.
    """
    try:
        words = "; ".join(_words(response.json()))
    except (ValueError, RecursionError):
        words = ""
    text = response.text
    if not words and _is_web_page(response):
        found = re.search(r"<(title|h1)[^>]*>(.*?)</\1>", text, re.I | re.S)
        words = html.unescape(re.sub(r"<[^>]*>", " ", found[2] if found else text))
        words = f'a web page (HTML), "{_one_line(words)}"'
    return _one_line(words or text)


def count_faults(reasons: Iterable[str]) -> dict[str, int]:
    """Counts reasons, the most frequent first; those that differ in words of the server alone once.

    Args:
      reasons: each a fault, followed by the server's words in brackets if there are any.

    Returns:
      {reason as it came first: number}.
    """
    first: dict[str, str] = {}
    counts = Counter[str]()
    for reason in reasons:
        fault = reason.partition(" (")[0]
        counts[first.setdefault(fault, reason)] += 1
    return dict(counts.most_common())


def no_usable_reply(url: str, reasons: Sequence[str]) -> EndpointError:
    """Returns the error of a run that has nothing to score.

    Args:
      url: address of the endpoint.
      reasons: why each clip has no usable reply, as for `count_faults`.
    """
    counts = "; ".join(f"{number} x {reason}" for reason, number in count_faults(reasons).items())
    return EndpointError(
        f"{url} gave no usable reply about any clip ({counts}), so there is no score; check the "
        "server and its model, then run the same command again"
    )


def _is_web_page(response: httpx2.Response) -> bool:
    start = response.text[:200].lstrip("\ufeff \t\r\n").lower()
    is_page = start.startswith(("<!doctype", "<html", "<head", "<body"))
    return is_page or "html" in response.headers.get("Content-Type", "")


def _one_line(text: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in _replace_lone_surrogates(text))
    line = " ".join(text.split())
    return line if len(line) <= _MAX_MESSAGE else f"{line[:_MAX_MESSAGE]}..."


def _words(value: Any) -> Iterator[str]:
    """The messages in an error's JSON; FastAPI's name the field, OpenRouter's the provider."""
    if isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, list):
        for item in value[:5]:
            yield from _words(item)
    elif isinstance(value, dict):
        where = value.get("loc")
        prefix = f"{'.'.join(map(str, where))}: " if isinstance(where, list) else ""
        for key in _MESSAGE_KEYS:
            if words := list(_words(value.get(key))):
                yield prefix + "; ".join(words)
                break
        metadata = value.get("metadata")
        if isinstance(metadata, dict):
            yield from _words(metadata.get("raw"))


def parse_reply(response: httpx2.Response) -> StoredReply:
    """Reads a chat completion.

    Args:
      response: the HTTP response, with a status of success.

    Returns:
      `text`, `model`, `fingerprint` and `finish` (strings, "" if missing), `tokens` ([prompt,
      reply], 0 where the server reports no possible count), `thoughts` (whether the server sent
      thoughts apart from the text) and `tool_call` (whether it asks to call a tool).

    Raises:
      NotAReply: it is an error, a web page or anything else.
    """
    try:
        body = response.json()
    except (ValueError, RecursionError):
        if _is_web_page(response):
            raise NotAReply("web page", server_message(response)) from None
        message = f"not JSON: {server_message(response)}" if response.content else "no content"
        raise NotAReply("malformed reply", message, billed=True) from None
    _raise_error(response, body)
    try:
        # of several choices, the first that says something
        read = [_read_choice(choice) for choice in body["choices"]]
        chosen = next((r for r in read if r["text"].strip()), read[0])
    except (KeyError, IndexError, TypeError, AttributeError):
        raise NotAReply(
            "malformed reply", f"no chat completion: {_one_line(response.text)}", billed=True
        ) from None
    return chosen | {
        "model": _replace_lone_surrogates(str(body.get("model") or "")),
        "fingerprint": _replace_lone_surrogates(str(body.get("system_fingerprint") or "")),
        "tokens": _token_counts(body.get("usage")),
    }


def _raise_error(response: httpx2.Response, body: Any) -> None:
    """Raises NotAReply if the body is an error, or its first choice has one."""
    if not isinstance(body, dict):
        return
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    sources = [body, first if isinstance(first, dict) else {}]
    error = next((s["error"] for s in sources if s.get("error")), None)
    if error is None and (choices is None or body.get("object") == "error") and any(_words(body)):
        error = body
    if error is None:
        return
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    code = code if code is not None else body.get("code")
    is_status = re.fullmatch(r"[45]\d\d", str(code)) is not None
    message = _one_line("; ".join(_words(error))) or server_message(response)
    raise NotAReply(ERROR, message, status=int(str(code)) if is_status else 0)


def _read_choice(choice: Mapping[str, Any]) -> StoredReply:
    """The fields of a reply that one choice has."""
    message = choice.get("message")
    if not isinstance(message, dict):  # the older completions have a text alone
        message = {"content": choice["text"]}
    content = message.get("content")
    parts: Sequence[Any] = content if isinstance(content, list) else [content]
    text = "".join(map(_part_text, parts)) or str(message.get("refusal") or "")
    has_thoughts = any(message.get(key) for key in _THOUGHTS) or any(
        isinstance(part, dict) and part.get("type") in ("thinking", "reasoning") for part in parts
    )
    return {
        "text": _replace_lone_surrogates(text),
        "finish": _replace_lone_surrogates(str(choice.get("finish_reason") or "")).lower(),
        "thoughts": has_thoughts,
        "tool_call": bool(message.get("tool_calls") or message.get("function_call")),
    }


def _part_text(part: Any) -> str:
    """The text of a content part; thoughts and other parts have none.

    Raises:
      TypeError: it is not a content part.
    """
    if part is None or isinstance(part, str):
        return part or ""
    if not isinstance(part, dict):
        raise TypeError
    if part.get("type") not in _TEXT_PARTS:
        return ""
    if "text" not in part and "type" not in part:  # a server that decodes the JSON it was asked for
        return json.dumps(part, ensure_ascii=False)
    text = part["text"]
    return str(text["value"] if isinstance(text, dict) else text)


def _token_counts(usage: Any) -> list[int]:
    """Returns [prompt, reply] tokens; 0 where the server reports no or an impossible count."""
    fields = usage if isinstance(usage, dict) else {}
    out = []
    for names in (_PROMPT_COUNTS, _REPLY_COUNTS):
        given = next((fields[name] for name in names if fields.get(name) is not None), 0)
        try:
            number = -1.0 if isinstance(given, bool) else float(given)
        except (TypeError, ValueError):
            number = -1.0
        out.append(int(number) if 0 <= number < 1e9 else 0)
    return out


def _replace_lone_surrogates(text: str) -> str:
    """Makes text encodable: a token limit may cut an emoji into half a surrogate pair."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

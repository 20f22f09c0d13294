"""Parses responses of OpenAI's chat protocol, malformed ones included."""

from __future__ import annotations

from typing import Any

import httpx2

# Longer responses are malformed: the endpoint ignores every token limit.
MAX_RESPONSE_BYTES = 8_000_000
StoredReply = dict[str, Any]  # see parse_reply


def retry_after(response: httpx2.Response) -> float:
    """Returns the seconds that the endpoint asks to wait, at most 60."""
    try:
        return min(60.0, float(response.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


def parse_reply(response: httpx2.Response) -> StoredReply | None:
    """Reads a chat completion.

    Args:
      response: the HTTP response.

    Returns:
      `text`, `model`, `fingerprint` and `finish` (strings, "" if missing) and `tokens` ([prompt,
      reply], zeros if the server does not count them); None if it is not a chat completion.
    """
    try:
        body = response.json()
        choice = body["choices"][0]
        text = choice["message"]["content"]
        if isinstance(text, list):  # content parts
            text = "".join(part["text"] for part in text if part.get("type") == "text")
        if text is None:  # a refusal, or a model that spent all its tokens on reasoning
            text = choice["message"].get("refusal") or ""
        if not isinstance(text, str):
            return None
        return {
            "text": _replace_lone_surrogates(text),
            "model": _replace_lone_surrogates(str(body.get("model") or "")),
            "fingerprint": _replace_lone_surrogates(str(body.get("system_fingerprint") or "")),
            "tokens": _token_counts(body.get("usage")),
            "finish": _replace_lone_surrogates(str(choice.get("finish_reason") or "")),
        }
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _token_counts(usage: Any) -> list[int]:
    """Returns [prompt, reply] tokens; zeros if the server reports no or impossible counts."""
    names = ("prompt_tokens", "completion_tokens")
    counts: list[Any] = [usage.get(k) or 0 for k in names] if isinstance(usage, dict) else [0, 0]
    valid = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 10**9 for n in counts)
    return counts if valid else [0, 0]


def _replace_lone_surrogates(text: str) -> str:
    """Makes text encodable: a token limit may cut an emoji into half a surrogate pair."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

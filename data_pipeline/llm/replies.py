"""What comes back from an endpoint of OpenAI's chat protocol, whatever it is."""

from __future__ import annotations

from typing import Any

import httpx2

LONGEST = 8_000_000  # bytes of a reply; beyond it the endpoint does not keep to any limit of tokens


def retry_after(answer: httpx2.Response) -> float:
    """Seconds that the endpoint asks to wait, at most a minute."""
    try:
        return min(60.0, float(answer.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


def reply_of(answer: httpx2.Response) -> dict[str, Any] | None:
    """A reply of the protocol (OpenAI's chat completions), None where it is none.

    Returns:
      {text, model, fingerprint, finish: texts, "" where they are missing; tokens: [prompt, reply], zeros where they are not counted}.
    """
    try:
        body = answer.json()
        choice = body["choices"][0]
        text = choice["message"]["content"]
        if isinstance(text, list):  # content parts
            text = "".join(part["text"] for part in text if part.get("type") == "text")
        if text is None:  # a refusal, or a model that spent all its tokens on thoughts
            text = choice["message"].get("refusal") or ""
        if not isinstance(text, str):
            return None
        return {
            "text": _whole_characters(text),
            "model": _whole_characters(str(body.get("model") or "")),
            "fingerprint": _whole_characters(str(body.get("system_fingerprint") or "")),
            "tokens": _tokens(body.get("usage")),
            "finish": _whole_characters(str(choice.get("finish_reason") or "")),
        }
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _tokens(usage: Any) -> list[int]:
    """[prompt, reply] tokens; zeros where the server does not count, or counts what can not be."""
    names = ("prompt_tokens", "completion_tokens")
    counts: list[Any] = [usage.get(k) or 0 for k in names] if isinstance(usage, dict) else [0, 0]
    sound = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 10**9 for n in counts)
    return counts if sound else [0, 0]


def _whole_characters(text: str) -> str:
    """Halves of characters (an emoji that a limit of tokens cut in two) can not be written to a file."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

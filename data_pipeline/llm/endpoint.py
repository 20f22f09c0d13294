"""A chat endpoint: address, model, sampling settings, prices."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

Messages = list[dict[str, Any]]  # messages of OpenAI's chat protocol
RETRIES = 5  # of a request that failed
BACKOFF = 1.0  # seconds before the first retry


class EndpointError(ValueError):
    """The endpoint cannot be used: wrong address, key or model. The message says what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible chat endpoint and how to query it.

    Attributes:
      url: base address, such as `http://localhost:8000/v1`.
      model: the server's name of the model.
      key: sent as bearer token, never written to disk.
      temperature: sampling temperature.
      seed: sampling seed.
      max_tokens: limit of a reply.
      timeout: seconds per request.
      price_in: money per million prompt tokens, None if unknown.
      price_out: money per million reply tokens, None if unknown.
      image_tokens: upper bound of tokens per image, for budgets.
      second_tokens: upper bound of tokens per second of audio, for budgets.
    """

    url: str
    model: str
    key: str = ""
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 512
    timeout: float = 60.0
    price_in: float | None = None
    price_out: float | None = None
    image_tokens: int = 1500
    second_tokens: int = 50

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Returns the money for prompt and reply tokens; unknown prices count as 0."""
        return (tokens_in * (self.price_in or 0.0) + tokens_out * (self.price_out or 0.0)) / 1e6

    def max_prompt_tokens(self, messages: Messages) -> int:
        """Returns an upper bound of the prompt's tokens; a token has at least one byte."""
        total = 0
        for message in messages:
            total += 16
            content = message["content"]
            parts: list[Any] = (
                [{"type": "text", "text": content}] if isinstance(content, str) else content
            )
            for part in parts:
                if part["type"] == "text":
                    total += len(part["text"].encode())
                elif part["type"] == "image_url":
                    total += self.image_tokens
                else:  # base64 of 16-bit audio at 16 kHz
                    seconds = len(part["input_audio"]["data"]) * 0.75 / 32_000
                    total += round(self.second_tokens * (1 + seconds))
        return total

    def settings(self) -> dict[str, Any]:
        """Returns the settings that a reply depends on, the messages aside."""
        return {k: getattr(self, k) for k in ("url", "model", "temperature", "seed", "max_tokens")}


def prompt_hash(text: str) -> str:
    """Returns the first 16 hex digits of a prompt's SHA-256, to identify its wording."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]

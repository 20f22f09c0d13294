"""A chat endpoint: address, model, sampling settings, prices."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

Messages = list[dict[str, Any]]  # messages of OpenAI's chat protocol
RETRIES = 5  # of a request that failed
BACKOFF = 1.0  # seconds before the first retry
OPTIONAL_FIELDS = ("temperature", "max_tokens", "seed")  # of a request; some servers refuse them
_BYTES_PER_TOKEN = 4  # of usual text, for estimates


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
      left_out: fields of OPTIONAL_FIELDS that requests do not have.
      renamed: (field of OPTIONAL_FIELDS, its name in requests) of fields that the server knows by
        another name.
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
    left_out: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    def request(self, messages: Messages, *, attempt: int = 0) -> dict[str, Any]:
        """Returns the body of a request.

        Args:
          messages: the question.
          attempt: number of the attempt; each has another seed.
        """
        values = {
            "temperature": self.temperature,
            "seed": self.seed + attempt,
            "max_tokens": self.max_tokens,
        }
        names = dict(self.renamed)
        fields = {names.get(k, k): v for k, v in values.items() if k not in self.left_out}
        return {"model": self.model, "messages": messages, **fields}

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Returns the money for prompt and reply tokens; unknown prices count as 0."""
        return (tokens_in * (self.price_in or 0.0) + tokens_out * (self.price_out or 0.0)) / 1e6

    def max_prompt_tokens(self, messages: Messages) -> int:
        """Returns an upper bound of the prompt's tokens; a token has at least one byte."""
        return self._prompt_tokens(messages, bytes_per_token=1)

    def estimated_tokens(self, messages: Messages, reply: str) -> tuple[int, int]:
        """Returns about how many tokens a prompt and its reply have, for servers that count none.

        Args:
          messages: the prompt.
          reply: the text of the reply.
        """
        prompt = self._prompt_tokens(messages, bytes_per_token=_BYTES_PER_TOKEN)
        return prompt, -(-len(reply.encode()) // _BYTES_PER_TOKEN)

    def _prompt_tokens(self, messages: Messages, *, bytes_per_token: int) -> int:
        total = 0
        for message in messages:
            total += 16 // bytes_per_token
            content = message["content"]
            parts: list[Any] = (
                [{"type": "text", "text": content}] if isinstance(content, str) else content
            )
            for part in parts:
                if part["type"] == "text":
                    total += -(-len(part["text"].encode()) // bytes_per_token)
                elif part["type"] == "input_audio":  # base64 of 16-bit audio at 16 kHz
                    seconds = len(part["input_audio"]["data"]) * 0.75 / 32_000
                    total += round(self.second_tokens * (1 + seconds))
                else:
                    total += self.image_tokens
        return total

    def settings(self) -> dict[str, Any]:
        """Returns the settings that a reply depends on, the messages aside."""
        names = ("url", "model", "temperature", "seed", "max_tokens")
        # only where it is used: settings without it identify the replies of earlier versions
        more = {"left_out": sorted(self.left_out)} if self.left_out else {}
        return {k: getattr(self, k) for k in names} | more


def prompt_hash(text: str) -> str:
    """Returns the first 16 hex digits of a prompt's SHA-256, to identify its wording."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]

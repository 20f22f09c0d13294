"""The tokenizers of language models other than LLaMA-2, by transformers' AutoTokenizer (fast)."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHAT_FILE = "chat.json"  # what `ChatFacts` holds, beside the files of the tokenizer


@dataclasses.dataclass(frozen=True)
class ChatFacts:
    """What a tokenizer's own files do not say reliably.

    Attributes:
      end_tokens: tokens that end an answer; the first one ends the answers of training. Those that
        the tokenizer does not have are ignored.
      turn: what stands before and after a message where the tokenizer has no chat template.
    """

    end_tokens: tuple[str, ...]
    turn: tuple[str, str]


class ChatTokenizer:
    """A fast tokenizer with its chat template.

    The template writes what a prompt begins with, so there is no BOS id. The date that Llama 3's
    template writes is always the same, so that a prompt does not depend on the day.

    Args:
      folder: files of the tokenizer, as transformers saves them.
      facts: of its language model; None: as stored in the folder by `save`.

    Raises:
      ValueError: the files are missing or damaged, or the tokenizer has no end token.
    """

    bos_id: int | None = None
    legacy = False

    def __init__(self, folder: Path, facts: ChatFacts | None = None):
        self.path = folder
        self.facts = facts or _read_facts(folder)
        self._model: Any = _open(folder)
        known = self._model.get_vocab()
        ends = [known[token] for token in self.facts.end_tokens if token in known]
        if not ends and self._model.eos_token_id is not None:
            ends = [self._model.eos_token_id]  # of a model of the same family with other tokens
        self.end_ids: tuple[int, ...] = tuple(ends)
        if not self.end_ids:
            raise ValueError(f"{folder} has none of the end tokens {self.facts.end_tokens}")
        self.eos_id = self.end_ids[0]
        # Padding must not be the token that ends an answer: that one is learned.
        special = [self._model.pad_token_id, *self._model.all_special_ids, *self.end_ids]
        self.pad_id: int = next((i for i in special if i not in (None, self.eos_id)), 0)
        self.vocab_size = len(self._model)

    @functools.cached_property
    def _special(self) -> re.Pattern[str]:
        texts = {str(t) for t in self._model.added_tokens_decoder.values()}
        return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")

    def wrap(self, message: str, *, thinks: bool = False) -> str:
        """The prompt of one question; special tokens that the message spells are removed."""
        while (cut := self._special.sub("", message)) != message:
            message = cut  # a removal may have joined the parts of another token
        if self._model.chat_template is None:
            return message.join(self.facts.turn)
        return str(
            self._model.apply_chat_template(
                [{"role": "user", "content": message}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=thinks,
                date_string="26 Jul 2024",
            )
        )

    def encode(self, text: str) -> list[int]:
        """Ids of one text; special tokens that it spells are plain text."""
        ids = self._model(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return list(ids)

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a piece of what `wrap` returns; special tokens in it are tokens."""
        ids = self._model(text, add_special_tokens=False, split_special_tokens=False)["input_ids"]
        return list(ids)

    def encode_after_special(self, text: str, *, legacy: bool) -> list[int]:
        """The ids of `encode`; this tokenizer has no other behavior."""
        del legacy
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are skipped."""
        known = [int(i) for i in ids if 0 <= int(i) < self.vocab_size]
        text = self._model.decode(
            known, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text).strip()

    def save(self, folder: Path) -> list[Path]:
        """Writes the tokenizer and its facts into a folder; returns the files."""
        self._model.save_pretrained(folder)
        text = json.dumps(dataclasses.asdict(self.facts), indent=1)
        (folder / CHAT_FILE).write_text(text, encoding="utf-8")
        return sorted(p for p in folder.iterdir() if p.is_file())


def _open(folder: Path) -> Any:
    if not (folder / "tokenizer.json").exists():
        raise ValueError(
            f"{folder} has no tokenizer.json: a language model needs the files of its tokenizer"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns where PyTorch is not installed
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # whatever transformers and tokenizers raise for damaged files
            raise ValueError(f"the tokenizer in {folder} is damaged ({error})") from error


def _read_facts(folder: Path) -> ChatFacts:
    path = folder / CHAT_FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        before, after = facts["turn"]
        return ChatFacts(tuple(facts["end_tokens"]), (before, after))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is missing or damaged ({error}): copy the folder again"
        ) from error

"""Text -> token ids -> rows: prompt pieces, positions of soft tokens and answer, padding.

Row layout of training (Emotion-LLaMAv2): BOS, text before <VideoHere>, Q soft tokens, text after
it, answer, end token, padding. v1 has a second placeholder, <FeatureHere>. Each piece of text is
tokenized separately and so has its own leading space.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

TOKENIZER_CONFIG = "tokenizer_config.json"
FEATURE_HERE = "<FeatureHere>"
IGNORE = -100
# Placeholders in the order of the prompt, each with the number of soft tokens that replace it.
Placeholders = Sequence[tuple[str, int]]


class Tokenizer(Protocol):
    """Converts text to token ids and back, without special tokens.

    Attributes:
      bos_id: id of the BOS token; None where `wrap` writes what a prompt begins with.
      eos_id: id of the token that ends the answers of training.
      end_ids: ids of all tokens that end an answer, `eos_id` first.
      pad_id: id of the padding token.
      vocab_size: number of ids.
      legacy: whether text after a special token has a leading space.
    """

    bos_id: int | None
    eos_id: int
    end_ids: tuple[int, ...]
    pad_id: int
    vocab_size: int
    legacy: bool

    def wrap(self, message: str, *, thinks: bool = False) -> str:
        """The prompt of one question: the message in the model's chat template.

        Args:
          message: the question with the placeholders of the clip.
          thinks: whether the answer begins with reasoning; some templates have a switch for it.
        """

    def encode(self, text: str) -> list[int]:
        """Ids of one text piece."""

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a piece of a prompt, in which `wrap` may have written special tokens."""

    def encode_after_special(self, text: str, *, legacy: bool) -> list[int]:
        """Ids of text after a special token, without the leading space unless `legacy`."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are skipped."""


def instruct(message: str, *, thinks: bool = False) -> str:
    """A message in LLaMA-2's chat template as the originals write it, without BOS."""
    del thinks  # the template has no switch
    return f"[INST] {message}  [/INST]"


class LlamaTokenizer:
    """LLaMA-2's SentencePiece model; padding is the existing piece `$$` (3997) as in the originals.

    It uses the sentencepiece library because the tokenizer that transformers 5 builds from the same
    file encodes two spaces as one piece (259), where the originals have 29871 and the space of the
    next word: released prompts would get different ids.

    Args:
      path: the `tokenizer.model` file.
      legacy: whether text after a special token has a leading space. By default the field `legacy`
        of the `tokenizer_config.json` next to it, or True, as in transformers.

    Raises:
      ValueError: the file is not a valid SentencePiece model, or its configuration is not JSON.
    """

    bos_id: int | None = 1
    eos_id, pad_id = 2, 3997
    end_ids: tuple[int, ...] = (2,)
    wrap = staticmethod(instruct)

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of `encode`: the template has no special tokens."""
        return self.encode(text)

    def __init__(self, path: Path, *, legacy: bool | None = None):
        import sentencepiece

        self.path = path
        self.legacy = _configured_legacy(path) if legacy is None else legacy
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise ValueError(f"{path} is not a valid SentencePiece model") from error
        self.vocab_size = self._model.vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of one text piece."""
        return list(self._model.encode(text))

    def encode_after_special(self, text: str, *, legacy: bool) -> list[int]:
        """Ids of text after a special token, without the leading space unless `legacy`."""
        if legacy:
            return self.encode(text)
        # A line feed is a byte piece, which no merge crosses: text after it gets no leading space.
        lead = self._model.encode("\n")
        return list(self._model.encode("\n" + text))[len(lead) :]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are skipped."""
        # A model's embedding may have more rows than the tokenizer has pieces.
        pieces = [int(i) for i in ids if 2 < i < self.vocab_size and i != self.pad_id]
        return str(self._model.decode(pieces))


def _configured_legacy(path: Path) -> bool:
    config = path.parent / TOKENIZER_CONFIG
    try:
        value = json.loads(config.read_text(encoding="utf-8")).get("legacy")
    except FileNotFoundError:
        return True
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{config} is not a JSON object ({error})") from error
    return value is not False


class SmallTokenizer:
    """A byte-fallback BPE tokenizer that a from-scratch run trains on its own texts.

    Ids as in LLaMA: 0 unknown, 1 BOS, 2 EOS, then padding, bytes and pieces.

    Args:
      text: the JSON from `to_text`.
    """

    bos_id: int | None = 1
    eos_id, pad_id = 2, 3
    end_ids: tuple[int, ...] = (2,)
    legacy = True
    wrap = staticmethod(instruct)

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of `encode`: the template has no special tokens."""
        return self.encode(text)

    def __init__(self, text: str):
        import tokenizers

        self._model: Any = tokenizers.Tokenizer.from_str(text)
        self._text = text
        self.vocab_size = int(self._model.get_vocab_size())

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> SmallTokenizer:
        """Trains a tokenizer with at most `size` ids on texts; deterministic."""
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, trainers

        specials = ["<unk>", "<s>", "</s>", "<pad>"]
        byte_pieces = [f"<0x{i:02X}>" for i in range(256)]
        model = tokenizers.Tokenizer(
            models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True)  # noqa: S106
        )
        # Tags are kept whole.
        split = pre_tokenizers.Split(tokenizers.Regex(r"</?\w+>|[.,:;?!]"), "isolated")
        model.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(prepend_scheme="always"), split]
        )
        model.decoder = decoders.Sequence(
            [
                decoders.Replace("\u2581", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=specials + byte_pieces, show_progress=False
        )
        model.train_from_iterator(sorted(set(texts)), trainer)
        data = json.loads(model.to_str())
        # Bytes must be ordinary pieces (only ids 0 to 3 are special), or decoding would drop them.
        data["added_tokens"] = [t for t in data["added_tokens"] if t["id"] < len(specials)]
        return cls(json.dumps(data, sort_keys=True))

    def encode(self, text: str) -> list[int]:
        """Ids of one text piece."""
        return list(self._model.encode(text, add_special_tokens=False).ids)

    def encode_after_special(self, text: str, *, legacy: bool) -> list[int]:
        """The ids of `encode`; this tokenizer has no other behavior."""
        del legacy
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are skipped."""
        return str(self._model.decode([int(i) for i in ids if int(i) > 3])).strip()

    def to_text(self) -> str:
        """The tokenizer as JSON."""
        return self._text


@dataclasses.dataclass(frozen=True)
class Row:
    """The tokens of one sample.

    Attributes:
      ids: token ids, 0 at soft tokens.
      soft: (start, count) of each run of soft tokens.
      prompt: number of tokens before the answer.
    """

    ids: list[int]
    soft: tuple[tuple[int, int], ...]
    prompt: int


def make_row(
    tokenizer: Tokenizer,
    prompt: str,
    answer: str | None,
    placeholders: Placeholders,
    *,
    max_answer: int = 1024,
    special: bool = False,
    legacy: bool | None = None,
) -> Row:
    """Tokenizes a prompt and an answer.

    Args:
      tokenizer: the tokenizer.
      prompt: the instruction, without BOS.
      answer: the target text, None to generate one.
      placeholders: placeholders that soft tokens replace; others remain text.
      max_answer: the answer is cut to this many tokens.
      special: `<s>` and `</s>` in the prompt are tokens, as in the released evaluations; together
        with the BOS of every row there are then two.
      legacy: whether text after a special token has a leading space; by default the tokenizer's.

    Raises:
      ValueError: the prompt does not contain each placeholder exactly once, in order.
    """
    ids = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    soft, text = [], prompt
    for name, count in placeholders:
        if prompt.count(name) != 1 or name not in text:
            raise ValueError(f"the prompt must contain {name} once and in order: {prompt!r}")
        before, text = text.split(name)
        ids += encode_piece(tokenizer, before, special=special, legacy=legacy)
        soft.append((len(ids), count))
        ids += [0] * count
    ids += encode_piece(tokenizer, text, special=special, legacy=legacy)
    target = [] if answer is None else [*tokenizer.encode(answer), tokenizer.eos_id][:max_answer]
    return Row([*ids, *target], tuple(soft), len(ids))


def encode_piece(
    tokenizer: Tokenizer, text: str, *, special: bool = False, legacy: bool | None = None
) -> list[int]:
    """Ids of one piece of text.

    Args:
      tokenizer: the tokenizer.
      text: the piece.
      special: whether `<s>` and `</s>` in the text are tokens.
      legacy: whether text after a special token has a leading space; by default the tokenizer's.
    """
    if not special:
        return tokenizer.encode_prompt(text)
    legacy = tokenizer.legacy if legacy is None else legacy
    assert tokenizer.bos_id is not None, "released layouts are for LLaMA-2"
    tokens = {"<s>": tokenizer.bos_id, "</s>": tokenizer.eos_id}
    ids: list[int] = []
    for part in filter(None, re.split("(</?s>)", text)):
        if part in tokens:
            ids.append(tokens[part])
        else:
            ids += (
                tokenizer.encode_after_special(part, legacy=legacy)
                if ids
                else tokenizer.encode(part)
            )
    return ids


class RowTooLong(ValueError):
    """A row does not fit any compiled size.

    Attributes:
      length: number of tokens of the row.
      limit: number of tokens of the longest compiled size.
    """

    def __init__(self, text: str, length: int, limit: int):
        super().__init__(text)
        self.length, self.limit = length, limit


def pick_bucket(length: int, answer: int, buckets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The smallest bucket (row length, answer length) that fits both lengths.

    Raises:
      RowTooLong: no bucket fits; the message names the setting to raise.
    """
    for bucket in sorted(buckets):
        if length <= bucket[0] and answer <= bucket[1]:
            return bucket
    raise RowTooLong(
        f"a row of {length} tokens with an answer of {answer} does not fit any of {list(buckets)}; "
        "raise config.data.buckets",
        length,
        max(b[0] for b in buckets),
    )


def collate_rows(
    rows: Sequence[Row],
    pad_id: int,
    buckets: Sequence[tuple[int, int]],
    *,
    bucket: tuple[int, int] | None = None,
) -> dict[str, np.ndarray]:
    """Rows -> arrays of a static size, padded on the right.

    Args:
      rows: B rows.
      pad_id: id of the padding token.
      buckets: compiled sizes (T, A) of rows and answers; the smallest that fits is used.
      bucket: the size to use instead.

    Returns:
      ids, soft_index and positions int32[B, T]; valid bool[B, T]; answer_at and labels int32[B, A]
      (labels are -100 after the answer and on padding ids); row_tokens int32[B].

    Raises:
      RowTooLong: a row does not fit any bucket.
    """
    longest = max(len(r.ids) for r in rows)
    longest_answer = max(len(r.ids) - r.prompt for r in rows)
    length, answer = bucket or pick_bucket(longest, longest_answer, buckets)
    size = len(rows)
    ids = np.full((size, length), pad_id, np.int32)
    soft_index = np.full((size, length), -1, np.int32)
    labels = np.full((size, answer), IGNORE, np.int32)
    answer_at = np.zeros((size, answer), np.int32)
    count = np.array([len(r.ids) for r in rows], np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        number = 0
        for start, tokens in row.soft:
            soft_index[i, start : start + tokens] = np.arange(number, number + tokens)
            number += tokens
        target = row.ids[row.prompt :]
        labels[i, : len(target)] = [IGNORE if t == pad_id else t for t in target]
        answer_at[i, : len(target)] = np.arange(row.prompt - 1, row.prompt - 1 + len(target))
    steps = np.arange(length, dtype=np.int32)
    return {
        "ids": ids,
        "soft_index": soft_index,
        "positions": np.broadcast_to(steps, ids.shape).copy(),
        "valid": steps[None] < count[:, None],
        "answer_at": answer_at,
        "labels": labels,
        "row_tokens": count,
    }

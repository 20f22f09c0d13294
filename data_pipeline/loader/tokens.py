"""Text -> token ids -> rows: chat pieces, the place of the soft prompt, answer positions, padding.

Row layout of training (Emotion-LLaMAv2): BOS, text before <VideoHere>, Q soft tokens, text after it,
answer, end token, padding. v1 has a second place, <FeatureHere>. Each text piece is tokenised on its own, so each
gets its leading blank.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

FEATURE_HERE = "<FeatureHere>"
IGNORE = -100
Places = Sequence[
    tuple[str, int]
]  # placeholder and how many soft tokens stand there, in the prompt's order


class Tokenizer(Protocol):
    """Text to ids and back, without special tokens unless asked."""

    bos_id: int
    eos_id: int
    pad_id: int
    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """Ids of one text piece."""

    def encode_after_special(self, text: str, legacy: bool) -> list[int]:
        """Ids of text that follows a special token: without the leading blank unless `legacy`."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""


class LlamaTokenizer:
    """LLaMA-2's SentencePiece model; padding is the existing piece `$$` (3997) as in the originals.

    By the sentencepiece library: the tokenizer that transformers 5 makes of the same file takes two blanks for one piece
    (259) where the originals have 29871 and the next word's own blank, so released prompts would get other ids.
    """

    bos_id, eos_id, pad_id = 1, 2, 3997

    def __init__(self, path: Path):
        import sentencepiece

        self.path = path
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise ValueError(f"{path} is no SentencePiece model, or damaged") from error
        self.vocab_size = self._model.vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of one text piece."""
        return list(self._model.encode(text))

    def encode_after_special(self, text: str, legacy: bool) -> list[int]:
        """Ids of text that follows a special token: without the leading blank unless `legacy`."""
        if legacy:
            return self.encode(text)
        # A line feed is a byte piece, which no merge crosses: what follows it has no blank in front.
        lead = self._model.encode("\n")
        return list(self._model.encode("\n" + text))[len(lead) :]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""
        # A model's embedding may have more rows than the tokenizer has pieces.
        kept = [int(i) for i in ids if 2 < i < self.vocab_size and i != self.pad_id]
        return str(self._model.decode(kept))


class SmallTokenizer:
    """A byte-fallback BPE that a from-scratch run trains on its own texts; kept as one JSON file.

    Numbering as in LLaMA: 0 unknown, 1 BOS, 2 EOS, then padding, bytes and pieces.
    """

    bos_id, eos_id, pad_id = 1, 2, 3

    def __init__(self, text: str):
        import tokenizers

        self._model: Any = tokenizers.Tokenizer.from_str(text)
        self._text = text
        self.vocab_size = int(self._model.get_vocab_size())

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> SmallTokenizer:
        """Learns at most `size` pieces from texts; deterministic."""
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, trainers

        specials = ["<unk>", "<s>", "</s>", "<pad>"]
        byte_pieces = [f"<0x{i:02X}>" for i in range(256)]
        model = tokenizers.Tokenizer(
            models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True)
        )
        split = pre_tokenizers.Split(
            tokenizers.Regex(r"</?\w+>|[.,:;?!]"), "isolated"
        )  # tags stay whole
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
        # Bytes must be ordinary pieces (only specials 0-3 are special), or decoding would drop them.
        data["added_tokens"] = [t for t in data["added_tokens"] if t["id"] < len(specials)]
        return cls(json.dumps(data, sort_keys=True))

    def encode(self, text: str) -> list[int]:
        """Ids of one text piece."""
        return list(self._model.encode(text, add_special_tokens=False).ids)

    def encode_after_special(self, text: str, legacy: bool) -> list[int]:
        """The ids of `encode`: this tokenizer knows no other behaviour."""
        del legacy
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""
        return str(self._model.decode([int(i) for i in ids if int(i) > 3])).strip()

    def to_text(self) -> str:
        """The JSON that makes the same tokenizer again."""
        return self._text


@dataclasses.dataclass(frozen=True)
class Row:
    """One sample: ids with zeros at the soft tokens; `soft`: (start, count) of each of their places; `prompt`: tokens
    before the answer.
    """

    ids: list[int]
    soft: tuple[tuple[int, int], ...]
    prompt: int


def make_row(
    tokenizer: Tokenizer,
    prompt: str,
    answer: str | None,
    places: Places,
    *,
    max_answer: int = 1024,
    special: bool = False,
    legacy: bool = True,
) -> Row:
    """A prompt and an answer to learn (None to generate one) as a Row.

    Args:
      places: placeholders that soft tokens replace; others stay as text.
      special: `<s>` and `</s>` in the prompt are tokens, as the released evaluations have it; with the BOS of every
        row there are then two.
      legacy: whether text behind a special token has its leading blank; see the tokenizers.

    Raises:
      ValueError: the prompt does not hold each place exactly once, in order.
    """
    ids, soft, rest = [tokenizer.bos_id], [], prompt
    for name, count in places:
        if prompt.count(name) != 1 or name not in rest:
            raise ValueError(f"the prompt needs {name} once and in its order: {prompt!r}")
        before, rest = rest.split(name)
        ids += encode_piece(tokenizer, before, special, legacy=legacy)
        soft.append((len(ids), count))
        ids += [0] * count
    ids += encode_piece(tokenizer, rest, special, legacy=legacy)
    target = [] if answer is None else [*tokenizer.encode(answer), tokenizer.eos_id][:max_answer]
    return Row([*ids, *target], tuple(soft), len(ids))


def encode_piece(
    tokenizer: Tokenizer, text: str, special: bool, *, legacy: bool = True
) -> list[int]:
    """Ids of one text piece, with `<s>` and `</s>` as tokens where `special`."""
    if not special:
        return tokenizer.encode(text)
    tokens = {"<s>": tokenizer.bos_id, "</s>": tokenizer.eos_id}
    ids: list[int] = []
    for part in filter(None, re.split("(</?s>)", text)):
        if part in tokens:
            ids.append(tokens[part])
        else:
            ids += tokenizer.encode_after_special(part, legacy) if ids else tokenizer.encode(part)
    return ids


class RowTooLong(ValueError):
    """A prompt that no compiled size holds. length: its tokens.  most: of the longest size."""

    def __init__(self, text: str, length: int, most: int):
        super().__init__(text)
        self.length, self.most = length, most


def pick_bucket(length: int, answer: int, buckets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The smallest (row length, answer length) that holds both.

    Raises:
      RowTooLong: none does; says which setting to raise.
    """
    for bucket in sorted(buckets):
        if length <= bucket[0] and answer <= bucket[1]:
            return bucket
    raise RowTooLong(
        f"a row of {length} tokens with an answer of {answer} fits none of {list(buckets)}; raise config.data.buckets",
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
    """Rows -> static arrays, padded on the right to the smallest fitting bucket, or to `bucket`.

    Returns:
      ids, soft_index, positions int32[B, T]; valid bool[B, T]; answer_at, labels int32[B, A] (labels
      -100 beyond the answer and on padding ids); row_tokens int32[B].
    """
    longest, longest_answer = (
        max(len(r.ids) for r in rows),
        max(len(r.ids) - r.prompt for r in rows),
    )
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

"""Clips -> what a model says of them: label probabilities from its own logits, and the reason it writes."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from data_pipeline.datasets.labels import normalise_answer
from data_pipeline.loader.batches import Collate, Sample, eval_batches, eval_row
from data_pipeline.loader.features import Features
from data_pipeline.loader.tokens import Tokenizer
from data_pipeline.media.augment import augment_views
from data_pipeline.media.views import Views
from data_pipeline.schema import MODALITIES, ClipRecord, Example
from emojax.bundle.model_folder import Bundle
from emojax.infer.device_transfer import to_device
from emojax.infer.engine import Engine, Session, shared_prefix
from emojax.infer.sample import Sampler, Variables, score_choices
from emojax.model.build import ModelConfig, make_model
from emojax.model.emotion_v1 import EmotionV1Config
from emojax.sharding import to_host

Items = Sequence[tuple[ClipRecord, Views]]
Tick = Callable[[int], None]
STREAMS = ("image", "video", "audio")
HEARD = "heard"

_score = jax.jit(score_choices, static_argnums=0)


@jax.jit(static_argnums=(0, 3))
def _encode(
    config: ModelConfig, variables: Variables, batch: dict[str, Any], heard: bool = False
) -> dict[str, Any]:
    if not heard:
        return make_model(config).apply(variables, batch, method="encode")._asdict()
    found, kept = make_model(config).apply(
        variables, batch, method="encode", mutable=["intermediates"]
    )
    return found._asdict() | {HEARD: kept["intermediates"]["encoder_states"][0]}


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Clips whose encoders have run: everything that is asked of them reads this.

    Attributes:
      copies: the clips as (record, Features), once as they are and once for each changed copy (`config.data.eval_views`).
      blank: features of nothing, by field.
      heard: states of Whisper's encoder for each clip, float[S, D], where they were asked for, else ().
    """

    copies: tuple[tuple[tuple[ClipRecord, Features], ...], ...]
    blank: Mapping[str, np.ndarray]
    heard: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return len(self.copies[0])

    @property
    def records(self) -> list[ClipRecord]:
        """Of the clips, in order."""
        return [r for r, _ in self.copies[0]]


def encode(bundle: Bundle, items: Items, *, batch: int = 50, heard: bool = False) -> Encoded:
    """Runs the encoders over clips, once for each copy that a label's probability is the mean of.

    Args:
      heard: also keep the states of Whisper's encoder, for its decoder (transcribe.py).

    Raises:
      ValueError: `heard` of a model whose sound is not heard by Whisper.
    """
    data = bundle.settings.data
    if heard and isinstance(bundle.settings.model, EmotionV1Config):
        raise ValueError(
            f"{bundle.name} hears by HuBERT: words are transcribed from Whisper's states alone"
        )
    states: list[np.ndarray] = []
    copies = [tuple(_features(bundle, items, batch, heard=states if heard else None))]
    for copy in range(1, data.eval_views):
        copies.append(
            tuple(
                _features(bundle, [(r, _changed(v, copy, data.augment)) for r, v in items], batch)
            )
        )
    nothing = _nothing(bundle)
    return Encoded(
        tuple(copies), next(iter(_features(bundle, [nothing], 1)))[1].arrays, tuple(states)
    )


def with_words(encoded: Encoded, words: Mapping[int, str]) -> Encoded:
    """The same clips with other words: {number of the clip: what is said}."""
    copies = tuple(
        tuple(
            (dataclasses.replace(r, subtitle=words.get(i, r.subtitle)), f)
            for i, (r, f) in enumerate(copy)
        )
        for copy in encoded.copies
    )
    return dataclasses.replace(encoded, copies=copies)


def _nothing(bundle: Bundle) -> tuple[ClipRecord, Views]:
    views = bundle.settings.views
    side, small = views.image_size, views.frame_size
    frames = np.zeros((views.num_frames, small, small, 3), np.uint8)
    empty = Views(
        image=np.zeros((side, side, 3), np.uint8),
        frames=frames,
        sound=np.zeros(views.sound_shape, np.float32),
        audio_frames=0,
        has_video=False,
        has_audio=False,
    )
    return ClipRecord(
        id="nothing",
        dataset="predict",
        split="test",
        path="",
        label=bundle.labels[0],
        labels=bundle.labels,
    ), empty


def _features(
    bundle: Bundle, items: Items, batch: int, *, heard: list[np.ndarray] | None = None
) -> list[tuple[ClipRecord, Features]]:
    out: list[tuple[ClipRecord, Features]] = []
    rows, size = bundle.rows(), min(batch, len(items))
    for data, real in eval_batches(
        items,
        "emotion",
        bundle.tokenizer,
        config=rows,
        batch=size,
        style=bundle.style,  # type: ignore[arg-type]
        modalities=("video", "audio"),
    ):
        made = _encode(bundle.settings.model, bundle.variables, to_device(data), heard is not None)
        found = {k: to_host(x) for k, x in made.items()}
        states = found.pop(HEARD, None)
        if heard is not None and states is not None:
            heard += list(states[:real])
        for i in range(real):
            record, views = items[len(out)]
            out.append(
                (
                    record,
                    Features({k: x[i] for k, x in found.items()}, views.has_video, views.has_audio),
                )
            )
    return out


def choice_ids(tokenizer: Tokenizer, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Label strings -> (int32[C', A] answer ids with their end token, zeros behind, int32[C'] lengths).

    A is a multiple of 4 and C' of 8, filled up with the first label again, so that label lists share compiled programs.
    """
    ids = [
        [*tokenizer.encode(normalise_answer(label)), tokenizer.eos_id] for label in labels
    ]
    width = -(-max(map(len, ids)) // 4) * 4
    ids += [ids[0]] * (-len(ids) % 8)
    return np.array([i + [0] * (width - len(i)) for i in ids], np.int32), np.array(
        [len(i) for i in ids], np.int32
    )


def label_probabilities(
    bundle: Bundle,
    items: Items | Encoded,
    labels: Sequence[str],
    *,
    modalities: Sequence[str] = MODALITIES,
    batch: int = 50,
    task: str = "emotion",
    tick: Tick | None = None,
) -> np.ndarray:
    """float64[n, C]: softmax over the labels of their length-normalised log-probabilities.

    Those of the label list that the model was calibrated for are calibrated (calibration.py).
    With `config.data.eval_views` above 1 it is the mean over the clip and changed copies of it (test-time
    augmentation, of the strength that training had; the same changes for every clip, so answers do not depend on
    neighbours).

    Args:
      items: clips with their views, or encoded. labels: any label strings. modalities: what may be used.
      tick: called with the number of clips done since the last call.
    """
    if not len(items):
        return np.zeros((0, len(labels)))
    tokenizer, settings = bundle.tokenizer, bundle.settings.data
    choices, lengths = choice_ids(tokenizer, labels)
    rows = bundle.rows()
    if isinstance(items, Encoded):
        rows = dataclasses.replace(rows, blank=items.blank)
    parts = []
    for start in range(0, len(items), batch):
        size = min(batch, len(items) - start)
        total = np.zeros((size, len(labels)))
        for copy in range(settings.eval_views):
            shown: Any
            if isinstance(items, Encoded):
                shown = items.copies[copy][start : start + batch]
            else:
                shown = [
                    (r, _changed(v, copy, settings.augment))
                    for r, v in items[start : start + batch]
                ]
            for data, real in eval_batches(
                shown,
                task,
                tokenizer,
                config=rows,
                batch=batch,
                style=bundle.style,  # type: ignore[arg-type]
                modalities=modalities,
            ):
                scores = _score(
                    bundle.settings.model, bundle.variables, to_device(data), choices, lengths
                )
                total += to_host(jax.nn.softmax(scores[:, : len(labels)], axis=-1)).astype(
                    np.float64
                )[:real]
        parts.append(total / settings.eval_views)
        if tick:
            tick(size)
    chances = np.concatenate(parts)
    own = bundle.calibration
    return own.apply(chances) if own and own.labels == tuple(labels) else chances


def _changed(views: Views, copy: int, strength: float) -> Views:
    return augment_views(views, np.random.default_rng(copy), strength=strength) if copy else views


def samples(
    bundle: Bundle,
    items: Items | Encoded,
    task: str,
    *,
    modalities: Sequence[str] = MODALITIES,
    question: str | None = None,
) -> tuple[list[Sample], Collate]:
    """Prompts of one task for clips, and how they become batches.

    Args:
      question: the user's own wording in place of the model's.
    """
    rows = bundle.rows()
    if question is not None:
        # As the pool's only wording it goes through the same code; braces of the user's text stay as they are.
        own = {**(rows.questions or {}), task: (question,)}
        rows = dataclasses.replace(rows, questions=own)
    streams = tuple(s for s in STREAMS if ("audio" if s == "audio" else "video") in modalities)
    found: Any = items
    if isinstance(items, Encoded):
        rows = dataclasses.replace(rows, blank=items.blank)
        found = items.copies[0]
    out = []
    for record, seen in found:
        text, row = eval_row(
            record,
            task,
            record.labels,
            tokenizer=bundle.tokenizer,
            config=rows,
            style=bundle.style,  # type: ignore[arg-type]
            modalities=modalities,
        )
        out.append(
            Sample(
                example=Example(clip=record, task=task, prompt=text, answer="", streams=streams),
                row=row,
                views=seen,
            )
        )
    return out, Collate(bundle.tokenizer, rows)


def clip_number(record: ClipRecord) -> int:
    """What the random draws of a clip's answers depend on, beside the seed: its id."""
    return zlib.crc32(record.id.encode())


def reasons(
    bundle: Bundle,
    items: Items | Encoded,
    *,
    modalities: Sequence[str] = MODALITIES,
    batch: int = 50,
    task: str | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
    tick: Tick | None = None,
) -> list[str]:
    """The text that the model writes for each clip, asked for its reason; greedy unless the sampler says otherwise."""
    if not len(items):
        return []
    sampler = sampler or Sampler(max_tokens=bundle.settings.data.max_answer)
    asked, collate = samples(bundle, items, task or bundle.reason_task, modalities=modalities)
    engine = Engine(
        config=bundle.settings.model,
        variables=bundle.variables,
        collate=collate,
        eos=bundle.tokenizer.eos_id,
        rows=batch,
    )
    seeds = [clip_number(s.example.clip) for s in asked]
    return [
        bundle.tokenizer.decode(ids) for ids in engine.write(asked, sampler, seeds, seed, tick=tick)
    ]


def converse(
    bundle: Bundle,
    clip: Encoded,
    questions: Sequence[tuple[str, str | None]],
    *,
    sampler: Sampler | None = None,
    seed: int = 0,
    on_text: Callable[[int, str], None] | None = None,
) -> list[str]:
    """Answers to several questions about one clip, which is computed once for all of them.

    Args:
      clip: one clip.  questions: (task, wording or None for the model's own).
      on_text: called with (number of the question, its answer so far) while it is written.
    """
    if len(clip) != 1:
        raise ValueError(f"questions are about one clip, not {len(clip)}")
    sampler = sampler or Sampler(max_tokens=bundle.settings.data.max_answer)
    pairs = [samples(bundle, clip, task, question=wording) for task, wording in questions]
    asked, collate = [p[0][0] for p in pairs], pairs[0][1]
    engine = Engine(
        config=bundle.settings.model,
        variables=bundle.variables,
        collate=collate,
        eos=bundle.tokenizer.eos_id,
        rows=len(asked),
    )
    decode = bundle.tokenizer.decode
    tokens = (lambda i, ids: on_text(i, decode(ids))) if on_text else None
    rows = [s.row for s in asked]
    shared = shared_prefix(rows)
    behind = max(start + size for start, size in rows[0].soft)
    if len(rows) == 1 or shared < behind:  # v1's layouts may put the question before the clip
        return [decode(ids) for ids in engine.write(asked, sampler, seed=seed, on_tokens=tokens)]
    longest = max(len(r.ids) for r in rows) - shared
    session = Session(engine, asked[0], shared, 2 * longest + 16 + sampler.max_tokens)
    return [decode(ids) for ids in session.write(rows, sampler, seed, tokens)]

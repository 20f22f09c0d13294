"""Runs the encoders over decoded clips, so that each further question about them is cheap."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from data_pipeline.loader.batches import eval_batches
from data_pipeline.loader.features import Features
from data_pipeline.media.augment import augment_views
from data_pipeline.media.views import Views
from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import Bundle
from emojax.infer.device_transfer import to_device
from emojax.infer.sample import Variables
from emojax.model.build import ModelConfig, make_model
from emojax.model.parts import ENCODERS
from emojax.sharding import to_host

Items = Sequence[tuple[ClipRecord, Views]]
_STATES = "encoder_states"


@jax.jit(static_argnames=("config", "keep_states"))
def _encode(
    config: ModelConfig, variables: Variables, batch: dict[str, Any], *, keep_states: bool = False
) -> dict[str, Any]:
    model = make_model(config)
    fields: dict[str, Any]
    if not keep_states:
        fields = model.apply(variables, batch, method="encode")
        return fields
    encoded, kept = model.apply(variables, batch, method="encode", mutable=["intermediates"])
    fields = encoded | {_STATES: kept["intermediates"]["encoder_states"][0]}
    return fields


class BlankFeatures(Mapping[str, np.ndarray]):
    """Features of a clip without content, by field, encoded when one of them is first read.

    Only questions that hide the picture of a clip read them.
    """

    def __init__(self, bundle: Bundle, names: Sequence[str]):
        self._bundle, self._names = bundle, tuple(names)

    @functools.cached_property
    def _arrays(self) -> Mapping[str, np.ndarray]:
        ((_, blank),) = _features(self._bundle, [_blank_clip(self._bundle)], 1)
        return blank.arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Clips whose encoders have run, so that each further question is cheap.

    Attributes:
      copies: the clips as (record, Features): the originals, then one tuple per augmented copy
        (`config.data.eval_views`).
      blank: features of a clip without content, by field.
      encoder_states: states of Whisper's encoder per clip, float[S, D]; empty if not kept.
    """

    copies: tuple[tuple[tuple[ClipRecord, Features], ...], ...]
    blank: Mapping[str, np.ndarray]
    encoder_states: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return len(self.copies[0])

    @property
    def records(self) -> list[ClipRecord]:
        """Records of the clips, in order."""
        return [r for r, _ in self.copies[0]]


def encode(
    bundle: Bundle, items: Items, *, batch_size: int = 50, keep_encoder_states: bool = False
) -> Encoded:
    """Runs the encoders over clips and over their augmented copies.

    Args:
      bundle: the model.
      items: clips with their views.
      batch_size: clips per forward pass.
      keep_encoder_states: also keep the states of Whisper's encoder, for `Transcriber`.

    Returns:
      The clips with their features, in the order of `items`.

    Raises:
      ValueError: states are to be kept, but the model's audio encoder is not Whisper.
    """
    data = bundle.settings.data
    if keep_encoder_states:
        _check_transcribable(bundle)
    states: list[np.ndarray] | None = [] if keep_encoder_states else None
    copies = [tuple(_features(bundle, items, batch_size, states=states))]
    for copy in range(1, data.eval_views):
        changed = [(r, augmented(v, copy, data.augment)) for r, v in items]
        copies.append(tuple(_features(bundle, changed, batch_size)))
    names = [name for _, features in copies[0][:1] for name in features.arrays]
    return Encoded(tuple(copies), BlankFeatures(bundle, names), tuple(states or ()))


def _check_transcribable(bundle: Bundle) -> None:
    """Raises ValueError unless the audio encoder has the states that Whisper's decoder reads."""
    model = bundle.settings.model
    if model.audio_family != "whisper":
        raise ValueError(
            f"{bundle.name} encodes audio with {ENCODERS[model.audio_family].title}:"
            " words can only be transcribed from the states of Whisper's encoder"
        )
    if model.audio.encoder.layer_weights:
        raise ValueError(
            f"{bundle.name} averages the layers of Whisper's encoder (config.model.audio."
            "layer_weights): words can only be transcribed from the states of its last layer"
        )


def with_subtitles(encoded: Encoded, subtitles: Mapping[int, str]) -> Encoded:
    """The same clips with other subtitles: {number of the clip: subtitle}."""
    copies = tuple(
        tuple(
            (dataclasses.replace(r, subtitle=subtitles.get(i, r.subtitle)), f)
            for i, (r, f) in enumerate(copy)
        )
        for copy in encoded.copies
    )
    return dataclasses.replace(encoded, copies=copies)


def _blank_clip(bundle: Bundle) -> tuple[ClipRecord, Views]:
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
    return unlabelled_record(bundle, "nothing"), empty


def unlabelled_record(
    bundle: Bundle,
    clip_id: str,
    *,
    labels: Sequence[str] | None = None,
    path: str = "",
    subtitle: str = "",
    speaker: str = "",
    dataset: str = "predict",
) -> ClipRecord:
    """The record of a clip that is to be predicted; its label is a placeholder.

    Args:
      bundle: the model.
      clip_id: id of the record.
      labels: label list, the model's own by default.
      path: media file, "" if there is none.
      subtitle: spoken words.
      speaker: identity, "" if not known.
      dataset: name of the record's data set.
    """
    labels = tuple(labels or bundle.labels)
    return ClipRecord(
        id=clip_id,
        dataset=dataset,
        split="test",
        path=path,
        label=labels[0],
        labels=labels,
        subtitle=subtitle,
        speaker=speaker,
    )


def _features(
    bundle: Bundle, items: Items, batch_size: int, *, states: list[np.ndarray] | None = None
) -> list[tuple[ClipRecord, Features]]:
    """Features of clips; `states`, if given, receives the states of Whisper's encoder."""
    out: list[tuple[ClipRecord, Features]] = []
    for data, real in eval_batches(
        items,
        "emotion",
        bundle.tokenizer,
        config=bundle.rows(),
        batch=min(batch_size, len(items)),
        style=bundle.style,  # type: ignore[arg-type]
        modalities=("video", "audio"),
    ):
        keep_states = states is not None
        encoded = _encode(
            bundle.settings.model, bundle.variables, to_device(data), keep_states=keep_states
        )
        arrays = {k: to_host(x) for k, x in encoded.items()}
        if states is not None:
            states += list(arrays.pop(_STATES)[:real])
        for i in range(real):
            record, views = items[len(out)]
            row = {k: x[i] for k, x in arrays.items()}
            out.append((record, Features(row, views.has_video, views.has_audio)))
    return out


def augmented(views: Views, copy: int, strength: float) -> Views:
    """The views of copy number `copy`: 0 is the clip itself, others are augmented."""
    return augment_views(views, np.random.default_rng(copy), strength=strength) if copy else views

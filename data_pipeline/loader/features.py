"""Reads cached outputs of frozen encoders: one array_record item per clip.

emojax/workflows/encode_features.py writes them. A cache is specific to the encoders (weights and
sizes), the views and the number format; a cache that does not match the model is rejected. Absent
modalities are not stored: a flag marks them, and a batch contains the encoder's output for zeros
(`blank`) in their place, or zeros where the model masks them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from array_record.python import array_record_data_source

from data_pipeline.builders.shards import unpack_fields
from data_pipeline.schema import ClipRecord, read_records

FORMAT = 1
# The stream that each field of the encoders' outputs is computed from.
_STREAMS = {
    "image": "image",
    "video": "video",
    "face": "video",
    "motion": "video",
    "audio": "audio",
}
HEADER, BLANK, RECORDS = "cache.json", "blank.npz", "records.jsonl"
_DTYPES: dict[str, Any] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


def stream_of(field: str) -> str:
    """The stream (`image`, `video` or `audio`) that a field of the encoders' outputs comes from.

    Raises:
      ValueError: the field is not known.
    """
    if field not in _STREAMS:
        raise ValueError(
            f"the feature '{field}' has no stream: add it to data_pipeline/loader/features.py, "
            f"which knows {', '.join(_STREAMS)}"
        )
    return _STREAMS[field]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """What a cache was made with; caches with equal settings are interchangeable.

    Attributes:
      encoder: hash of the weights and sizes of the frozen encoders.
      views: hash of the view sizes and the frame sampling.
      dtype: `bfloat16` or `float32`.
      shapes: shape of a clip's features by field, without batch axis.
      streams: field -> the stream it is computed from (`image`, `video`, `audio`).
    """

    encoder: str
    views: str
    dtype: str
    shapes: dict[str, tuple[int, ...]]
    streams: dict[str, str]

    def to_json(self) -> str:
        """The text of the header file."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> CacheConfig:
        """The inverse of `to_json`.

        Raises:
          ValueError: the header has another format.
        """
        fields = json.loads(text)
        if fields.pop("format", None) != FORMAT:
            raise ValueError(
                "the feature cache was made by another version of emojax: encode again"
            )
        return cls(**{**fields, "shapes": {k: tuple(v) for k, v in fields["shapes"].items()}})

    def key(self, clip: str) -> str:
        """The key stored with each clip: 16 hex digits of clip hash, encoder and views."""
        return hashlib.sha256(
            json.dumps([FORMAT, clip, self.encoder, self.views, self.dtype]).encode()
        ).hexdigest()[:16]

    def differences(self, other: CacheConfig) -> list[str]:
        """Names of the fields that differ."""
        return [
            f.name
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != getattr(other, f.name)
        ]


def fingerprint_of(*parts: Any) -> str:
    """Hash of plain values, 16 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Features:
    """The encoder outputs of one clip.

    Attributes:
      arrays: features by field, in the number format of the cache.
      has_video: whether the clip has a picture.
      has_audio: whether the clip has sound.
    """

    arrays: dict[str, np.ndarray]
    has_video: bool
    has_audio: bool


def pack_features(
    record: ClipRecord, clip: str, config: CacheConfig, features: Features
) -> dict[str, bytes]:
    """Packs one clip into the fields of its item; absent modalities are not stored.

    Args:
      record: the clip.
      clip: hash of the clip's media.
      config: settings of the cache.
      features: the encoder outputs.

    Raises:
      ValueError: a feature does not have the shape in `config`.
    """
    present = {
        "image": features.has_video,
        "video": features.has_video,
        "audio": features.has_audio,
    }
    facts = {
        "key": config.key(clip),
        "clip": clip,
        "has_video": features.has_video,
        "has_audio": features.has_audio,
    }
    fields = {"record": record.to_json().encode(), "facts": json.dumps(facts).encode()}
    for name, array in features.arrays.items():
        if present[config.streams[name]]:
            if array.shape != config.shapes[name]:
                raise ValueError(
                    f"{name} of {record.id} has shape {array.shape}, not {config.shapes[name]}"
                )
            fields[name] = np.ascontiguousarray(array, _DTYPES[config.dtype]).tobytes()
    return fields


class FeatureSource:
    """Random access to the clips of one data set and split: index -> (ClipRecord, Features).

    Args:
      folder: holds the array_record files of the split.
      config: settings of the cache.
      build: key of the built data set that was encoded, "" if unknown.

    Raises:
      ValueError: the folder has no readable features. Access raises it for an item that was made
        with other settings or lacks a stream that its flags promise.
    """

    def __init__(self, folder: Path, config: CacheConfig, *, build: str = ""):
        self.folder, self.config, self.build = folder, config, build
        self._files = [str(p) for p in sorted(folder.glob("*.array_record"))]
        if not self._files:
            raise ValueError(f"{folder} contains no features")
        try:
            self._source = array_record_data_source.ArrayRecordDataSource(self._files)
            len(self._source)
        except Exception as error:  # array_record raises various errors on truncated files
            raise ValueError(
                f"the features in {folder} are damaged: run the encoding again"
            ) from error
        self._records: list[ClipRecord] | None = None

    def __len__(self) -> int:
        return len(self._source)

    @property
    def records(self) -> list[ClipRecord]:
        """The records of all clips, without reading their features.

        Raises:
          OSError: the file of records cannot be read.
          ValueError: one of its lines is not a valid record.
        """
        if self._records is None:
            self._records = read_records(self.folder / RECORDS)
        return self._records

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "config": self.config, "build": self.build}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __getitem__(self, index: Any) -> tuple[ClipRecord, Features]:
        fields = unpack_fields(self._source[int(index)])
        facts = json.loads(fields["facts"])
        record = ClipRecord.from_json(fields["record"])
        if facts["key"] != self.config.key(facts["clip"]):
            raise ValueError(
                f"{self.folder}: the features of {record.id} were made with other settings: "
                "encode again"
            )
        arrays = {}
        for name, shape in self.config.shapes.items():
            stream = self.config.streams[name]
            present = facts["has_audio"] if stream == "audio" else facts["has_video"]
            if present != (name in fields):
                raise ValueError(
                    f"{self.folder}: {record.id} should {'' if present else 'not '}have {name}: "
                    "encode again"
                )
            if present:
                array = np.frombuffer(fields[name], _DTYPES[self.config.dtype])
                arrays[name] = array.reshape(shape)
        return record, Features(arrays, facts["has_video"], facts["has_audio"])


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """An opened cache.

    Attributes:
      config: its settings.
      blank: the encoder outputs for an absent modality, by field.
      sources: the features by data set and split.
    """

    config: CacheConfig
    blank: dict[str, np.ndarray]
    sources: dict[str, dict[str, FeatureSource]]


def open_cache(
    folder: Path, required: CacheConfig, *, names: Sequence[str] | None = None
) -> FeatureCache:
    """Opens a cache for a model.

    Args:
      folder: output folder of `emojax data encode`.
      required: settings that the model requires.
      names: the data sets to open, None for all.

    Raises:
      ValueError: there is no cache, it has other settings, or it is incomplete.
    """
    if not (folder / HEADER).exists():
        raise ValueError(
            f"{folder} contains no feature cache: "
            f"run `emojax data encode BUILT {folder} --model NAME`"
        )
    config = CacheConfig.from_json((folder / HEADER).read_text())
    if differing := config.differences(required):
        raise ValueError(
            f"the feature cache in {folder} was made with another {', '.join(differing)} than this "
            "model's: encode again into another folder"
        )
    sources: dict[str, dict[str, FeatureSource]] = {}
    for done in sorted(folder.glob("*/*/done.json")):
        name, split = done.parts[-3:-1]
        if names and name not in names:
            continue
        facts = json.loads(done.read_text())
        source = FeatureSource(done.parent, config, build=facts["build"])
        if len(source) != facts["clips"]:
            raise ValueError(
                f"{done.parent} contains {len(source)} clips, {facts['clips']} were encoded: "
                "encode again"
            )
        sources.setdefault(name, {})[split] = source
    unfinished = [
        p for p in sorted(folder.glob("*/*")) if p.is_dir() and not (p / "done.json").exists()
    ]
    if unfinished:
        raise ValueError(f"the encoding of {unfinished[0]} is not complete: run it again")
    if not sources or (names and set(names) - set(sources)):
        raise ValueError(
            f"{folder} contains {', '.join(sources) or 'no data set'}; "
            f"requested: {', '.join(names or ())}"
        )
    return FeatureCache(config, read_blank(folder, config), sources)


def write_blank(folder: Path, blank: dict[str, np.ndarray]) -> None:
    """Stores the encoder outputs for an absent modality."""
    arrays: dict[str, Any] = {k: v.astype(np.float32) for k, v in blank.items()}
    np.savez(folder / BLANK, **arrays)


def read_blank(folder: Path, config: CacheConfig) -> dict[str, np.ndarray]:
    """The inverse of `write_blank`, in the number format of the cache."""
    with np.load(folder / BLANK, allow_pickle=False) as data:
        return {k: data[k].astype(_DTYPES[config.dtype]) for k in config.shapes}

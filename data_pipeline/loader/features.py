"""Cached outputs of frozen encoders, read back: one array_record item a clip, checked against what a model needs.

`encode.py` writes them. A cache belongs to one encoder (its weights and sizes), one way of looking at clips and one number
format; a cache of another is refused, never read. A modality that a clip does not have is not stored: it is an explicit
flag, and its place in a batch is what the encoder makes of nothing (`blank`), or zeros where the model masks it.
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
HEADER, BLANK, RECORDS = "cache.json", "blank.npz", "records.jsonl"
_DTYPES: dict[str, Any] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """What a cache was made by; two caches are the same when these are.

    Attributes:
      encoder: hash of the frozen encoders' weights and sizes.
      views: hash of view sizes and frame choice.
      dtype: `bfloat16` or `float32`.
      shapes: of one clip's features by field, without the batch axis.
      streams: field -> the stream it is made of (`image`, `video`, `audio`).
    """

    encoder: str
    views: str
    dtype: str
    shapes: dict[str, tuple[int, ...]]
    streams: dict[str, str]

    def to_json(self) -> str:
        """The header file's text."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> CacheConfig:
        """The inverse of `to_json`.

        Raises:
          ValueError: of another format.
        """
        fields = json.loads(text)
        if fields.pop("format", None) != FORMAT:
            raise ValueError("the feature cache is of another version of emojax: encode again")
        return cls(**{**fields, "shapes": {k: tuple(v) for k, v in fields["shapes"].items()}})

    def key(self, clip: str) -> str:
        """16 hex digits of clip hash, encoder and views: what every record carries."""
        return hashlib.sha256(
            json.dumps([FORMAT, clip, self.encoder, self.views, self.dtype]).encode()
        ).hexdigest()[:16]

    def differences(self, other: CacheConfig) -> list[str]:
        """Names of the fields in which two differ."""
        return [
            f.name
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != getattr(other, f.name)
        ]


def fingerprint_of(*parts: Any) -> str:
    """16 hex digits of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Features:
    """One clip's encoder outputs by field, in the cache's number format; flags say which streams the clip has."""

    arrays: dict[str, np.ndarray]
    has_video: bool
    has_audio: bool


def pack_features(
    record: ClipRecord, clip: str, config: CacheConfig, features: Features
) -> dict[str, bytes]:
    """One clip as fields of its item; what it does not have is not written."""
    there = {"image": features.has_video, "video": features.has_video, "audio": features.has_audio}
    facts = {
        "key": config.key(clip),
        "clip": clip,
        "has_video": features.has_video,
        "has_audio": features.has_audio,
    }
    fields = {"record": record.to_json().encode(), "facts": json.dumps(facts).encode()}
    for name, array in features.arrays.items():
        if there[config.streams[name]]:
            if array.shape != config.shapes[name]:
                raise ValueError(
                    f"{name} of {record.id} is of shape {array.shape}, not {config.shapes[name]}"
                )
            fields[name] = np.ascontiguousarray(array, _DTYPES[config.dtype]).tobytes()
    return fields


class FeatureSource:
    """Random access to the clips of one data set and split: number -> (ClipRecord, Features).

    Raises:
      ValueError: an item that was made with other settings, or that lacks a stream its flags promise.
    """

    def __init__(self, folder: Path, config: CacheConfig):
        self.folder, self.config = folder, config
        self._files = [str(p) for p in sorted(folder.glob("*.array_record"))]
        if not self._files:
            raise ValueError(f"{folder} holds no features")
        try:
            self._source = array_record_data_source.ArrayRecordDataSource(self._files)
            len(self._source)
        except Exception as error:  # whatever array_record raises on a file that is cut
            raise ValueError(
                f"the features in {folder} are damaged: run the encoding again"
            ) from error
        self._records: list[ClipRecord] | None = None
        self.build = ""  # key of the built data that were encoded

    def __len__(self) -> int:
        return len(self._source)

    @property
    def records(self) -> list[ClipRecord]:
        """What is annotated of every clip, without its features."""
        if self._records is None:
            self._records = read_records(self.folder / RECORDS)
        return self._records

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "config": self.config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], state["config"])  # type: ignore[misc]

    def __getitem__(self, index: Any) -> tuple[ClipRecord, Features]:
        fields = unpack_fields(self._source[int(index)])
        facts = json.loads(fields["facts"])
        record = ClipRecord.from_json(fields["record"])
        if facts["key"] != self.config.key(facts["clip"]):
            raise ValueError(
                f"{self.folder}: the features of {record.id} were made with other settings: encode again"
            )
        arrays = {}
        for name, shape in self.config.shapes.items():
            stream = self.config.streams[name]
            there = facts["has_audio"] if stream == "audio" else facts["has_video"]
            if there != (name in fields):
                raise ValueError(
                    f"{self.folder}: {record.id} should {'' if there else 'not '}have {name}: encode again"
                )
            if there:
                arrays[name] = np.frombuffer(fields[name], _DTYPES[self.config.dtype]).reshape(
                    shape
                )
        return record, Features(arrays, facts["has_video"], facts["has_audio"])


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """An opened cache: its settings, the encoder's outputs for an absent modality, sources by data set and split."""

    config: CacheConfig
    blank: dict[str, np.ndarray]
    sources: dict[str, dict[str, FeatureSource]]


def open_cache(
    folder: Path, wanted: CacheConfig, *, names: Sequence[str] | None = None
) -> FeatureCache:
    """Opens a cache for a model.

    Args:
      folder: of `emojax data encode`.
      wanted: what the model needs.
      names: data sets; None: all of them.

    Raises:
      ValueError: no cache, one of other settings, or one that is not complete.
    """
    if not (folder / HEADER).exists():
        raise ValueError(
            f"{folder} holds no feature cache: run `emojax data encode BUILT {folder} --model NAME`"
        )
    config = CacheConfig.from_json((folder / HEADER).read_text())
    if differing := config.differences(wanted):
        raise ValueError(
            f"the feature cache in {folder} was made with another {', '.join(differing)} than this model's: encode again "
            "into another folder"
        )
    sources: dict[str, dict[str, FeatureSource]] = {}
    for done in sorted(folder.glob("*/*/done.json")):
        name, split = done.parts[-3:-1]
        if names and name not in names:
            continue
        source = FeatureSource(done.parent, config)
        facts = json.loads(done.read_text())
        source.build = facts["build"]
        if len(source) != facts["clips"]:
            raise ValueError(
                f"{done.parent} holds {len(source)} clips, {facts['clips']} were encoded: encode again"
            )
        sources.setdefault(name, {})[split] = source
    unfinished = [
        p for p in sorted(folder.glob("*/*")) if p.is_dir() and not (p / "done.json").exists()
    ]
    if unfinished:
        raise ValueError(f"the encoding of {unfinished[0]} has not ended: run it again")
    if not sources or (names and set(names) - set(sources)):
        raise ValueError(
            f"{folder} holds {', '.join(sources) or 'no data set'}; asked for {', '.join(names or ())}"
        )
    return FeatureCache(config, read_blank(folder, config), sources)


def write_blank(folder: Path, blank: dict[str, np.ndarray]) -> None:
    """Keeps the encoder's outputs for an absent modality."""
    np.savez(folder / BLANK, **{k: v.astype(np.float32) for k, v in blank.items()})  # type: ignore[arg-type]


def read_blank(folder: Path, config: CacheConfig) -> dict[str, np.ndarray]:
    """The inverse of `write_blank`, in the cache's number format."""
    with np.load(folder / BLANK, allow_pickle=False) as data:
        return {k: data[k].astype(_DTYPES[config.dtype]) for k in config.shapes}

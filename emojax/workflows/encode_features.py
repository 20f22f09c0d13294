"""Caches the features of the frozen encoders for every clip of a built data set, for training.

In several processes each encodes its own chunks. An interrupted run continues after the last
complete chunk. Clips whose stored media or annotations have changed are encoded again.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.builders.shards import (
    BuiltSet,
    pack_fields,
    read_chunk,
    unpack_fields,
    write_chunk,
)
from data_pipeline.io import write_json
from data_pipeline.loader.features import (
    HEADER,
    RECORDS,
    CacheConfig,
    Features,
    fingerprint_of,
    pack_features,
    stream_of,
    write_blank,
)
from data_pipeline.loader.samples import view_arrays
from data_pipeline.media.storage import stored_views
from data_pipeline.media.views import Views
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import ClipRecord, write_records
from emojax.bundle.model_folder import load_bundle
from emojax.config import Settings, original_names
from emojax.model.build import ModelConfig, make_model
from emojax.model.variables import Flat, flatten, is_encoder_path, merge, variable_shardings
from emojax.sharding import batch_sharding, make_mesh, to_host

CHUNK = 32  # clips per array_record file; a killed run has to encode at most these again


def encoder_id(settings: Settings, variables: Flat) -> str:
    """Hash of the encoders' weights, and of the sizes and precision that they run at."""
    digest = hashlib.sha256()
    for path in sorted(p for p in variables if is_encoder_path(p)):
        array = to_host(variables[path])
        digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).tobytes())
    model = original_names(settings.raw)["model"]  # caches of earlier versions are found again
    others = ("llama", "lora", "fusion", "remat", "remat_long", "long_row", "unroll", "param_dtype")
    named = {k: model[k] for k in sorted(model) if k not in others}
    return fingerprint_of(digest.hexdigest(), named)


def cache_config(settings: Settings, variables: Flat) -> CacheConfig:
    """The header of a cache for this model; bfloat16 unless the model computes in float32."""
    shapes = feature_shapes(settings.model)
    views = fingerprint_of(
        dataclasses.asdict(settings.views), dataclasses.asdict(settings.sampling(None))
    )
    dtype = "float32" if settings.raw["model"]["compute_dtype"] == "float32" else "bfloat16"
    streams = {name: stream_of(name) for name in shapes}
    return CacheConfig(
        encoder=encoder_id(settings, variables),
        views=views,
        dtype=dtype,
        shapes=shapes,
        streams=streams,
    )


def feature_shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each field of one clip's features."""
    module = make_model(model)
    struct: Any = jax.ShapeDtypeStruct  # has no types
    batch = {
        k: struct((1, *v), jnp.float32 if k == "sound" else jnp.uint8)
        for k, v in model.view_shapes.items()
    }
    batch["audio_frames"] = struct((1,), jnp.int32)
    batch |= {f"has_{s}": struct((1,), jnp.bool_) for s in ("image", "video", "audio")}

    def run(key: jax.Array, b: dict[str, jax.Array]) -> Any:
        return module.init_with_output(key, b, method="encode")[0]

    out = jax.eval_shape(run, jax.random.key(0), batch)
    return {name: tuple(x.shape[1:]) for name, x in out.items()}


def encode_with_model(
    model: Path,
    built: dict[str, BuiltSet],
    *,
    out: Path,
    batch: int,
    progress: Progress = no_progress,
) -> CacheConfig:
    """Encodes built data sets with a model folder, on the devices of this process.

    Args:
      model: the model folder.
      built: data sets by name.
      out: the cache folder.
      batch: clips at once per device.
      progress: see `encode_built`.

    Returns:
      The header of the cache.

    Raises:
      ValueError: see `encode_built`.
    """
    bundle, devices = load_bundle(model), jax.local_devices()
    mesh = make_mesh(shape=(-1, 1, 1), devices=devices)
    shardings = variable_shardings(bundle.settings.model, mesh)
    with jax.set_mesh(mesh):
        # Only the encoders go to the devices: the language model is not needed.
        towers = {
            p: jax.device_put(x, shardings[p])
            for p, x in flatten(bundle.variables).items()
            if is_encoder_path(p)
        }
        return encode_built(
            bundle.settings,
            towers,
            built,
            out=out,
            mesh=mesh,
            batch=batch * len(devices),
            progress=progress,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Encoders:
    """The compiled encoders.

    Attributes:
      settings: the model's.
      run: (variables, batch of views) -> features.
      towers: the encoders' variables.
      mesh: clips of a batch are distributed over it.
      batch: clips of a batch.
    """

    settings: Settings
    run: Callable[..., Any]
    towers: Flat
    mesh: jax.sharding.Mesh
    batch: int

    def __call__(self, views: Sequence[Views]) -> dict[str, Any]:
        """Encodes at most `batch` clips: {field: [batch, ...]}; rows after theirs are padding."""
        features = self.run(self.towers, _put(views, self.batch, self.mesh))
        fields: dict[str, Any] = jax.device_get(features)
        return fields


def encode_built(
    settings: Settings,
    variables: Flat,
    built: dict[str, BuiltSet],
    *,
    out: Path,
    mesh: jax.sharding.Mesh,
    batch: int,
    progress: Progress = no_progress,
) -> CacheConfig:
    """Encodes all clips of built data sets into a cache folder.

    Args:
      settings: the settings of the model.
      variables: its flat variables.
      built: data sets by name.
      out: the cache folder.
      mesh: clips of a batch are distributed over it.
      batch: clips encoded at once.
      progress: gets the task "encode clips", of this process.

    Returns:
      The header of the cache.

    Raises:
      ValueError: `out` was made with other settings, or the data do not fit this model.
    """
    config = cache_config(settings, variables)
    for one in built.values():
        one.config.check(settings.views, settings.sampling(None))
    _claim(out, config)
    module = make_model(settings.model)
    encoders = _Encoders(
        settings=settings,
        run=jax.jit(lambda v, b: module.apply(merge(v, {}), b, method="encode")),
        towers={p: x for p, x in variables.items() if is_encoder_path(p)},
        mesh=mesh,
        batch=batch,
    )
    if jax.process_index() == 0:
        write_blank(out, _encode_blank(encoders))
    _encode_chunks(built, out, config, encoders, progress=progress)
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("encoded")
    if jax.process_index() == 0:
        for name, one in built.items():
            for split, source in sorted(one.sources.items()):
                records = [r for r in one.records() if r.split == split]
                _finish(out / name / split, records, len(source), one.key)
    return config


def _encode_chunks(
    built: dict[str, BuiltSet],
    out: Path,
    config: CacheConfig,
    encoders: _Encoders,
    *,
    progress: Progress,
) -> None:
    """Encodes the chunks of this process that are missing or out of date."""
    chunks = [
        (name, split, source, chunk)
        for name, one in built.items()
        for split, source in sorted(one.sources.items())
        for chunk in _own_chunks(len(source))
    ]
    total, done = sum(min(CHUNK, len(source) - c * CHUNK) for _, _, source, c in chunks), 0
    progress("encode clips", done, total)
    for name, split, source, chunk in chunks:
        numbers = range(chunk * CHUNK, min(len(source), (chunk + 1) * CHUNK))
        path = out / name / split / f"{chunk:06d}.array_record"
        path.parent.mkdir(parents=True, exist_ok=True)
        elements = [{k: bytes(v) for k, v in source[i].items()} for i in numbers]
        if not _is_current(path, elements, config):
            _encode_chunk(path, elements, built[name], config=config, encoders=encoders)
        done += len(numbers)
        progress("encode clips", done, total)


def _own_chunks(size: int) -> Iterator[int]:
    yield from range(jax.process_index(), -(-size // CHUNK), jax.process_count())


def _claim(out: Path, config: CacheConfig) -> None:
    header = out / HEADER
    if header.exists():
        differing = CacheConfig.from_json(header.read_text()).differences(config)
        if differing:
            raise ValueError(
                f"{out} holds features made with another {', '.join(differing)}: "
                "choose another folder"
            )
    out.mkdir(parents=True, exist_ok=True)
    # Named by process: on a shared disk, processes of several machines may have one process id.
    part = header.with_suffix(f".{jax.process_index()}")
    part.write_text(config.to_json())
    os.replace(part, header)


def _finish(folder: Path, records: Sequence[ClipRecord], clips: int, build: str) -> None:
    current = {f"{c:06d}.array_record" for c in range(-(-clips // CHUNK))}
    for path in folder.glob("*.array_record"):
        if path.name not in current:  # of an earlier, longer build
            path.unlink()
    write_records(folder / RECORDS, records)
    write_json(folder / "done.json", {"clips": clips, "build": build})


def clip_hash(element: dict[str, bytes]) -> str:
    """Hash of the stored media and time span of a clip, without its labels."""
    record = ClipRecord.from_json(element["record"])
    digest = hashlib.sha256(
        json.dumps([record.id, record.start, record.end, record.peak_index]).encode()
    )
    for name in ("media", "frames", "sound"):
        digest.update(hashlib.sha256(element[name]).digest())
    return digest.hexdigest()[:32]


def _is_current(path: Path, elements: Sequence[dict[str, bytes]], config: CacheConfig) -> bool:
    """Whether a chunk holds exactly these clips, settings and annotations."""
    if not path.exists():
        return False
    try:
        items = [unpack_fields(item) for item in read_chunk(path)]
    except Exception:  # whatever array_record raises for a truncated file
        return False
    if len(items) != len(elements):
        return False
    return all(
        json.loads(item["facts"])["key"] == config.key(clip_hash(element))
        and item["record"] == element["record"]
        for item, element in zip(items, elements, strict=True)
    )


def _put(views: Sequence[Views], size: int, mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    rows = [view_arrays(v) for v in views]
    rows += [rows[-1]] * (size - len(rows))  # one compiled size
    # The mesh has devices of this process only: each process encodes at its own pace.
    arrays = {k: np.stack([r[k] for r in rows]) for k in rows[0]}
    placed: dict[str, jax.Array] = jax.device_put(arrays, batch_sharding(mesh))
    return placed


def _encode_chunk(
    path: Path,
    elements: Sequence[dict[str, bytes]],
    built: BuiltSet,
    *,
    config: CacheConfig,
    encoders: _Encoders,
) -> None:
    settings = encoders.settings
    records = [ClipRecord.from_json(e["record"]) for e in elements]

    def decode(record: ClipRecord, element: dict[str, bytes]) -> Views:
        sampling = settings.sampling(None)
        return stored_views(record, element, built.config, settings.views, sampling)

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        views = list(pool.map(decode, records, elements))
    items = []
    for start in range(0, len(views), encoders.batch):
        some = views[start : start + encoders.batch]
        encoded = encoders(some)
        for i, view in enumerate(some):
            number = start + i
            arrays = {name: np.asarray(x[i]) for name, x in encoded.items()}
            features = Features(arrays, view.has_video, view.has_audio)
            fields = pack_features(records[number], clip_hash(elements[number]), config, features)
            items.append(pack_fields(fields))
    write_chunk(path, items)


def _encode_blank(encoders: _Encoders) -> dict[str, np.ndarray]:
    """The features of a clip without any modality."""
    c = encoders.settings.views
    blank = Views(
        image=np.zeros((c.image_size, c.image_size, 3), np.uint8),
        frames=np.zeros((c.num_frames, c.frame_size, c.frame_size, 3), np.uint8),
        sound=np.zeros(c.sound_shape, np.float32),
        audio_frames=0,
        has_video=False,
        has_audio=False,
    )
    return {name: np.asarray(x[0], np.float32) for name, x in encoders([blank]).items()}

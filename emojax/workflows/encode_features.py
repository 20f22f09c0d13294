"""Frozen encoders over a built data set, once: what they say of every clip goes to disk, and training reads that.

This module is a main and may use the model; nothing of data_pipeline imports it. On a pod every process encodes its own
chunks; a run that was cut off goes on behind its last whole chunk, and clips whose file has changed are encoded again.
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
from data_pipeline.loader.batches import view_arrays
from data_pipeline.loader.features import (
    HEADER,
    RECORDS,
    CacheConfig,
    Features,
    fingerprint_of,
    pack_features,
    write_blank,
)
from data_pipeline.media.storage import stored_views
from data_pipeline.media.views import Views
from data_pipeline.schema import ClipRecord, write_records
from emojax.config import Settings
from emojax.model.build import ModelConfig, make_model
from emojax.model.variables import Flat, is_encoder_path, merge
from emojax.sharding import batch_sharding, to_host

CHUNK = 32  # clips of an array_record file, and what a killed run has to encode again
Progress = Callable[[int, int], None]


def encoder_id(settings: Settings, variables: Flat) -> str:
    """Hash of the encoders' weights, and of the sizes and precision they run at."""
    digest = hashlib.sha256()
    for path in sorted(p for p in variables if is_encoder_path(p)):
        array = to_host(variables[path])
        digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).tobytes())
    model = settings.raw["model"]
    others = ("llama", "lora", "fusion", "remat", "remat_long", "long_row", "unroll", "param_dtype")
    named = {k: model[k] for k in sorted(model) if k not in others}
    return fingerprint_of(digest.hexdigest(), named)


def cache_config(settings: Settings, variables: Flat) -> CacheConfig:
    """What a cache for this model is made by; bfloat16 unless the model computes in float32."""
    shapes = feature_shapes(settings.model)
    views = fingerprint_of(
        dataclasses.asdict(settings.views), dataclasses.asdict(settings.sampling(None))
    )
    dtype = "float32" if settings.raw["model"]["compute_dtype"] == "float32" else "bfloat16"
    streams = {n: "audio" if n == "audio" else "image" if n == "image" else "video" for n in shapes}
    return CacheConfig(
        encoder=encoder_id(settings, variables),
        views=views,
        dtype=dtype,
        shapes=shapes,
        streams=streams,
    )


def feature_shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of each field of one clip's features."""
    module = make_model(model)
    batch = {
        k: jax.ShapeDtypeStruct((1, *v), jnp.float32 if k == "sound" else jnp.uint8)
        for k, v in model.view_shapes.items()
    }
    batch["audio_frames"] = jax.ShapeDtypeStruct((1,), jnp.int32)
    batch |= {
        f"has_{s}": jax.ShapeDtypeStruct((1,), jnp.bool_) for s in ("image", "video", "audio")
    }

    def run(key: jax.Array, b: dict[str, jax.Array]) -> Any:
        return module.init_with_output(key, b, method="encode")[0]

    out = jax.eval_shape(run, jax.random.key(0), batch)
    return {name: tuple(x.shape[1:]) for name, x in out._asdict().items()}


def encode_built(
    settings: Settings,
    variables: Flat,
    built: dict[str, BuiltSet],
    *,
    out: Path,
    mesh: jax.sharding.Mesh,
    batch: int,
    progress: Progress | None = None,
) -> CacheConfig:
    """Encodes every clip of built data sets into a cache folder.

    Args:
      settings, variables: the model; flat variables.
      built: data sets by name.
      out: the cache; one of other settings is refused.
      mesh: clips of a batch are spread over it.
      batch: clips encoded at once.
      progress: called with (clips done, clips in all) of this process.

    Raises:
      ValueError: the cache in `out` was made with other settings, or the data can not serve this model.
    """
    config = cache_config(settings, variables)
    for one in built.values():
        one.config.check(settings.views, settings.sampling(None))
    _claim(out, config)
    module = make_model(settings.model)
    towers = {p: x for p, x in variables.items() if is_encoder_path(p)}
    run = jax.jit(lambda v, b: module.apply(merge(v, {}), b, method="encode"))
    if jax.process_index() == 0:
        write_blank(out, _blank(settings, run, towers, mesh, batch))
    parts = [
        (n, s, source) for n, one in built.items() for s, source in sorted(one.sources.items())
    ]
    mine = [(n, s, source, c) for n, s, source in parts for c in _own_chunks(len(source))]
    total, done = sum(min(CHUNK, len(source) - c * CHUNK) for _, _, source, c in mine), 0
    for name, split, source, chunk in mine:
        numbers = range(chunk * CHUNK, min(len(source), (chunk + 1) * CHUNK))
        path = out / name / split / f"{chunk:06d}.array_record"
        path.parent.mkdir(parents=True, exist_ok=True)
        elements = [{k: bytes(v) for k, v in source[i].items()} for i in numbers]
        if not _is_current(path, elements, config):
            _encode_chunk(path, elements, config, settings, built[name], run, towers, mesh, batch)
        done += len(numbers)
        if progress:
            progress(done, total)
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("encoded")
    if jax.process_index() == 0:
        for name, split, source in parts:
            records = [r for r in built[name].records() if r.split == split]
            _finish(out / name / split, records, len(source), built[name].key)
    return config


def _own_chunks(size: int) -> Iterator[int]:
    yield from range(jax.process_index(), -(-size // CHUNK), jax.process_count())


def _claim(out: Path, config: CacheConfig) -> None:
    header = out / HEADER
    if header.exists():
        differing = CacheConfig.from_json(header.read_text()).differences(config)
        if differing:
            raise ValueError(
                f"{out} holds features made with another {', '.join(differing)}: choose another folder"
            )
    out.mkdir(parents=True, exist_ok=True)
    part = header.with_suffix(f".{jax.process_index()}")
    part.write_text(config.to_json())
    os.replace(part, header)


def _finish(folder: Path, records: Sequence[ClipRecord], clips: int, build: str) -> None:
    wanted = {f"{c:06d}.array_record" for c in range(-(-clips // CHUNK))}
    for path in folder.glob("*.array_record"):
        if path.name not in wanted:  # of a longer build before
            path.unlink()
    write_records(folder / RECORDS, records)
    part = folder / "done.part"
    part.write_text(json.dumps({"clips": clips, "build": build}))
    os.replace(part, folder / "done.json")


def clip_hash(element: dict[str, bytes]) -> str:
    """Hash of what is stored of a clip: media and span, not its labels."""
    record = ClipRecord.from_json(element["record"])
    digest = hashlib.sha256(
        json.dumps([record.id, record.start, record.end, record.peak_index]).encode()
    )
    for name in ("media", "frames", "sound"):
        digest.update(hashlib.sha256(element[name]).digest())
    return digest.hexdigest()[:32]


def _is_current(path: Path, elements: Sequence[dict[str, bytes]], config: CacheConfig) -> bool:
    """Whether a chunk holds just these clips, made with these settings, and what is annotated about them now."""
    if not path.exists():
        return False
    try:
        items = [unpack_fields(item) for item in read_chunk(path)]
    except Exception:  # whatever array_record raises on a file that is cut: encoded again
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
    # The mesh is this process' own: each encodes its chunks at its own pace.
    return jax.device_put(
        {k: np.stack([r[k] for r in rows]) for k in rows[0]}, batch_sharding(mesh)
    )


def _encode_chunk(
    path: Path,
    elements: Sequence[dict[str, bytes]],
    config: CacheConfig,
    settings: Settings,
    built: BuiltSet,
    run: Callable[..., Any],
    towers: Flat,
    mesh: jax.sharding.Mesh,
    batch: int,
) -> None:
    records = [ClipRecord.from_json(e["record"]) for e in elements]
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        views = list(
            pool.map(
                lambda p: stored_views(
                    p[0], p[1], built.config, settings.views, settings.sampling(None)
                ),
                zip(records, elements, strict=True),
            )
        )
    items = []
    for start in range(0, len(views), batch):
        some = views[start : start + batch]
        found = jax.device_get(run(towers, _put(some, batch, mesh)))._asdict()
        for i, view in enumerate(some):
            number = start + i
            arrays = {name: np.asarray(x[i]) for name, x in found.items()}
            features = Features(arrays, view.has_video, view.has_audio)
            fields = pack_features(records[number], clip_hash(elements[number]), config, features)
            items.append(pack_fields(fields))
    write_chunk(path, items)


def _blank(
    settings: Settings, run: Callable[..., Any], towers: Flat, mesh: jax.sharding.Mesh, batch: int
) -> dict[str, np.ndarray]:
    """What the encoders make of a clip of which nothing may be seen or heard."""
    c = settings.views
    nothing = Views(
        image=np.zeros((c.image_size, c.image_size, 3), np.uint8),
        frames=np.zeros((c.num_frames, c.frame_size, c.frame_size, 3), np.uint8),
        sound=np.zeros(c.sound_shape, np.float32),
        audio_frames=0,
        has_video=False,
        has_audio=False,
    )
    found = jax.device_get(run(towers, _put([nothing], batch, mesh)))._asdict()
    return {name: np.asarray(x[0], np.float32) for name, x in found.items()}

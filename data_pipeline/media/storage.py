"""Media in built data sets: the original file, or a proxy that decodes in a few milliseconds.

A proxy is a JPEG of the image stream (448 px), F JPEGs of the temporal stream (224 px) and the
sound as FLAC at 16 kHz. Only JPEG loses information: resizing is that of views.py, so a model
with these input sizes gets the same views as from the original file.
"""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Literal

import av
import numpy as np
from PIL import Image

from data_pipeline.media.clip import SAMPLE_RATE, Sampling, read_clip, uniform_indices
from data_pipeline.media.file_kinds import is_picture
from data_pipeline.media.tracks import read_picture
from data_pipeline.media.views import ViewConfig, Views, make_views, resize_frame, resize_image
from data_pipeline.schema import Clip, ClipRecord

Kind = Literal["proxy", "bytes"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """How media are stored.

    Attributes:
      kind: `proxy`, or `bytes` for the original file.
      image_size: side of the proxy's image in pixels.
      frame_size: side of the proxy's frames in pixels.
      image_choice: `image` of clip.Sampling; proxies only.
      temporal: `temporal` of clip.Sampling; proxies only.
      num_frames: number of frames; proxies only.
      seconds: most seconds of sound that are stored.
      quality: JPEG quality.
    """

    kind: Kind = "proxy"
    image_size: int = 448
    frame_size: int = 224
    image_choice: Literal["first", "middle", "peak", "index"] = "peak"
    temporal: Literal["uniform", "window"] = "uniform"
    num_frames: int = 16
    seconds: float = 30.0
    quality: int = 92

    def sampling(self, peak: int | None) -> Sampling:
        """How a clip is decoded; `peak` is the frame number of its apex, None if unknown."""
        return Sampling(
            image=self.image_choice, index=peak, temporal=self.temporal, num_frames=self.num_frames
        )

    def check(self, views: ViewConfig, sampling: Sampling) -> None:
        """Checks that the stored media can provide the views of a model.

        Raises:
          ValueError: they cannot; the message names the setting.
        """
        if self.kind == "bytes":
            return
        required = {"image_choice": sampling.image, "temporal": sampling.temporal}
        for name, value in required.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"the data were built with {name} '{getattr(self, name)}', the model's "
                    f"configuration requires '{value}': build again with that setting, or with "
                    "--media bytes"
                )
        if sampling.num_frames != self.num_frames and sampling.temporal == "window":
            raise ValueError(
                f"the data contain {self.num_frames} consecutive frames, the model requires "
                f"{sampling.num_frames}: build again"
            )
        if self.num_frames % sampling.num_frames:
            raise ValueError(
                f"{sampling.num_frames} frames cannot be sampled evenly from the {self.num_frames} "
                "frames in the data"
            )
        if views.seconds > self.seconds:
            raise ValueError(
                f"the data contain {self.seconds:g} s of sound, the model requires "
                f"{views.seconds:g} s: build again"
            )


def read_media(record: ClipRecord, config: StoreConfig) -> Clip:
    """Decodes a record's file; a still image becomes a clip of equal frames.

    Raises:
      ClipError: the file cannot be decoded.
    """
    if is_picture(record.path):
        return _read_still(record.path, record, config.num_frames)
    sampling = config.sampling(record.peak_index)
    return read_clip(
        record.path,
        sampling=sampling,
        clip_id=record.id,
        subtitle=record.subtitle,
        start=record.start,
        end=record.end,
    )


def _read_still(file: str | io.BytesIO, record: ClipRecord, count: int) -> Clip:
    pixels = read_picture(file)
    frames = np.broadcast_to(pixels, (count, *pixels.shape))
    return Clip(
        id=record.id,
        path=record.path,
        frames=frames,
        times=np.zeros(count),
        image=pixels,
        image_index=0,
        waveform=None,
        subtitle=record.subtitle,
        num_frames=1,
    )


def pack_media(record: ClipRecord, config: StoreConfig) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Encodes a record's file for storage.

    Returns:
      (fields of the stored element, notes on irregularities of the file).

    Raises:
      ClipError: the file cannot be decoded; such a clip is never stored.
    """
    clip = read_media(record, config)
    if config.kind == "bytes":
        return {
            "media": Path(record.path).read_bytes(),
            "frames": b"",
            "sound": b"",
            "facts": b"{}",
        }, clip.notes
    still = is_picture(record.path)
    notes = clip.notes
    needs_peak = config.image_choice == "peak" and clip.frames is not None and not still
    if needs_peak and record.peak_index is None:
        notes = (*notes, "no peak frame is annotated; the middle frame is used")
    image, frames = b"", []
    if clip.image is not None and clip.frames is not None:
        image = _write_jpeg(resize_image(clip.image, config.image_size), config.quality)
        stored = clip.frames[:1] if still else clip.frames
        frames = [_write_jpeg(resize_frame(f, config.frame_size), config.quality) for f in stored]
    sound = b""
    # Digital silence is stored as no sound: `modalities` does not count it either.
    if clip.waveform is not None and "audio" in clip.modalities:
        samples = round(config.seconds * SAMPLE_RATE)
        if len(clip.waveform) > samples:
            notes = (*notes, f"only the first {config.seconds:g} s of the sound are stored")
        sound = write_flac(clip.waveform[:samples])
    facts = {
        "sizes": [len(f) for f in frames],
        "duration": clip.duration,
        "num_frames": clip.num_frames,
    }
    return {
        "media": image,
        "frames": b"".join(frames),
        "sound": sound,
        "facts": json.dumps(facts).encode(),
    }, notes


def stored_views(
    record: ClipRecord,
    fields: dict[str, bytes],
    config: StoreConfig,
    views: ViewConfig,
    sampling: Sampling,
) -> Views:
    """Decodes a stored element to the Views of a model.

    Args:
      record: the clip.
      fields: the media fields of the element, from `pack_media`.
      config: how it was stored; `config.check` must have passed.
      views: sizes of the model's views.
      sampling: which frames are sampled from an original file; a proxy contains its own.

    Raises:
      ClipError: the stored media cannot be decoded.
    """
    if config.kind == "bytes":
        sampling = dataclasses.replace(
            sampling, index=record.peak_index, num_frames=views.num_frames
        )
        if is_picture(record.path):
            still = _read_still(io.BytesIO(fields["media"]), record, views.num_frames)
            return make_views(still, views)
        clip = read_clip(
            fields["media"],
            sampling=sampling,
            clip_id=record.id,
            subtitle=record.subtitle,
            start=record.start,
            end=record.end,
        )
        return make_views(clip, views)
    facts = json.loads(fields["facts"])
    image = frames = None
    if fields["media"]:
        image = _read_jpeg(fields["media"])
        starts = np.cumsum([0, *facts["sizes"]])
        indices = uniform_indices(len(facts["sizes"]), views.num_frames)
        frames = np.stack(
            [_read_jpeg(fields["frames"][starts[i] : starts[i + 1]]) for i in indices]
        )
    waveform = read_flac(fields["sound"]) if fields["sound"] else None
    times = None if frames is None else np.zeros(len(frames))
    clip = Clip(
        id=record.id,
        path=record.path,
        frames=frames,
        times=times,
        image=image,
        image_index=None,
        waveform=waveform,
        subtitle=record.subtitle,
        duration=facts["duration"],
    )
    return make_views(clip, views)


def _write_jpeg(picture: np.ndarray, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def _read_jpeg(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def write_flac(waveform: np.ndarray) -> bytes:
    """float[n] in [-1, 1] at 16 kHz -> a FLAC file with 16 bits per sample."""
    out = io.BytesIO()
    samples = np.clip(np.round(waveform * 32767), -32768, 32767).astype(np.int16)
    with av.open(out, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return out.getvalue()


def read_flac(data: bytes) -> np.ndarray:
    """The inverse of `write_flac`: float32[n]."""
    with av.open(io.BytesIO(data), "r") as container:
        pieces = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.concatenate(pieces).astype(np.float32) / np.float32(32767)

"""Media as they are stored in built data sets: the file's own bytes, or proxies that decode in a few milliseconds.

A proxy is one JPEG of the image stream (448 px), F JPEGs of the temporal stream (224 px) and the sound as FLAC at 16 kHz.
What is lost is JPEG's; resizing is that of views.py, so a model of those sizes sees what it would see of the file.
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

from data_pipeline.datasets.reading import IMAGE_SUFFIXES
from data_pipeline.media.clip import SAMPLE_RATE, Clip, ClipError, Sampling, read_clip
from data_pipeline.media.views import ViewConfig, Views, make_views, resize_frame, resize_image
from data_pipeline.schema import ClipRecord

Kind = Literal["proxy", "bytes"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """How media are stored.

    Attributes:
      kind: `proxy`, or `bytes`: the file as it is.
      image_size, frame_size: pixels of the proxies' sides.
      image_choice, temporal, num_frames: see clip.Sampling; of proxies alone.
      seconds: of sound that is kept.  quality: of JPEG.
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
        """How a clip is decoded; `peak`: its known apex or None."""
        return Sampling(
            image=self.image_choice, index=peak, temporal=self.temporal, num_frames=self.num_frames
        )

    def check(self, views: ViewConfig, sampling: Sampling) -> None:
        """Raises ValueError where views of a model can not be made of what is stored."""
        if self.kind == "bytes":
            return
        wanted = {"image_choice": sampling.image, "temporal": sampling.temporal}
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"the data were built with {name} '{getattr(self, name)}', the model's configuration says '{value}': "
                    "build again with that setting, or with --media bytes"
                )
        if sampling.num_frames != self.num_frames and sampling.temporal == "window":
            raise ValueError(
                f"the data hold {self.num_frames} consecutive frames, not {sampling.num_frames}: build again"
            )
        if self.num_frames % sampling.num_frames:
            raise ValueError(
                f"{sampling.num_frames} frames can not be taken evenly out of the {self.num_frames} that were built"
            )
        if views.seconds > self.seconds:
            raise ValueError(
                f"the data hold {self.seconds:g} s of sound, the model hears {views.seconds:g} s: build again"
            )


def read_media(record: ClipRecord, config: StoreConfig) -> Clip:
    """Decodes a record's file, a still as a clip that stands.

    Raises:
      ClipError: it can not be decoded.
    """
    if record.path.lower().endswith(IMAGE_SUFFIXES):
        return _still(Path(record.path), record, config.num_frames)
    sampling = config.sampling(record.peak_index)
    return read_clip(
        record.path,
        sampling=sampling,
        clip_id=record.id,
        subtitle=record.subtitle,
        start=record.start,
        end=record.end,
    )


def _still(path: Path | io.BytesIO, record: ClipRecord, count: int) -> Clip:
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ClipError(f"not a picture that can be read ({error})") from error
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
    """A record's file -> (fields of its stored element, notes on what is irregular).

    Raises:
      ClipError: it can not be decoded; such a clip is never stored.
    """
    clip = read_media(record, config)
    if config.kind == "bytes":
        return {
            "media": Path(record.path).read_bytes(),
            "frames": b"",
            "sound": b"",
            "facts": b"{}",
        }, clip.notes
    still = record.path.lower().endswith(IMAGE_SUFFIXES)
    notes = clip.notes
    if (
        config.image_choice == "peak"
        and record.peak_index is None
        and not still
        and clip.frames is not None
    ):
        notes = (*notes, "no peak frame is known; the middle one stands for the clip")
    image, frames = b"", []
    if clip.image is not None and clip.frames is not None:
        image = _jpeg(resize_image(clip.image, config.image_size), config.quality)
        kept = clip.frames[:1] if still else clip.frames
        frames = [_jpeg(resize_frame(f, config.frame_size), config.quality) for f in kept]
    sound = b""
    # Digital silence is no sound: `modalities` says so.
    if clip.waveform is not None and "audio" in clip.modalities:
        sound = write_flac(clip.waveform[: round(config.seconds * SAMPLE_RATE)])
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
    """The inverse of `pack_media`, up to JPEG's loss: Views of a model.

    Args:
      record, fields: a stored element.
      config: how it was stored; `config.check` has passed.
      views, sampling: what the model looks at; of stored files `sampling` chooses the frames, proxies hold theirs.

    Raises:
      ClipError: the stored media can not be decoded.
    """
    if config.kind == "bytes":
        sampling = dataclasses.replace(
            sampling, index=record.peak_index, num_frames=views.num_frames
        )
        if record.path.lower().endswith(IMAGE_SUFFIXES):
            return make_views(_still(io.BytesIO(fields["media"]), record, views.num_frames), views)
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
        image = _pixels(fields["media"])
        starts = np.cumsum([0, *facts["sizes"]])
        count = len(facts["sizes"])
        # The middle of each of n parts of F evenly spread frames.
        wanted = [int((i + 0.5) * count / views.num_frames) for i in range(views.num_frames)]
        frames = np.stack([_pixels(fields["frames"][starts[i] : starts[i + 1]]) for i in wanted])
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


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def _pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def write_flac(waveform: np.ndarray) -> bytes:
    """float[n] in [-1, 1] at 16 kHz -> FLAC of 16 bits."""
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

"""Data augmentation for training from scratch: crops, mirroring, light, pitch, tempo, masks.

Disabled wherever released weights are used. The augmentations keep the emotion: tempo and pitch
change little, and image and frames are mirrored together.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from data_pipeline.media.views import Views


def augment_views(views: Views, rng: np.random.Generator, *, strength: float = 1.0) -> Views:
    """Returns an augmented copy.

    Args:
      views: the clip.
      rng: source of all random choices.
      strength: scales the range of every augmentation; 0 changes nothing.
    """
    if strength == 0:
        return views
    image, frames, sound, valid = views.image, views.frames, views.sound, views.audio_frames
    if views.has_video:
        image, frames = _augment_pictures(image, frames, rng, strength)
    if views.has_audio:
        augment = _augment_waveform if sound.shape[1] == 1 else _augment_logmel
        sound, valid = augment(sound, valid, rng, strength)
    return dataclasses.replace(views, image=image, frames=frames, sound=sound, audio_frames=valid)


def _augment_pictures(
    image: np.ndarray, frames: np.ndarray, rng: np.random.Generator, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    if image.shape == frames.shape[1:] and rng.random() < 0.5 * min(1.0, strength / 0.3):
        image = frames[rng.integers(len(frames))]  # if the sizes agree, any frame may be the image
    # One crop for both streams, so that the face is at the same position in both.
    zoom = 1 + strength * rng.uniform(-0.15, 0.2)
    left, top = 0.5 - 0.5 / zoom + strength * rng.uniform(-0.1, 0.1, 2)
    turn = strength * rng.uniform(-0.12, 0.12)
    gain = 1 + strength * rng.uniform(-0.25, 0.25, 3) * (0.4 + 0.6 * rng.random())
    contrast, shift = 1 + strength * rng.uniform(-0.25, 0.25), strength * rng.uniform(-20, 20)
    table = np.clip((np.arange(256)[:, None] - 128) * contrast * gain + 128 + shift, 0, 255).astype(
        np.uint8
    )
    mirror = rng.random() < 0.5

    def transform(picture: np.ndarray) -> np.ndarray:
        size = picture.shape[0]
        cos, sin = np.cos(turn) / zoom, np.sin(turn) / zoom
        x0, y0 = left * size, top * size
        middle = size / 2
        # Affine map from output to input: rotation about the center, then the crop.
        a, b, d, e = cos, -sin, sin, cos
        c = x0 + middle / zoom - a * middle - b * middle
        f = y0 + middle / zoom - d * middle - e * middle
        moved = Image.fromarray(picture).transform(
            (size, size), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
        )
        out = np.asarray(moved)
        out = np.stack([table[out[..., k], k] for k in range(3)], axis=-1)
        return out[:, ::-1] if mirror else out

    return transform(image), np.stack([transform(f) for f in frames])


def _augment_logmel(
    logmel: np.ndarray, valid: int, rng: np.random.Generator, strength: float
) -> tuple[np.ndarray, int]:
    total, mels = logmel.shape
    tempo = 1 + strength * rng.uniform(-0.12, 0.12)
    length = int(np.clip(round(valid * tempo), 8, total))
    # Shift time by up to 0.15 s, resample it, shift and stretch the mel axis (vocal tract, pitch).
    t = np.clip(np.linspace(0, valid - 1, length) + strength * rng.uniform(-15, 15), 0, valid - 1)
    m = np.clip(
        np.arange(mels) * (1 + strength * rng.uniform(-0.15, 0.15)) + strength * rng.uniform(-2, 2),
        0,
        mels - 1,
    )
    out = _interpolate(_interpolate(logmel, t, 0), m, 1)
    out = out + strength * rng.uniform(-0.1, 0.1)  # about +-4 dB
    tilt = strength * rng.uniform(-0.1, 0.1)
    out = out + tilt * np.linspace(-1, 1, mels)
    floor = out.min()
    for axis, widest in ((0, max(2, length // 8)), (1, mels // 8)):
        for _ in range(2):
            if rng.random() < 0.5 * strength:
                width = int(rng.integers(1, widest + 1))
                start = int(rng.integers(0, out.shape[axis] - width + 1))
                out[(slice(None),) * axis + (slice(start, start + width),)] = out.mean()
    padded = np.full((total, mels), floor, np.float32)
    padded[:length] = out
    return padded, length


def _augment_waveform(
    waveform: np.ndarray, valid: int, rng: np.random.Generator, strength: float
) -> tuple[np.ndarray, int]:
    # Resampling changes pitch, vocal tract and tempo together; then loudness is scaled.
    length = int(
        np.clip(round(valid * (1 + strength * rng.uniform(-0.15, 0.15))), 400, len(waveform))
    )
    padded = np.zeros_like(waveform)
    padded[:length] = _interpolate(waveform, np.linspace(0, valid - 1, length), 0)
    return padded * np.float32(10 ** (strength * rng.uniform(-0.3, 0.3))), length


def _interpolate(x: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation of float[a, b] at fractional positions of one axis."""
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    weight = (at - low).astype(np.float32)
    weight = weight[:, None] if axis == 0 else weight[None, :]
    out: np.ndarray = np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight
    return out

"""Seeded changes of Views while training from scratch: crops, mirror, light, pitch, tempo, masks.

Off wherever released weights are used. None of them changes which emotion is shown: tempo and pitch move
little, and pictures are mirrored as a whole (image and frames alike).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from data_pipeline.media.views import Views


def augment_views(views: Views, rng: np.random.Generator, *, strength: float = 1.0) -> Views:
    """A changed copy; `strength` scales every range, 0 changes nothing."""
    if strength == 0:
        return views
    image, frames, sound, valid = views.image, views.frames, views.sound, views.audio_frames
    if views.has_video:
        image, frames = _change_pictures(image, frames, rng, strength)
    if views.has_audio:
        change = _change_waveform if sound.shape[1] == 1 else _change_logmel
        sound, valid = change(sound, valid, rng, strength)
    return dataclasses.replace(views, image=image, frames=frames, sound=sound, audio_frames=valid)


def _change_pictures(
    image: np.ndarray, frames: np.ndarray, rng: np.random.Generator, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    if image.shape == frames.shape[1:] and rng.random() < 0.5 * min(1.0, strength / 0.3):
        image = frames[
            rng.integers(len(frames))
        ]  # where sizes allow it, any frame may stand for the clip
    # One crop for both streams, so that the face stays at the same place in them.
    zoom = 1 + strength * rng.uniform(-0.15, 0.2)
    left, top = 0.5 - 0.5 / zoom + strength * rng.uniform(-0.1, 0.1, 2)
    turn = strength * rng.uniform(-0.12, 0.12)
    gain = 1 + strength * rng.uniform(-0.25, 0.25, 3) * (0.4 + 0.6 * rng.random())
    contrast, shift = 1 + strength * rng.uniform(-0.25, 0.25), strength * rng.uniform(-20, 20)
    table = np.clip((np.arange(256)[:, None] - 128) * contrast * gain + 128 + shift, 0, 255).astype(
        np.uint8
    )
    mirror = rng.random() < 0.5

    def change(picture: np.ndarray) -> np.ndarray:
        size = picture.shape[0]
        cos, sin = np.cos(turn) / zoom, np.sin(turn) / zoom
        x0, y0 = left * size, top * size
        middle = size / 2
        # Affine map from output to input: rotation about the middle, then the crop.
        a, b, d, e = cos, -sin, sin, cos
        c = x0 + middle / zoom - a * middle - b * middle
        f = y0 + middle / zoom - d * middle - e * middle
        moved = Image.fromarray(picture).transform(
            (size, size), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
        )
        out = np.asarray(moved)
        out = np.stack([table[out[..., k], k] for k in range(3)], axis=-1)
        return out[:, ::-1] if mirror else out

    return change(image), np.stack([change(f) for f in frames])


def _change_logmel(
    logmel: np.ndarray, valid: int, rng: np.random.Generator, strength: float
) -> tuple[np.ndarray, int]:
    total, mels = logmel.shape
    tempo = 1 + strength * rng.uniform(-0.12, 0.12)
    length = int(np.clip(round(valid * tempo), 8, total))
    # Start up to 0.15 s earlier or later, resample time, shift and stretch the mel axis (tract and pitch).
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


def _change_waveform(
    waveform: np.ndarray, valid: int, rng: np.random.Generator, strength: float
) -> tuple[np.ndarray, int]:
    # Resampling moves pitch, tract and tempo together; then loudness.
    length = int(
        np.clip(round(valid * (1 + strength * rng.uniform(-0.15, 0.15))), 400, len(waveform))
    )
    padded = np.zeros_like(waveform)
    padded[:length] = _interpolate(waveform, np.linspace(0, valid - 1, length), 0)
    return padded * np.float32(10 ** (strength * rng.uniform(-0.3, 0.3))), length


def _interpolate(x: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    share = (at - low).astype(np.float32)
    share = share[:, None] if axis == 0 else share[None, :]
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share

"""Whether somebody is seen, heard or quoted in a clip: a face, speech, words.

Both rules are lenient: they accept some things that are not a person, so that few people are
missed. docs/responsible_use.md has the figures, `scripts/presence_check.py` measures them.

Faces are found by a cascade of local binary patterns (Liao et al. 2007) that is a part of
scikit-image. Speech is what WebRTC's voice detector reports, except for sounds whose spectrum or
pitch does not move as a voice's does, or that have no overtones, because the detector reports
tones, whistles and noise as well.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import webrtcvad
from PIL import Image

from data_pipeline.media.clip import SAMPLE_RATE
from data_pipeline.media.prosody import pitch_of_frames
from data_pipeline.media.segments import STEP, is_speech
from data_pipeline.schema import Clip

FACE, SPEECH, WORDS = "face", "speech", "words"

_PICTURES = 4  # frames that are searched, until one has a face
_SIDE = 160  # pixels of the longer side of a searched picture; faces have at least 24
# (ratio of the next size of searched faces, ratio of the next step between places), tried in turn.
# Searching every place takes twice the time, finds no more people, and more faces in textures.
_SEARCHES = ((1.1, 1.3), (1.05, 1.5))
_NEIGHBOURS = 2  # places and sizes next to each other at which the cascade must see the face
# Contrast and detail of a face of 24 pixels; flat places and noise also pass the cascade.
_CONTRAST, _DETAIL = 12.0, (0.12, 0.55)
_MOST_PIXELS = 512  # of a side, for the contrast of a picture
_BLANK = 3.0  # grey levels (standard deviation) below which a picture shows nothing

_STRICTNESS = 2  # of the voice detector
_VOICED_TIME = 0.1  # share of the steps that the voice detector reports
# Mean standard deviation of the spectrum's shape over time, nats. Steady noise and hum have 0.5,
# tones less, voices at least 0.9 (scripts/presence_check.py).
_MOVEMENT = 0.75
# Share of the voiced frames whose pitch is that of the frame before, to the sample: at most 0.8 in
# voices, at least 0.87 in tones, beeps and played notes.
_STEADY = 0.83
# Mean share of the energy within 80 Hz of the strongest frequency: at most 0.85 in voices, at least
# 0.98 in sirens, whistles and test tones that glide.
_PURITY = 0.92
_WINDOW, _HOP, _FFT = 640, 160, 1024  # samples
_BLOCK = 1000  # frames that are analysed at a time, 10 s
_PEAK = 5  # bins of the FFT on each side of the strongest
_SHORTEST = 0.4  # seconds; for less the voice detector alone decides


def find_signs(clip: Clip) -> tuple[str, ...]:
    """What a clip has of a person: FACE, SPEECH and WORDS, those that are found."""
    signs = []
    if clip.frames is not None and has_face(clip.frames):
        signs.append(FACE)
    if clip.waveform is not None and has_speech(clip.waveform):
        signs.append(SPEECH)
    if clip.subtitle.strip():
        signs.append(WORDS)
    return tuple(signs)


def missing_signs(clip: Clip, signs: tuple[str, ...]) -> list[str]:
    """Sentences on what a clip's picture and sound do not have.

    Args:
      clip: the decoded clip.
      signs: of `find_signs`.
    """
    notes = []
    if clip.frames is not None and FACE not in signs:
        blank = is_blank(clip.frames)
        notes.append(
            "the picture is blank: it shows no face" if blank else "no face is found in the picture"
        )
    if "audio" in clip.modalities and SPEECH not in signs:
        notes.append("no speech is found in the sound")
    if not signs:
        notes.append("nobody is seen, heard or quoted: the probabilities are those of a guess")
    return notes


def is_blank(frames: np.ndarray) -> bool:
    """Whether uint8[F, H, W, 3] frames show one colour each."""
    return all(_contrast(frame) < _BLANK for frame in frames)


def _contrast(picture: np.ndarray) -> float:
    """Standard deviation of the grey levels of uint8[H, W, 3], of large pictures by a sample."""
    step = -(-max(picture.shape) // _MOST_PIXELS)
    return float(picture[::step, ::step].mean(axis=2).std())


def has_face(frames: np.ndarray) -> bool:
    """Whether a face is found in some of uint8[F, H, W, 3] frames, spread over the clip."""
    count = min(_PICTURES, len(frames))
    # From the middle outwards, where a speaker most often looks ahead.
    order = sorted(range(count), key=lambda i: abs(i - (count - 1) / 2))
    pictures = [frames[int((i + 0.5) * len(frames) / count)] for i in order]
    return any(_shows_face(picture, *search) for search in _SEARCHES for picture in pictures)


@functools.cache
def _cascade() -> Any:
    import skimage.data  # slow to import
    from skimage.feature import Cascade

    # Its function with this file's name has no types.
    return Cascade(str(Path(skimage.data.__file__).parent / "lbpcascade_frontalface_opencv.xml"))


def _shows_face(picture: np.ndarray, size_ratio: float, step_ratio: float) -> bool:
    if _contrast(picture) < _BLANK:
        return False
    image = Image.fromarray(picture)
    scale = _SIDE / max(image.size)
    size = max(24, round(image.width * scale)), max(24, round(image.height * scale))
    kind = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    small = np.asarray(image.resize(size, kind))
    places = _cascade().detect_multi_scale(
        img=small,
        scale_factor=size_ratio,
        step_ratio=step_ratio,
        min_size=(24, 24),
        max_size=(_SIDE, _SIDE),
        min_neighbor_number=_NEIGHBOURS,
    )
    return any(_has_detail(small, place) for place in places)


def _has_detail(picture: np.ndarray, place: dict[str, int]) -> bool:
    from scipy.ndimage import gaussian_filter

    box = (place["c"], place["r"], place["c"] + place["width"], place["r"] + place["height"])
    patch = Image.fromarray(picture).convert("L").crop(box).resize((24, 24), Image.Resampling.BOX)
    grey = np.asarray(patch, np.float64)
    detail = np.abs(grey - gaussian_filter(grey, 1.5)).mean() / (grey.std() + 4)
    return bool(grey.std() >= _CONTRAST and _DETAIL[0] <= detail <= _DETAIL[1])


def has_speech(samples: np.ndarray) -> bool:
    """Whether somebody speaks in float32[n] at 16 kHz."""
    size = round(STEP * SAMPLE_RATE)
    detector = webrtcvad.Vad(_STRICTNESS)
    steps = [
        is_speech(samples[i : i + size], detector) for i in range(0, len(samples) - size + 1, size)
    ]
    if not steps or np.mean(steps) < _VOICED_TIME:
        return False
    if len(samples) < _SHORTEST * SAMPLE_RATE:
        return True
    power = np.concatenate([np.square(frames).mean(axis=1) for frames in _blocks(samples)])
    is_loud, first = power > 0.01 * np.percentile(power, 95), 0
    shapes, purities, pitches = [], [], []
    for frames in _blocks(samples):
        part = slice(first, first + len(frames))
        first = part.stop
        spectrum = np.abs(np.fft.rfft(frames[is_loud[part]] * np.hanning(_WINDOW), _FFT)) ** 2
        shapes.append(_shape(spectrum))
        purities.append(_purity(spectrum))
        pitches.append(pitch_of_frames(frames - frames.mean(axis=1, keepdims=True), power[part]))
    pitch = np.concatenate(pitches) * (power > 1e-3 * power.max())
    shape = np.concatenate(shapes)
    return (
        len(shape) >= 4
        and float(shape.std(axis=0).mean()) >= _MOVEMENT
        and float(np.concatenate(purities).mean()) <= _PURITY
        and _steadiness(pitch) <= _STEADY
    )


def _blocks(samples: np.ndarray) -> Iterator[np.ndarray]:
    """The overlapping frames of a sound in blocks, float64[n, _WINDOW]; few are in memory."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    for start in range(0, len(frames), _BLOCK):
        yield frames[start : start + _BLOCK].astype(np.float64)


def _shape(spectrum: np.ndarray) -> np.ndarray:
    """The shape of float[n, bins] spectra without their loudness, float[n, bands] in nats."""
    edges = np.unique(np.round(np.geomspace(100, 7000, 17) / SAMPLE_RATE * _FFT).astype(int))
    bands = [spectrum[:, a:b].mean(axis=1) for a, b in itertools.pairwise(edges)]
    shape = np.log(np.stack(bands, axis=1) + 1e-10)
    return np.asarray(shape - shape.mean(axis=1, keepdims=True))


def _purity(spectrum: np.ndarray) -> np.ndarray:
    """Share of the energy around the strongest frequency, of float[n, bins] spectra."""
    width = 2 * _PEAK + 1
    sums = np.cumsum(np.pad(spectrum, ((0, 0), (_PEAK + 1, _PEAK))), axis=1)
    around = sums[:, width:] - sums[:, :-width]
    return np.asarray(around.max(axis=1, initial=0) / (spectrum.sum(axis=1) + 1e-20))


def _steadiness(pitch: np.ndarray) -> float:
    """Share of the voiced frames whose pitch is that of the frame before; 0 without any."""
    voiced = (pitch[1:] > 0) & (pitch[:-1] > 0)
    return float((pitch[1:] == pitch[:-1])[voiced].mean()) if voiced.any() else 0.0

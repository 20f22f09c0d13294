"""What can be measured of a voice: loudness, pitch, syllables a second.

Pitch by normalised autocorrelation (Boersma, Accurate short-term analysis of the fundamental frequency, 1993), syllables by
peaks of the envelope (de Jong & Wempe 2009).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.signal import butter, find_peaks, sosfiltfilt

from data_pipeline.media.clip import SAMPLE_RATE

LOWEST, HIGHEST = 65.0, 500.0  # Hz
_WINDOW, _HOP = 0.04, 0.01  # s
_VOICED = 0.5  # of the autocorrelation's peak


@dataclasses.dataclass(frozen=True, kw_only=True)
class Voice:
    """Statistics of a span of sound; None where there is too little to measure.

    Attributes:
      loudness: dB relative to full scale, of the louder half.
      pitch: Hz, median of the voiced parts.  pitch_range: semitones between its 10th and 90th percentile.
      voiced: share of time with a pitch.  rate: syllables a second.
    """

    loudness: float | None
    pitch: float | None
    pitch_range: float | None
    voiced: float
    rate: float | None


def measure_voice(samples: np.ndarray) -> Voice:
    """float32[n] at 16 kHz -> Voice."""
    if len(samples) < 2 * _WINDOW * SAMPLE_RATE or not np.any(np.abs(samples) > 1e-4):
        return Voice(loudness=None, pitch=None, pitch_range=None, voiced=0.0, rate=None)
    size, hop = int(_WINDOW * SAMPLE_RATE), int(_HOP * SAMPLE_RATE)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), size)[::hop]
    power = np.square(frames).mean(axis=1)
    loud = power >= np.median(power)
    loudness = 10 * float(np.log10(max(power[loud].mean(), 1e-12)))
    pitch = _pitches(frames - frames.mean(axis=1, keepdims=True), power)
    known = pitch[pitch > 0]
    enough = len(known) >= 5
    low, high = np.percentile(known, [10, 90]) if enough else (1.0, 1.0)
    return Voice(
        loudness=round(loudness, 1),
        pitch=round(float(np.median(known)), 1) if enough else None,
        pitch_range=round(12 * float(np.log2(high / low)), 1) if enough else None,
        voiced=round(len(known) / len(pitch), 3),
        rate=_rate(samples, len(samples) / SAMPLE_RATE),
    )


def _pitches(frames: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Hz of each frame, 0 where it has none."""
    size = frames.shape[1]
    window = np.hanning(size)
    spectrum = np.fft.rfft(frames * window, 2 * size)
    lags = np.fft.irfft(np.abs(spectrum) ** 2)[:, :size]
    own = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * size)) ** 2)[:size]
    first, last = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST)
    # The window's own autocorrelation is divided out, else long periods would look weak.
    curve = lags[:, first:last] / np.maximum(lags[:, :1], 1e-12) / (own[first:last] / own[0])
    # Multiples of the period are as high as it: the first peak near the highest one is the pitch.
    best = curve.max(axis=1)
    inner = (
        (curve[:, 1:-1] >= curve[:, :-2])
        & (curve[:, 1:-1] > curve[:, 2:])
        & (curve[:, 1:-1] > 0.85 * best[:, None])
    )
    lag = first + 1 + inner.argmax(axis=1)
    voiced = inner.any(axis=1) & (best > _VOICED) & (power > 1e-3 * power.max())
    return np.where(voiced, SAMPLE_RATE / lag, 0.0)


def _rate(samples: np.ndarray, seconds: float) -> float | None:
    if seconds < 0.5:
        return None
    band = sosfiltfilt(butter(2, [300, 3000], "band", fs=SAMPLE_RATE, output="sos"), samples)
    envelope = sosfiltfilt(butter(2, 10, "low", fs=SAMPLE_RATE, output="sos"), np.abs(band))[
        :: SAMPLE_RATE // 100
    ]
    top = float(envelope.max())
    peaks, _ = find_peaks(envelope, height=0.15 * top, prominence=0.1 * top, distance=8)
    active = float((envelope > 0.05 * top).mean()) * seconds
    return round(len(peaks) / active, 2) if active >= 0.3 else None

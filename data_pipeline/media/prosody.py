"""Measures loudness, pitch and speech rate of a voice.

Pitch by normalized autocorrelation (Boersma, Accurate short-term analysis of the fundamental
frequency, 1993), syllables by peaks of the envelope (de Jong & Wempe 2009).
Hand-written because parselmouth (Praat) is GPL and only the median and range of pitch are needed.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipeline.media.clip import SAMPLE_RATE

LOWEST, HIGHEST = 65.0, 500.0  # Hz
_WINDOW, _HOP = 0.04, 0.01  # s
_VOICED = 0.5  # smallest peak of the normalized autocorrelation of a voiced frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class Voice:
    """Statistics of a span of sound; None where there is too little to measure.

    Attributes:
      loudness: dB relative to full scale, of the louder half of the frames.
      pitch: Hz, median over the voiced frames.
      pitch_range: semitones between the 10th and 90th percentile of the pitch.
      voiced: proportion of voiced frames.
      rate: syllables per second.
    """

    loudness: float | None
    pitch: float | None
    pitch_range: float | None
    voiced: float
    rate: float | None


def measure_voice(samples: np.ndarray) -> Voice:
    """Measures float32[n] at 16 kHz."""
    if len(samples) < 2 * _WINDOW * SAMPLE_RATE or not np.any(np.abs(samples) > 1e-4):
        return Voice(loudness=None, pitch=None, pitch_range=None, voiced=0.0, rate=None)
    size, hop = int(_WINDOW * SAMPLE_RATE), int(_HOP * SAMPLE_RATE)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), size)[::hop]
    power = np.square(frames).mean(axis=1)
    loud = power >= np.median(power)
    loudness = 10 * float(np.log10(max(power[loud].mean(), 1e-12)))
    pitch = pitch_of_frames(frames - frames.mean(axis=1, keepdims=True), power)
    voiced = pitch[pitch > 0]
    enough = len(voiced) >= 5
    low, high = np.percentile(voiced, [10, 90]) if enough else (1.0, 1.0)
    return Voice(
        loudness=round(loudness, 1),
        pitch=round(float(np.median(voiced)), 1) if enough else None,
        pitch_range=round(12 * float(np.log2(high / low)), 1) if enough else None,
        voiced=round(len(voiced) / len(pitch), 3),
        rate=_syllable_rate(samples, len(samples) / SAMPLE_RATE),
    )


def pitch_of_frames(frames: np.ndarray, power: np.ndarray) -> np.ndarray:
    """float[n, size] frames and float[n] power -> float[n] Hz, 0 for unvoiced frames."""
    size = frames.shape[1]
    window = np.hanning(size)
    spectrum = np.fft.rfft(frames * window, 2 * size)
    lags = np.fft.irfft(np.abs(spectrum) ** 2)[:, :size]
    taper = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * size)) ** 2)[:size]
    first, last = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST)
    # Dividing by the window's autocorrelation keeps long periods from looking weak.
    curve = lags[:, first:last] / np.maximum(lags[:, :1], 1e-12) / (taper[first:last] / taper[0])
    # Multiples of the period peak as high as the period: take the first peak near the highest.
    best = curve.max(axis=1)
    inner = (
        (curve[:, 1:-1] >= curve[:, :-2])
        & (curve[:, 1:-1] > curve[:, 2:])
        & (curve[:, 1:-1] > 0.85 * best[:, None])
    )
    lag = first + 1 + inner.argmax(axis=1)
    voiced = inner.any(axis=1) & (best > _VOICED) & (power > 1e-3 * power.max())
    return np.where(voiced, SAMPLE_RATE / lag, 0.0)


def _syllable_rate(samples: np.ndarray, seconds: float) -> float | None:
    from scipy.signal import butter, find_peaks, sosfiltfilt  # slow to import

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

"""A source-filter voice: pulses and breath noise through the formants of vowels, with a Tone."""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipeline.embedded.clues import Tone
from data_pipeline.media.clip import SAMPLE_RATE

# First three formants in Hz of five vowels, for an average vocal tract.
_VOWELS = np.array(
    [[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240]]
)
_WIDTHS = (80.0, 100.0, 140.0)


@dataclasses.dataclass(frozen=True)
class Speaker:
    """A habitual voice.

    Attributes:
      base: fundamental frequency in Hz.
      tract: factor of the formants.
      level: loudness in dB, relative to the average speaker.
    """

    base: float
    tract: float
    level: float


def make_speaker(seed: int) -> Speaker:
    """The speaker of a seed; the splits share no seed."""
    rng = np.random.default_rng([seed, 21])
    base = float(np.exp(rng.uniform(np.log(105), np.log(215))))
    tract = 0.92 + 0.2 * (base - 105) / 110 + rng.uniform(-0.04, 0.04)
    return Speaker(base, float(tract), float(rng.uniform(-1.5, 1.5)))


def _resonate(
    signal: np.ndarray, hertz: float, width: float, state: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    from scipy.signal import lfilter  # slow to import

    radius = np.exp(-np.pi * width / SAMPLE_RATE)
    a1, a2 = -2 * radius * np.cos(2 * np.pi * hertz / SAMPLE_RATE), radius**2
    out, state = lfilter([1 + a1 + a2], [1, a1, a2], signal, zi=state)
    return out, state


def speak(
    tone: Tone, speaker: Speaker, seconds: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Synthesises one phrase.

    Args:
      tone: how it is spoken.
      speaker: the habitual voice.
      seconds: length of the phrase.
      rng: draws vowels, movements and noise.

    Returns:
      (float32[n] waveform at 16 kHz, float32[n] syllable envelope in [0, 1]).
    """
    from scipy.signal import lfilter  # slow to import

    n = round(seconds * SAMPLE_RATE)
    t = np.arange(n) / SAMPLE_RATE
    lead = rng.uniform(0.04, 0.12)
    share = np.clip((t - lead) / (seconds - 0.15 - lead), 0, 1)
    # Pitch: habitual frequency, slow movement, ending of the phrase, tremor.
    movement = tone.range_ * np.sin(2 * np.pi * (rng.uniform(0.9, 1.4) * t + rng.random()))
    ending = tone.ending * np.clip((share - 0.45) / 0.55, 0, 1)
    shake = tone.tremor * np.sin(2 * np.pi * rng.uniform(5.5, 7.0) * t)
    f0 = speaker.base * tone.pitch * 2 ** ((movement + ending + shake) / 12)
    phase = np.cumsum(f0) / SAMPLE_RATE
    pulses = np.diff(np.floor(phase), prepend=0.0) * np.sqrt(SAMPLE_RATE / f0) * 0.3
    source = lfilter([1.0], [1.0, -0.94], pulses) + tone.breath * rng.standard_normal(n) * 0.35
    # One vowel per syllable; syllables are separated by short closures.
    count = max(2, round((seconds - 0.2) * tone.rate))
    position = share * count
    envelope = np.clip(np.sin(np.pi * (position % 1.0)), 0, 1) ** 0.6 * (share > 0) * (share < 1)
    out = np.zeros(n)
    states = [np.zeros(2) for _ in _WIDTHS]
    borders = np.searchsorted(position, np.arange(count + 1))
    borders[0], borders[-1] = 0, n
    for i in range(count):
        piece = slice(borders[i], borders[i + 1])
        signal = (source * envelope)[piece] if piece.stop > piece.start else np.zeros(0)
        if not len(signal):
            continue
        vowel = _VOWELS[rng.integers(len(_VOWELS))] * speaker.tract
        for k, width in enumerate(_WIDTHS):
            signal, states[k] = _resonate(signal, float(vowel[k]), width, states[k])
        out[piece] = signal
    if tone.tilt:
        sharp = lfilter([1.0, -0.85], [1.0], out)
        out = out + sharp * (10 ** (tone.tilt / 20) - 1)
    loud = np.sqrt(np.mean(out**2)) + 1e-9
    level = -26.0 + tone.energy + speaker.level + rng.uniform(-1, 1)
    out = out / loud * 10 ** (level / 20)
    out = out + rng.standard_normal(n) * 10 ** (rng.uniform(-68, -58) / 20)
    return np.tanh(out).astype(np.float32), envelope.astype(np.float32)

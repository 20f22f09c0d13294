"""Clip -> Views: resizing, pixel statistics and log-mel features of the original models.

Image stream: PIL bicubic to a square, CLIP statistics. Temporal stream: PIL bilinear to a square,
ImageNet statistics. Sound: Whisper's log-mel (hop 160, window 400 at 16 kHz). The aspect ratio is
not kept, as in the originals.

The mel filters equal those of transformers.audio_utils bit for bit (tests/unit/test_clip.py). They
are computed here because importing transformers takes half a second per process and prints a notice
where PyTorch is not installed.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from PIL import Image

from data_pipeline.media.clip import SAMPLE_RATE
from data_pipeline.schema import Clip

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

N_FFT = 400
HOP = 160
FRAMES_PER_SECOND = SAMPLE_RATE // HOP


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views:
    """The inputs of the encoders; a missing modality is an array of zeros with its flag False.

    Attributes:
      image: uint8[H, W, 3], resized, not normalized.
      frames: uint8[F, h, w, 3], resized, not normalized.
      sound: float32[S2, mels] log-mel, 100 frames per second, or float32[n, 1] waveform at 16 kHz;
        padded to the window.
      audio_frames: number of rows of `sound` that are not padding.
      has_video: whether the clip has a picture.
      has_audio: whether the clip has sound.
    """

    image: np.ndarray
    frames: np.ndarray
    sound: np.ndarray
    audio_frames: int
    has_video: bool
    has_audio: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Sizes of the Views; the defaults are those of Emotion-LLaMAv2.

    Attributes:
      image_size: side of the image in pixels.
      frame_size: side of the frames in pixels.
      num_frames: number of frames.
      mels: number of mel bins; 0: the sound is the waveform (v1).
      seconds: length of the sound window.
    """

    image_size: int = 448
    frame_size: int = 224
    num_frames: int = 16
    mels: int = 128
    seconds: float = 30.0

    @property
    def sound_shape(self) -> tuple[int, int]:
        """[S2, mels] log-mel frames in the window, or [n, 1] samples."""
        if self.mels:
            return round(self.seconds * FRAMES_PER_SECOND), self.mels
        return round(self.seconds * SAMPLE_RATE), 1


def resize_image(picture: np.ndarray, size: int) -> np.ndarray:
    """uint8[H, W, 3] -> uint8[size, size, 3], PIL bicubic (image stream)."""
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))


def resize_frame(picture: np.ndarray, size: int) -> np.ndarray:
    """uint8[H, W, 3] -> uint8[size, size, 3], PIL bilinear (temporal stream)."""
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))


def normalize(pixels: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """uint8[..., 3] -> float32[..., 3]: scaled to [0, 1], minus mean, divided by std."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    return (scaled - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)


@functools.lru_cache(maxsize=4)
def mel_filters(mels: int) -> np.ndarray:
    """float64[201, mels]: triangles on the Slaney mel scale with Slaney's norm, 0 to 8 kHz."""

    def to_mel(hertz: np.ndarray) -> np.ndarray:
        return np.where(
            hertz < 1000,
            hertz * 3 / 200,
            15 + np.log(np.maximum(hertz, 1e-9) / 1000) * 27 / np.log(6.4),
        )

    def to_hertz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))

    bins = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    edges = to_hertz(np.linspace(0, float(to_mel(np.array(SAMPLE_RATE / 2))), mels + 2))
    width = np.diff(edges)
    slopes = edges[None, :] - bins[:, None]
    rising, falling = -slopes[:, :-2] / width[:-1], slopes[:, 2:] / width[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    filters: np.ndarray = triangles * (2.0 / (edges[2:] - edges[:-2]))
    return filters


def log_mel(waveform: np.ndarray, *, mels: int = 128, seconds: float = 30.0) -> np.ndarray:
    """Log-mel features as computed by Whisper's feature extractor.

    Longer sound is cut. Shorter sound is padded with zeros before the transform, so that padding
    takes part in the maximum over the clip, as in Whisper.

    Args:
      waveform: float[n] at 16 kHz.
      mels: number of mel bins.
      seconds: length of the window.

    Returns:
      float32[100 * seconds, mels].
    """
    samples = round(seconds * SAMPLE_RATE)
    padded = np.zeros(samples, np.float64)
    padded[: min(samples, len(waveform))] = waveform[:samples]
    padded = np.pad(padded, N_FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][: samples // HOP]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    power = np.abs(np.fft.rfft(frames * window, axis=-1)) ** 2
    logged = np.log10(np.maximum(power @ mel_filters(mels), 1e-10))
    logged = np.maximum(logged, logged.max() - 8.0)
    scaled: np.ndarray = (logged + 4.0) / 4.0
    return scaled.astype(np.float32)


def window_notes(clip: Clip, config: ViewConfig) -> tuple[str, ...]:
    """A note if the sound is longer than the window, else no note."""
    if clip.waveform is None or len(clip.waveform) <= config.seconds * SAMPLE_RATE:
        return ()
    length = len(clip.waveform) / SAMPLE_RATE
    return (f"the model hears the first {config.seconds:g} s of {length:.1f} s of sound",)


def make_views(clip: Clip, config: ViewConfig) -> Views:
    """Clip -> Views; a missing modality becomes zeros and a False flag."""
    if clip.frames is not None and clip.image is not None:
        image = resize_image(clip.image, config.image_size)
        frames = np.stack([resize_frame(frame, config.frame_size) for frame in clip.frames])
    else:
        image = np.zeros((config.image_size, config.image_size, 3), np.uint8)
        frames = np.zeros((config.num_frames, config.frame_size, config.frame_size, 3), np.uint8)
    has_audio = "audio" in clip.modalities
    sound, valid = np.zeros(config.sound_shape, np.float32), 0
    if has_audio and clip.waveform is not None:
        if config.mels:
            sound = log_mel(clip.waveform, mels=config.mels, seconds=config.seconds)
            valid = min(len(sound), -(-len(clip.waveform) // HOP))
        else:
            valid = min(len(sound), len(clip.waveform))
            sound[:valid, 0] = clip.waveform[:valid]
    return Views(
        image=image,
        frames=frames,
        sound=sound,
        audio_frames=valid,
        has_video=clip.frames is not None,
        has_audio=has_audio,
    )

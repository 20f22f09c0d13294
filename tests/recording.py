"""Synthetic recordings: pictures change at known times, speech-like sound is in known spans."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE, SOUND = 25, 16_000


def speech(seconds: float, seed: int = 0, *, moving: bool = False) -> np.ndarray:
    """A pulsed buzz with formants, four syllables per second: a voice detector reports speech.

    If `moving`, pitch and formants glide as those of a voice do.
    """
    t = np.arange(int(seconds * SOUND)) / SOUND
    rng = np.random.default_rng(seed)
    phase, strengths = 2 * np.pi * 140 * t, [3 if 3 < k < 8 else 1 for k in range(25)]
    if moving:
        phase = phase - 12 * np.pi * np.cos(2 * np.pi * 1.3 * t)
        formant = 5 + 3 * np.sin(2 * np.pi * 2 * t)  # number of the strongest harmonic
        strengths = [0.5 + 4 * np.exp(-(((k - formant) / 2) ** 2)) for k in range(25)]
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k * strengths[k] for k in range(1, 25))
    envelope = 0.25 + 0.75 * np.clip(np.sin(2 * np.pi * 4 * t), 0, 1)
    return (0.06 * voice * envelope).astype(np.float32)


def record(
    path: Path,
    scenes: list[tuple[float, int]],
    spoken: list[tuple[float, float]],
    video: bool = True,
    size: int = 64,
    *,
    moving: bool = False,
) -> Path:
    """Writes an .mp4 file with faint noise outside of speech.

    Args:
      path: the file to write.
      scenes: (seconds, seed of the picture) of each scene; 0 is a grey picture.
      spoken: (start, end) of each span of speech in seconds.
      video: whether there is a video track.
      size: side of the picture in pixels.
      moving: whether pitch and formants of the speech glide, see `speech`.
    """
    total = sum(s for s, _ in scenes)
    wave = 0.0005 * np.random.default_rng(9).standard_normal(int(total * SOUND)).astype(np.float32)
    for a, b in spoken:
        voice = speech(b - a, moving=moving)
        wave[int(a * SOUND) : int(a * SOUND) + len(voice)] += voice
    with av.open(str(path), "w") as container:
        if video:
            stream = container.add_stream(
                "libx264", rate=RATE, options={"preset": "ultrafast", "crf": "23"}
            )
            stream.width = stream.height = size
            stream.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SOUND, layout="mono")
        number = 0
        for seconds, seed in scenes if video else ():
            rng = np.random.default_rng(seed)
            base = rng.integers(30, 220, (8, 8, 3)).repeat(size // 8, 0).repeat(size // 8, 1)
            base = base if seed else np.full_like(base, 128)
            for _ in range(round(seconds * RATE)):
                picture = np.clip(base + rng.normal(0, 1, base.shape), 0, 255).astype(np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                number += 1
                container.mux(stream.encode(frame))
        if video:
            container.mux(stream.encode(None))
        for at in range(0, len(wave), 1600):
            piece = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(wave[None, at : at + 1600]), "fltp", "mono"
            )
            piece.rate, piece.pts, piece.time_base = SOUND, at, Fraction(1, SOUND)
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    return path


def restamped(
    source: Path, target: Path, *, start: float = 0.0, form: str | None = None, camera: bool = False
) -> Path:
    """Copies the packets of a file into another container.

    Args:
      source: the file.
      target: the file to write.
      start: seconds that are added to all time stamps.
      form: name of the container's format, by default that of the suffix.
      camera: packets of 192 bytes as in a camera's .MTS files.
    """
    options = {"mpegts_m2ts_mode": "1"} if camera else {}
    with (
        av.open(str(source)) as old,
        av.open(str(target), "w", format=form, options=options) as new,
    ):
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                shift = round(start / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return target

"""How often a face and speech are found where people are, and where nobody is.

    python scripts/presence_check.py --people FOLDER ... --sounds FOLDER ... --nobody FOLDER ...

Every film of --people shows a face and has speech, every file of --sounds has speech, no file of
--nobody has either. Pictures and sounds without anybody are made here as well: colours, gradients,
patterns of FFmpeg, photographs of scikit-image and scikit-learn, noise, tones, beeps, chords. An
answer abstains where neither is found and no words are given. The figures are in
docs/responsible_use.md.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import skimage.data
from sklearn.datasets import load_sample_image

from data_pipeline.embedded.face import make_background
from data_pipeline.media.clip import SAMPLE_RATE, ClipError, Sampling, read_clip
from data_pipeline.media.presence import find_signs, has_face, has_speech
from data_pipeline.schema import Clip

PATTERNS = ("testsrc", "testsrc2", "smptebars", "rgbtestsrc", "mandelbrot", "life", "yuvtestsrc")
# of scikit-image, without a person
PHOTOGRAPHS = tuple(
    "brick chelsea clock coffee coins colorwheel grass gravel hubble_deep_field"
    " immunohistochemistry moon page retina rocket text".split()
)


def clips(folders: list[Path], limit: int) -> Iterator[Clip]:
    """The clips of folders, every n-th so that at most `limit` of each are read."""
    for folder in folders:
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        for path in files[:: max(1, -(-len(files) // limit))]:
            with contextlib.suppress(ClipError):
                yield read_clip(path, sampling=Sampling(num_frames=16))


def pictures() -> Iterator[tuple[str, np.ndarray]]:
    """Pictures of nobody: uint8[F, H, W, 3] by name."""
    x, y = np.meshgrid(np.linspace(0, 1, 320), np.linspace(0, 1, 240))
    for grey in (0, 128, 255):
        yield f"grey {grey}", np.full((4, 240, 320, 3), grey, np.uint8)
    for angle in range(4):
        share = np.clip(x * np.cos(angle) + y * np.sin(angle), 0, 1)[..., None]
        picture = np.array([120, 20, 160]) * (1 - share) + np.array([250, 150, 20]) * share
        yield f"gradient {angle}", np.stack([picture.astype(np.uint8)] * 4)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        yield f"noise {seed}", rng.integers(0, 256, (4, 240, 320, 3)).astype(np.uint8)
    for seed in range(24):
        yield f"shapes {seed}", np.asarray(make_background(seed, 128).convert("RGB"))[None]
    for name in PHOTOGRAPHS:
        picture = getattr(skimage.data, name)()
        rgb = picture if picture.ndim == 3 else np.stack([picture] * 3, axis=2)
        yield f"photograph {name}", rgb[None]
    for name in ("china.jpg", "flower.jpg"):
        yield f"photograph {name}", load_sample_image(name)[None]
    for name in PATTERNS:
        with av.open(f"{name}=size=320x240:rate=2", format="lavfi") as container:
            frames = [
                frame.to_ndarray(format="rgb24")
                for frame, _ in zip(container.decode(video=0), range(8), strict=False)
            ]
        yield name, np.stack(frames)


def sounds() -> Iterator[tuple[str, np.ndarray]]:
    """Sounds of nobody, 3 s each: float32[n] by name."""
    t = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    rng = np.random.default_rng(0)
    sine = lambda f: np.sin(2 * np.pi * f * t)
    yield "silence", np.zeros_like(t)
    for f in (100, 220, 440, 1000, 3000):
        yield f"tone {f} Hz", 0.3 * sine(f)
        yield f"beeps {f} Hz", 0.3 * sine(f) * (t * 3 % 1 < 0.5)
    yield "chord", 0.15 * (sine(262) + sine(330) + sine(392))
    note = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    yield (
        "melody",
        np.concatenate(
            [
                np.exp(-3 * note)
                * sum(0.3 / k * np.sin(2 * np.pi * f * k * note) for k in (1, 2, 3))
                for f in (262, 294, 330, 349, 392, 440)
            ]
        ),
    )
    yield "glide 200-2600 Hz", 0.3 * np.sin(2 * np.pi * (200 + 400 * t) * t)
    yield "glide 100-7000 Hz", 0.3 * np.sin(2 * np.pi * (100 + 1150 * t) * t)
    yield "siren", 0.3 * np.sin(2 * np.pi * 800 * t + 500 * sine(0.7))
    pitch = np.cumsum(1500 + 600 * sine(1.3)) / SAMPLE_RATE
    yield "whistles", 0.3 * np.sin(2 * np.pi * pitch) * (t % 0.7 < 0.5)
    yield "square", 0.2 * np.sign(sine(220))
    yield "hum", sum(0.1 / k * sine(50 * k) for k in range(1, 8))
    yield "pulsed tone", 0.3 * sine(440) * (0.5 + 0.5 * sine(4))
    for level in (0.0005, 0.01, 0.1):
        yield f"noise {level}", level * rng.standard_normal(len(t))
    yield "pulsed noise", 0.2 * rng.standard_normal(len(t)) * (0.5 + 0.5 * sine(4))
    walk = np.cumsum(rng.standard_normal(len(t)))
    yield "rumble", 0.2 * walk / np.abs(walk).max()
    yield "clicks", 0.8 * (np.arange(len(t)) % 4000 == 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("people", "sounds", "nobody"):
        parser.add_argument(f"--{name}", nargs="*", type=Path, default=[])
    parser.add_argument("--limit", type=int, default=10_000, help="files of each folder")
    args = parser.parse_args()
    rows = []
    for title, folders in (("people", args.people), ("files of nobody", args.nobody)):
        found = [(c, find_signs(c)) for c in clips(folders, args.limit)]
        seen = ["face" in s for c, s in found if c.frames is not None]
        heard = ["speech" in s for c, s in found if "audio" in c.modalities]
        rows += [
            (f"{title}: a face is found", sum(seen), len(seen)),
            (f"{title}: speech is found", sum(heard), len(heard)),
            (f"{title}: abstains", sum(not s for _, s in found), len(found)),
        ]
    heard = [
        has_speech(c.waveform) for c in clips(args.sounds, args.limit) if c.waveform is not None
    ]
    rows.append(("sounds: speech is found", sum(heard), len(heard)))
    shown = dict(pictures())
    photographs = {n: x for n, x in shown.items() if n.startswith("photograph")}
    drawn = {n: x for n, x in shown.items() if n not in photographs}
    for title, made, look in (
        ("photographs of nobody: a face is found", photographs, has_face),
        ("made pictures of nobody: a face is found", drawn, has_face),
        ("made sounds of nobody: speech is found", dict(sounds()), has_speech),
    ):
        hits = {n: look(x.astype(np.float32) if x.ndim == 1 else x) for n, x in made.items()}
        rows.append((title, sum(hits.values()), len(hits)))
        if wrong := [name for name, hit in hits.items() if hit]:
            print("found in", ", ".join(wrong))
    for title, count, total in rows:
        if total:
            print(f"{title:45} {count:5} of {total}")


if __name__ == "__main__":
    main()

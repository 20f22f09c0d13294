"""Who is seen and heard in made clips, and what an answer may say about them."""

import tracemalloc

import numpy as np
import pytest
from recording import speech

from data_pipeline.embedded.face import make_background
from data_pipeline.media.presence import find_signs, has_face, has_speech, is_blank, missing_signs
from data_pipeline.schema import Clip
from emojax.infer.grounding import Grounds, grounded_start, grounded_text

T = np.arange(32_000) / 16_000
NOISE = np.random.default_rng(0).standard_normal(32_000)


def clip(frames=None, waveform=None, subtitle=""):
    return Clip(
        id="a",
        path="a.mp4",
        frames=frames,
        times=None,
        image=None if frames is None else frames[0],
        image_index=0,
        waveform=waveform,
        subtitle=subtitle,
    )


@pytest.mark.parametrize(
    ("sound", "spoken"),
    [
        (speech(2.0, moving=True), True),
        (speech(0.6, moving=True), True),
        (0.3 * np.sin(2 * np.pi * 440 * T), False),
        (0.3 * np.sin(2 * np.pi * 440 * T) * (T * 4 % 1 < 0.5), False),
        (0.3 * np.sin(2 * np.pi * (200 + 600 * T) * T), False),  # glides from 200 to 2600 Hz
        (0.3 * np.sin(2 * np.pi * 800 * T + 500 * np.sin(4 * T)) * (T % 0.7 < 0.5), False),
        (0.15 * sum(np.sin(2 * np.pi * f * T) for f in (262, 330, 392)), False),
        (0.1 * NOISE, False),
        (0.1 * NOISE * (0.5 + 0.5 * np.sin(8 * np.pi * T)), False),
        (np.zeros(32_000), False),
    ],
)
def test_speech_and_other_sounds(sound, spoken):
    assert has_speech(sound.astype(np.float32)) == spoken


def test_a_real_face_and_pictures_without_one():
    """The portrait that matplotlib brings (Grace Hopper, public domain)."""
    from matplotlib.cbook import get_sample_data
    from PIL import Image

    with get_sample_data("grace_hopper.jpg") as file:
        portrait = np.asarray(Image.open(file).convert("RGB"))
    assert has_face(portrait[None])
    grey = np.full((2, 120, 160, 3), 200, np.uint8)
    shapes = np.asarray(make_background(3, 128).convert("RGB"))[None]
    noise = np.random.default_rng(1).integers(0, 256, (2, 120, 160, 3)).astype(np.uint8)
    assert not any(map(has_face, (grey, shapes, noise)))


def test_what_is_missing_is_said():
    grey = np.full((2, 64, 64, 3), 200, np.uint8)
    nobody = clip(grey, (0.3 * np.sin(2 * np.pi * 440 * T)).astype(np.float32))
    assert find_signs(nobody) == ()
    blank, silent, guess = missing_signs(nobody, ())
    assert "blank" in blank and "no speech" in silent and "nobody" in guess
    spoken = clip(grey, speech(2.0, moving=True), "hello")
    assert find_signs(spoken) == ("speech", "words")
    assert missing_signs(spoken, ("speech", "words")) == [blank]
    muted = clip(None, np.zeros(32_000, np.float32), "hello")
    assert missing_signs(muted, find_signs(muted)) == [], "the clip's own note names the silence"


DEMO = (
    "the picture shows lowered brows, tightened lids and a smile, the sound has low pitch,"
    " soft voice and slow speech, the person says words of unease, so it is sad"
)
PROSE = (
    'She frowns. Her voice is loud; she says "I am fine, thank you" twice. Overall she is angry.'
)


@pytest.mark.parametrize(
    ("reason", "modalities", "signs", "kept", "left_out"),
    [
        (DEMO, ("video", "audio", "text"), ("face", "speech", "words"), DEMO, []),
        (DEMO, ("video", "audio"), ("face", "speech"),
         DEMO.replace(" the person says words of unease,", ""), ["words"]),
        (DEMO, ("video", "audio"), ("face",),
         "the picture shows lowered brows, tightened lids and a smile, so it is sad",
         ["a voice", "words"]),
        (DEMO, ("audio", "text"), ("speech", "words"), DEMO[DEMO.index("the sound") :],
         ["a picture"]),
        (PROSE, ("video", "audio"), ("face", "speech"),
         "She frowns. Her voice is loud; Overall she is angry.", ["words"]),
        ("画面中她皱眉。字幕说她很好，所以她生气。", ("video",), ("face",),
         "画面中她皱眉。所以她生气。", ["words"]),
    ],
)  # fmt: skip
def test_a_reason_describes_what_the_clip_has(reason, modalities, signs, kept, left_out):
    grounds = Grounds(modalities=modalities, signs=signs)
    text, notes = grounded_text(reason, grounds)
    assert text == kept
    assert [f"described {' and '.join(left_out)} that" in note for note in notes] == (
        [True] if left_out else []
    )
    starts = [grounded_start(reason[:n], grounds) for n in range(len(reason) + 1)]
    assert all(kept.startswith(start) for start in starts) and any(starts)


def test_nothing_is_written_where_nobody_is():
    nobody = Grounds(modalities=("video", "audio"), signs=())
    assert grounded_text(DEMO, nobody) == ("", []) and grounded_start(DEMO, nobody) == ""


def test_a_clip_of_ten_minutes_and_a_large_picture_need_little_memory():
    sound = np.tile(speech(2.0, moving=True), 300)
    rows = np.arange(7000, dtype=np.uint8)[None, :, None, None]
    tracemalloc.start()
    assert has_speech(sound)
    assert not is_blank(np.broadcast_to(rows, (1, 7000, 7000, 3)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6

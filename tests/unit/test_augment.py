"""Augmentation of pictures, log-mel and waveform: ranges and values that follow by hand."""

import dataclasses

import numpy as np
import pytest

from data_pipeline.media.augment import augment_views
from data_pipeline.media.views import Views

SEEDS = range(40)


def views(picture=None, sound=None, valid=80):
    has_video, has_audio = picture is not None, sound is not None
    picture = np.zeros((32, 32, 3), np.uint8) if picture is None else picture
    sound = np.zeros((100, 20), np.float32) if sound is None else sound
    return Views(
        image=picture,
        frames=np.stack([picture] * 3),
        sound=sound,
        audio_frames=valid if has_audio else 0,
        has_video=has_video,
        has_audio=has_audio,
    )


def augmented(given, strength, seeds=SEEDS):
    return [augment_views(given, np.random.default_rng(s), strength=strength) for s in seeds]


def test_strength_0_and_absent_streams_change_nothing():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    sound = rng.normal(size=(100, 20)).astype(np.float32)
    given = views(picture, sound)
    assert augment_views(given, np.random.default_rng(1), strength=0) is given
    for out in augmented(views(None, None), 1.0, range(3)):
        assert not out.image.any() and not out.frames.any() and not out.sound.any()


def test_one_seed_one_result_and_another_seed_another():
    rng = np.random.default_rng(0)
    given = views(
        rng.integers(0, 256, (32, 32, 3)).astype(np.uint8), rng.normal(size=(100, 20)).astype("f4")
    )
    one, same, other = augmented(given, 1.0, (1, 1, 2))
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.sound, same.sound)
    assert (one.image != other.image).any() and (one.sound != other.sound).any()


def test_image_and_frames_change_alike():
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    for out in augmented(views(picture), 1.0):
        for frame in out.frames:
            np.testing.assert_array_equal(out.image, frame)
        assert out.image.dtype == np.uint8 and out.image.shape == picture.shape


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_any_frame_may_be_the_image(strength):
    """The image is given as the frame in the middle; half of the time another is drawn."""
    greys = [np.full((32, 32, 3), grey, np.uint8) for grey in (40, 128, 216)]
    given = dataclasses.replace(views(greys[1]), frames=np.stack(greys))
    chosen = []
    for out in augmented(given, strength):
        equal = [i for i, frame in enumerate(out.frames) if np.array_equal(out.image, frame)]
        assert len(equal) == 1
        chosen += equal
    assert set(chosen) == {0, 1, 2} and 20 <= chosen.count(1) <= 34


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_middle_grey_moves_by_the_shift_alone(strength):
    """Contrast and gains act around 128: a grey of 128 stays grey, at most 20 * strength away."""
    values = []
    for out in augmented(views(np.full((32, 32, 3), 128, np.uint8)), strength):
        middle = out.image[12:20, 12:20].reshape(-1, 3)
        assert (middle == middle[0, 0]).all()
        values.append(int(middle[0, 0]) - 128)
    assert min(values) >= -20 * strength - 1 and max(values) <= 20 * strength
    assert max(values) > 8 * strength and min(values) < -8 * strength


def test_contrast_and_gain_stay_in_their_range():
    """128 + 60: contrast 0.75 to 1.25, gain 0.75 to 1.25, shift of 20 either way."""
    lit = [
        out.image[16, 16].astype(int) - 128
        for out in augmented(views(np.full((32, 32, 3), 188, np.uint8)), 1.0)
    ]
    lit = np.array(lit)
    assert lit.min() >= 60 * 0.75**2 - 21 and lit.max() <= 60 * 1.25**2 + 20
    assert (lit.max(axis=1) - lit.min(axis=1)).max() > 5  # channels have gains of their own
    assert lit.std() > 8


def test_about_half_of_the_clips_are_mirrored():
    picture = np.full((32, 32, 3), 64, np.uint8)
    picture[:, 16:] = 192
    turned = [
        float(o.image[16, 8:16].mean()) > float(o.image[16, 16:24].mean())
        for o in augmented(views(picture), 0.3)
    ]
    assert 10 <= sum(turned) <= 30


def test_the_crop_stays_near_the_middle():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[28:36, 28:36] = 255
    for out in augmented(views(picture), 0.3):
        rows, columns = np.nonzero(out.image[..., 0] > 128)
        assert 45 <= len(rows) <= 95
        assert abs(rows.mean() - 31.5) < 5 and abs(columns.mean() - 31.5) < 5


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_logmel_of_one_value(strength):
    """Loudness (0.1) and tilt (0.1) alone move a constant; the padding has its smallest value."""
    for out in augmented(views(sound=np.full((100, 20), -0.5, np.float32)), strength):
        heard = out.sound[: out.audio_frames]
        assert out.sound.shape == (100, 20) and out.sound.dtype == np.float32
        assert (
            round(80 * (1 - 0.12 * strength))
            <= out.audio_frames
            <= round(80 * (1 + 0.12 * strength))
        )
        assert np.abs(heard + 0.5).max() <= 0.2 * strength + 1e-6
        assert np.ptp(heard, axis=0).max() <= 0.2 * strength  # masks take the mean, not silence
        assert (out.sound[out.audio_frames :] <= heard.min() + 1e-6).all()
    lengths = {
        out.audio_frames for out in augmented(views(sound=np.zeros((100, 20), "f4")), strength)
    }
    assert len(lengths) > 3 and min(lengths) < 80 < max(lengths)


def test_logmel_keeps_time_and_pitch_near_their_place():
    """A burst moves with tempo (12 %), start (15 frames), mel scale (15 %) and shift (2)."""
    sound = np.full((100, 20), -1.0, np.float32)
    sound[36:45, 9:12] = 1.0
    places = []
    for out in augmented(views(sound=sound), 1.0):
        t, m = np.nonzero(out.sound > out.sound.max() - 0.5)
        places.append((t.mean(), m.mean()))
    times, mels = np.array(places).T
    assert 20 <= times.min() and times.max() <= 62 and times.std() > 3
    assert 6 <= mels.min() and mels.max() <= 15 and mels.std() > 0.5


def test_waveform_keeps_silence_behind_it_and_changes_loudness():
    wave = np.zeros((2000, 1), np.float32)
    wave[:1000, 0] = np.sin(np.arange(1000) / 5)
    peaks = []
    for out in augmented(views(sound=wave, valid=1000), 1.0):
        assert 850 <= out.audio_frames <= 1150 and out.sound.shape == (2000, 1)
        assert not out.sound[out.audio_frames :].any()
        peaks.append(np.abs(out.sound).max())
    assert min(peaks) >= 10**-0.3 * 0.9 and max(peaks) <= 10**0.3 * 1.01
    assert min(peaks) < 0.8 and max(peaks) > 1.2

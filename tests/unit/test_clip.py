"""Decoding: real and synthetic irregular files, and the messages of the errors."""

import csv
import os
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest

from data_pipeline.embedded.generate import write_mp4
from data_pipeline.media.clip import (
    SAMPLE_RATE,
    Sampling,
    image_index,
    read_clip,
    temporal_indices,
    uniform_indices,
)
from data_pipeline.media.container import ClipError
from data_pipeline.media.views import (
    ViewConfig,
    log_mel,
    make_views,
    mel_filters,
    normalize,
    resize_frame,
    resize_image,
)


def grey_ramp(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Frame i has the grey level 8 i, which identifies it."""
    return [np.full((height, width, 3), 8 * i, np.uint8) for i in range(count)]


def tone(seconds: float, hertz: float = 440.0) -> np.ndarray:
    return (
        0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)
    ).astype(np.float32)


def greys(frames: np.ndarray) -> list[int]:
    return [round(float(f.mean()) / 8) for f in frames]


@pytest.fixture
def clip_file(tmp_path):
    path = tmp_path / "a.mp4"
    write_mp4(path, grey_ramp(30), tone(2.5), 12)
    return path


def test_frames_are_the_requested_ones(clip_file):
    clip = read_clip(
        clip_file, sampling=Sampling(image="index", index=7, temporal="uniform", num_frames=5)
    )
    assert greys(clip.frames) == [3, 9, 15, 21, 27] and greys(clip.image[None]) == [7]
    assert (clip.num_frames, clip.image_index) == (30, 7)
    np.testing.assert_allclose(clip.times, np.array([3, 9, 15, 21, 27]) / 12, atol=1e-3)
    for choice, index in (("first", 0), ("middle", 15), ("peak", 15)):
        assert greys(
            read_clip(clip_file, sampling=Sampling(image=choice, index=None)).image[None]
        ) == [index], choice
    assert greys(read_clip(clip_file, sampling=Sampling(image="peak", index=4)).image[None]) == [4]
    assert image_index(30, Sampling(image="peak", index=99)) == 15, (
        "an impossible peak falls back to the middle"
    )
    assert read_clip(clip_file, sampling=Sampling(image="peak", index=99)).notes == (
        "there is no frame 99; the middle one, 15, is used",
    )
    assert clip.notes == ()


def test_window_is_16_consecutive_frames_seeded_by_the_clip(clip_file):
    clip = read_clip(clip_file, sampling=Sampling(temporal="window"))
    assert np.diff(greys(clip.frames)).tolist() == [1] * 15
    end = np.random.RandomState(zlib.crc32(b"a")).randint(16, 30)
    assert greys(clip.frames)[0] == end - 16
    other = {temporal_indices(300, Sampling(temporal="window"), f"clip{i}")[0] for i in range(20)}
    assert len(other) > 10
    assert temporal_indices(5, Sampling(temporal="window"), "a").tolist() == [
        0,
        0,
        0,
        0,
        1,
        1,
        1,
        1,
        2,
        2,
        2,
        2,
        3,
        3,
        3,
        4,
    ]
    assert uniform_indices(3, 6).tolist() == [0, 0, 1, 1, 2, 2]


def test_sound_is_mono_16_khz(clip_file, tmp_path):
    wave = read_clip(clip_file).waveform
    assert wave.dtype == np.float32 and abs(len(wave) - 2.5 * SAMPLE_RATE) < 2100  # aac frames
    spectrum = np.abs(np.fft.rfft(wave[8000:24000]))
    assert spectrum.argmax() == 440
    six = tmp_path / "six.mkv"
    with av.open(str(six), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout="5.1")
        samples = np.zeros((1, 6 * 48000), np.int16)
        samples[0, 2::6] = 12000  # one of six channels
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="5.1")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = read_clip(six)
    assert (
        clip.frames is None
        and clip.modalities == ("audio",)
        and "there is no picture" in clip.notes
    )
    assert len(clip.waveform) == SAMPLE_RATE
    np.testing.assert_allclose(clip.waveform[4000:12000], 12000 / 32768 / 6, rtol=1e-2)


def test_spans_of_a_file(clip_file):
    clip = read_clip(clip_file, sampling=Sampling(num_frames=4), start=1.0, end=2.0)
    assert greys(clip.frames) == [13, 16, 19, 22] and clip.num_frames == 12
    assert 0.9 < len(clip.waveform) / SAMPLE_RATE < 1.1
    with pytest.raises(ClipError, match="no picture between 9 s and the end; there is no sound"):
        read_clip(clip_file, start=9.0)


def test_silence_is_noted(tmp_path):
    write_mp4(tmp_path / "s.mp4", grey_ramp(12), np.zeros(SAMPLE_RATE, np.float32), 12)
    clip = read_clip(tmp_path / "s.mp4", subtitle="words")
    assert (
        clip.silent and clip.modalities == ("video", "text") and "digital silence" in clip.notes[-1]
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.mp4", b"", "the file is empty"),
        ("text.mp4", b"this is only text\n" * 40, "not a media file that can be read"),
        (
            "list.mp4",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n/etc/passwd\n",
            "not a (media|video)",
        ),
    ],
)
def test_files_that_are_not_clips_are_rejected_with_the_cause(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ClipError, match=message) as caught:
        read_clip(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_truncated_file(tmp_path, clip_file):
    with pytest.raises(ClipError, match="there is no such file"):
        read_clip(tmp_path / "none.mp4")
    with pytest.raises(ClipError, match="this is a folder"):
        read_clip(tmp_path)
    whole = clip_file.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClipError):
        read_clip(tmp_path / "cut.mp4")  # the index of an mp4 is at its end
    with pytest.raises(ClipError, match="decoding took more than 0 s"):
        read_clip(clip_file, timeout=0.0)


def test_real_irregular_clips(real_data):
    """Every file of clips/labels.csv decodes, with the properties listed there."""
    with (real_data / "clips" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 23
    for row in rows:
        clip = read_clip(real_data / "clips" / row["file"], sampling=Sampling(num_frames=16))
        assert clip.frames.shape[0] == 16 and clip.num_frames == int(row["frames_decoded"]), row[
            "file"
        ]
        silent = "digital silence" in row["irregularities"]
        assert ("audio" in clip.modalities) == (row["acodec"] != "none" and not silent), row["file"]
        assert clip.silent == silent
        views = make_views(
            clip, ViewConfig(image_size=64, frame_size=32, num_frames=16, mels=80, seconds=3.0)
        )
        assert views.image.shape == (64, 64, 3) and views.has_video
        if not clip.silent and clip.waveform is not None:
            assert (
                views.has_audio
                and np.isfinite(views.sound).all()
                and views.sound.max() > views.sound.min()
            )


@pytest.mark.parametrize("mels", [16, 40, 80, 128])
def test_mel_filters_are_those_of_transformers(mels):
    from transformers.audio_utils import mel_filter_bank

    expected = mel_filter_bank(
        num_frequency_bins=201,
        num_mel_filters=mels,
        min_frequency=0.0,
        max_frequency=8000.0,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    np.testing.assert_array_equal(mel_filters(mels), expected)


@pytest.mark.parametrize("mels", [80, 128])
def test_log_mel_is_that_of_whisper(mels):
    from transformers import WhisperFeatureExtractor

    rng = np.random.default_rng(0)
    for seconds in (2.0, 31.0):
        wave = (
            tone(seconds, 300) + 0.05 * rng.standard_normal(round(seconds * SAMPLE_RATE))
        ).astype(np.float32)
        want = WhisperFeatureExtractor(feature_size=mels)(
            wave, sampling_rate=SAMPLE_RATE, return_tensors="np"
        )
        got = log_mel(wave, mels=mels)
        assert got.shape == (3000, mels)
        np.testing.assert_allclose(got, want.input_features[0].T, atol=1e-4)


def test_image_views_by_hand():
    picture = np.random.default_rng(1).integers(0, 256, (30, 50, 3)).astype(np.uint8)
    assert resize_image(picture, 448).shape == (448, 448, 3)  # the aspect ratio is not kept
    flat = np.full((20, 30, 3), 100, np.uint8)
    assert (resize_image(flat, 8) == 100).all() and (resize_frame(flat, 8) == 100).all()
    assert not np.array_equal(resize_image(picture, 64), resize_frame(picture, 64)), (
        "bicubic and bilinear differ"
    )
    got = normalize(np.array([[[0, 127, 255]]], np.uint8), (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
    np.testing.assert_allclose(got[0, 0], [-2.5, (127 / 255 - 0.4) / 0.25, 1.4], rtol=1e-6)


def test_missing_modalities_are_zeros_with_a_flag(tmp_path):
    write_mp4(tmp_path / "v.mp4", grey_ramp(6), None, 12)
    views = make_views(
        read_clip(tmp_path / "v.mp4"),
        ViewConfig(image_size=16, frame_size=8, num_frames=4, mels=80, seconds=1.0),
    )
    assert (views.has_video, views.has_audio, views.audio_frames) == (
        True,
        False,
        0,
    ) and not views.sound.any()
    write_mp4(tmp_path / "a.mp4", None, tone(0.5), 12)
    views = make_views(
        read_clip(tmp_path / "a.mp4"),
        ViewConfig(image_size=16, frame_size=8, num_frames=4, mels=80, seconds=1.0),
    )
    assert (
        (views.has_video, views.has_audio) == (False, True)
        and not views.image.any()
        and not views.frames.any()
    )
    assert 50 <= views.audio_frames <= 64


def test_a_timeout_rejects_the_clip(clip_file, monkeypatch):
    """What was decoded in time is only a part of the clip and is not used."""
    with pytest.raises(ClipError, match="^decoding took more than 1e-06 s"):
        read_clip(clip_file, timeout=1e-6)
    seconds = iter(range(10_000))  # one second per call: the timeout comes during the sound
    monkeypatch.setattr("data_pipeline.media.clip.time.monotonic", lambda: next(seconds))
    with pytest.raises(ClipError, match="^decoding took more than 80 s"):
        read_clip(clip_file, timeout=80)


def test_special_files_are_rejected(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, message in (
        (tmp_path / "pipe.mp4", "not a regular file"),
        ("/dev/zero", "not a regular file"),
    ):
        with pytest.raises(ClipError, match=message):
            read_clip(path)
    with pytest.raises(ClipError, match="cannot be read"):
        read_clip(tmp_path / ("x" * 300 + ".mp4"))

"""One clock for picture and sound in every container: spans, joins, last pictures, tracks."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from recording import record, restamped

from data_pipeline.media.clip import SAMPLE_RATE, ClipError, Sampling, place_sound, read_clip
from data_pipeline.media.segments import SegmentConfig, read_segments
from data_pipeline.media.stream import open_recording, read_frames, read_sound
from data_pipeline.media.tracks import read_picture, upright

SIZE = (48, 64)  # height and width of the pictures
GREYS = (40, 90, 140, 190)  # of one second each
TONES = (400, 700, 1000, 1300)  # Hz, of one second each


def grey(level: int) -> np.ndarray:
    return np.full((*SIZE, 3), level, np.uint8)


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.4 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def quarters() -> np.ndarray:
    """Black, dark, light, white: no turn or mirror leaves this picture as it is."""
    picture = np.kron(np.array([[0, 80], [160, 255]]), np.ones((SIZE[0] // 2, SIZE[1] // 2)))
    return np.repeat(picture[..., None], 3, axis=2).astype(np.uint8)


def look(picture: np.ndarray) -> list[int]:
    """The quarters of a picture as numbers from 0 to 3, `quarters()` gives 0, 1, 2, 3."""
    h, w = picture.shape[:2]
    means = [picture[y, x].mean() for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4)]
    return [round(float(m) / 83) for m in means]


def hertz(sound: np.ndarray) -> int:
    return round(float(np.abs(np.fft.rfft(sound)).argmax()) * SAMPLE_RATE / len(sound), -2)


def write(path, *pictures, times=None, sounds=(), defaults=None, last=None, rotate=None, form=None):
    """Writes tracks of pictures (lists), at 25 per second or at `times`, then tracks of sound."""
    with av.open(str(path), "w", format=form) as out:
        streams = []
        for _ in pictures:
            stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "9"})
            stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            if rotate:
                stream.metadata["rotate"] = rotate
            streams.append(stream)
        streams += [out.add_stream("aac", rate=SAMPLE_RATE, layout="mono") for _ in sounds]
        for stream, default in zip(streams, defaults or [], strict=False):
            stream.disposition = av.stream.Disposition.default if default else 0
        out.start_encoding()
        packets = []
        for stream, content in zip(streams, (*pictures, *sounds), strict=True):
            if stream.type == "audio":
                frame = av.AudioFrame.from_ndarray(content[None], "fltp", "mono")
                frame.rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
                packets += [*stream.encode(frame), *stream.encode(None)]
                continue
            found = []
            for at, pixels in zip(times or np.arange(len(content)) / 25, content, strict=True):
                frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
                frame.pts, frame.time_base = round(at * 1000), Fraction(1, 1000)
                found += stream.encode(frame)
            found += stream.encode(None)
            if last:
                found[-1].duration = round(last / found[-1].time_base)
            packets += found
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Four seconds, each with a grey level and a tone of its own."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write(
        path,
        [grey(level) for level in GREYS for _ in range(25)],
        sounds=[np.concatenate([tone(h) for h in TONES])],
    )


CONTAINERS = (
    ("film.mkv", {"start": 10.0}),
    ("film.ts", {"start": 3600.0, "form": "mpegts"}),
    ("film.MTS", {"start": 1.2, "form": "mpegts", "camera": True}),
)


@pytest.mark.parametrize(("name", "how"), [("film.mp4", None), *CONTAINERS])
def test_a_span_is_the_same_in_every_container(film, tmp_path, name, how):
    """Times count from the first shown frame, wherever the clock of the file starts."""
    path = film if how is None else restamped(film, tmp_path / name, **how)
    clip = read_clip(path, sampling=Sampling(num_frames=4), start=1.0, end=3.0)
    assert [round(float(f.mean())) // 50 for f in clip.frames] == [1, 1, 2, 2]
    assert clip.num_frames == 50 and clip.duration == 2.0 and clip.notes == ()
    assert len(clip.waveform) == 2 * SAMPLE_RATE
    halves = clip.waveform[800:15200], clip.waveform[16800:31200]
    assert [hertz(half) for half in halves] == [700, 1000]
    recording = open_recording(str(path))
    assert recording.seconds == pytest.approx(4.0, abs=1e-6) and recording.times.joins == ()


def test_joined_parts_do_not_drift(film, tmp_path):
    """Sound of 4 s and pictures of 3.4 s, three times: pictures change where the tone does."""
    part = write(
        tmp_path / "part.ts",
        [grey(GREYS[i // 25]) for i in range(85)],
        sounds=[np.concatenate([tone(h) for h in TONES])],
    )
    (tmp_path / "joined.ts").write_bytes(part.read_bytes() * 3)
    notes: list[str] = []
    recording = open_recording(str(tmp_path / "joined.ts"), notes)
    assert len(recording.times.joins) == 2 and "jump in 2 places" in notes[0]
    frames = list(read_frames(recording.path, [], times=recording.times))
    sound = np.concatenate(list(read_sound(recording.path, [], times=recording.times)))
    changes = [f.time for f in frames if f.change > 20]
    assert len(changes) == 3 * 3 + 2
    for time in changes[::4]:  # from the first tone of a part to the second one
        at = round(time * SAMPLE_RATE)
        assert (hertz(sound[at - 4000 : at - 800]), hertz(sound[at + 800 : at + 4000])) == (
            400,
            700,
        )
    clip = read_clip(tmp_path / "joined.ts", start=changes[8] - 0.5, end=changes[8] + 0.5)
    assert hertz(clip.waveform[:7200]) == 400 and hertz(clip.waveform[8800:]) == 700


class Piece:
    """A decoded piece of sound as PyAV gives it."""

    def __new__(cls, samples):
        frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
        frame.sample_rate = SAMPLE_RATE
        return frame


def test_sound_is_placed_by_its_time_stamps():
    """Gaps are filled with silence, overlaps are dropped, jitter is left as it is."""
    ones = np.ones(8000, np.float32)
    stamps = [0.0, 0.51, 1.5, 1.75]  # 0.01 s of jitter, a gap of 0.49 s, an overlap of 0.25 s
    placed = list(place_sound(((t, Piece(ones * (i + 1))) for i, t in enumerate(stamps)), []))
    sound = np.concatenate([piece for _, piece in placed])
    assert placed[0][0] == 0 and len(sound) == 36000
    assert set(sound[:8000]) == {1.0} and set(sound[8000:16000]) == {2.0}
    assert set(sound[16000:24000]) == {0.0}
    assert set(sound[24000:32000]) == {3.0} and set(sound[32000:]) == {4.0}


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_last_picture_lasts_as_long_as_the_file_says(tmp_path, suffix):
    path = write(
        tmp_path / f"slides.{suffix}", [grey(g) for g in GREYS[:3]], times=[0, 10, 20], last=9.0
    )
    notes: list[str] = []
    cut = SegmentConfig(mode="window", window=10.0)
    found = list(read_segments(str(path), cut, Sampling(num_frames=2), notes=notes))
    assert [s.end for s in found] == [10, 20, pytest.approx(29.0)] and notes == []
    assert [round(float(s.clip.image.mean())) // 50 for s in found] == [0, 1, 2]
    clip = read_clip(path, start=14.0, end=18.0)  # within one picture
    assert round(float(clip.image.mean())) // 50 == 1 and clip.duration == 4.0
    assert read_clip(path).duration == pytest.approx(29.0)
    with pytest.raises(ClipError, match="no picture between 30 s"):
        read_clip(path, start=30.0)


def test_a_matroska_file_that_is_cut_off_has_no_long_last_picture(film, tmp_path):
    data = restamped(film, tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    times = open_recording(str(tmp_path / "cut.mkv")).times
    assert times.seconds < 3.5 and times.announced == 4.0


def test_the_default_track_is_read(tmp_path):
    path = write(
        tmp_path / "two.mkv",
        [grey(40)] * 25,
        [grey(190)] * 25,
        sounds=[tone(400), tone(1300)],
        defaults=[False, True, False, True],
    )
    clip = read_clip(path)
    assert clip.image.mean() == pytest.approx(190, abs=4) and hertz(clip.waveform[:16000]) == 1300
    assert next(read_frames(str(path), [])).pixels.mean() == pytest.approx(190, abs=4)


# Matrices (a, b, c, d) of ISO 14496-12, and what was done to the upright picture to store it.
STORED = {
    (1, 0, 0, 1): lambda u: u,
    (-1, 0, 0, 1): lambda u: u[:, ::-1],
    (1, 0, 0, -1): lambda u: u[::-1],
    (-1, 0, 0, -1): lambda u: u[::-1, ::-1],
    (0, 1, -1, 0): lambda u: np.rot90(u, 1),
    (0, -1, 1, 0): lambda u: np.rot90(u, -1),
    (0, 1, 1, 0): lambda u: u.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda u: u[::-1, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", STORED)
def test_all_eight_orientations(matrix):
    np.testing.assert_array_equal(upright(STORED[matrix](quarters()), matrix), quarters())


def test_a_mirrored_film_and_an_old_rotate_tag(tmp_path):
    path = write(tmp_path / "mirrored.mp4", [np.ascontiguousarray(quarters()[:, ::-1])] * 5)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the matrix of the track's header
    assert struct.unpack_from(">i", data, at) == (1 << 16,)
    struct.pack_into(">i", data, at, -1 << 16)
    path.write_bytes(bytes(data))
    assert look(read_clip(path).image) == [0, 1, 2, 3]
    assert look(next(read_frames(str(path), [])).pixels) == [0, 1, 2, 3]
    half = np.ascontiguousarray(quarters()[::-1, ::-1])
    path = write(tmp_path / "tag.mkv", [half] * 5, rotate="180")
    assert look(read_clip(path).image) == [0, 1, 2, 3]


def test_a_still_picture_is_turned_as_its_exif_data_say(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 5  # transposed
    Image.fromarray(quarters().transpose(1, 0, 2)).save(tmp_path / "a.jpg", exif=exif)
    for picture in (read_picture(str(tmp_path / "a.jpg")), read_clip(tmp_path / "a.jpg").image):
        assert look(picture) == [0, 1, 2, 3] and picture.shape[:2] == SIZE


def test_a_span_of_sound_is_cut_to_the_sample(tmp_path):
    """FLAC has blocks of up to 65535 samples, here 4096 at 48 kHz."""
    sound = np.arange(48_000 * 3) // 4800 * 1000  # a step each 0.1 s
    with av.open(str(tmp_path / "a.flac"), "w") as out:
        stream = out.add_stream("flac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound.astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        out.mux([*stream.encode(frame), *stream.encode(None)])
    clip = read_clip(tmp_path / "a.flac", start=1.0, end=1.5)
    assert len(clip.waveform) == 8000 and clip.duration == 0.5
    middles = clip.waveform[800::1600] * 32768
    np.testing.assert_allclose(middles, [10_000, 11_000, 12_000, 13_000, 14_000], atol=20)


def test_a_recording_of_a_broadcast_starts_between_key_frames(tmp_path):
    """What comes before the first key frame cannot be shown; times count from there."""
    path = record(tmp_path / "a.mp4", [(6.0, 1), (6.0, 2), (6.0, 3)], [(0.1, 17.5)])
    data = restamped(path, tmp_path / "a.ts", form="mpegts").read_bytes()
    (tmp_path / "cut.ts").write_bytes(data[len(data) // 3 // 188 * 188 :])
    recording = open_recording(str(tmp_path / "cut.ts"))
    frames = list(read_frames(recording.path, [], times=recording.times))
    assert len(frames) == len(recording.times.frames)
    assert frames[0].time == pytest.approx(recording.times.frames[0], abs=1e-3)
    assert read_clip(tmp_path / "cut.ts").num_frames == len(frames)

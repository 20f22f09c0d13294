"""Recordings with known shot changes and pauses: boundaries and content of the segments."""

import numpy as np
import pytest
from recording import record

from data_pipeline.media.clip import Sampling, read_clip
from data_pipeline.media.container import ClipError
from data_pipeline.media.segments import SegmentConfig, find_boundaries, quiet_runs, read_segments
from data_pipeline.media.stream import open_recording, read_frames, read_sound


def cut(path, how=None):
    return list(
        read_segments(str(path), how or SegmentConfig(), Sampling(num_frames=4, temporal="uniform"))
    )


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """Shot changes at 3, 7.5, 12 s; pauses at 5.2 (0.6 s) and 9.5 s (0.5 s); silence at the end."""
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    spoken = [(0.4, 2.6), (3.3, 4.9), (5.5, 7.3), (7.8, 9.25), (9.75, 11.8)]
    return record(path, [(3.0, 1), (4.5, 2), (4.5, 3), (4.0, 4)], spoken)


def test_cuts_and_pauses_are_found_and_nothing_else(talk):
    found = cut(talk)
    assert [s.ends_at for s in found] == ["cut", "pause", "cut", "pause", "cut", "end"]
    np.testing.assert_allclose([s.end for s in found], [3.0, 5.2, 7.5, 9.5, 12.0, 16.0], atol=0.15)
    assert [s.start for s in found[1:]] == [s.end for s in found[:-1]] and found[0].start == 0
    assert found[-1].speech < 0.1
    assert found[0].speech > 0.5


def test_a_segment_holds_its_own_pictures_and_sound(talk):
    found = cut(talk)
    for number, segment in enumerate(found):
        own = read_clip(
            str(talk),
            sampling=Sampling(num_frames=4, temporal="uniform"),
            start=segment.start,
            end=segment.end,
        )
        np.testing.assert_array_equal(segment.clip.frames, own.frames)
        np.testing.assert_array_equal(segment.clip.image, own.image)
        np.testing.assert_array_equal(segment.clip.waveform, own.waveform)
        other = found[(number + 2) % len(found)].clip
        if found[(number + 2) % len(found)].start // 4 != segment.start // 4 and number in (0, 2):
            assert np.abs(segment.clip.image.astype(int) - other.image.astype(int)).mean() > 15
        assert segment.clip.times[0] >= 0 and segment.clip.times[-1] <= segment.end - segment.start
    whole = np.concatenate([s.clip.waveform for s in found])
    straight = np.concatenate(list(read_sound(str(talk), [])))
    np.testing.assert_array_equal(whole, straight[: len(whole)])
    assert len(straight) - len(whole) < 16000 * 0.1


def test_windows(talk):
    found = cut(talk, SegmentConfig(mode="window", window=2.5))
    assert [s.end for s in found] == [2.5, 5.0, 7.5, 10.0, 12.5, 15.0, pytest.approx(16.0, abs=0.1)]


def test_long_speech_is_cut_where_it_is_quietest(tmp_path):
    """Eleven seconds with no pause of 0.3 s, but one of 0.2 s at 6.4 s, and a limit of 8 s."""
    path = record(tmp_path / "long.mp4", [(11.0, 1)], [(0.1, 6.3), (6.5, 10.9)])
    found = cut(path, SegmentConfig(longest=8.0))
    assert [s.ends_at for s in found] == ["length", "end"]
    assert found[0].end == pytest.approx(6.4, abs=0.15)


def test_sound_alone_and_picture_alone(tmp_path):
    path = record(tmp_path / "sound.mp4", [(6.0, 1)], [(0.2, 2.5), (3.5, 5.8)], video=False)
    found = cut(path)
    assert [s.ends_at for s in found] == ["pause", "end"] and found[0].end == pytest.approx(
        3.0, abs=0.15
    )
    assert (
        found[0].clip.frames is None
        and found[0].motion is None
        and found[0].clip.modalities == ("audio",)
    )
    seen = [p.time for p in read_frames(str(path), [])]
    assert seen == [] and not open_recording(str(path)).has_video


def test_the_length_does_not_change_what_came_before(talk, tmp_path):
    """A longer recording has the same segments before the end of the shorter one."""
    spoken = [(0.4, 2.6), (3.3, 4.9), (5.5, 7.3), (7.8, 9.25), (9.75, 11.8), (16.2, 19.5)]
    longer = record(
        tmp_path / "longer.mp4", [(3.0, 1), (4.5, 2), (4.5, 3), (4.0, 4), (4.0, 5)], spoken
    )
    short, long = cut(talk), cut(longer)
    assert [(s.start, s.end) for s in short[:5]] == [(s.start, s.end) for s in long[:5]]


def test_files_that_are_not_recordings_and_bad_settings(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no media at all")
    with pytest.raises(ClipError, match="not a media file"):
        cut(tmp_path / "a.mp4")
    with pytest.raises(ClipError):
        cut(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="window"):
        SegmentConfig(window=0.0)
    with pytest.raises(ValueError, match="pause"):
        SegmentConfig(pause=9)


def test_runs_and_boundaries_by_hand():
    flags = [True] * 20 + [False] * 20 + [True] * 2 + [False] * 10 + [True] * 20
    # Two steps of "speech" between quiet ones are a click: one run of 32 steps.
    assert quiet_runs(flags, 1.0, 0.3) == [(pytest.approx(1.6), pytest.approx(2.56))]
    assert quiet_runs([True] * 50, 0.0, 0.3) == []
    assert find_boundaries([(2.0, 3.0)], [], 0.0) == [(2.5, "pause")]
    assert find_boundaries([(2.0, 3.0)], [2.8], 0.0) == [(2.8, "cut")], (
        "a shot change in a pause is the same boundary"
    )
    assert find_boundaries([(2.0, 3.0)], [], 2.2) == [], (
        "the pause at the start of a segment is not its end"
    )
    assert find_boundaries([(2.0, 8.0)], [], 0.0) == [(2.3, "pause"), (7.7, "pause")], (
        "a long silence is a segment of its own"
    )


def rewritten(source, target, change) -> None:
    """Copies the packets of a file for which `change(packet)` is true."""
    import av

    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for packet in old.demux():
            if packet.dts is not None and change(packet):
                packet.stream = streams[packet.stream.index]
                new.mux(packet)


def test_picture_without_sound(talk, tmp_path):
    rewritten(talk, tmp_path / "mute.mp4", lambda p: p.stream.type == "video")
    found = cut(tmp_path / "mute.mp4")
    np.testing.assert_allclose([s.end for s in found], [3.0, 7.5, 12.0, 16.0], atol=0.1)
    assert all(s.speech is None and s.clip.modalities == ("video",) for s in found)


def test_sound_that_ends_early(talk, tmp_path):
    rewritten(
        talk, tmp_path / "short.mp4", lambda p: p.stream.type == "video" or p.pts * p.time_base < 5
    )
    found = cut(tmp_path / "short.mp4")
    assert found[-1].end == pytest.approx(16.0, abs=0.1) and found[-1].clip.waveform is None


def test_packets_that_cannot_be_decoded_are_skipped(talk, tmp_path):
    """Bytes in the middle of the file are overwritten: picture and sound continue after them."""
    data = bytearray(talk.read_bytes())
    at = data.index(b"mdat") + 4
    middle = at + (len(data) - at) // 3
    data[middle : middle + 6000] = b"\xa5" * 6000
    (tmp_path / "hurt.mp4").write_bytes(bytes(data))
    notes: list[str] = []
    found = list(
        read_segments(
            str(tmp_path / "hurt.mp4"), SegmentConfig(), Sampling(num_frames=4), notes=notes
        )
    )
    assert found[-1].end == pytest.approx(16.0, abs=0.2)
    assert found[-1].clip.frames is not None and found[-1].clip.waveform is not None


def test_time_stamps_that_start_again(talk, tmp_path):
    """Two concatenated parts of a transport stream, as cameras write them."""
    rewritten(talk, tmp_path / "a.ts", lambda p: True)
    part = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "twice.ts").write_bytes(part + part)
    notes: list[str] = []
    found = list(
        read_segments(
            str(tmp_path / "twice.ts"), SegmentConfig(), Sampling(num_frames=4), notes=notes
        )
    )
    assert found[-1].end == pytest.approx(32.0, abs=1.0) and any(
        "the jump is ignored" in n for n in notes
    )
    assert all(s.clip.frames is not None for s in found) and len(notes) <= 4


def test_a_picture_is_shown_until_the_next_one(talk, tmp_path):
    """Slides, one frame every eight seconds: segments without a frame have the previous one."""
    import av

    def sparse(packet: "av.Packet") -> bool:
        return packet.stream.type == "audio" or (
            packet.is_keyframe and float(packet.pts * packet.time_base) < 1
        )

    rewritten(talk, tmp_path / "slides.mkv", sparse)
    found = cut(tmp_path / "slides.mkv")
    assert len(found) >= 3 and all("video" in s.clip.modalities for s in found)


def test_motion_is_the_greatest_change_of_all_frames(tmp_path):
    """Also of frames whose pixels are not kept."""
    path = record(tmp_path / "m.mp4", [(6.0, 1)], [], size=64)
    (one,) = cut(path)
    moves = [(p.change, p.time) for p in read_frames(str(path), []) if p.time > 0]
    assert one.motion == max(moves)[1]


def test_a_short_remainder_belongs_to_the_last_window(tmp_path):
    path = record(tmp_path / "w.mp4", [(8.08, 1)], [(0.1, 7.5)])
    assert [round(s.end, 1) for s in cut(path, SegmentConfig(mode="window", window=4.0))] == [
        4.0,
        8.1,
    ]


def test_a_header_without_frames(talk, tmp_path):
    rewritten(talk, tmp_path / "e.mkv", lambda p: False)
    with pytest.raises(ClipError):
        cut(tmp_path / "e.mkv")

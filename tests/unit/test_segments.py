"""Recordings with known changes of shot and pauses: where they are cut, what a segment holds, and that nothing is lost."""

import numpy as np
import pytest
from recording import record

from data_pipeline.clip import ClipError, Sampling, read_clip
from data_pipeline.segments import Segmenting, boundaries, quiet_runs, segments
from data_pipeline.stream import open_recording, pictures, sound


def cut(path, how=None):
    return list(segments(str(path), how or Segmenting(), Sampling(num_frames=4, temporal="uniform")))


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """Cuts at 3, 7.5 and 12 s; speech with pauses around 5.2 (0.6 s) and 9.5 s (0.5 s); the last scene is silent."""
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    said = [(0.4, 2.6), (3.3, 4.9), (5.5, 7.3), (7.8, 9.25), (9.75, 11.8)]
    return record(path, [(3.0, 1), (4.5, 2), (4.5, 3), (4.0, 4)], said)


def test_cuts_and_pauses_are_found_and_nothing_else(talk):
    found = cut(talk)
    assert [s.ends_at for s in found] == ["cut", "pause", "cut", "pause", "cut", "end"]
    np.testing.assert_allclose([s.end for s in found], [3.0, 5.2, 7.5, 9.5, 12.0, 16.0], atol=0.15)
    assert [s.start for s in found[1:]] == [s.end for s in found[:-1]] and found[0].start == 0
    assert found[-1].speech < 0.1 < 0.5 < found[0].speech


def test_a_segment_holds_its_own_pictures_and_sound(talk):
    found = cut(talk)
    for number, segment in enumerate(found):
        own = read_clip(str(talk), Sampling(num_frames=4, temporal="uniform"), start=segment.start, end=segment.end)
        # The pictures of a scene are alike but for noise, those of another are not.
        assert np.abs(segment.clip.frames.astype(int) - own.frames.astype(int)).mean() < 4
        other = found[(number + 2) % len(found)].clip
        if found[(number + 2) % len(found)].start // 4 != segment.start // 4 and number in (0, 2):
            assert np.abs(segment.clip.image.astype(int) - other.image.astype(int)).mean() > 15
        assert len(segment.clip.waveform) == pytest.approx((segment.end - segment.start) * 16000, abs=1200)
        loud = float(np.abs(segment.clip.waveform).mean())
        assert loud == pytest.approx(float(np.abs(own.waveform).mean()), rel=0.1, abs=2e-4)
        assert segment.clip.times[0] >= 0 and segment.clip.times[-1] <= segment.end - segment.start
    whole = np.concatenate([s.clip.waveform for s in found])
    straight = np.concatenate(list(sound(str(talk), [])))
    np.testing.assert_array_equal(whole, straight[: len(whole)])
    assert len(straight) - len(whole) < 16000 * 0.1


def test_windows(talk):
    found = cut(talk, Segmenting(mode="window", window=2.5))
    assert [s.end for s in found] == [2.5, 5.0, 7.5, 10.0, 12.5, 15.0, pytest.approx(16.0, abs=0.1)]


def test_long_speech_is_cut_where_it_is_quietest(tmp_path):
    """Eleven seconds without a pause of 0.3 s, but with one of 0.2 s at 6.4 s, and a limit of 8 s."""
    path = record(tmp_path / "long.mp4", [(11.0, 1)], [(0.1, 6.3), (6.5, 10.9)])
    found = cut(path, Segmenting(longest=8.0))
    assert [s.ends_at for s in found] == ["length", "end"]
    assert found[0].end == pytest.approx(6.4, abs=0.15)


def test_sound_alone_and_picture_alone(tmp_path):
    path = record(tmp_path / "sound.mp4", [(6.0, 1)], [(0.2, 2.5), (3.5, 5.8)], video=False)
    found = cut(path)
    assert [s.ends_at for s in found] == ["pause", "end"] and found[0].end == pytest.approx(3.0, abs=0.15)
    assert found[0].clip.frames is None and found[0].motion is None and found[0].clip.modalities == ("audio",)
    seen = [p.time for p in pictures(str(path), 8, [])]
    assert seen == [] and not open_recording(str(path)).has_video


def test_the_length_does_not_change_what_came_before(talk, tmp_path):
    """The first minute of a longer recording is cut like the recording that ends there, its end aside."""
    said = [(0.4, 2.6), (3.3, 4.9), (5.5, 7.3), (7.8, 9.25), (9.75, 11.8), (16.2, 19.5)]
    longer = record(tmp_path / "longer.mp4", [(3.0, 1), (4.5, 2), (4.5, 3), (4.0, 4), (4.0, 5)], said)
    short, long = cut(talk), cut(longer)
    assert [(s.start, s.end) for s in short[:5]] == [(s.start, s.end) for s in long[:5]]


def test_what_is_no_recording(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no media at all")
    with pytest.raises(ClipError, match="not a media file"):
        cut(tmp_path / "a.mp4")
    with pytest.raises(ClipError):
        cut(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="window"):
        Segmenting(window=0.0)
    with pytest.raises(ValueError, match="pause"):
        Segmenting(pause=9)


def test_runs_and_boundaries_by_hand():
    flags = [True] * 20 + [False] * 20 + [True] * 2 + [False] * 10 + [True] * 20
    # Two steps of "speech" among quiet ones are a click: one run of 32 steps.
    assert quiet_runs(flags, 1.0, 0.3) == [(pytest.approx(1.6), pytest.approx(2.56))]
    assert quiet_runs([True] * 50, 0.0, 0.3) == []
    assert boundaries([(2.0, 3.0)], [], 0.0) == [(2.5, "pause")]
    assert boundaries([(2.0, 3.0)], [2.8], 0.0) == [(2.8, "cut")], "a cut in a pause is that boundary"
    assert boundaries([(2.0, 3.0)], [], 2.2) == [], "the pause that a segment began in is not its end"
    assert boundaries([(2.0, 8.0)], [], 0.0) == [(2.3, "pause"), (7.7, "pause")], "a long silence is a segment"

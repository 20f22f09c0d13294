"""Speaker normalization, compared with arithmetic by hand."""

import numpy as np
import pytest

from data_pipeline.builders.decoded_clips import pack_views
from data_pipeline.loader.samples import DrawRow, LoadSample, RowConfig
from data_pipeline.loader.tasks import StageTasks
from data_pipeline.loader.tokens import SmallTokenizer
from data_pipeline.media.speaker_norm import (
    PRIOR_CLIPS,
    SMALLEST_STD,
    Speakers,
    VoiceStats,
    average_speaker,
    measure_speakers,
    normalize_items,
    normalize_speaker,
)
from data_pipeline.media.views import ViewConfig, Views
from data_pipeline.schema import ClipRecord


def _item(speaker, rows, frames=None, has_audio=True, path="c.mp4"):
    logmel = np.array(rows, np.float32)
    picture = np.zeros((4, 4, 3), np.uint8)
    views = Views(
        image=picture,
        frames=picture[None],
        sound=logmel,
        audio_frames=len(rows) if frames is None else frames,
        has_video=True,
        has_audio=has_audio,
    )
    return ClipRecord(
        id="c", dataset="d", split="train", path=path, label="a", labels=("a", "b"), speaker=speaker
    ), views


def test_statistics_are_over_the_valid_frames_of_all_clips_of_a_person():
    items = [
        _item("ann", [[1, 5], [3, 5], [99, 99]], frames=2),
        _item("ann", [[5, 5], [7, 5]]),
        _item("ann", [[100, 100]], path="c.wav"),
        _item("bob", [[0, 0], [2, 4]], path="c.MP4"),
        _item("", [[50, 50]]),
        _item("eve", [[50, 50]], has_audio=False),
    ]
    found = measure_speakers(items)
    assert sorted(found) == ["ann|.mp4", "ann|.wav", "bob|.mp4"], (
        "audio and video files are measured separately"
    )
    ann = found["ann|.mp4"]
    np.testing.assert_allclose(ann.mean, [4, 5])
    np.testing.assert_allclose(ann.std, [5**0.5, SMALLEST_STD])  # (9 + 1 + 1 + 9) / 4
    assert ann.clips == 2
    average = average_speaker({k: found[k] for k in ("ann|.mp4", "bob|.mp4")})
    np.testing.assert_allclose(average.mean, [2.5, 3.5])
    np.testing.assert_allclose(average.std, [(5**0.5 + 1) / 2, (SMALLEST_STD + 2) / 2])


def test_a_speaker_with_many_clips_gets_the_average_and_an_unknown_one_stays():
    average = VoiceStats(np.array([1.0]), np.array([2.0]), 100)
    _, views = _item("ann", [[10.0], [14.0]])
    known = VoiceStats(np.array([12.0]), np.array([2.0]), 10**9)
    np.testing.assert_allclose(
        normalize_speaker(views, known, average).sound, [[-1.0], [3.0]], rtol=1e-6
    )
    assert normalize_speaker(views, None, average) is views
    # As many clips as the prior: half-way between the speaker (12, 2) and the average (1, 2).
    half = VoiceStats(known.mean, known.std, int(PRIOR_CLIPS))
    np.testing.assert_allclose(
        normalize_speaker(views, half, average).sound, [[4.5], [8.5]], rtol=1e-6
    )


def test_evaluation_removes_what_the_clips_of_a_speaker_have_in_common():
    rng = np.random.default_rng(0)
    sound = rng.normal(size=(40, 6, 3))
    average = VoiceStats(np.zeros(3), np.ones(3), 100)
    near = [_item("ann", s) for s in sound]
    far = [_item("bob", 3 * s + 7) for s in sound]  # the same clips in another voice
    out = normalize_items([*near, *far], average)
    a, b = (np.stack([v.sound for r, v in out if r.speaker == name]) for name in ("ann", "bob"))
    before = np.abs(far[0][1].sound - near[0][1].sound).mean()
    assert np.abs(a - b).mean() < before / 10
    assert normalize_items(near, None) == near


def test_four_of_five_training_rows_are_normalized():
    config = ViewConfig(image_size=4, frame_size=4, num_frames=1, mels=2, seconds=0.02)
    record, views = _item("ann", [[1.0, 2.0], [3.0, 2.0]])
    element = {"record": record.to_json().encode(), **pack_views(views)}
    ann, average = (VoiceStats(np.array(m), np.ones(2), 10**9) for m in ([2.0, 2.0], [0.0, 5.0]))
    rows = RowConfig(
        views=config,
        placeholders=(("<VideoHere>", 1),),
        buckets=((64, 8),),
        max_answer=8,
        max_subtitle=8,
        speakers=Speakers({"ann|.mp4": ann}, average, share=0.8),
    )
    draw = DrawRow(
        StageTasks(style="perception", tasks=("emotion",)), SmallTokenizer.train(["a b"], 300), rows
    )
    drawn = (*draw(record, np.random.default_rng(0)), (64, 8), element)
    load = LoadSample(rows)
    found = [
        load.random_map(drawn, np.random.default_rng(i)).views.sound.tolist() for i in range(400)
    ]
    assert set(map(str, found)) == {"[[1.0, 2.0], [3.0, 2.0]]", "[[-1.0, 5.0], [1.0, 5.0]]"}
    assert 290 < found.count([[-1.0, 5.0], [1.0, 5.0]]) < 350


def test_statistics_survive_the_model_folder():
    stats = VoiceStats(np.array([0.1, 0.2]), np.array([0.3, 0.4]), 7)
    again = VoiceStats.from_json(stats.to_json())
    np.testing.assert_array_equal(again.mean, stats.mean)
    np.testing.assert_array_equal(again.std, stats.std)
    assert again.clips == 7
    assert average_speaker({}) is None
    with pytest.raises(ValueError):
        VoiceStats.from_json("{")

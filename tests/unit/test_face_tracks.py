"""Face tracks: boxes are linked by overlap, and people keep their names from segment to segment."""

import pytest
from recording import record

from data_pipeline.media.clip import Sampling
from data_pipeline.media.face_boxes import iou, link_by_iou
from data_pipeline.media.segments import SegmentConfig, read_segments
from emojax.infer.face_tracks import FaceTracker, WholePicture


def test_faces_become_tracks():
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    a, b = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)
    moved = (2.0, 0.0, 12.0, 10.0)
    tracks = link_by_iou([[a, b], [b, moved], [moved], [b]])
    assert [sorted(t) for t in tracks] == [[0, 1, 2], [0, 1, 3]]
    assert tracks[0][2] == moved


def test_people_keep_their_names_over_segments(tmp_path):
    class Two:
        name = "two boxes"

        def __call__(self, frames):
            return [[(5.0, 5.0, 25.0, 25.0), (35.0, 5.0, 60.0, 30.0)]] * len(frames)

    path = record(tmp_path / "two.mp4", [(3.0, 1), (3.0, 2)], [])
    parts = list(read_segments(str(path), SegmentConfig(), Sampling(num_frames=4)))
    faces = FaceTracker(Two(), margin=0.5)
    names = [[name for name, _ in faces.split(s)] for s in parts]
    assert names == [["person 1", "person 2"]] * len(parts)
    assert len(parts) >= 2
    _, clip = next(FaceTracker(Two(), margin=0.5).split(parts[0]))
    assert clip.frames.shape[1:] == clip.image.shape and clip.image.shape[0] < 64
    assert clip.waveform is parts[0].clip.waveform
    assert [n for n, _ in WholePicture().split(parts[0])] == [""]

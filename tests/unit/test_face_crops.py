"""Boxes of faces by hand: decoding, suppression of overlaps, one person over time, crops."""

import numpy as np
import pytest
from tfjs_release import face_shapes, write_tfjs

from data_pipeline.media.face_boxes import best_boxes, follow_face, square
from data_pipeline.media.face_crops import crop_faces, cut, resize_square
from emojax.infer.face_detector import TinyFaceDetector, decode, find_face_crops, make_detector


def test_boxes_are_decoded_by_hand():
    output = np.full((7, 7, 5, 5), -20.0)
    # Row 2, column 4, second anchor: the middle of its cell, and twice its size.
    output[2, 4, 1] = [0, 0, np.log(2), 0, 0]
    boxes, scores = decode(output, height=270, width=360)
    best = int(np.argmax(scores))
    assert best == (2 * 7 + 4) * 5 + 1
    assert scores[best] == pytest.approx(0.5)
    # A cell is 360 / 7 pixels, the anchor 6.041143 x 7.080126 cells.
    cell = 360 / 7
    x, y = 4.5 * cell, 2.5 * cell
    w, h = 2 * 6.041143 * cell, 7.080126 * cell
    expected = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    np.testing.assert_allclose(boxes[best], expected, rtol=1e-9)
    # 100 x 61 is resized to 224 x 136.64, which face-api takes for 137.
    output[2, 4, 1, 4] = 3
    tall, scores = decode(output, height=100, width=61)
    np.testing.assert_allclose(
        (tall[best, 0] + tall[best, 2]) / 2, 4.5 / 7 * 61 * 224 / 137, rtol=1e-9
    )
    np.testing.assert_allclose((tall[best, 1] + tall[best, 3]) / 2, 2.5 / 7 * 100, rtol=1e-9)
    assert scores[best] == pytest.approx(1 / (1 + np.exp(-3)))


def test_of_boxes_that_overlap_the_best_is_kept():
    a, b, c = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 4.0), (0.0, 0.0, 10.0, 4.1)
    far = (50.0, 0.0, 60.0, 10.0)
    # b covers 0.4 of a, which is allowed; c covers 0.41.
    assert best_boxes([b, a, far], [0.6, 0.9, 0.7], max_iou=0.4) == [1, 2, 0]
    assert best_boxes([c, a, far], [0.6, 0.9, 0.7], max_iou=0.4) == [1, 2]
    # A box that is dropped does not drop others: x, y and z overlap their neighbours by a half.
    x, y, z = (0.0, 0.0, 9.0, 9.0), (3.0, 0.0, 12.0, 9.0), (6.0, 0.0, 15.0, 9.0)
    assert best_boxes([x, y, z], [0.9, 0.8, 0.7], max_iou=0.4) == [0, 2]
    assert best_boxes([], [], max_iou=0.4) == []


def test_one_person_is_followed():
    large, small = (0.0, 0.0, 20.0, 20.0), (40.0, 0.0, 50.0, 10.0)
    moved = (100.0, 0.0, 118.0, 18.0)
    # The small face is larger in no frame; where the large one is absent it is of somebody else.
    frames = [[small, large], [large], [small], [], [small, large]]
    assert follow_face(frames) == {0: large, 1: large, 4: large}
    # A face that is lost and found again elsewhere is the same person.
    assert follow_face([[large], [], [moved]]) == {0: large, 2: moved}
    assert follow_face([[], []]) == {}


def test_the_square_around_a_box():
    assert square((2.0, 4.0, 6.0, 6.0)) == (2.0, 3.0, 6.0, 7.0)
    assert square((1.0, 0.0, 2.0, 9.0)) == (-3.0, 0.0, 6.0, 9.0)


def test_a_crop_is_cut_at_whole_pixels_inside_the_picture():
    picture = np.arange(20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
    np.testing.assert_array_equal(cut(picture, (2.9, 3.2, 8.0, 9.9)), picture[3:9, 2:7])
    np.testing.assert_array_equal(cut(picture, (-2.5, -1.5, 6.0, 7.0)), picture[0:6, 0:5])
    np.testing.assert_array_equal(cut(picture, (25.0, 15.0, 99.0, 99.0)), picture[15:, 25:])
    for outside in ((31.0, 0.0, 40.0, 9.0), (-20.0, 0.0, -5.0, 9.0), (3.0, 3.0, 3.5, 9.0)):
        assert cut(picture, outside).size == 0


def test_a_picture_is_padded_and_resized_by_hand():
    picture = np.array([[[10] * 3, [20] * 3, [40] * 3, [80] * 3]] * 2, np.uint8)  # 2 x 4
    half = resize_square(picture[None], 2, centred=False)[0, :, :, 0]
    np.testing.assert_allclose(half, [[10, 40], [0, 0]])
    # Pixel i is at i / 2; the last one at 3.5, after which there is nothing.
    twice = resize_square(picture[None], 8, centred=False)[0, :, :, 0]
    np.testing.assert_allclose(twice[0], [10, 15, 20, 30, 40, 60, 80, 80])
    np.testing.assert_allclose(twice[:, 0], [10, 10, 10, 5, 0, 0, 0, 0])
    middle = resize_square(picture[None], 4, centred=True)[0, :, :, 0]
    np.testing.assert_allclose(middle, [[0] * 4, [10, 20, 40, 80], [10, 20, 40, 80], [0] * 4])


def test_crops_of_a_clip():
    class OneFace:
        name = "a box that moves"

        def __call__(self, frames):
            return [
                [(float(i), 20.0, 28.0 + i, 76.0)] if i != 1 else [] for i in range(len(frames))
            ]

    frames = np.random.default_rng(0).integers(0, 256, (3, 80, 100, 3), np.uint8)
    faces = find_face_crops(OneFace(), frames)
    assert faces.crops.shape == (3, 112, 112, 3)
    assert faces.crops.dtype == np.uint8
    assert faces.found.tolist() == [True, False, True]
    assert not faces.crops[1].any()
    assert not faces.boxes[1].any()
    assert faces.boxes[2].tolist() == [2, 20, 30, 76]
    # The square around 28 x 56 pixels reaches 12 pixels over the left edge. What is inside is put
    # in the middle; every second pixel of a square of 112 is one of the picture.
    np.testing.assert_array_equal(faces.crops[2, ::2, 12:100:2], frames[2, 20:76, :44])
    assert not faces.crops[2, :, :11].any()
    assert not faces.crops[2, :, 101:].any()
    assert faces.notes() == ("no face was found in 1 of 3 frames",)
    assert crop_faces(frames[:1], [[(0.0, 0.0, 9.0, 9.0)]]).notes() == ()


def test_detectors_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOJAX_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="emojax fetch tiny-face-detector"):
        make_detector("face-api")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        make_detector(str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="no such file"):
        make_detector(str(tmp_path / "absent.onnx"))


def test_a_net_that_sees_a_face_in_every_cell(tmp_path):
    """All is 0 but the last bias: the third anchor of each cell, as large as the cell, is sure."""
    weights = {n: np.zeros(s, np.float32) for n, s in face_shapes("detector").items()}
    bias = np.full((5, 5), -9, np.float32)
    bias[2] = [0, 0, -np.log(2.882459), -np.log(3.518061), 9]
    weights["conv8/bias"] = bias.reshape(-1)
    write_tfjs(tmp_path, "tiny_face_detector_model", weights)
    for size, cells in ((224, 7), (96, 3)):
        detector = TinyFaceDetector(tmp_path, size=size)
        found = detector(np.zeros((2, 63, 84, 3), np.uint8))
        assert len(found) == 2
        cell = 84 / cells  # pixels of the picture; 63 x 84 becomes 168 x 224 and 72 x 96
        places = [(cell * x, cell * y) for x in range(cells) for y in range(cells)]
        boxes = [[x, y, x + cell, y + cell] for x, y in places]
        np.testing.assert_allclose(sorted(found[1]), boxes, atol=1e-4)
    write_tfjs(tmp_path, "tiny_face_detector_model", dict(list(weights.items())[:-1]))
    with pytest.raises(ValueError, match="not a complete face-api net"):
        TinyFaceDetector(tmp_path)

"""The tiny face detector of face-api behind the interface of detectors, and crops of its faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipeline.media.face_boxes import Box, best_boxes
from data_pipeline.media.face_crops import FaceCrops, crop_faces, resize_square
from emojax.infer.face_tracks import Detector, YuNetDetector
from emojax.model.encoders.face_api import ANCHORS, CELL, DetectorNet, FaceNetConfig
from emojax.weights.face_nets import load_face_net

FACE_API = "face-api"  # name of the detector whose weights `emojax fetch` gets
# Pixels of a side of the searched picture. Faces are found whose height is about a fifth of the
# picture's longer side, with the larger size a tenth, in about three times the time.
SIZE, LARGE_SIZE = 224, 416
MIN_SCORE = 0.5
MAX_IOU = 0.4  # of two faces


class TinyFaceDetector:
    """Finds faces without OpenCV."""

    name = "faces (face-api tiny detector)"

    def __init__(
        self, weights: Path | None = None, *, size: int = SIZE, min_score: float = MIN_SCORE
    ):
        """Loads the net.

        Args:
          weights: its manifest or a folder with it; None: as fetched.
          size: side of the searched picture, a multiple of 32.
          min_score: lowest score of a face, from 0 to 1.

        Raises:
          FileNotFoundError, ValueError: the weights are absent or of another net.
        """
        self._variables = load_face_net(FaceNetConfig(net="detector"), weights)
        self._size, self._min_score = size, min_score

    def __call__(self, frames: np.ndarray) -> list[list[Box]]:
        """uint8[F, h, w, 3] RGB -> the boxes of each frame, best first."""
        pictures = resize_square(frames, self._size, centred=False)
        # One picture at a time: on CPU a batch does not fit its caches and takes 1.7 times as long.
        outputs = [np.asarray(_detect(self._variables, picture[None]))[0] for picture in pictures]
        height, width = frames.shape[1:3]
        return [self._boxes(output, height=height, width=width) for output in outputs]

    def _boxes(self, output: np.ndarray, *, height: int, width: int) -> list[Box]:
        boxes, scores = decode(output, height=height, width=width)
        likely = scores > self._min_score
        candidates = [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes[likely].tolist()]
        kept = best_boxes(candidates, scores[likely].tolist(), max_iou=MAX_IOU)
        return [candidates[i] for i in kept]


@jax.jit
def _detect(variables: Any, pictures: Any) -> jax.Array:
    net = DetectorNet(FaceNetConfig(net="detector"))
    return net.apply(variables, pictures)  # type: ignore[return-value]


def decode(output: np.ndarray, *, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of the detector's output for one picture.

    Args:
      output: float[n, n, 5, 5], as `DetectorNet` computes it.
      height: of the picture, before it was padded to a square and resized.
      width: likewise.

    Returns:
      float[n * n * 5, 4] left, top, right and bottom in pixels of the picture, and float[n * n * 5]
      scores from 0 to 1.
    """
    output = output.astype(np.float64)
    cells = len(output)
    shifted, scores = _sigmoid(output[..., :2]), _sigmoid(output[..., 4])
    places = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), axis=-1)
    centre = (places[:, :, None] + shifted) / cells
    half = np.exp(output[..., 2:4]) * np.array(ANCHORS) / cells / 2
    # Shares of the square -> pixels; face-api rounds the sides of the resized picture.
    size = CELL * cells
    scale = size / max(height, width)
    sides = np.array([n * size / max(1, np.floor(n * scale + 0.5)) for n in (width, height)])
    boxes = np.concatenate([(centre - half) * sides, (centre + half) * sides], axis=-1)
    return boxes.reshape(-1, 4), scores.reshape(-1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    out: np.ndarray = 1 / (1 + np.exp(-x))
    return out


def find_face_crops(detector: Detector, frames: np.ndarray) -> FaceCrops:
    """Finds the faces in the frames of a clip, and cuts out those of one person.

    Args:
      detector: finds the faces.
      frames: uint8[F, H, W, 3] RGB.

    Returns:
      One crop per frame.
    """
    return crop_faces(frames, detector(frames))


def make_detector(name: str) -> Detector:
    """The detector that `--faces` names.

    Args:
      name: "face-api": its fetched net. A path: an .onnx file of YuNet, or the weights of face-api.

    Returns:
      The detector.

    Raises:
      FileNotFoundError, ValueError: the file is absent or of another model, or OpenCV, which YuNet
        needs, is not installed.
    """
    if name == FACE_API:
        return TinyFaceDetector(size=LARGE_SIZE)
    path = Path(name).expanduser()
    return (
        YuNetDetector(path) if path.suffix == ".onnx" else TinyFaceDetector(path, size=LARGE_SIZE)
    )

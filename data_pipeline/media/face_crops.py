"""Crops of faces: pictures and boxes -> squares of 112 pixels, as the nets of face-api read them.

Also the pictures in which its detector searches. Both are resized as TensorFlow.js does with
`resizeBilinear`, neither corners nor centres of pixels aligned: pixel i of the result lies at
i * (length / size) of the source, and the last row and column of the source may not count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_pipeline.media.face_boxes import Box, follow_face, square

CROP = 112  # pixels of a side


@dataclasses.dataclass(frozen=True)
class FaceCrops:
    """One face per frame of a clip: that of the person with the largest face.

    Attributes:
      crops: uint8[F, 112, 112, 3] RGB; 0 where no face was found.
      found: bool[F].
      boxes: float32[F, 4]: left, top, right and bottom in pixels of the frame; 0 where not found.
    """

    crops: np.ndarray
    found: np.ndarray
    boxes: np.ndarray

    def notes(self) -> tuple[str, ...]:
        """A sentence if some frames have no face, else no sentence."""
        missing, total = int((~self.found).sum()), len(self.found)
        if not missing:
            return ()
        return (f"no face was found in {missing} of {total} frames",)


def crop_faces(frames: np.ndarray, boxes_by_frame: Sequence[Sequence[Box]]) -> FaceCrops:
    """Cuts the face of one person out of the frames of a clip.

    Args:
      frames: uint8[F, H, W, 3] RGB.
      boxes_by_frame: the faces of every frame.

    Returns:
      The crops; the person is chosen by `follow_face`.
    """
    count = len(frames)
    crops = np.zeros((count, CROP, CROP, 3), np.uint8)
    boxes = np.zeros((count, 4), np.float32)
    found = np.zeros(count, bool)
    for i, box in follow_face(boxes_by_frame).items():
        # face-api cuts the box itself, and its net reads black bars; see docs/weights.md.
        crop = cut(frames[i], square(box))
        if crop.size:
            found[i], boxes[i] = True, box
            crops[i] = np.rint(resize_square(crop[None], CROP, centred=True)[0])
    return FaceCrops(crops, found, boxes)


def cut(picture: np.ndarray, box: Box) -> np.ndarray:
    """The part of a picture in a box, which may reach over its edges; whole pixels, as face-api.

    Args:
      picture: uint8[H, W, 3].
      box: in pixels.

    Returns:
      uint8[h, w, 3], with h or w 0 where the box is outside or smaller than a pixel.
    """
    left, top = int(np.floor(box[0])), int(np.floor(box[1]))
    right = left + int(np.floor(box[2] - box[0]))
    bottom = top + int(np.floor(box[3] - box[1]))
    return picture[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]


def resize_square(pictures: np.ndarray, size: int, *, centred: bool) -> np.ndarray:
    """Pads pictures with black to squares and resizes these.

    Args:
      pictures: uint8[N, H, W, 3].
      size: side of the result.
      centred: whether the picture is in the middle of the square; else at its left and top.

    Returns:
      float32[N, size, size, 3], values from 0 to 255.
    """
    height, width = pictures.shape[1:3]
    side = max(height, width)
    rows = _axis(height, side, size, centred=centred)
    columns = _axis(width, side, size, centred=centred)
    out = np.zeros((len(pictures), size, size, 3), np.float32)
    for i, picture in enumerate(pictures):
        for row, row_weight in rows:
            line = picture[row]
            mixed = sum(np.take(line, column, axis=1) * weight for column, weight in columns)
            out[i] += mixed * row_weight[:, None]
    return out


def _axis(
    length: int, side: int, size: int, *, centred: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two pixels between which each pixel of the result lies: (places, weights [size, 3]).

    Pixels of the padding have the weight 0.
    """
    before = (side - length) // 2 if centred else 0
    place = np.arange(size) * (side / size)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, side - 1)
    weight = place - low
    pixels = []
    for index, share in ((low - before, 1 - weight), (high - before, weight)):
        inside = (index >= 0) & (index < length)
        weights = np.where(inside, share, 0).astype(np.float32)
        pixels.append((np.clip(index, 0, length - 1), np.repeat(weights[:, None], 3, axis=1)))
    return pixels

"""Who is shown in a recording: the whole picture, or one track per face.

Without a detector there is one track of the whole picture, which is what the models were trained
on. `FaceTracker` follows the faces of a detector: each person who stays in a segment is predicted
from a crop around the face, with the sound and words of the whole segment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from data_pipeline.media.face_boxes import MIN_IOU, Box, area, iou, link_by_iou
from data_pipeline.media.segments import Segment
from data_pipeline.schema import Clip


class PersonSplitter(Protocol):
    """Separates the people in a segment."""

    @property
    def name(self) -> str:
        """How people are separated; part of every output."""
        ...

    def split(self, segment: Segment) -> Iterator[tuple[str, Clip]]:
        """Yields at least one (name of the person's track, clip of this person)."""
        ...


@dataclasses.dataclass(frozen=True)
class WholePicture:
    """One track of the whole picture with everybody in it."""

    name: str = "whole picture"

    def split(self, segment: Segment) -> Iterator[tuple[str, Clip]]:
        """Yields the segment's clip under the name ""."""
        yield "", segment.clip


class Detector(Protocol):
    """Finds faces in pictures of one size."""

    @property
    def name(self) -> str:
        """Name of the detector; part of every output."""
        ...

    def __call__(self, frames: np.ndarray) -> list[list[Box]]:
        """uint8[F, h, w, 3] RGB -> the boxes of each frame."""
        ...


class YuNetDetector:
    """YuNet, a small face detector that OpenCV runs.

    The user provides its file, face_detection_yunet_*.onnx of OpenCV Zoo (MIT).
    """

    def __init__(self, model: Path, *, min_score: float = 0.7):
        """Loads the detector.

        Args:
          model: the .onnx file.
          min_score: lowest score of a face.

        Raises:
          ValueError: the file does not exist, OpenCV cannot run it, or OpenCV is not installed.
        """
        if not model.is_file():
            raise ValueError(
                f"{model}: no such file; expected face_detection_yunet_2023mar.onnx of OpenCV Zoo"
            )
        try:
            import cv2
        except ImportError as error:
            raise ValueError(
                "faces are detected with OpenCV: pip install -e '.[people]'"
            ) from error
        try:
            self._detector = cv2.FaceDetectorYN.create(str(model), "", (320, 320), min_score)
        except cv2.error as error:
            raise ValueError(f"{model} is not a face detector that OpenCV can run") from error
        self.name = f"faces ({model.stem})"

    def __call__(self, frames: np.ndarray) -> list[list[Box]]:
        """uint8[F, h, w, 3] RGB -> the boxes of each frame."""
        height, width = frames.shape[1:3]
        self._detector.setInputSize((width, height))
        found: list[list[Box]] = []
        for frame in frames:
            _, faces = self._detector.detect(np.ascontiguousarray(frame[:, :, ::-1]))
            rows = [] if faces is None else faces[:, :4].tolist()
            found.append([(x, y, x + w, y + h) for x, y, w, h in rows])
        return found


class FaceTracker:
    """One track per face; names are kept from one segment to the next while the boxes overlap.

    A segment with fewer than two people is one track of the whole picture, which is what the models
    were trained on.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        max_people: int = 4,
        margin: float = 1.0,
        min_share: float = 0.5,
    ):
        """Starts without known people.

        Args:
          detector: finds the faces.
          max_people: most people per segment, those with the largest faces.
          margin: of the crop on each side, in heights of the face.
          min_share: share of a segment's frames that a person must be in.
        """
        self.detector, self.max_people = detector, max_people
        self.margin, self.min_share = margin, min_share
        self.name = detector.name
        self._last: dict[str, Box] = {}  # last box of each person of the previous segment
        self._count = 0

    def split(self, segment: Segment) -> Iterator[tuple[str, Clip]]:
        """Yields one clip per person, largest face first, or the whole picture under ""."""
        clip = segment.clip
        tracks: list[dict[int, Box]] = []
        if clip.frames is not None:
            linked = link_by_iou(self.detector(clip.frames))
            tracks = [t for t in linked if len(t) >= self.min_share * len(clip.frames)]
        if len(tracks) < 2:
            yield "", clip
            return
        tracks.sort(key=lambda t: -max(area(b) for b in t.values()))
        names: dict[str, Box] = {}
        for track in tracks[: self.max_people]:
            name = self._name(track[min(track)], names)
            names[name] = track[max(track)]
            yield name, self._crop(clip, track)
        self._last = names

    def _name(self, box: Box, used: dict[str, Box]) -> str:
        overlaps = {n: iou(b, box) for n, b in self._last.items() if n not in used}
        best = max(overlaps, key=lambda n: overlaps[n], default=None)
        if best is not None and overlaps[best] >= MIN_IOU:
            return best
        self._count += 1
        return f"person {self._count}"

    def _crop(self, clip: Clip, track: dict[int, Box]) -> Clip:
        assert clip.frames is not None
        assert clip.image is not None
        boxes = np.array(list(track.values()))
        left, top = boxes[:, :2].min(axis=0)
        right, bottom = boxes[:, 2:].max(axis=0)
        # One crop for the whole segment: a crop that follows the face would hide its movement.
        pad = self.margin * float(np.median(boxes[:, 3] - boxes[:, 1]))
        height, width = clip.image.shape[:2]
        x0, y0 = max(0, int(left - pad)), max(0, int(top - pad))
        x1, y1 = min(width, int(right + pad)), min(height, int(bottom + pad))
        cut = (slice(y0, max(y0 + 8, y1)), slice(x0, max(x0 + 8, x1)))
        return dataclasses.replace(
            clip, frames=clip.frames[:, cut[0], cut[1]], image=clip.image[cut[0], cut[1]]
        )

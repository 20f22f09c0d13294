"""Who is seen: a small interface, and what it is without a detector: one track of the whole picture, as the models were made.

`Faces` follows faces with OpenCV (`pip install emojax[people]`): each person that stays in a segment is answered on a crop around the
face, with the sound and words of all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from data_pipeline.media.segments import Segment
from data_pipeline.schema import Clip

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


class People(Protocol):
    """Tells persons of a segment apart. `name` says how, and stands in every output."""

    @property
    def name(self) -> str: ...

    def split(self, segment: Segment) -> Iterator[tuple[str, Clip]]:
        """(name of the person's track, what is seen of this person with the segment's sound); at least one."""
        ...


@dataclasses.dataclass(frozen=True)
class WholePicture:
    """Everybody together."""

    name: str = "whole picture"

    def split(self, segment: Segment) -> Iterator[tuple[str, Clip]]:
        """The segment's clip, under the name ""."""
        yield "", segment.clip


class Detector(Protocol):
    """Finds faces in one picture."""

    @property
    def name(self) -> str: ...

    def __call__(self, picture: np.ndarray) -> list[Box]:
        """uint8[h, w, 3] RGB -> boxes."""
        ...


class OpenCvFaces:
    """YuNet, a small face detector that OpenCV runs; its file is the user's (face_detection_yunet_*.onnx of OpenCV Zoo, MIT)."""

    def __init__(self, model: Path, *, least: float = 0.7):
        if not model.is_file():
            raise ValueError(
                f"{model}: there is no such file; it is face_detection_yunet_2023mar.onnx of OpenCV Zoo"
            )
        try:
            import cv2
        except ImportError as error:
            raise ValueError(
                "faces are told apart by OpenCV: pip install 'emojax[people]'"
            ) from error
        try:
            self._detector = cv2.FaceDetectorYN.create(str(model), "", (320, 320), least)
        except cv2.error as error:
            raise ValueError(f"{model} is not a face detector that OpenCV can run") from error
        self.name = f"faces ({model.stem})"

    def __call__(self, picture: np.ndarray) -> list[Box]:
        height, width = picture.shape[:2]
        self._detector.setInputSize((width, height))
        _, found = self._detector.detect(np.ascontiguousarray(picture[:, :, ::-1]))
        return (
            [] if found is None else [(x, y, x + w, y + h) for x, y, w, h in found[:, :4].tolist()]
        )


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def join(found: Sequence[list[Box]], *, least: float = 0.2) -> list[dict[int, Box]]:
    """Boxes of consecutive frames -> tracks {frame: box}: each box goes to the track whose last one it overlaps most."""
    tracks: list[dict[int, Box]] = []
    for frame, boxes in enumerate(found):
        pairs = [
            (overlap(track[max(track)], box), t, b)
            for t, track in enumerate(tracks)
            if frame - max(track) <= 3
            for b, box in enumerate(boxes)
        ]
        used_t: set[int] = set()
        used_b: set[int] = set()
        for score, t, b in sorted(pairs, reverse=True):
            if score >= least and t not in used_t and b not in used_b:
                tracks[t][frame] = boxes[b]
                used_t.add(t)
                used_b.add(b)
        tracks += [{frame: box} for b, box in enumerate(boxes) if b not in used_b]
    return tracks


class Faces:
    """Tracks of faces inside a segment; names go on from one segment to the next where the boxes still overlap.

    A segment with fewer than two people is answered as a whole, as the models were made.
    """

    def __init__(
        self, detector: Detector, *, most: int = 4, margin: float = 1.0, least: float = 0.5
    ):
        """margin: of the crop, in heights of the face on each side. least: share of a segment's frames that a person is in."""
        self.detector, self.most, self.margin, self.least = detector, most, margin, least
        self.name = detector.name
        self._last: dict[str, Box] = {}
        self._count = 0

    def split(self, segment: Segment) -> Iterator[tuple[str, Clip]]:
        """One clip for each person who stays, largest face first, or the whole picture."""
        clip = segment.clip
        tracks = [] if clip.frames is None else join([self.detector(f) for f in clip.frames])
        stays = (
            []
            if clip.frames is None
            else [t for t in tracks if len(t) >= self.least * len(clip.frames)]
        )
        if len(stays) < 2:
            yield "", clip
            return
        stays.sort(key=lambda t: -max(_area(b) for b in t.values()))
        names: dict[str, Box] = {}
        for track in stays[: self.most]:
            name = self._name(track[min(track)], names)
            names[name] = track[max(track)]
            yield name, self._crop(clip, track)
        self._last = names

    def _name(self, box: Box, taken: dict[str, Box]) -> str:
        near = {n: overlap(b, box) for n, b in self._last.items() if n not in taken}
        best = max(near, key=lambda n: near[n], default=None)
        if best is not None and near[best] >= 0.2:
            return best
        self._count += 1
        return f"person {self._count}"

    def _crop(self, clip: Clip, track: dict[int, Box]) -> Clip:
        assert clip.frames is not None and clip.image is not None
        boxes = np.array(list(track.values()))
        left, top = boxes[:, :2].min(axis=0)
        right, bottom = boxes[:, 2:].max(axis=0)
        # One crop for the whole segment: a crop that moves with the face would hide how the head moves.
        room = self.margin * float(np.median(boxes[:, 3] - boxes[:, 1]))
        height, width = clip.image.shape[:2]
        x0, y0 = max(0, int(left - room)), max(0, int(top - room))
        x1, y1 = min(width, int(right + room)), min(height, int(bottom + room))
        cut = (slice(y0, max(y0 + 8, y1)), slice(x0, max(x0 + 8, x1)))
        return dataclasses.replace(
            clip, frames=clip.frames[:, cut[0], cut[1]], image=clip.image[cut[0], cut[1]]
        )


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])

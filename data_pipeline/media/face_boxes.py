"""Boxes of faces: their overlap, the best of those that overlap, tracks of people over frames."""

from __future__ import annotations

from collections.abc import Sequence

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels
MIN_IOU = 0.2  # boxes with a smaller overlap are not of one person
MAX_GAP = 3  # frames that a track may be without a face


def area(box: Box) -> float:
    """Area of a box."""
    width, height = _sides(box)
    return width * height


def _sides(box: Box) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


def square(box: Box) -> Box:
    """The smallest square around a box, with the same centre."""
    x, y, half = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, max(_sides(box)) / 2
    return (x - half, y - half, x + half, y + half)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (area(a) + area(b) - shared)


def link_by_iou(
    boxes_by_frame: Sequence[list[Box]], *, min_iou: float = MIN_IOU
) -> list[dict[int, Box]]:
    """Links the boxes of consecutive frames to tracks.

    Each box continues the track whose last box it overlaps most, or starts a new one. Pairs with
    the highest overlap are linked first.

    Args:
      boxes_by_frame: the boxes of each frame.
      min_iou: lowest overlap of a box with the last one of its track.

    Returns:
      Tracks as {frame number: box}.
    """
    tracks: list[dict[int, Box]] = []
    for frame, boxes in enumerate(boxes_by_frame):
        pairs = [
            (iou(track[max(track)], box), t, b)
            for t, track in enumerate(tracks)
            if frame - max(track) <= MAX_GAP
            for b, box in enumerate(boxes)
        ]
        linked_tracks: set[int] = set()
        linked_boxes: set[int] = set()
        for score, t, b in sorted(pairs, reverse=True):
            if score >= min_iou and t not in linked_tracks and b not in linked_boxes:
                tracks[t][frame] = boxes[b]
                linked_tracks.add(t)
                linked_boxes.add(b)
        tracks += [{frame: box} for b, box in enumerate(boxes) if b not in linked_boxes]
    return tracks


def best_boxes(boxes: Sequence[Box], scores: Sequence[float], *, max_iou: float) -> list[int]:
    """Non-maximum suppression: of boxes that overlap, those with the best scores.

    Args:
      boxes: the boxes.
      scores: one per box.
      max_iou: a box is dropped if it overlaps a better one that is kept by more than this.

    Returns:
      Indices of the boxes that are kept, best score first.
    """
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[k]) <= max_iou for k in kept):
            kept.append(i)
    return kept


def follow_face(boxes_by_frame: Sequence[Sequence[Box]]) -> dict[int, Box]:
    """Chooses one face per frame: that of the person with the largest face, as long as it is seen.

    Tracks are taken by the sum of their areas, each if no face was chosen yet in any of its frames.
    So a face that is lost and found again stays one person, and who is next to it is left out.

    Args:
      boxes_by_frame: the faces of every frame.

    Returns:
      {frame number: box}; frames without a face of the person are left out.
    """
    tracks = link_by_iou([list(boxes) for boxes in boxes_by_frame])
    chosen: dict[int, Box] = {}
    for track in sorted(tracks, key=lambda track: -sum(map(area, track.values()))):
        if chosen.keys().isdisjoint(track):
            chosen |= track
    return dict(sorted(chosen.items()))

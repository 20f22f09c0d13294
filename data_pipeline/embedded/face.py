"""Draws a face with FACS action units, for varied people, poses, lights and backgrounds."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

_BROW = (28, 20, 18)
DRAW_SCALE = 2  # pictures are drawn at twice their size and reduced, which smooths edges


@dataclasses.dataclass(frozen=True, kw_only=True)
class Person:
    """The looks of one identity; colours are RGB, lengths are fractions of the face's height.

    Attributes:
      skin: colour.
      hair: colour.
      shirt: colour.
      iris: colour.
      width: of the face.
      eye_gap: distance of each eye from the middle.
      eye_size: factor of the eyes' size.
      brow_thick: thickness of the brows.
      mouth_width: half the width of the mouth.
      nose: factor of the nose's width.
      hair_style: 0 to 2.
      glasses: whether the person wears glasses.
    """

    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    shirt: tuple[int, int, int]
    iris: tuple[int, int, int]
    width: float
    eye_gap: float
    eye_size: float
    brow_thick: float
    mouth_width: float
    nose: float
    hair_style: int
    glasses: bool


def make_person(seed: int) -> Person:
    """The person of a seed; the splits share no seed (see generate.py)."""
    rng = np.random.default_rng([seed, 11])
    tone = rng.random()
    hair_colours = [[30, 22, 18], [80, 50, 25], [150, 110, 50], [120, 120, 125], [110, 40, 20]]
    return Person(
        skin=_rgb((1 - tone) * np.array([250, 220, 195]) + tone * np.array([120, 78, 52])),
        hair=_rgb(rng.choice(hair_colours)),
        shirt=_rgb(rng.integers(30, 220, 3)),
        iris=_rgb(rng.integers(20, 110, 3)),
        width=float(rng.uniform(0.76, 0.86)),
        eye_gap=float(rng.uniform(0.18, 0.205)),
        eye_size=float(rng.uniform(1.1, 1.3)),
        brow_thick=float(rng.uniform(0.04, 0.05)),
        mouth_width=float(rng.uniform(0.17, 0.2)),
        nose=float(rng.uniform(0.8, 1.2)),
        hair_style=int(rng.integers(0, 3)),
        glasses=bool(rng.random() < 0.15),
    )


def _rgb(values: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in values)
    return red, green, blue


def make_background(seed: int, size: int) -> Image.Image:
    """The background of a seed: a gradient with rectangles and ellipses."""
    rng = np.random.default_rng([seed, 12])
    corners = rng.integers(40, 220, (2, 2, 3)).astype(np.uint8)
    picture = Image.fromarray(corners).resize((size, size), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 6))):
        x, y = rng.integers(-size // 4, size, 2)
        w, h = rng.integers(size // 8, size // 2, 2)
        colour = tuple(int(v) for v in rng.integers(30, 230, 3))
        (draw.rectangle if rng.random() < 0.6 else draw.ellipse)(
            (int(x), int(y), int(x + w), int(y + h)), fill=colour
        )
    return picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the face is.

    Attributes:
      x: centre, as a fraction of the picture.
      y: centre, as a fraction of the picture.
      height: as a fraction of the picture.
      tilt: in radians.
    """

    x: float
    y: float
    height: float
    tilt: float


class _Pen:
    """Draws shapes in face coordinates (origin between eyes and mouth, height 1, y downwards)."""

    def __init__(self, picture: Image.Image, pose: Pose):
        self.draw = ImageDraw.Draw(picture)
        size = picture.size[0]
        self.unit = pose.height * size
        turn = np.array(
            [[np.cos(pose.tilt), -np.sin(pose.tilt)], [np.sin(pose.tilt), np.cos(pose.tilt)]]
        )
        self.matrix, self.shift = turn * self.unit, np.array([pose.x, pose.y]) * size

    def _points(self, xy: np.ndarray) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in np.asarray(xy) @ self.matrix.T + self.shift]

    def shape(self, xy: np.ndarray, fill: tuple[int, ...]) -> None:
        self.draw.polygon(self._points(xy), fill=fill)

    def line(self, xy: np.ndarray, fill: tuple[int, ...], width: float) -> None:
        self.draw.line(
            self._points(xy), fill=fill, width=max(1, round(width * self.unit)), joint="curve"
        )

    def oval(self, x: float, y: float, rx: float, ry: float, fill: tuple[int, ...]) -> None:
        angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        self.shape(np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1), fill)


def _shade(colour: tuple[int, ...], factor: float) -> tuple[int, ...]:
    return tuple(int(min(255, c * factor)) for c in colour)


def draw_face(
    background: Image.Image,
    person: Person,
    pose: Pose,
    *,
    units: dict[int, float],
    talk: float,
    blink: float,
) -> Image.Image:
    """Draws one frame at DRAW_SCALE times its size.

    Args:
      background: of that size.
      person: the looks.
      pose: where the face is.
      units: intensity in [0, 1] by action unit; unit 102 is unit 2 on the left side only.
      talk: how far speech opens the mouth, in [0, 1].
      blink: how far the eyes are closed, in [0, 1].
    """
    picture = background.copy()
    pen = _Pen(picture, pose)
    u = {
        **dict.fromkeys((1, 2, 102, 4, 5, 6, 7, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28), 0.0),
        **units,
    }
    half = person.width / 2
    jaw = 0.1 * u[26]
    pen.shape(
        np.array(
            [[-0.75, 1.2], [-0.6, 0.62], [-0.15, 0.48], [0.15, 0.48], [0.6, 0.62], [0.75, 1.2]]
        ),
        person.shirt,
    )
    pen.oval(0, 0.45, 0.14, 0.16, _shade(person.skin, 0.85))
    if person.hair_style:
        pen.oval(
            0,
            -0.05 + 0.1 * (person.hair_style == 2),
            half * 1.2,
            0.52 + 0.13 * (person.hair_style == 2),
            person.hair,
        )
    pen.oval(0, jaw / 2, half, 0.5 + jaw / 2, person.skin)
    angle = np.linspace(np.pi, 2 * np.pi, 20)
    cap = np.stack([half * 1.04 * np.cos(angle), -0.24 + 0.3 * np.sin(angle)], 1)
    pen.shape(np.concatenate([cap, [[half * 0.6, -0.33], [-half * 0.5, -0.35]]]), person.hair)
    _draw_eyes(pen, person, u, blink)
    dark = _shade(person.skin, 0.72)
    pen.line(np.array([[0.01, -0.08], [0.045 * person.nose, 0.09], [-0.02, 0.1]]), dark, 0.018)
    _draw_mouth(pen, person, u, talk, jaw)
    return picture


def _draw_eyes(pen: _Pen, person: Person, u: dict[int, float], blink: float) -> None:
    dark = _shade(person.skin, 0.6)
    for side in (-1, 1):
        x, y = side * person.eye_gap, -0.1
        rx = 0.085 * person.eye_size
        top = (
            0.045 * person.eye_size * max(0.08, (1 + 0.9 * u[5] - 0.55 * u[7]) * (1 - 0.95 * blink))
        )
        low = (
            0.04
            * person.eye_size
            * max(0.08, (1 + 0.4 * u[5] - 0.6 * u[7] - 0.75 * u[6]) * (1 - 0.95 * blink))
        )
        t = np.linspace(0, np.pi, 12)
        upper = np.stack([x - rx * np.cos(t), y - top * np.sin(t)], 1)
        lower = np.stack([x + rx * np.cos(t), y + low * np.sin(t)], 1)
        pen.shape(np.concatenate([upper, lower]), (245, 245, 245))
        iris = min(0.038, (top + low) / 2)
        pen.oval(x, y + (low - top) / 2, 0.038, iris, person.iris)
        pen.oval(x, y + (low - top) / 2, 0.018, min(0.018, iris), (10, 10, 10))
        pen.line(upper, dark, 0.016)
        if u[6] > 0.15:  # cheek raiser: a fold under the eye
            pen.line(
                np.stack([x - rx * np.cos(t[3:9]), y + low + 0.025 + 0.02 * np.sin(t[3:9])], 1),
                dark,
                0.014,
            )
        outer_up = 0.11 * (u[2] + (u[102] if side < 0 else -0.35 * u[102]))
        inner_up = 0.12 * u[1] - 0.1 * u[4] + (0.07 * u[102] if side < 0 else 0.0)
        inner = np.array([x - side * (0.085 + 0.025 * u[4]), y - 0.1 - inner_up])
        middle = np.array([x, y - 0.125 - 0.5 * (inner_up + outer_up) + 0.02 * u[4]])
        outer = np.array([x + side * 0.1, y - 0.1 - outer_up])
        pen.line(np.stack([inner, middle, outer]), _BROW, person.brow_thick)
        if person.glasses:
            circle = np.linspace(0, 2 * np.pi, 20)
            pen.line(
                np.stack([x + 0.12 * np.cos(circle), y + 0.095 * np.sin(circle)], 1),
                (40, 40, 40),
                0.012,
            )
    if u[4] > 0.2:  # brow lowerer: furrows between the brows
        for dx in (-0.025, 0.025):
            pen.line(np.array([[dx, -0.25], [dx * 0.8, -0.17]]), dark, 0.014)


def _draw_mouth(pen: _Pen, person: Person, u: dict[int, float], talk: float, jaw: float) -> None:
    y = 0.265 + 0.4 * jaw - 0.02 * u[17]
    half = person.mouth_width * (
        1 + 0.4 * u[12] + 0.5 * u[20] - 0.35 * u[23] - 0.25 * u[26] - 0.1 * u[28]
    )
    opening = (
        0.03 * talk * (1 - 0.8 * u[23]) * (1 - 0.9 * u[28])
        + 0.035 * u[25]
        + 0.13 * u[26]
        + 0.02 * u[20]
    )
    left = -0.12 * u[12] + 0.12 * u[15] + 0.03 * u[20]
    right = left - 0.15 * u[14]
    middle = 0.05 * u[12] - 0.05 * u[15] - 0.08 * u[17]
    t = np.linspace(-1, 1, 15)
    line = y + middle * (1 - t**2) + np.where(t < 0, left, right) * t**2
    x = t * half + 0.03 * u[14]
    bulge = 1 - t**2
    upper = line - opening * 0.45 * bulge - 0.045 * u[10] * bulge * (t > -0.6)
    lower = line + opening * 0.75 * bulge
    lip = 0.034 * (1 - 0.8 * u[23]) * (1 - 0.95 * u[28]) * (1 - 0.3 * u[20])
    colour = tuple(
        int(0.25 * c + 0.75 * r) for c, r in zip(person.skin, (190, 30, 45), strict=True)
    )
    outline = np.concatenate(
        [
            np.stack([x, upper - lip * bulge - 0.006], 1),
            np.stack([x[::-1], (lower + 1.3 * lip * bulge + 0.006)[::-1]], 1),
        ]
    )
    pen.shape(outline, colour)
    inside = np.concatenate([np.stack([x, upper], 1), np.stack([x[::-1], lower[::-1]], 1)])
    pen.shape(inside, (70, 20, 25))
    if opening > 0.03:  # teeth
        teeth = np.concatenate(
            [np.stack([x, upper], 1), np.stack([x[::-1], (upper + 0.3 * (lower - upper))[::-1]], 1)]
        )
        pen.shape(teeth, (240, 240, 235))
    dark = _shade(person.skin, 0.62)
    pen.line(np.stack([x, (upper + lower) / 2], 1), dark if opening < 0.02 else (70, 20, 25), 0.012)
    for side, folds in ((-1, u[12]), (1, max(u[12], u[14], u[10])), (-1, u[10])):
        if folds > 0.2:  # nasolabial fold
            pen.line(
                np.array(
                    [[side * 0.1, 0.1], [side * (half + 0.035), 0.2], [side * (half + 0.05), 0.27]]
                ),
                dark,
                0.014,
            )
    if u[17] > 0.2:  # chin raiser: a dimpled, arched chin
        s = np.linspace(-1, 1, 7)
        pen.line(np.stack([0.08 * s, 0.385 - 0.03 * (1 - s**2)], 1), dark, 0.018)
    if u[28] > 0.2:  # lip suck: a crease above and below
        pen.line(np.array([[-half, y - 0.03], [half, y - 0.03]]), dark, 0.01)
        pen.line(np.array([[-half, y + 0.03], [half, y + 0.03]]), dark, 0.01)


def finish(picture: Image.Image, size: int, brightness: float, slope: float) -> np.ndarray:
    """Reduces a picture and applies the light.

    Args:
      picture: at DRAW_SCALE times its size.
      size: side of the result in pixels.
      brightness: factor of all values.
      slope: relative change of the light from the left to the right edge.

    Returns:
      uint8[size, size, 3].
    """
    small = np.asarray(picture.reduce(picture.size[0] // size), np.float32)
    light = brightness * (1 + slope * np.linspace(-0.5, 0.5, size, dtype=np.float32))
    return np.clip(small * light[None, :, None], 0, 255).astype(np.uint8)

"""The face nets of face-api: crops of faces -> expression features, landmarks; pictures -> faces.

Source: `@vladmandic/face-api` 1.7.15 (MIT), three nets of 0.2 to 0.4 million parameters. Their
convolutions are depthwise-separable, padded as TensorFlow's SAME, with nothing between the two.
Channels are last and kernels are [height, width, in, out], as in the files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.dense import FLOAT32, Precision
from emojax.model.part import Family, Mirror, PackageFile, Release
from emojax.model.weight_rules import Rule, Table, rule

Array = jax.Array
Net = Literal["expression", "landmarks", "detector"]

FEATURES = 256  # of a crop
POINTS = 68  # landmarks
# Names of the releases.
NAMES: dict[Net, str] = {
    "expression": "face-expression-net",
    "landmarks": "face-landmark-net",
    "detector": "tiny-face-detector",
}
LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
CELL = 32  # pixels of the picture per cell of the detector
# Width and height of the five boxes that every cell predicts, in cells.
ANCHORS = (
    (1.603231, 2.094468),
    (6.041143, 7.080126),
    (2.882459, 3.518061),
    (4.266906, 5.178857),
    (9.041765, 10.66308),
)

_CROP_MEAN = (122.782, 117.001, 104.298)
_PICTURE_MEAN = (117.001, 114.697, 97.404)
_BLOCKS = (32, 64, 128, 256)  # widths of the blocks of four convolutions each
_DETECTOR_WIDTHS = (16, 32, 64, 128, 256, 512)
_LEAK = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceNetConfig:
    """Which net; their sizes are fixed.

    Attributes:
      net: "expression", "landmarks" or "detector".
      precision: number formats.
    """

    net: Net = "expression"
    precision: Precision = FLOAT32


class Expression(NamedTuple):
    """What the expression net computes of crops.

    Attributes:
      features: float[..., 256], mean of the last block over the crop.
      probabilities: float[..., 7] of LABELS.
    """

    features: Array
    probabilities: Array


class _Conv(nn.Module):
    """A convolution of 3 x 3, padded as SAME or not at all."""

    features: int
    stride: int
    padding: Literal["SAME", "VALID"]
    precision: Precision

    @nn.compact
    def __call__(self, x: Array) -> Array:
        filters, bias = _kernel(self, "filters", (3, 3, x.shape[-1], self.features))
        strides = (self.stride, self.stride)
        numbers = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(
            x, filters, strides, self.padding, dimension_numbers=numbers
        )
        return out + bias


class _SeparableConv(nn.Module):
    """A depthwise convolution of 3 x 3, padded as SAME, and a pointwise one."""

    features: int
    stride: int
    precision: Precision

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        depthwise = self.param(
            "depthwise_filter",
            nn.initializers.he_normal(in_axis=(0, 1), out_axis=2),
            (3, 3, width, 1),
            self.precision.params,
        )
        pointwise, bias = _kernel(self, "pointwise_filter", (1, 1, width, self.features))
        x = depthwise_conv(x, depthwise.astype(x.dtype), stride=self.stride)
        return x @ pointwise[0, 0] + bias


def _kernel(module: Any, name: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The parameters `name` and `bias` of a convolution, in the format that it computes in."""
    stored, compute = module.precision.params, module.precision.compute
    kernel = module.param(name, nn.initializers.he_normal(), shape, stored)
    bias = module.param("bias", nn.initializers.zeros, shape[-1:], stored)
    return kernel.astype(compute), bias.astype(compute)


def depthwise_conv(x: Array, filters: Array, *, stride: int = 1) -> Array:
    """A convolution of each channel with its own 3 x 3 filter, padded as TensorFlow's SAME.

    A sum of nine shifted products. With XLA:CPU's grouped convolution the detector takes 4 times as
    long, the expression net 10 times.

    Args:
      x: float[N, H, W, C].
      filters: float[3, 3, C, 1].
      stride: of both axes.

    Returns:
      float[N, ceil(H / stride), ceil(W / stride), C].
    """
    sizes = [-(-n // stride) for n in x.shape[1:3]]
    extra = [max(0, (m - 1) * stride + 3 - n) for m, n in zip(sizes, x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), *((e // 2, e - e // 2) for e in extra), (0, 0)))
    height, width = sizes
    out = jnp.zeros((x.shape[0], height, width, x.shape[3]), x.dtype)
    for i in range(3):
        rows = slice(i, i + (height - 1) * stride + 1, stride)
        for j in range(3):
            columns = slice(j, j + (width - 1) * stride + 1, stride)
            out = out + x[:, rows, columns] * filters[i, j, :, 0]
    return out


def max_pool(x: Array, *, stride: int) -> Array:
    """Largest value of each window of 2 x 2, padded as TensorFlow's SAME.

    Args:
      x: float[N, H, W, C].
      stride: 1 or 2.

    Returns:
      float[N, ceil(H / stride), ceil(W / stride), C].
    """
    extra = [1 if stride == 1 else n % 2 for n in x.shape[1:3]]
    x = jnp.pad(x, ((0, 0), *((0, e) for e in extra), (0, 0)), constant_values=-jnp.inf)
    rows = jnp.maximum(x[:, :-1:stride], x[:, 1::stride])
    return jnp.maximum(rows[:, :, :-1:stride], rows[:, :, 1::stride])


class _Linear(nn.Module):
    """A product with a matrix, which the files of convolutions hold as 1 x 1 filters."""

    features: int
    kernel: str
    window: tuple[int, ...]
    precision: Precision

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel, bias = _kernel(self, self.kernel, (*self.window, x.shape[-1], self.features))
        return x @ kernel.reshape(-1, self.features) + bias


class _Block(nn.Module):
    """Four convolutions; each one after the first reads the sum of all before it."""

    features: int
    first: bool
    precision: Precision

    @nn.compact
    def __call__(self, x: Array) -> Array:
        p = self.precision
        if self.first:
            conv0: nn.Module = _Conv(self.features, 2, "SAME", p, name="conv0")
        else:
            conv0 = _SeparableConv(self.features, 2, p, name="conv0")
        x = jax.nn.relu(conv0(x))
        total = x
        for i in range(1, 4):
            total = total + _SeparableConv(self.features, 1, p, name=f"conv{i}")(x)
            x = jax.nn.relu(total)
        return x


class _CropNet(nn.Module):
    """What the two nets of crops share: the blocks, and linear outputs of their mean."""

    config: FaceNetConfig

    @nn.compact
    def run(self, crops: Array, outputs: int) -> tuple[Array, Array]:
        """[..., 112, 112, 3] pixels from 0 to 255 -> float[..., 256], float[..., outputs]."""
        p = self.config.precision
        shape = crops.shape[:-3]
        x = _normalize(crops.reshape(-1, *crops.shape[-3:]), _CROP_MEAN, p)
        for i, width in enumerate(_BLOCKS):
            x = _Block(width, i == 0, p, name=f"dense{i}")(x)
        x = x.mean(axis=(1, 2))
        out = _Linear(outputs, "weights", (), p, name="fc")(x)
        return x.reshape(*shape, -1), out.reshape(*shape, -1)


def _normalize(pixels: Array, mean: tuple[float, ...], precision: Precision) -> Array:
    """Pixels from 0 to 255 as the nets read them; the mean is not divided by 255 apart."""
    scaled = (pixels.astype(jnp.float32) - np.array(mean, np.float32)) / np.float32(255)
    return scaled.astype(precision.compute)


class ExpressionNet(_CropNet):
    """Crops of faces -> features of their expression; the encoder of the faces of a clip."""

    def __call__(
        self, crops: Array, found: Array | None = None, deterministic: bool = True
    ) -> Array:
        """Features of the faces of clips.

        Args:
          crops: uint8[B, F, 112, 112, 3], RGB, one face per frame.
          found: bool[B, F], whether there is a face in the frame. None: in all.
          deterministic: there is no dropout.

        Returns:
          float[B, F, 256]; 0 where no face was found.
        """
        del deterministic
        features = self.read(crops).features
        return features if found is None else features * found[..., None].astype(features.dtype)

    def read(self, crops: Array) -> Expression:
        """[..., 112, 112, 3] pixels from 0 to 255 -> features and probabilities."""
        features, scores = self.run(crops, len(LABELS))
        return Expression(features, jax.nn.softmax(scores.astype(jnp.float32)))


class LandmarkNet(_CropNet):
    """Crops of faces -> 68 landmarks."""

    def __call__(self, crops: Array) -> Array:
        """[..., 112, 112, 3] pixels from 0 to 255 -> float[..., 68, 2].

        The points are (x, y) in sides of the crop, (0, 0) its upper left corner.
        """
        points = self.run(crops, 2 * POINTS)[1]
        return points.reshape(*points.shape[:-1], POINTS, 2)


class DetectorNet(nn.Module):
    """Pictures -> five boxes per cell of 32 pixels, each with a score."""

    config: FaceNetConfig

    @nn.compact
    def __call__(self, pictures: Array) -> Array:
        """Runs the net.

        Args:
          pictures: [N, S, S, 3] pixels from 0 to 255, S a multiple of CELL.

        Returns:
          float[N, S / CELL, S / CELL, 5, 5]: for every cell and anchor x, y, width, height and
          score, before their sigmoids and exponentials.
        """
        p = self.config.precision
        x = _normalize(pictures, _PICTURE_MEAN, p)
        for i, width in enumerate(_DETECTOR_WIDTHS):
            if i == 0:
                conv: nn.Module = _Conv(width, 1, "VALID", p, name="conv0")
            else:
                conv = _SeparableConv(width, 1, p, name=f"conv{i}")
            # Pooled before the activation, which does not change the order: a quarter of its work.
            x = max_pool(conv(x), stride=1 if i == len(_DETECTOR_WIDTHS) - 1 else 2)
            x = jax.nn.leaky_relu(x, _LEAK)
        anchors = len(ANCHORS)
        out = _Linear(5 * anchors, "filters", (1, 1), p, name="conv8")(x).astype(jnp.float32)
        return out.reshape(*out.shape[:3], anchors, 5)


def _crop_net_table(name: str) -> Table:
    convs = [
        _separable(f"dense{d}/conv{c}") if d or c else _names("dense0/conv0", "filters")
        for d in range(len(_BLOCKS))
        for c in range(4)
    ]
    return Table(name, (*(r for rules in convs for r in rules), *_names("fc", "weights")))


def _detector_table(name: str) -> Table:
    convs = [_separable(f"conv{i}") for i in range(1, len(_DETECTOR_WIDTHS))]
    return Table(
        name,
        (
            *_names("conv0", "filters"),
            *(r for rules in convs for r in rules),
            *_names("conv8", "filters"),
        ),
    )


def _separable(layer: str) -> tuple[Rule, ...]:
    return _names(layer, "depthwise_filter", "pointwise_filter")


def _names(layer: str, *kernels: str) -> tuple[Rule, ...]:
    """Rules of a layer: our leaves have the names and layouts of the file."""
    return tuple(rule(f"{layer}/{n}", f"{layer}/{n}") for n in (*kernels, "bias"))


def tables(config: FaceNetConfig) -> tuple[Table, ...]:
    """The tensors of a net's file."""
    name = f"face-api net ({config.net})"
    return (_detector_table(name) if config.net == "detector" else _crop_net_table(name),)


def make_net(config: FaceNetConfig) -> ExpressionNet | LandmarkNet | DetectorNet:
    """The module of a net."""
    if config.net == "expression":
        return ExpressionNet(config)
    return LandmarkNet(config) if config.net == "landmarks" else DetectorNet(config)


def _make(fields: Any, encoder: Any) -> FaceNetConfig:
    """The expression net is the encoder of faces; its size is fixed."""
    return FaceNetConfig(net=getattr(fields, "net", "expression"), precision=encoder.precision)


def _no_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    del raw
    raise ValueError("the face nets of face-api have no config.json: name the part instead")


def _release(net: Net, file: str, *, size: int, manifest: str, weights: str) -> Release:
    names = (f"{file}-weights_manifest.json", f"{file}.bin")
    return Release(
        name=NAMES[net],
        repo="",
        licence="MIT",
        fields={"family": "face_api", "net": net},
        size=size,
        mirror=Mirror(
            files=tuple(
                PackageFile(
                    index="npm",
                    package="@vladmandic/face-api",
                    version="1.7.15",
                    file=f"package/model/{name}",
                    sha256=checksum,
                )
                for name, checksum in zip(names, (manifest, weights), strict=True)
            )
        ),
    )


FAMILY = Family(
    name="face_api",
    title="face nets of face-api",
    kind="face",
    model_types=(),
    releases=(
        _release(
            "expression",
            "face_expression_model",
            size=336_448,
            manifest="5b349c17c7836da506e03422cd6461c74085d8bb2713ad4114647dc5d28174c8",
            weights="9a9840f2cf1f4c7eab95f197512569345c00d2426754d4608b92af30e0300f3d",
        ),
        _release(
            "landmarks",
            "face_landmark_68_model",
            size=365_325,
            manifest="ca4886639f86e99b39fed0c155f81b63317225773bd9616716e887b0153389c9",
            weights="4611ef65c87d836d03d684b30eec4d195d8b219fa1dd58fc58945831c6b9299b",
        ),
        _release(
            "detector",
            "tiny_face_detector_model",
            size=196_540,
            manifest="5d1af4849ac48d5b985f4a9b16010c512353ddd6fcc63d50fd0bc9e9e64296e5",
            weights="b7503ce7df31039b1c43316a9b865cab6a70dd748cc602d3fa28b551503c3871",
        ),
    ),
    read_config=_no_config,
    make=_make,
    module=make_net,
    tables=tables,
)

"""EVA-ViT: pixels -> tokens.

One module for the image encoder (448 px, 39 blocks) and the video encoder (224 px, 40 blocks, final
norm). Source: EVA-CLIP ViT-G/14 as used by BLIP-2, MiniGPT-v2 and Emotion-LLaMAv2 (eva_vit.py; timm
eva_giant_patch14_224). How the two differ: docs/internals.md, "Faithful by default".
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.dense import Dense
from emojax.model.layers import Encoder, EncoderConfig, LayerNorm
from emojax.sharding import partitioned

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaConfig:
    """Sizes of one EVA encoder.

    Attributes:
      image_size: side of the image, pixels.
      patch: side of a patch, pixels.
      encoder: the transformer.
      final_norm: True for the video encoder only.
      mean: per channel, of pixels in [0, 1].
      std: per channel, of pixels in [0, 1].
      stem: initialisation of patch kernel and positions when training from scratch: "random", or
        "cosine" (`cosine_kernel`), which needs hundreds of images instead of thousands.
    """

    image_size: int
    patch: int
    encoder: EncoderConfig
    final_norm: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stem: Literal["random", "cosine"] = "random"

    @property
    def grid(self) -> int:
        """Number of patches along one side."""
        return self.image_size // self.patch

    @property
    def tokens(self) -> int:
        """1 + P, the class token and the patches."""
        return 1 + self.grid**2


class Eva(nn.Module):
    """float[B, H, W, 3] normalised pixels -> float[B, 1 + P, D], class token first, then rows."""

    config: EvaConfig

    @nn.compact
    def __call__(self, pixels: Array, deterministic: bool = True) -> Array:
        """Runs the encoder; `deterministic` False enables dropout."""
        c = self.config
        width, precision = c.encoder.width, c.encoder.precision
        assert pixels.shape[1:] == (c.image_size, c.image_size, 3), (pixels.shape, c.image_size)
        patches = einops.rearrange(
            pixels, "b (h p) (w q) c -> b (h w) (p q c)", p=c.patch, q=c.patch
        )
        cosine = c.stem == "cosine"
        kernel = _constant(cosine_kernel(c.patch, width)) if cosine else None
        x = Dense(width, (None, "embed"), precision=precision, kernel_init=kernel, name="patch")(
            patches
        )
        init = partitioned(nn.initializers.truncated_normal(0.02), (None, None, "act_embed"))
        cls = self.param("cls", init, (1, 1, width))
        table = (
            partitioned(_constant(grid_sinusoids(c.grid, width)), (None, None, "act_embed"))
            if cosine
            else init
        )
        positions = self.param("positions", table, (1, c.tokens, width))
        # cls and positions stay float32, and so does the residual stream, as in the released code
        x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, width)), x], axis=1) + positions
        x = nn.Dropout(c.encoder.dropout)(x, deterministic=deterministic)
        x = Encoder(c.encoder, name="encoder")(x, None, deterministic)
        return LayerNorm(c.encoder.eps, name="norm")(x) if c.final_norm else x


def _constant(value: np.ndarray) -> Any:
    return lambda _, shape, dtype=jnp.float32: jnp.asarray(value.reshape(shape), dtype)


def cosine_kernel(patch: int, width: int) -> np.ndarray:
    """A patch kernel of low 2-D cosines of brightness (3/4 of the width) and two colours.

    The power of natural images falls as about 1/f^2: each cosine is scaled by (1 + f)^2, so edges
    start with the same magnitude as the mean brightness of a patch.

    Args:
      patch: side of a patch, pixels.
      width: number of output channels.

    Returns:
      float32[patch^2 * 3, width].
    """
    n = np.arange(patch)
    order = sorted(
        ((u, v) for u in range(patch) for v in range(patch)), key=lambda uv: (sum(uv), uv)
    )
    colours = np.array([[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]])
    colours = colours / np.linalg.norm(colours, axis=1, keepdims=True)
    bright = width - 2 * (width // 8)
    columns = []
    for colour, count in zip(colours, (bright, width // 8, width // 8), strict=True):
        for u, v in order[:count]:
            wave = np.outer(
                np.cos(np.pi * (n + 0.5) * u / patch), np.cos(np.pi * (n + 0.5) * v / patch)
            )
            wave *= (1 + u + v) ** 2 / np.linalg.norm(wave)
            columns.append((wave[:, :, None] * colour).reshape(-1))
    assert len(columns) == width, (patch, width)
    return (np.stack(columns, axis=1) / (2 * patch)).astype(np.float32)


def grid_sinusoids(grid: int, width: int) -> np.ndarray:
    """float32[1, 1 + grid^2, width]: sines and cosines of row and column; class token zero."""
    frequency = 0.01 ** (np.arange(width // 4) / (width // 4))
    rows, columns = (axis.reshape(-1, 1) * frequency for axis in np.indices((grid, grid)))
    table = np.concatenate([np.sin(rows), np.cos(rows), np.sin(columns), np.cos(columns)], axis=1)
    return np.concatenate([np.zeros((1, width)), table])[None].astype(np.float32)


def normalize_pixels(pixels: Array, config: EvaConfig, dtype: str) -> Array:
    """uint8[..., 3] -> float[..., 3], normalised by the encoder's mean and standard deviation."""
    mean, std = np.asarray(config.mean), np.asarray(config.std)
    return ((pixels.astype(jnp.float32) / 255.0 - mean) / std).astype(dtype)


def pool_video(tokens: Array, pool: int) -> Array:
    """Drops the class tokens and averages the patches of each frame to pool x pool tokens.

    Source: temporal features of Emotion-LLaMAv2 (2 x 2 of 16 x 16).

    Args:
      tokens: float[B, F, 1 + P, D].
      pool: tokens along one side.

    Returns:
      float[B, F * pool^2, D] in the order frame, row, column.
    """
    grid = round((tokens.shape[2] - 1) ** 0.5)
    assert grid % pool == 0, (grid, pool)
    return einops.reduce(
        tokens[:, :, 1:],
        "b f (h p w q) d -> b (f h w) d",
        "mean",
        h=pool,
        w=pool,
        p=grid // pool,
        q=grid // pool,
    )

"""Vision transformer: pixels -> tokens; the module of all picture encoders."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.dense import Dense
from emojax.model.encoders.stems import cosine_kernel, grid_sinusoids
from emojax.model.layers import Encoder, EncoderConfig, LayerNorm
from emojax.sharding import partitioned

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureConfig:
    """Sizes of a picture encoder.

    Attributes:
      image_size: side of the image, pixels.
      patch: side of a patch, pixels.
      encoder: the transformer.
      final_norm: whether the tokens pass a last norm.
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


class VisionTransformer(nn.Module):
    """float[B, H, W, 3] normalised pixels -> float[B, 1 + P, D], class token first, then rows."""

    config: PictureConfig

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


def normalize_pixels(pixels: Array, config: PictureConfig, dtype: str) -> Array:
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


def picture_config(
    fields: Any,
    encoder: EncoderConfig,
    *,
    eps: float,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    **own: Any,
) -> PictureConfig:
    """The configuration of a family's module from the fields of its stream.

    Args:
      fields: the fields of `config.model.image` or `config.model.video`.
      encoder: the transformer, as the fields describe it.
      eps: of the norms.
      mean: of the family's pixels, where the fields name none.
      std: likewise.
      **own: further fields of `PictureConfig` that are the family's own.

    Returns:
      The configuration.
    """
    return PictureConfig(
        image_size=fields.size,
        patch=fields.patch,
        encoder=dataclasses.replace(encoder, eps=eps),
        final_norm=fields.final_norm,
        mean=tuple(fields.mean or mean),
        std=tuple(fields.std or std),
        **own,
    )

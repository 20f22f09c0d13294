"""Vision transformer: pixels -> tokens; the module of all picture encoders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.attention import dense_attention
from emojax.model.dense import Dense
from emojax.model.encoders.stems import cosine_kernel, grid_sinusoids
from emojax.model.layers import ACTIVATIONS, Encoder, EncoderConfig, LayerNorm
from emojax.model.part import check_options
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
      cls: whether a class token comes first; without it `pooling_head` makes the summary.
      registers: number of register tokens, which the output does not have (DINOv2).
      patch_bias: whether the patch kernel has a bias (not of CLIP).
      pre_norm: whether there is a norm before the blocks (CLIP).
      pooling_head: whether the summary of the picture is made by attention to its patches (SigLIP).
    """

    image_size: int
    patch: int
    encoder: EncoderConfig
    final_norm: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stem: Literal["random", "cosine"] = "random"
    cls: bool = True
    registers: int = 0
    patch_bias: bool = True
    pre_norm: bool = False
    pooling_head: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError where the patches do not fill the picture."""
        if self.image_size % self.patch:
            raise ValueError(
                f"pictures of {self.image_size} pixels cannot be cut into patches of {self.patch}:"
                f" use {self.grid * self.patch} or {(self.grid + 1) * self.patch} pixels"
            )

    @property
    def grid(self) -> int:
        """Number of patches along one side."""
        return self.image_size // self.patch

    @property
    def tokens(self) -> int:
        """1 + P, the summary of the picture and the patches."""
        return 1 + self.grid**2


class VisionTransformer(nn.Module):
    """float[B, H, W, 3] normalised pixels -> float[B, 1 + P, D].

    The first token is a summary of the picture: the class token, or what the pooling head makes.
    The patches follow row by row.
    """

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
        kernel = _constant(cosine_kernel(c.patch, width)) if c.stem == "cosine" else None
        x = Dense(
            width,
            (None, "embed"),
            use_bias=c.patch_bias,
            precision=precision,
            kernel_init=kernel,
            name="patch",
        )(patches)
        x = self._with_positions(x)
        x = LayerNorm(c.encoder.eps, name="pre_norm")(x) if c.pre_norm else x
        x = nn.Dropout(c.encoder.dropout)(x, deterministic=deterministic)
        x = Encoder(c.encoder, name="encoder")(x, None, deterministic)
        x = LayerNorm(c.encoder.eps, name="norm")(x) if c.final_norm else x
        if c.registers:
            x = jnp.concatenate([x[:, :1], x[:, 1 + c.registers :]], axis=1)
        if c.pooling_head:
            x = jnp.concatenate([PoolingHead(c.encoder, name="head")(x), x], axis=1)
        return x

    def _with_positions(self, x: Array) -> Array:
        """Adds class token, positions and register tokens, in this order of the sequence.

        They stay float32, and so does the residual stream, as in the code of EVA.
        """
        c, width = self.config, self.config.encoder.width
        init = partitioned(nn.initializers.truncated_normal(0.02), (None, None, "act_embed"))

        def rows(name: str, count: int) -> Array:
            token: Array = self.param(name, init, (1, count, width))
            return jnp.broadcast_to(token, (x.shape[0], count, width))

        if c.cls:
            x = jnp.concatenate([rows("cls", 1), x], axis=1)
        waves = grid_sinusoids(c.grid, width)[:, int(not c.cls) :] if c.stem == "cosine" else None
        table = init if waves is None else partitioned(_constant(waves), (None, None, "act_embed"))
        x = x + self.param("positions", table, (1, x.shape[1], width))
        if c.registers:
            x = jnp.concatenate([x[:, :1], rows("registers", c.registers), x[:, 1:]], axis=1)
        return x


class PoolingHead(nn.Module):
    """Attention of one learned query to all patches, then an MLP: float[B, P, D] -> [B, 1, D]."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Makes the summary of the picture."""
        c = self.config

        def dense(name: str, features: int, axes: tuple[str, str], *, heads: int = 0) -> Dense:
            return Dense(features, axes, precision=c.precision, heads=heads, name=name)

        init = partitioned(nn.initializers.truncated_normal(0.02), (None, None, "act_embed"))
        probe = self.param("probe", init, (1, 1, c.width)).astype(x.dtype)
        probe = jnp.broadcast_to(probe, (x.shape[0], 1, c.width))
        q = dense("q", c.width, ("embed", "heads"), heads=c.heads)(probe)
        k = dense("k", c.width, ("embed", "heads"), heads=c.heads)(x)
        v = dense("v", c.width, ("embed", "heads"), heads=c.heads)(x)
        h = dense_attention(q, k, v, mask=None).reshape(probe.shape)
        summary = dense("proj", c.width, ("heads", "embed"))(h)
        h = LayerNorm(c.eps, name="norm")(summary)
        h = ACTIVATIONS[c.activation](dense("fc1", c.mlp, ("embed", "mlp"))(h))
        out: Array = summary + dense("fc2", c.width, ("mlp", "embed"))(h)
        return out.astype(x.dtype)


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
    mean: tuple[float, ...],
    std: tuple[float, ...],
    own: Mapping[str, Any] | None = None,
    **blocks: Any,
) -> PictureConfig:
    """The configuration of a family's module from the fields of its stream.

    Args:
      fields: the fields of `config.model.image` or `config.model.video`.
      encoder: the transformer, as the fields describe it.
      mean: of the family's pixels, where the fields name none.
      std: likewise.
      own: fields of `PictureConfig` that are the family's own.
      **blocks: fields of `EncoderConfig` that are the family's own; an activation that the stream's
        fields name replaces the family's.

    Returns:
      The configuration.
    """
    if fields.activation:
        blocks["activation"] = fields.activation
    return PictureConfig(
        image_size=fields.size,
        patch=fields.patch,
        encoder=dataclasses.replace(encoder, **blocks),
        final_norm=fields.final_norm,
        mean=tuple(fields.mean or mean),
        std=tuple(fields.std or std),
        **(own or {}),
    )


# What transformers calls the activations.
_ACTIVATIONS = {
    "gelu": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}


def picture_fields(
    raw: Mapping[str, Any], title: str, *, size: int, patch: int, activation: str, eps: float
) -> dict[str, Any]:
    """Content of config.json -> fields of the stream.

    Args:
      raw: the content; with that of preprocessor_config.json the statistics and the size of the
        released view are taken from it.
      title: name of the family, for messages.
      size: side of the picture where the file does not name it.
      patch: side of a patch where the file does not name it.
      activation: transformers' name of the one that is used where the file names none.
      eps: of the norms, which the file may not change.

    Returns:
      The fields.

    Raises:
      ValueError: an option is not supported.
    """
    check_options(
        raw,
        title,
        num_channels=(3,),
        layer_norm_eps=(eps,),
        qkv_bias=(True,),
        hidden_act=(activation, *_ACTIVATIONS),
    )
    side = raw.get("image_size", size)
    view = raw.get("crop_size", raw.get("size", side))
    if isinstance(view, Mapping):
        view = view.get("height", view.get("shortest_edge", side))
    return {
        "size": view,
        "patch": raw.get("patch_size", patch),
        "width": raw.get("hidden_size", 768),
        "depth": raw.get("num_hidden_layers", 12),
        "heads": raw.get("num_attention_heads", 12),
        "mlp": raw.get("intermediate_size", 3072),
        "activation": _ACTIVATIONS[raw.get("hidden_act", activation)],
        "mean": tuple(raw.get("image_mean", ())),
        "std": tuple(raw.get("image_std", ())),
        "final_norm": True,
    }

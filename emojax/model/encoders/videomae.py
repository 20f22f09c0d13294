"""VideoMAE encoder: face frames -> motion tokens.

Source: Tong et al. 2022, as transformers' VideoMAEModel computes it. Emotion-LLaMA v1 uses a ViT-L:
the mean over all tokens.
"""

from __future__ import annotations

import dataclasses

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.dense import Dense
from emojax.model.encoders.shared_tables import (
    NOT_ENCODER,
    NOT_FEATURES,
    patch_rules,
    timm_blocks,
    transformers_vit,
    with_head,
)
from emojax.model.layers import Encoder, EncoderConfig, LayerNorm
from emojax.model.weight_rules import TUBE, Table, flatten, norm

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoMaeConfig:
    """Sizes; a token is a tube of `tubelet` frames by `patch` x `patch` pixels.

    Attributes:
      image_size: side of a frame, pixels.
      patch: side of a patch, pixels.
      num_frames: F.
      encoder: the transformer.
      tubelet: frames per token.
      final_norm: whether there is one; classifiers that average the tokens first have none.
    """

    image_size: int
    patch: int
    num_frames: int
    encoder: EncoderConfig
    tubelet: int = 2
    final_norm: bool = True

    @property
    def tokens(self) -> int:
        """P, the number of tokens per clip."""
        return (self.num_frames // self.tubelet) * (self.image_size // self.patch) ** 2


def token_sinusoids(tokens: int, width: int) -> np.ndarray:
    """float32[1, tokens, width]: fixed positions, sines on even and cosines on odd columns."""
    angle = np.arange(tokens)[:, None] / np.power(10000, 2 * (np.arange(width) // 2) / width)[None]
    table = np.where(np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle))
    return table[None].astype(np.float32)


class VideoMae(nn.Module):
    """float[B, F, H, W, 3] normalised frames -> float[B, P, D]: tokens by time, row, column."""

    config: VideoMaeConfig

    @nn.compact
    def __call__(self, frames: Array, deterministic: bool = True) -> Array:
        """Runs the encoder; `deterministic` False enables dropout."""
        c = self.config
        expected = (c.num_frames, c.image_size, c.image_size, 3)
        assert frames.shape[1:] == expected, (frames.shape, expected)
        tubes = einops.rearrange(
            frames,
            "b (t s) (h p) (w q) c -> b (t h w) (s p q c)",
            s=c.tubelet,
            p=c.patch,
            q=c.patch,
        )
        x = Dense(c.encoder.width, (None, "embed"), precision=c.encoder.precision, name="patch")(
            tubes
        )
        x = x + jnp.asarray(token_sinusoids(c.tokens, c.encoder.width), x.dtype)
        x = nn.Dropout(c.encoder.dropout)(x, deterministic=deterministic)
        x = Encoder(c.encoder, name="encoder")(x, None, deterministic)
        return LayerNorm(c.encoder.eps, name="norm")(x) if c.final_norm else x


# The original names are also timm's.
_ORIGINAL = Table(
    "VideoMAE (original names)",
    flatten(
        [patch_rules("patch_embed.proj", TUBE), *timm_blocks(key_bias=False), norm("norm", "norm")]
    ),
    (NOT_ENCODER, NOT_FEATURES),
)
_TRANSFORMERS = transformers_vit("VideoMAE (transformers)", TUBE, cls=False, fused_bias=True)
# All spellings; `load_tensors.choose_table` picks the one that a file uses.
VIDEOMAE_TABLES = (
    _ORIGINAL,
    with_head(_ORIGINAL, "encoder.", NOT_ENCODER, NOT_FEATURES),
    _TRANSFORMERS,
    with_head(_TRANSFORMERS, "videomae.", NOT_ENCODER, NOT_FEATURES),
)

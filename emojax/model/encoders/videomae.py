"""VideoMAE encoder: frames -> tokens of the face in motion.

Source: Tong et al. 2022, as transformers' VideoMAEModel computes it. Emotion-LLaMA v1 sees motion through a ViT-L
of this kind: the mean over all tokens.
"""

from __future__ import annotations

import dataclasses

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.layers import Dense, Encoder, EncoderConfig, LayerNorm

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoMaeConfig:
    """A token is a tube of `tubelet` frames by `patch` x `patch` pixels. `final_norm`: absent in classifiers that
    average first.
    """

    image_size: int
    patch: int
    num_frames: int
    encoder: EncoderConfig
    tubelet: int = 2
    final_norm: bool = True

    @property
    def tokens(self) -> int:
        """P: tokens of a clip."""
        return (self.num_frames // self.tubelet) * (self.image_size // self.patch) ** 2


def token_sinusoids(tokens: int, width: int) -> np.ndarray:
    """float32[1, tokens, width]: fixed positions, sines on even and cosines on odd columns."""
    angle = np.arange(tokens)[:, None] / np.power(10000, 2 * (np.arange(width) // 2) / width)[None]
    table = np.where(np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle))
    return table[None].astype(np.float32)


class VideoMae(nn.Module):
    """float[B, F, H, W, 3] normalised frames -> float[B, P, D]; tokens in order of time, row, column."""

    config: VideoMaeConfig

    @nn.compact
    def __call__(self, frames: Array, deterministic: bool = True) -> Array:
        c = self.config
        want = (c.num_frames, c.image_size, c.image_size, 3)
        assert frames.shape[1:] == want, (frames.shape, want)
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

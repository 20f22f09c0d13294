"""Whisper encoder: log-mel spectrogram -> audio features.

Source: openai whisper-large-v3 as transformers' WhisperEncoder computes it. The decoder is in
lm/whisper_decoder.py.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.dense import torch_uniform
from emojax.model.layers import Encoder, EncoderConfig, LayerNorm, gelu, pool_bins
from emojax.sharding import partitioned

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class WhisperConfig:
    """Sizes.

    Attributes:
      mels: number of log-mel bins.
      steps: S after the stride-2 convolution (1500 for 30 s).
      encoder: the transformer.
    """

    mels: int
    steps: int
    encoder: EncoderConfig


def sinusoids(steps: int, width: int) -> np.ndarray:
    """float32[steps, width]: Whisper's fixed positions, sines followed by cosines."""
    scale = np.exp(-np.log(10000.0) / (width // 2 - 1) * np.arange(width // 2))
    angle = np.arange(steps)[:, None] * scale[None]
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


class Conv1d(nn.Module):
    """1-D convolution with symmetric zero padding; kernel [width, D_in, features].

    Attributes:
      features: channels of the output.
      width: kernel size.
      stride: stride.
      init_kind: "normal", or "torch" as of `Dense`.
    """

    features: int
    width: int
    stride: int = 1
    init_kind: str = "normal"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """float[B, T, D_in] -> float[B, T / stride, features]."""
        shape = (self.width, x.shape[-1], self.features)
        fan_in = self.width * x.shape[-1]
        torch = self.init_kind == "torch"
        kernel_init = (
            torch_uniform(fan_in)
            if torch
            else nn.initializers.lecun_normal(in_axis=(0, 1), out_axis=2)
        )
        bias_init = torch_uniform(fan_in) if torch else nn.initializers.zeros
        kernel: Array = self.param("kernel", partitioned(kernel_init, (None, None, "embed")), shape)
        bias: Array = self.param("bias", partitioned(bias_init, ("act_embed",)), (self.features,))
        # One matmul over shifted copies: XLA's own convolution has a slow backward pass on CPU.
        pad = self.width // 2
        steps = (x.shape[1] + 2 * pad - self.width) // self.stride + 1
        padded = jnp.pad(x, ((0, 0), (pad, pad), (0, 0)))
        last = (steps - 1) * self.stride + 1
        shifted = [padded[:, i : i + last : self.stride] for i in range(self.width)]
        y = jnp.concatenate(shifted, axis=-1) @ kernel.astype(x.dtype).reshape(
            fan_in, self.features
        )
        return y + bias.astype(x.dtype)


class Whisper(nn.Module):
    """Log-mel spectrogram -> features after the final norm."""

    config: WhisperConfig

    @nn.compact
    def __call__(
        self, logmel: Array, valid: Array | None = None, deterministic: bool = True
    ) -> Array:
        """Runs the encoder.

        Args:
          logmel: float[B, 2 S, mels].
          valid: int[B], number of log-mel frames of the clip itself: padding after them is hidden
            from attention (our own setting audio_span="real"). None: padding takes part, as in the
            released model.
          deterministic: False enables dropout.

        Returns:
          float[B, S, D].
        """
        c = self.config
        x = logmel.astype(c.encoder.precision.compute)
        x = gelu(Conv1d(c.encoder.width, 3, name="conv1")(x))
        x = gelu(Conv1d(c.encoder.width, 3, stride=2, name="conv2")(x))
        assert x.shape[1] == c.steps, (x.shape, c.steps)
        init = partitioned(
            lambda _, shape, dtype=jnp.float32: jnp.asarray(sinusoids(*shape), dtype),
            (None, "act_embed"),
        )
        x = x + self.param("positions", init, (c.steps, c.encoder.width)).astype(x.dtype)
        x = nn.Dropout(c.encoder.dropout)(x, deterministic=deterministic)
        key_mask = None if valid is None else jnp.arange(c.steps) < audio_steps(valid)[:, None]
        x = Encoder(c.encoder, name="encoder")(x, key_mask, deterministic)
        return LayerNorm(c.encoder.eps, name="norm")(x)


def audio_steps(valid: Array) -> Array:
    """Log-mel frames -> encoder steps (stride 2), at least 1 so that averages are defined."""
    return jnp.maximum(1, (valid + 1) // 2)


def pool_audio(steps: Array, tokens: int, *, valid: Array | None = None) -> Array:
    """Adaptive average pooling over time.

    Args:
      steps: float[B, S, D].
      tokens: number of outputs.
      valid: int[B], number of log-mel frames to average over; None: all.

    Returns:
      float[B, tokens, D].
    """
    length = steps.shape[1] if valid is None else audio_steps(valid)
    bins = jnp.broadcast_to(
        pool_bins(length, tokens, steps.shape[1]), (steps.shape[0], tokens, steps.shape[1])
    )
    return jnp.einsum("bqs,bsd->bqd", bins.astype(steps.dtype), steps)

"""HuBERT encoder: waveform -> audio features, 50 steps per second.

Source: Hsu et al. 2021, as transformers' HubertModel computes it. Emotion-LLaMA v1 uses
chinese-hubert-large: the mean over time of the last layer.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from emojax.model.dense import Dense, Precision
from emojax.model.layers import Encoder, EncoderConfig, LayerNorm
from emojax.sharding import partitioned

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubertConfig:
    """Sizes; the defaults are those of the large models.

    Attributes:
      encoder: the transformer, with `key_bias`; base models have `post_norm`.
      conv_widths: channels of each convolution.
      conv_kernels: kernel sizes.
      conv_strides: strides.
      conv_norm: "layer": LayerNorm after every convolution (large); "group": one norm over time
        after the first (base).
      conv_bias: whether convolutions have biases (large).
      position_kernel: kernel size of the positional convolution.
      position_groups: its groups.
    """

    encoder: EncoderConfig
    conv_widths: tuple[int, ...] = (512,) * 7
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_norm: Literal["layer", "group"] = "layer"
    conv_bias: bool = True
    position_kernel: int = 128
    position_groups: int = 16

    def steps(self, samples: Array | int) -> Array:
        """Number of samples -> S, the number of steps after the convolutions, at least 1."""
        return jnp.maximum(1, self.count_steps(jnp.asarray(samples)))

    def count_steps(self, samples: Any) -> Any:
        """Like `steps` without the minimum of 1; takes Python integers too."""
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples


def _conv(
    features: int,
    kernel: int,
    *,
    name: str,
    precision: Precision,
    stride: int = 1,
    bias: bool = True,
    pad: int = 0,
    groups: int = 1,
) -> nn.Conv:
    init = partitioned(nn.initializers.he_normal(), (None, None, "embed"))
    return nn.Conv(
        features,
        (kernel,),
        (stride,),
        padding=((pad, pad),),
        feature_group_count=groups,
        use_bias=bias,
        dtype=precision.compute,
        param_dtype=precision.params,
        kernel_init=init,
        name=name,
    )


class Hubert(nn.Module):
    """Waveform -> features of the last layer."""

    config: HubertConfig

    @nn.compact
    def __call__(
        self, waveform: Array, valid: Array | None = None, deterministic: bool = True
    ) -> Array:
        """Runs the encoder.

        Args:
          waveform: float[B, n] at 16 kHz, zero mean and unit variance.
          valid: int[B], number of valid samples; padding after them is hidden, so with `conv_norm`
            "layer" a padded clip has the features of the clip alone. None: all are valid.
          deterministic: False enables dropout.

        Returns:
          float[B, S, D].
        """
        c, precision = self.config, self.config.encoder.precision
        x = waveform.astype(precision.compute)[:, :, None]
        layers = zip(c.conv_widths, c.conv_kernels, c.conv_strides, strict=True)
        for i, (width, kernel, stride) in enumerate(layers):
            x = _conv(
                width, kernel, stride=stride, bias=c.conv_bias, name=f"conv{i}", precision=precision
            )(x)
            if c.conv_norm == "layer":
                x = LayerNorm(1e-5, name=f"conv{i}_norm")(x)
            elif i == 0:
                x = nn.GroupNorm(
                    None, 1, epsilon=1e-5, use_fast_variance=False, dtype=x.dtype, name="conv0_norm"
                )(x)
            x = nn.gelu(x, approximate=False)
        x = LayerNorm(c.encoder.eps, name="feature_norm")(x)
        x = Dense(c.encoder.width, (None, "embed"), precision=precision, name="feature_projection")(
            x
        )
        key_mask = None
        if valid is not None:
            inside = jnp.arange(x.shape[1]) < c.steps(valid)[:, None]
            x, key_mask = x * inside[:, :, None].astype(x.dtype), inside
        pad, groups = c.position_kernel // 2, c.position_groups
        position = _conv(
            c.encoder.width,
            c.position_kernel,
            name="position",
            precision=precision,
            pad=pad,
            groups=groups,
        )(x)
        # An even kernel gives one step too many.
        x = x + nn.gelu(position[:, : x.shape[1]], approximate=False)
        norm = LayerNorm(c.encoder.eps, name="norm")
        x = norm(x) if c.encoder.post_norm else x
        x = nn.Dropout(c.encoder.dropout)(x, deterministic=deterministic)
        x = Encoder(c.encoder, name="encoder")(x, key_mask, deterministic)
        return x if c.encoder.post_norm else norm(x)

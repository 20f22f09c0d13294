"""Encoders of the waveform: convolutions, positions by a convolution, a transformer; 50 steps/s.

Source: wav2vec 2.0 (Baevski et al. 2020) as transformers computes it; HuBERT has the same module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from data_pipeline.media.clip import SAMPLE_RATE
from emojax.model.dense import Dense, Precision
from emojax.model.encoders.shared_tables import BLOCKS, attention_rules
from emojax.model.layers import Encoder, EncoderConfig, LayerNorm
from emojax.model.part import check_options
from emojax.model.weight_rules import (
    WEIGHT_NORM,
    Rule,
    Table,
    conv1d,
    flatten,
    linear,
    norm,
    rule,
)
from emojax.sharding import partitioned

Array = jax.Array
# Tensors of transformers' models around the encoder.
HEADS = (
    r"(lm_head|projector|classifier|layer_weights|tdnn|objective).*"
    r"|feature_extractor\.(weight|bias)",
    "only the encoder is used",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveformConfig:
    """Sizes; the defaults are those of the large models.

    Attributes:
      samples: samples of the window, at 16 kHz.
      encoder: the transformer, with `key_bias`; base models have `post_norm`.
      conv_widths: channels of each convolution.
      conv_kernels: kernel sizes.
      conv_strides: strides.
      conv_norm: "layer": LayerNorm after every convolution (large); "group": one norm over time
        after the first (base).
      conv_bias: whether convolutions have biases (large).
      position_kernel: kernel size of the positional convolution.
      position_groups: its groups.
      normalize: whether the waveform must have zero mean and unit variance.
    """

    samples: int
    encoder: EncoderConfig
    conv_widths: tuple[int, ...] = (512,) * 7
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_norm: Literal["layer", "group"] = "layer"
    conv_bias: bool = True
    position_kernel: int = 128
    position_groups: int = 16
    normalize: bool = True

    @property
    def fixed_window(self) -> bool:
        """False: these models were trained on sound of any length."""
        return False

    @property
    def view_shape(self) -> tuple[int, int]:
        """Samples of the window, one channel."""
        return self.samples, 1

    @property
    def steps(self) -> int:
        """S, the number of steps of the window."""
        count: int = self.count_steps(self.samples)
        return count

    def valid_steps(self, samples: Array | int) -> Array:
        """Number of valid samples -> number of valid steps, at least 1."""
        return jnp.maximum(1, self.count_steps(jnp.asarray(samples)))

    def count_steps(self, samples: Any) -> Any:
        """Samples -> steps after the convolutions; takes Python integers too."""
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


class WaveformEncoder(nn.Module):
    """Waveform -> features of the last layer."""

    config: WaveformConfig

    @nn.compact
    def __call__(
        self, waveform: Array, valid: Array | None = None, deterministic: bool = True
    ) -> Array:
        """Runs the encoder.

        Args:
          waveform: float[B, n, 1] at 16 kHz.
          valid: int[B], number of valid samples; padding after them is hidden, so a padded clip has
            the features of the clip alone. None: all are valid.
          deterministic: False enables dropout.

        Returns:
          float[B, S, D].
        """
        c, precision = self.config, self.config.encoder.precision
        if valid is not None:
            valid = jnp.maximum(valid, 1)
        if c.normalize:
            count = jnp.full(waveform.shape[:1], waveform.shape[1]) if valid is None else valid
            waveform = normalize_waveform(waveform[:, :, 0], count)[:, :, None]
        x = waveform.astype(precision.compute)
        x = self._convolve(x, valid)
        x = LayerNorm(c.encoder.eps, name="feature_norm")(x)
        x = Dense(c.encoder.width, (None, "embed"), precision=precision, name="feature_projection")(
            x
        )
        key_mask = None
        if valid is not None:
            inside = jnp.arange(x.shape[1]) < c.valid_steps(valid)[:, None]
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
        bias = self.position_bias(x.shape[1])
        x = Encoder(c.encoder, name="encoder")(x, key_mask, deterministic, position_bias=bias)
        return x if c.encoder.post_norm else norm(x)

    def _convolve(self, x: Array, valid: Array | None) -> Array:
        """float[B, n, 1] -> float[B, S, channels]; the norm over time sees valid samples only."""
        c, precision = self.config, self.config.encoder.precision
        layers = zip(c.conv_widths, c.conv_kernels, c.conv_strides, strict=True)
        for i, (width, kernel, stride) in enumerate(layers):
            x = _conv(
                width, kernel, stride=stride, bias=c.conv_bias, name=f"conv{i}", precision=precision
            )(x)
            if c.conv_norm == "layer":
                x = LayerNorm(1e-5, name=f"conv{i}_norm")(x)
            elif i == 0:
                mask = None
                if valid is not None:
                    steps = jnp.maximum(1, (valid - kernel) // stride + 1)
                    inside = (jnp.arange(x.shape[1]) < steps[:, None])[:, :, None]
                    mask = jnp.broadcast_to(inside, x.shape)
                x = nn.GroupNorm(
                    None, 1, epsilon=1e-5, use_fast_variance=False, dtype=x.dtype, name="conv0_norm"
                )(x, mask=mask)
            x = nn.gelu(x, approximate=False)
        return x

    def position_bias(self, steps: int) -> Array | None:
        """float[N, T, T], added to the scores of attention; for families that have one."""
        del steps
        return None


def normalize_waveform(waveform: Array, valid: Array) -> Array:
    """Normalises each waveform to zero mean and unit variance.

    Source: transformers' Wav2Vec2FeatureExtractor with do_normalize, which the checkpoint needs.

    Args:
      waveform: float[B, n].
      valid: int[B], number of valid samples.

    Returns:
      float[B, n], zeros after the valid samples.
    """
    inside = jnp.arange(waveform.shape[1]) < valid[:, None]
    count = valid[:, None].astype(waveform.dtype)
    mean = jnp.where(inside, waveform, 0).sum(axis=1, keepdims=True) / count
    centred = jnp.where(inside, waveform - mean, 0)
    variance = jnp.square(centred).sum(axis=1, keepdims=True) / count
    return centred / jnp.sqrt(variance + 1e-7)


def waveform_config(fields: Any, encoder: EncoderConfig) -> WaveformConfig:
    """The configuration of a family's module from the fields of its stream.

    Raises:
      ValueError: the view is a log-mel spectrogram.
    """
    if fields.mels:
        raise ValueError(
            f"config.model.audio.mels is {fields.mels}, but {fields.family} reads the waveform: "
            "set config.model.audio.mels=0"
        )
    return WaveformConfig(
        samples=round(fields.seconds * SAMPLE_RATE),
        encoder=dataclasses.replace(encoder, eps=1e-5, key_bias=True, post_norm=fields.post_norm),
        conv_widths=(fields.conv_width,) * 7,
        conv_norm=fields.conv_norm,
        conv_bias=fields.conv_bias,
        position_kernel=fields.position_kernel,
        position_groups=fields.position_groups,
        normalize=fields.normalize,
    )


def waveform_fields(raw: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Content of config.json -> fields of the stream.

    Args:
      raw: the content, with that of preprocessor_config.json where there is one.
      title: name of the family, for messages.

    Returns:
      The fields.

    Raises:
      ValueError: an option is not supported.
    """
    widths = raw.get("conv_dim", (512,) * 7)
    check_options(
        raw,
        title,
        conv_dim=((widths[0],) * 7,),
        conv_kernel=(WaveformConfig.conv_kernels,),
        conv_stride=(WaveformConfig.conv_strides,),
        hidden_act=("gelu",),
        feat_extract_activation=("gelu",),
        feat_extract_norm=("group", "layer"),
        feat_proj_layer_norm=(True,),
        conv_pos_batch_norm=(False,),
        add_adapter=(False,),
        layer_norm_eps=(1e-5,),
    )
    return {
        "mels": 0,
        "width": raw.get("hidden_size", 768),
        "depth": raw.get("num_hidden_layers", 12),
        "heads": raw.get("num_attention_heads", 12),
        "mlp": raw.get("intermediate_size", 3072),
        "conv_width": widths[0],
        "conv_norm": raw.get("feat_extract_norm", "group"),
        "conv_bias": raw.get("conv_bias", False),
        "post_norm": not raw.get("do_stable_layer_norm", False),
        "normalize": raw.get("do_normalize", True),
        "position_kernel": raw.get("num_conv_pos_embeddings", 128),
        "position_groups": raw.get("num_conv_pos_embedding_groups", 16),
    }


def waveform_sizes(size: Literal["base", "large"], **changes: Any) -> dict[str, Any]:
    """The fields of a release: those of the published base or large models, with changes."""
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    large |= {"intermediate_size": 4096}
    stable = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
    return waveform_fields(large | stable if size == "large" else {}, "") | changes


def transformers_table(
    title: str, config: WaveformConfig, *extra: list[Rule], ignored: Sequence[tuple[str, str]] = ()
) -> Table:
    """The table of transformers' names, with both spellings of torch's weight norm.

    Args:
      title: name of the family, for messages.
      config: the module's configuration.
      *extra: rules of the family's own tensors.
      ignored: tensors that are not needed, as of `Table`.

    Returns:
      The table.
    """
    convs: list[list[Rule]] = []
    for n in range(len(config.conv_widths)):
        name = f"feature_extractor.conv_layers.{n}"
        convs.append(conv1d(f"{name}.conv", f"conv{n}", bias=config.conv_bias))
        if config.conv_norm == "layer" or n == 0:
            convs.append(norm(f"{name}.layer_norm", f"conv{n}_norm"))
    position = "encoder.pos_conv_embed.conv"
    spellings = (
        (
            f"{position}.parametrizations.weight.original0",
            f"{position}.parametrizations.weight.original1",
        ),
        (f"{position}.weight_g", f"{position}.weight_v"),
    )
    layer = "encoder.layers.{i}"
    rules: list[Rule | list[Rule]] = [
        *convs,
        norm("feature_projection.layer_norm", "feature_norm"),
        linear("feature_projection.projection", "feature_projection"),
        Rule(
            names=spellings[0],
            paths=("position/kernel",),
            layout=WEIGHT_NORM,
            others=spellings[1:],
        ),
        rule(f"{position}.bias", "position/bias"),
        norm("encoder.layer_norm", "norm"),
        *attention_rules(f"{layer}.attention", ("q_proj", "k_proj", "v_proj", "out_proj")),
        linear(f"{layer}.feed_forward.intermediate_dense", f"{BLOCKS}/fc1"),
        linear(f"{layer}.feed_forward.output_dense", f"{BLOCKS}/fc2"),
        norm(f"{layer}.layer_norm", f"{BLOCKS}/norm1"),
        norm(f"{layer}.final_layer_norm", f"{BLOCKS}/norm2"),
        *extra,
    ]
    masked = (r"masked_spec_embed", "replaces masked audio in training")
    return Table(f"{title} (transformers)", flatten(rules), (masked, *ignored))

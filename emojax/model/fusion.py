"""Conv-Attention fusion of the three streams, and the variants of its ablation.

Source: conv_pro_module of Emotion-LLaMAv2. Two oddities of the released code are kept because its
checkpoints depend on them: the attention weights have no softmax, and the image stream is one
vector that is repeated over the sequence.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from emojax.model.attention import attention
from emojax.model.dense import FLOAT32, Dense, Precision
from emojax.model.encoders.whisper import Conv1d
from emojax.model.layers import LayerNorm
from emojax.sharding import partitioned

Array = jax.Array
Kind = Literal["none", "qformer", "attention", "conv", "conv_attention"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Sizes of the fusion; the defaults are those of the released model.

    Attributes:
      kind: which branches run. "none" leaves the span out of the soft prompt; "qformer" is QFormer.
      hidden: width inside the MLPs.
      width: width of the streams.
      out: width of the output.
      blocks: convolutions after the entry, or layers of the Q-Former.
      dropout: rate in the MLPs.
      precision: number formats.
    """

    kind: Kind = "conv_attention"
    hidden: int = 512
    width: int = 128
    out: int = 256
    blocks: int = 4
    dropout: float = 0.1
    precision: Precision = FLOAT32


def _dense(config: FusionConfig, features: int, name: str) -> Dense:
    return Dense(features, (None, None), precision=config.precision, init_kind="torch", name=name)


class Mlp(nn.Module):
    """Linear, ReLU, dropout, twice: float[..., D_in] -> float[..., width]."""

    config: FusionConfig

    @nn.compact
    def __call__(self, x: Array, deterministic: bool) -> Array:
        """Applies the MLP; `deterministic` False enables dropout."""
        c = self.config
        for name, features in (("fc1", c.hidden), ("fc2", c.width)):
            x = nn.relu(_dense(c, features, name)(x))
            x = nn.Dropout(c.dropout)(x, deterministic=deterministic)
        return x


class QFormer(nn.Module):
    """Trainable queries, one per position of the span, attend to themselves and to all streams.

    The Q-Former of the paper's ablation (BLIP-2's, placed before the language model as in
    AffectGPT). Its sizes are not published; here it has 4 heads and the fusion's own width.
    """

    config: FusionConfig

    @nn.compact
    def __call__(self, streams: dict[str, Array], deterministic: bool) -> Array:
        """{stream: float[B, S, D_stream]} -> float[B, S, out]."""
        c, heads = self.config, 4
        batch, length = streams["audio"].shape[:2]
        dense = functools.partial(_dense, c)
        # Each stream has its own projection; of the repeated image vector one copy is enough.
        parts = {name: x[:, :1] if name == "image" else x for name, x in streams.items()}
        tokens = jnp.concatenate(
            [dense(c.width, f"see_{name}")(x) for name, x in parts.items()], axis=1
        )
        init = partitioned(nn.initializers.normal(0.02), (None, None))
        queries = self.param("queries", init, (length, c.width)).astype(tokens.dtype)
        x = jnp.broadcast_to(queries, (batch, length, c.width))

        def attend(x: Array, to: Array, name: str) -> Array:
            q, k, v = (
                dense(c.width, f"{name}_{letter}")(source).reshape(
                    batch, -1, heads, c.width // heads
                )
                for letter, source in (("q", x), ("k", to), ("v", to))
            )
            h = dense(c.width, f"{name}_o")(attention(q, k, v).reshape(x.shape))
            return LayerNorm(name=f"{name}_norm")(
                x + nn.Dropout(c.dropout)(h, deterministic=deterministic)
            )

        for i in range(c.blocks):
            x = attend(x, x, f"self{i}")
            x = attend(x, tokens, f"cross{i}")
            inner = dense(c.width, f"fc2_{i}")(
                nn.gelu(dense(c.hidden, f"fc1_{i}")(x), approximate=False)
            )
            x = LayerNorm(name=f"norm{i}")(
                x + nn.Dropout(c.dropout)(inner, deterministic=deterministic)
            )
        return dense(c.out, "out")(x)


class Fusion(nn.Module):
    """Conv-Attention: one feature per position from the three streams."""

    config: FusionConfig

    @nn.compact
    def __call__(
        self, audio: Array, image: Array, video: Array, deterministic: bool = True
    ) -> Array:
        """Fuses the streams.

        Args:
          audio: float[B, S, D_audio].
          image: float[B, S, D_image], one vector repeated.
          video: float[B, S, D_video].
          deterministic: False enables dropout.

        Returns:
          float[B, S, out]. The attention weights are sown as `weights` in "intermediates".
        """
        c = self.config
        streams = {"audio": audio, "image": image, "video": video}
        if c.kind == "qformer":
            return QFormer(c, name="qformer")(streams, deterministic)
        prepared = [Mlp(c, name=f"prepare_{name}")(x, deterministic) for name, x in streams.items()]
        flat = jnp.concatenate(prepared, axis=-1)
        mixed = jnp.zeros_like(prepared[0])
        if c.kind in ("attention", "conv_attention"):
            score = _dense(c, len(prepared), "score")(Mlp(c, name="attention")(flat, deterministic))
            # Kept only where a caller asks for it (infer/attribution.py).
            self.sow("intermediates", "weights", score)
            mixed = mixed + jnp.einsum("bsdm,bsm->bsd", jnp.stack(prepared, axis=-1), score)
        if c.kind in ("conv", "conv_attention"):
            x = Conv1d(c.width, 1, init_kind="torch", name="conv_entry")(flat)
            for i in range(c.blocks):
                x = nn.silu(Conv1d(c.width, 3, init_kind="torch", name=f"conv{i}")(x)) + x
            mixed = mixed + x
        return _dense(c, c.out, "out")(mixed)

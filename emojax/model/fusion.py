"""Conv-Attention fusion of the three streams, and the variants of its ablation.

Source: conv_pro_module of Emotion-LLaMAv2. Two oddities of the released code are kept because its
checkpoints depend on them: the attention weights have no softmax, and the image stream is one
vector repeated over the sequence.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from emojax.model.attention import attention
from emojax.model.encoders.whisper import Conv1d
from emojax.model.layers import Dense, LayerNorm, Precision
from emojax.sharding import partitioned

Array = jax.Array
Kind = Literal["none", "qformer", "attention", "conv", "conv_attention"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """kind: which branches run (`none` leaves the span out of the soft prompt; `qformer`: see QFormer). hidden, width, out:
    512, 128, 256 in the released model. blocks: convolutions after the entry, or layers of the Q-Former.
    """

    kind: Kind = "conv_attention"
    hidden: int = 512
    width: int = 128
    out: int = 256
    blocks: int = 4
    dropout: float = 0.1
    precision: Precision = Precision()


class Mlp(nn.Module):
    """Linear, ReLU, dropout, twice: float[..., D_in] -> float[..., width]."""

    config: FusionConfig

    @nn.compact
    def __call__(self, x: Array, deterministic: bool) -> Array:
        for name, features in (("fc1", self.config.hidden), ("fc2", self.config.width)):
            x = nn.relu(
                Dense(
                    features,
                    (None, None),
                    precision=self.config.precision,
                    init_kind="torch",
                    name=name,
                )(x)
            )
            x = nn.Dropout(self.config.dropout)(x, deterministic=deterministic)
        return x


class QFormer(nn.Module):
    """Learned queries, one for each position of the span, look at themselves and then at all tokens of all streams.

    The Q-Former arm of the paper's ablation (BLIP-2's, as AffectGPT puts it before the language model): {stream: float[B, S,
    D_m]} -> float[B, S, out]. Its sizes are not published; here 4 heads of the fusion's own width.
    """

    config: FusionConfig

    @nn.compact
    def __call__(self, streams: dict[str, Array], deterministic: bool) -> Array:
        c, heads = self.config, 4
        batch, length = streams["audio"].shape[:2]

        def dense(features: int, name: str) -> Dense:
            return Dense(
                features, (None, None), precision=c.precision, init_kind="torch", name=name
            )

        # Streams are told apart by projections of their own; the image is one vector repeated, so one of it is enough.
        parts = {name: x[:, :1] if name == "image" else x for name, x in streams.items()}
        tokens = jnp.concatenate(
            [dense(c.width, f"see_{name}")(x) for name, x in parts.items()], axis=1
        )
        init = partitioned(nn.initializers.normal(0.02), (None, None))
        queries = self.param("queries", init, (length, c.width)).astype(tokens.dtype)
        x = jnp.broadcast_to(queries, (batch, length, c.width))

        def look(x: Array, at: Array, name: str) -> Array:
            q, k, v = (
                dense(c.width, f"{name}_{letter}")(source).reshape(
                    batch, -1, heads, c.width // heads
                )
                for letter, source in (("q", x), ("k", at), ("v", at))
            )
            seen = dense(c.width, f"{name}_o")(attention(q, k, v).reshape(x.shape))
            return LayerNorm(name=f"{name}_norm")(
                x + nn.Dropout(c.dropout)(seen, deterministic=deterministic)
            )

        for i in range(c.blocks):
            x = look(x, x, f"self{i}")
            x = look(x, tokens, f"cross{i}")
            inner = dense(c.width, f"fc2_{i}")(
                nn.gelu(dense(c.hidden, f"fc1_{i}")(x), approximate=False)
            )
            x = LayerNorm(name=f"norm{i}")(
                x + nn.Dropout(c.dropout)(inner, deterministic=deterministic)
            )
        return dense(c.out, "out")(x)


class Fusion(nn.Module):
    """(audio[B, S, D_a], image[B, S, D_i], video[B, S, D_v]) -> float[B, S, out]; image is one vector repeated."""

    config: FusionConfig

    @nn.compact
    def __call__(
        self, audio: Array, image: Array, video: Array, deterministic: bool = True
    ) -> Array:
        c = self.config
        streams = {"audio": audio, "image": image, "video": video}
        if c.kind == "qformer":
            return QFormer(c, name="qformer")(streams, deterministic)
        prepared = [Mlp(c, name=f"prepare_{name}")(x, deterministic) for name, x in streams.items()]
        flat = jnp.concatenate(prepared, axis=-1)
        mixed = jnp.zeros_like(prepared[0])

        def dense(features: int, name: str) -> Dense:
            return Dense(
                features, (None, None), precision=c.precision, init_kind="torch", name=name
            )

        if c.kind in ("attention", "conv_attention"):
            score = dense(len(prepared), "score")(Mlp(c, name="attention")(flat, deterministic))
            self.sow(
                "intermediates", "weights", score
            )  # kept only where a caller asks (infer/confidence.py)
            mixed = mixed + jnp.einsum("bsdm,bsm->bsd", jnp.stack(prepared, axis=-1), score)
        if c.kind in ("conv", "conv_attention"):
            x = Conv1d(c.width, 1, init_kind="torch", name="conv_entry")(flat)
            for i in range(c.blocks):
                x = nn.silu(Conv1d(c.width, 3, init_kind="torch", name=f"conv{i}")(x)) + x
            mixed = mixed + x
        return dense(c.out, "out")(mixed)

"""Makes the model of a configuration, and random variables for it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from emojax.model.emotion import Emotion, EmotionConfig
from emojax.model.emotion_v1 import EmotionV1, EmotionV1Config

ModelConfig = EmotionConfig | EmotionV1Config


def make_model(config: ModelConfig) -> Any:
    """The flax module of a configuration: Emotion or EmotionV1."""
    return EmotionV1(config) if isinstance(config, EmotionV1Config) else Emotion(config)


def init_variables(config: ModelConfig, key: jax.Array) -> Any:
    """Random variables {params, lora}, boxed with logical axes; call under jit or eval_shape."""
    shapes, length = config.view_shapes, config.soft_tokens + 2
    batch = {
        "image": jnp.zeros((1, *shapes["image"]), jnp.uint8),
        "frames": jnp.zeros((1, *shapes["frames"]), jnp.uint8),
        "sound": jnp.zeros((1, *shapes["sound"])),
        "audio_frames": jnp.ones((1,), jnp.int32),
        **{f"has_{name}": jnp.ones((1,), bool) for name in ("image", "video", "audio")},
        "ids": jnp.zeros((1, length), jnp.int32),
        "soft_index": jnp.arange(-1, length - 1)[None] % (length - 1) - 1,
        "valid": jnp.ones((1, length), bool),
        "positions": jnp.arange(length)[None],
        "answer_at": jnp.zeros((1, 1), jnp.int32),
    }
    return make_model(config).init(key, batch)

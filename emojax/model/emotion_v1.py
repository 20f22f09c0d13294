"""Emotion-LLaMA (v1): image tokens, three clip vectors and a class token -> soft prompt -> LLaMA2.

    image (448 px, EVA 39) --> ln_vision --> 4 patches per token --> project.image (256 tokens)
    face frames (224 px, MAE ViT-L) --> mean over frames ---------> project.face
    face frames (VideoMAE ViT-L) ----> mean over tokens ----------> project.motion
    waveform (HuBERT-large) ---------> mean over time ------------> project.audio
    class token of the image encoder -----------------------------> project.cls

The original reads the three vectors from files made by other programs; here the encoders are part
of the model, so a media file is enough. Facts: docs/internals.md, "The two models".
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import einops
import jax
import jax.numpy as jnp

from emojax.model.emotion import IMAGE_GROUP, Emotion, group_patches, zero_absent
from emojax.model.encoders.videomae import VideoMae, VideoMaeConfig
from emojax.model.encoders.vision_transformer import (
    PictureConfig,
    VisionTransformer,
    normalize_pixels,
)
from emojax.model.encoders.waveform import (
    WaveformConfig,
    WaveformEncoder,
)
from emojax.model.layers import EncoderConfig, LayerNorm
from emojax.model.lm.llama import LlamaConfig
from emojax.types import Features, Present, SoftPrompt

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmotionV1Config:
    """Sizes of v1; fields not listed are those of `EmotionConfig`.

    Attributes:
      face: the MAE.
      motion: the VideoMAE.
      audio: the HuBERT.
      face_pool: vector of a face frame: the MAE's class token, or the mean of its patches, after
        the final norm.
      zero_faces: whether the features of MAE and VideoMAE are zeros, as in the released demo, which
        runs neither.
    """

    audio_family: ClassVar[str] = "hubert"

    image: PictureConfig
    face: PictureConfig
    motion: VideoMaeConfig
    audio: WaveformConfig
    llama: LlamaConfig
    face_pool: Literal["cls", "mean"] = "cls"
    missing: Literal["released", "masked"] = "released"
    word_heads: bool = False
    detach_towers: bool = False
    zero_faces: bool = False

    @property
    def num_frames(self) -> int:
        """F, the number of face frames per clip."""
        return self.motion.num_frames

    @property
    def spans(self) -> dict[str, int]:
        """{span: number of soft tokens}, in order; 256 + 4 at full size."""
        return {
            "image": self.image.grid**2 // IMAGE_GROUP,
            "face": 1,
            "motion": 1,
            "audio": 1,
            "cls": 1,
        }

    @property
    def soft_tokens(self) -> int:
        """Q, the number of soft tokens."""
        return sum(self.spans.values())

    @property
    def placeholders(self) -> tuple[tuple[str, int], ...]:
        """(placeholder, number of soft tokens that replace it), in the order of the prompt."""
        return (("<VideoHere>", self.spans["image"]), ("<FeatureHere>", len(self.spans) - 1))

    @property
    def word_streams(self) -> tuple[str, ...]:
        """Encoders that may have a bag-of-words head."""
        return ("image", "face", "motion", "audio")

    @property
    def tower_positions(self) -> dict[str, int]:
        """{encoder: number of positions per clip}."""
        return {
            "eva_image": self.image.tokens,
            "mae": self.num_frames * self.face.tokens,
            "videomae": self.motion.tokens,
            "hubert": self.audio.steps,
        }

    @property
    def tower_attention(self) -> dict[str, tuple[EncoderConfig, int, int]]:
        """{encoder: (config, positions that attend to each other, such groups per clip)}."""
        return {
            "eva_image": (self.image.encoder, self.image.tokens, 1),
            "mae": (self.face.encoder, self.face.tokens, self.num_frames),
            "videomae": (self.motion.encoder, self.motion.tokens, 1),
            "hubert": (self.audio.encoder, self.audio.steps, 1),
        }

    @property
    def view_shapes(self) -> dict[str, tuple[int, ...]]:
        """{view: shape for one clip}."""
        side = self.face.image_size
        return {
            "image": (self.image.image_size, self.image.image_size, 3),
            "frames": (self.num_frames, side, side, 3),
            "sound": self.audio.view_shape,
        }


class EmotionV1(Emotion):
    """The v1 model; splicing, the forward pass and generation are those of `Emotion`."""

    config: EmotionV1Config  # type: ignore[assignment]

    def setup(self) -> None:
        """Makes the encoders and the shared parts."""
        c = self.config
        self.eva_image = VisionTransformer(c.image)
        self.ln_vision = LayerNorm(1e-5)
        self.mae = VisionTransformer(c.face)
        self.videomae = VideoMae(c.motion)
        self.hubert = WaveformEncoder(c.audio)
        self.setup_head()

    def encode(self, batch: dict[str, Array], deterministic: bool = True) -> Features:
        """Runs the encoders.

        Args:
          batch: as of `Emotion.encode`, but sound is the waveform float[B, n, 1] and audio_frames
            its number of valid samples.
          deterministic: False enables dropout.

        Returns:
          The features.
        """
        c = self.config
        image = normalize_pixels(batch["image"], c.image, c.image.encoder.precision.compute)
        if c.missing == "released":
            image = image * batch["has_image"][:, None, None, None].astype(image.dtype)
        image_tokens = self.ln_vision(self.eva_image(image, deterministic))
        face, motion = self._encode_faces(batch["frames"], deterministic)
        valid = jnp.maximum(1, batch["audio_frames"])
        steps = self.hubert(batch["sound"], valid, deterministic)
        inside = (jnp.arange(steps.shape[1]) < c.audio.valid_steps(valid)[:, None])[:, :, None]
        audio = jnp.where(inside, steps, 0).sum(axis=1) / inside.sum(axis=1)
        audio = audio.astype(steps.dtype)
        return {"image": image_tokens, "face": face, "motion": motion, "audio": audio}

    def _encode_faces(self, frames: Array, deterministic: bool) -> tuple[Array, Array]:
        """The features of MAE and VideoMAE, float[B, D] each."""
        c = self.config
        pixels = normalize_pixels(frames, c.face, c.face.encoder.precision.compute)
        rows, count = pixels.shape[:2]
        if c.zero_faces and not self.is_initializing():
            return (
                jnp.zeros((rows, c.face.encoder.width), pixels.dtype),
                jnp.zeros((rows, c.motion.encoder.width), pixels.dtype),
            )
        faces = self.mae(einops.rearrange(pixels, "b f h w c -> (b f) h w c"), deterministic)
        faces = faces[:, 0] if c.face_pool == "cls" else faces[:, 1:].mean(axis=1)
        face = einops.reduce(faces, "(b f) d -> b d", "mean", f=count)
        return face, self.videomae(pixels, deterministic).mean(axis=1)

    def soft_prompt(
        self, features: Features, present: Present, deterministic: bool = True
    ) -> SoftPrompt:
        """Projects features to the soft prompt; an absent vector is zeros.

        Args:
          features: as of `encode`.
          present: which streams each sample has.
          deterministic: unused.

        Returns:
          Tokens float[B, Q, D] and mask bool[B, Q].
        """
        del deterministic
        masked = self.config.missing == "masked"
        image = features["image"]
        image = zero_absent(image, present["image"]) if masked else image
        # Features from a cache may be those of the towers.
        sees_faces = present["video"] & (not self.config.zero_faces)
        streams = {
            "image": group_patches(image),
            "face": zero_absent(features["face"], sees_faces)[:, None],
            "motion": zero_absent(features["motion"], sees_faces)[:, None],
            "audio": zero_absent(features["audio"], present["audio"])[:, None],
            "cls": image[:, :1],
        }
        flags = {
            "image": present["image"],
            "face": present["video"],
            "motion": present["video"],
            "audio": present["audio"],
            "cls": present["image"],
        }
        return self.join_spans(streams, flags)

    def tower_means(self, features: Features) -> dict[str, Array]:
        """{encoder: mean feature float[B, D]}, the inputs of the bag-of-words heads."""
        return features | {"image": features["image"][:, 1:].mean(axis=1)}

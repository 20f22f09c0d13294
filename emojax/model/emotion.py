"""Emotion-LLaMAv2, the figure of the paper: streams -> soft prompt -> LLaMA2.

    image (448 px, EVA 39) --> ln_vision --> 4 patches per token --> project.image --\
    frames (16 x 224, EVA 40, norm) --> pool 2 x 2 ---------------> project.video --+--> 448 soft
    log-mel (30 s, Whisper) --> pool to 64 ----------------------> project.audio --/     tokens at
    audio, class token x 64, video --> Conv-Attention -----------> project.fusion       <VideoHere>

Order of the spans: fusion, image, video, audio.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from emojax.model.dense import Dense
from emojax.model.encoders.vision_transformer import normalize_pixels, pool_video
from emojax.model.fusion import Fusion, FusionConfig
from emojax.model.layers import EncoderConfig, LayerNorm, pool_audio
from emojax.model.lm.kv_cache import Cache
from emojax.model.lm.llama import Llama, LlamaConfig
from emojax.model.parts import ENCODERS, tree_name
from emojax.types import Features, Present, SoftPrompt

Array = jax.Array
IMAGE_GROUP = 4  # consecutive patches per image token
CACHED_PREFIX = "feature_"  # keys of cached features in a batch begin with this


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmotionConfig:
    """Sizes of the whole model.

    Attributes:
      image: the image encoder, a configuration of its family (emojax/model/parts.py).
      video: the video encoder, likewise.
      audio: the audio encoder, likewise.
      image_family: name of the image encoder's family.
      video_family: name of the video encoder's family.
      audio_family: name of the audio encoder's family.
      fusion: the Conv-Attention.
      llama: the language model.
      num_frames: F.
      video_pool: tokens per side of a pooled frame.
      missing: what an absent stream becomes. "released": its constant tokens stay visible, as the
        published checkpoints expect; "masked": they are hidden from attention.
      audio_span: "window": the padded 30 s (released); "real": the clip's own length. Encoders of
        waveforms, which have no fixed window, always get the clip's own length.
      word_heads: whether auxiliary bag-of-words heads predict the words of the target text from
        each encoder's mean feature (Joulin et al. 2016). For encoders trained from scratch they
        replace what pretraining gives the released ones.
      detach_towers: whether the language model's gradient stops at the features, as with the
        released, frozen encoders. Trainable encoders then learn from the bag-of-words heads only.
    """

    image: Any
    video: Any
    audio: Any
    fusion: FusionConfig
    llama: LlamaConfig
    image_family: str = "eva"
    video_family: str = "eva"
    audio_family: str = "whisper"
    num_frames: int = 16
    video_pool: int = 2
    missing: Literal["released", "masked"] = "released"
    audio_span: Literal["window", "real"] = "window"
    word_heads: bool = False
    detach_towers: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError where the sizes of two parts do not fit each other."""
        if (patches := self.image.grid**2) % IMAGE_GROUP:
            grid = self.image.grid
            raise ValueError(
                f"the image encoder makes {grid} x {grid} = {patches} patches, but {IMAGE_GROUP} "
                f"of them make one token: set config.model.image.size, for example to "
                f"{(grid + 1) * self.image.patch}"
            )
        if self.video.grid % self.video_pool:
            raise ValueError(
                f"the video encoder makes {self.video.grid} x {self.video.grid} patches, which "
                f"config.model.video_pool={self.video_pool} does not divide: choose a pool that "
                f"divides {self.video.grid}"
            )

    @property
    def encoders(self) -> dict[str, tuple[str, Any]]:
        """{stream: (name in the parameter tree, configuration)} of the encoders."""
        return {
            stream: (tree_name(ENCODERS[family], stream), config)
            for stream, family, config in (
                ("image", self.image_family, self.image),
                ("video", self.video_family, self.video),
                ("audio", self.audio_family, self.audio),
            )
        }

    @property
    def has_ln_vision(self) -> bool:
        """Whether the image tokens pass the norm that BLIP-2 puts behind EVA."""
        return self.image_family == "eva"

    @property
    def stream_tokens(self) -> int:
        """S: number of tokens of the video, audio and fusion spans (64 at full size)."""
        return self.num_frames * self.video_pool**2

    @property
    def spans(self) -> dict[str, int]:
        """{span: number of soft tokens}, in order; 64 + 256 + 64 + 64 at full size."""
        spans = {
            "fusion": self.stream_tokens,
            "image": self.image.grid**2 // IMAGE_GROUP,
            "video": self.stream_tokens,
            "audio": self.stream_tokens,
        }
        if self.fusion.kind == "none":
            del spans["fusion"]
        return spans

    @property
    def soft_tokens(self) -> int:
        """Q, the number of soft tokens."""
        return sum(self.spans.values())

    @property
    def placeholders(self) -> tuple[tuple[str, int], ...]:
        """(placeholder, number of soft tokens that replace it), in the order of the prompt."""
        return (("<VideoHere>", self.soft_tokens),)

    @property
    def word_streams(self) -> tuple[str, ...]:
        """Encoders that may have a bag-of-words head."""
        return ("image", "video", "audio")

    @property
    def tower_positions(self) -> dict[str, int]:
        """{encoder: number of positions per clip}."""
        (image, _), (video, _), (audio, _) = self.encoders.values()
        return {
            image: self.image.tokens,
            video: self.num_frames * self.video.tokens,
            audio: self.audio.steps,
            "fusion": self.stream_tokens,
        }

    @property
    def tower_attention(self) -> dict[str, tuple[EncoderConfig, int, int]]:
        """{encoder: (config, positions that attend to each other, such groups per clip)}."""
        (image, _), (video, _), (audio, _) = self.encoders.values()
        return {
            image: (self.image.encoder, self.image.tokens, 1),
            video: (self.video.encoder, self.video.tokens, self.num_frames),
            audio: (self.audio.encoder, self.audio.steps, 1),
        }

    @property
    def view_shapes(self) -> dict[str, tuple[int, ...]]:
        """{view: shape for one clip}."""
        side = self.video.image_size
        return {
            "image": (self.image.image_size, self.image.image_size, 3),
            "frames": (self.num_frames, side, side, 3),
            "sound": self.audio.view_shape,
        }


def zero_absent(x: Array, present: Array) -> Array:
    """Features float[B, ...] with zeros where the stream is absent (`present` bool[B] is False)."""
    return x * jnp.expand_dims(present, tuple(range(1, x.ndim))).astype(x.dtype)


def present_streams(batch: dict[str, Array]) -> Present:
    """Which streams the samples of a batch have, from its flags `has_image` and so on."""
    return {stream: batch[f"has_{stream}"] for stream in ("image", "video", "audio")}


def group_patches(image: Array) -> Array:
    """Image tokens float[B, 1 + P, D] without their class token: float[B, P / 4, 4 D]."""
    patches = image[:, 1:]
    return patches.reshape(patches.shape[0], patches.shape[1] // IMAGE_GROUP, -1)


class Emotion(nn.Module):
    """The model; `__call__` is the forward pass of training, the other methods are its parts.

    v1 (emotion_v1.py) is a subclass with other streams; no other module depends on the version.
    """

    config: EmotionConfig

    def setup(self) -> None:
        """Makes the encoders, the fusion and the shared parts."""
        c = self.config
        families = {"image": c.image_family, "video": c.video_family, "audio": c.audio_family}
        for stream, (name, config) in c.encoders.items():
            setattr(self, name, ENCODERS[families[stream]].module(config))
        if c.has_ln_vision:
            self.ln_vision = LayerNorm(1e-5)
        if c.fusion.kind != "none":
            self.fusion = Fusion(c.fusion)
        self.setup_head()

    def setup_head(self) -> None:
        """Makes what both versions have: a projector per span, LLaMA, bag-of-words heads."""
        c = self.config

        def project(name: str) -> Dense:
            axes = (None, "embed")
            return Dense(
                c.llama.width,
                axes,
                precision=c.llama.precision,
                init_kind="torch",
                name=f"project_{name}",
            )

        self.project = {name: project(name) for name in c.spans}
        self.llama = Llama(c.llama)
        if c.word_heads:
            self.words = {
                s: Dense(c.llama.vocab, (None, None), name=f"words_{s}") for s in c.word_streams
            }

    def encode(self, batch: dict[str, Array], deterministic: bool = True) -> Features:
        """Runs the encoders.

        Args:
          batch: image uint8[B, H, W, 3], frames uint8[B, F, h, w, 3], sound float[B, S2, mels],
            audio_frames int[B], has_image bool[B]; other keys are ignored.
          deterministic: False enables dropout.

        Returns:
          The features. States of the audio encoder are sown as `encoder_states` ("intermediates").
        """
        c = self.config
        encode_image, encode_video, encode_audio = (
            getattr(self, name) for name, _ in c.encoders.values()
        )
        image = normalize_pixels(batch["image"], c.image, c.image.encoder.precision.compute)
        if c.missing == "released":  # a missing image is zeros after normalisation, not black
            image = image * batch["has_image"][:, None, None, None].astype(image.dtype)
        image_tokens = encode_image(image, deterministic)
        if c.has_ln_vision:
            image_tokens = self.ln_vision(image_tokens)
        frames = normalize_pixels(batch["frames"], c.video, c.video.encoder.precision.compute)
        count = frames.shape[1]
        tokens = encode_video(einops.rearrange(frames, "b f h w c -> (b f) h w c"), deterministic)
        tokens = einops.rearrange(tokens, "(b f) t d -> b f t d", f=count)
        video = pool_video(tokens, c.video_pool)
        real = c.audio_span == "real" or not c.audio.fixed_window
        valid = batch["audio_frames"] if real else None
        states = encode_audio(batch["sound"], valid, deterministic)
        # Kept only where a caller transcribes speech (infer/encode_clips.py).
        self.sow("intermediates", "encoder_states", states)
        steps = None if valid is None else c.audio.valid_steps(valid)
        audio = pool_audio(states, c.stream_tokens, steps=steps)
        return {"image": image_tokens, "video": video, "audio": audio}

    def features(self, batch: dict[str, Array], deterministic: bool = True) -> Features:
        """The batch's cached features (`feature_image` and so on), or those of its views."""
        cached = {
            k.removeprefix(CACHED_PREFIX): v
            for k, v in batch.items()
            if k.startswith(CACHED_PREFIX)
        }
        return cached or self.encode(batch, deterministic)

    def soft_prompt(
        self, features: Features, present: Present, deterministic: bool = True
    ) -> SoftPrompt:
        """Projects features to the soft prompt.

        An absent video or audio stream is zeros before its projector. With `missing` "released"
        the image tokens stay as the encoder made them (of a zero image); with "masked" they are
        zeros too.

        Args:
          features: as of `encode`.
          present: which streams each sample has.
          deterministic: False enables dropout in the fusion.

        Returns:
          Tokens float[B, Q, D] and mask bool[B, Q].
        """
        c = self.config
        masked = c.missing == "masked"
        video = zero_absent(features["video"], present["video"])
        audio = zero_absent(features["audio"], present["audio"])
        image = features["image"]
        image = zero_absent(image, present["image"]) if masked else image
        streams = {"image": group_patches(image), "video": video, "audio": audio}
        if c.fusion.kind != "none":
            cls = jnp.broadcast_to(image[:, :1], (*video.shape[:2], image.shape[2]))
            streams["fusion"] = self.fusion(audio, cls, video, deterministic)
        return self.join_spans(streams, present)

    def join_spans(self, streams: dict[str, Array], flags: dict[str, Array]) -> SoftPrompt:
        """Projects each span and concatenates them.

        Args:
          streams: {span: float[B, tokens, D_span]}.
          flags: {span: bool[B]}; with `missing` "masked" a span is hidden where its flag is False.

        Returns:
          Tokens float[B, Q, D] and mask bool[B, Q].
        """
        c = self.config
        tokens = jnp.concatenate([self.project[name](streams[name]) for name in c.spans], axis=1)
        everything = jnp.ones((tokens.shape[0],), bool)
        visible = flags if c.missing == "masked" else {}
        columns = [
            jnp.broadcast_to(visible.get(name, everything)[:, None], (tokens.shape[0], size))
            for name, size in c.spans.items()
        ]
        return SoftPrompt(tokens, jnp.concatenate(columns, axis=1))

    def tower_means(self, features: Features) -> dict[str, Array]:
        """{encoder: mean feature float[B, D]}, the inputs of the bag-of-words heads."""
        patches = features | {"image": features["image"][:, 1:]}
        return {name: x.mean(axis=1) for name, x in patches.items()}

    def splice(self, batch: dict[str, Array], soft: SoftPrompt) -> tuple[Array, Array]:
        """Inserts the soft tokens into the text.

        Args:
          batch: ids int[B, T], soft_index int[B, T] (index of the soft token at this position, -1
            for text) and valid bool[B, T].
          soft: the soft prompt.

        Returns:
          (embeddings float[B, T, D], valid bool[B, T]).
        """
        index = batch["soft_index"]
        at = jnp.maximum(index, 0)
        soft_tokens = jnp.take_along_axis(soft.tokens, at[:, :, None], axis=1)
        x = jnp.where(index[:, :, None] >= 0, soft_tokens, self.llama.embed(batch["ids"]))
        visible = jnp.take_along_axis(soft.mask, at, axis=1)
        return x, batch["valid"] & jnp.where(index >= 0, visible, True)

    def __call__(
        self, batch: dict[str, Array], deterministic: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The forward pass of training.

        Args:
          batch: what `features` and `splice` read, has_image, has_video and has_audio bool[B],
            positions int[B, T], answer_at int[B, A] (the positions whose logits are needed).
          deterministic: False enables dropout.

        Returns:
          Logits float32[B, A, V] at `answer_at`, and with `word_heads` the word logits
          {encoder: float32[B, V]}, else {}.
        """
        features = self.features(batch, deterministic)
        inputs = jax.lax.stop_gradient(features) if self.config.detach_towers else features
        soft = self.soft_prompt(inputs, present_streams(batch), deterministic)
        x, valid = self.splice(batch, soft)
        hidden, _ = self.llama(x, batch["positions"], valid, deterministic=deterministic)
        logits = self.llama.logits(
            jnp.take_along_axis(hidden, batch["answer_at"][:, :, None], axis=1)
        )
        words: dict[str, Array] = {}
        if self.config.word_heads:
            words = {s: self.words[s](x) for s, x in self.tower_means(features).items()}
        return logits, words

    def prefill(
        self, batch: dict[str, Array], soft: SoftPrompt, cache: Cache
    ) -> tuple[Array, Cache]:
        """Runs prompts, padded on the right, into an empty cache.

        Args:
          batch: what `splice` reads, and positions int[B, T].
          soft: the soft prompt.
          cache: an empty cache.

        Returns:
          Logits float32[B, V] after each row's last valid token, and the cache. Its rows end with
          their last token, so the next tokens overwrite the padding.
        """
        x, valid = self.splice(batch, soft)
        hidden, cache_out = self.llama(x, batch["positions"], valid, cache=cache, fresh=True)
        assert cache_out is not None
        last = jnp.max(jnp.where(batch["valid"], jnp.arange(x.shape[1]), 0), axis=1)
        final = jnp.take_along_axis(hidden, last[:, None, None], axis=1)
        return self.llama.logits(final[:, 0]), cache_out._replace(used=last + 1)

    def extend(
        self,
        ids: Array,
        positions: Array,
        valid: Array,
        cache: Cache,
        *,
        block_mask: Array | None = None,
    ) -> tuple[Array, Cache]:
        """Runs further tokens.

        Args:
          ids: int[B, T].
          positions: int[B, T].
          valid: bool[B, T], False on padding.
          cache: the cache of the tokens so far.
          block_mask: bool[T, T], as of `Llama`.

        Returns:
          (logits float32[B, T, V], cache).
        """
        x = self.llama.embed(ids)
        hidden, cache_out = self.llama(x, positions, valid, cache=cache, block_mask=block_mask)
        assert cache_out is not None
        return self.llama.logits(hidden), cache_out

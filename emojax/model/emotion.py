"""Emotion-LLaMAv2, the picture of the paper: streams -> soft prompt -> LLaMA2.

    image (448 px, EVA 39)  --> ln_vision --> 4 patches a token --> project.image --\
    frames (16 x 224, EVA 40, norm) --> pool 2x2 ------------------> project.video --+--> 448 soft tokens
    log-mel (30 s, Whisper) --> pool to 64 -----------------------> project.audio --/    at <VideoHere>
    audio, class token x 64, video --> Conv-Attention ------------> project.fusion

Order of the spans: fusion, image, video, audio. `missing` says what an absent stream is:
"released" keeps its constant tokens visible (the published checkpoints expect that), "masked"
hides them from attention. `audio_span` is "window" (released: the padded 30 s) or "real".
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from emojax.model.encoders.eva import Eva, EvaConfig, normalise_pixels, pool_video
from emojax.model.encoders.whisper import Whisper, WhisperConfig, pool_audio
from emojax.model.fusion import Fusion, FusionConfig
from emojax.model.layers import Dense, EncoderConfig, LayerNorm
from emojax.model.lm.llama import Cache, Llama, LlamaConfig
from emojax.types import Features, Present, SoftPrompt

Array = jax.Array
IMAGE_GROUP = 4  # consecutive patches that make one image token


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmotionConfig:
    """Sizes of the whole model; `stream_tokens` is S of the video, audio and fusion spans (64).

    `word_heads`: each tower also predicts, from the mean of its features, which words its description holds (Joulin
    et al. 2016). It gives towers that start from nothing what pretraining gives the released ones.
    `detach_towers`: the language model's gradient ends at the features, as with the released, frozen encoders; towers
    that train then learn from their word heads alone.
    """

    image: EvaConfig
    video: EvaConfig
    audio: WhisperConfig
    fusion: FusionConfig
    llama: LlamaConfig
    num_frames: int = 16
    video_pool: int = 2
    missing: Literal["released", "masked"] = "released"
    audio_span: Literal["window", "real"] = "window"
    word_heads: bool = False
    detach_towers: bool = False

    @property
    def stream_tokens(self) -> int:
        """S: tokens of the video span, and so of the audio and fusion spans."""
        return self.num_frames * self.video_pool**2

    @property
    def spans(self) -> dict[str, int]:
        """Soft tokens by span, in their order; 64 + 256 + 64 + 64 at full size."""
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
        """Q."""
        return sum(self.spans.values())

    @property
    def placeholders(self) -> tuple[tuple[str, int], ...]:
        """Placeholders of the prompt and how many soft tokens stand there, in their order."""
        return (("<VideoHere>", self.soft_tokens),)

    @property
    def word_streams(self) -> tuple[str, ...]:
        """Towers that may carry a word head."""
        return ("image", "video", "audio")

    @property
    def tower_positions(self) -> dict[str, int]:
        """Positions that one clip puts through each tower."""
        return {
            "eva_image": self.image.tokens,
            "eva_video": self.num_frames * self.video.tokens,
            "whisper": self.audio.steps,
            "fusion": self.stream_tokens,
        }

    @property
    def tower_attention(self) -> dict[str, tuple[EncoderConfig, int, int]]:
        """What attends in each tower: (encoder, positions that see each other, how many such groups a clip has)."""
        return {
            "eva_image": (self.image.encoder, self.image.tokens, 1),
            "eva_video": (self.video.encoder, self.video.tokens, self.num_frames),
            "whisper": (self.audio.encoder, self.audio.steps, 1),
        }

    @property
    def view_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of one clip's views."""
        side = self.video.image_size
        return {
            "image": (self.image.image_size, self.image.image_size, 3),
            "frames": (self.num_frames, side, side, 3),
            "sound": (2 * self.audio.steps, self.audio.mels),
        }


CACHED = "feature_"  # what the batch's keys of cached features begin with


class Emotion(nn.Module):
    """The model; `__call__` is the training forward, the other methods are its parts.

    v1 (emotion_v1.py) is a subclass with other streams; nothing below them asks for a version.
    """

    config: EmotionConfig
    feature_type: ClassVar[Any] = Features

    def setup(self) -> None:
        c = self.config
        self.eva_image = Eva(c.image)
        self.ln_vision = LayerNorm(1e-5)
        self.eva_video = Eva(c.video)
        self.whisper = Whisper(c.audio)
        if c.fusion.kind != "none":
            self.fusion = Fusion(c.fusion)
        self.setup_head()

    def setup_head(self) -> None:
        """What both versions have: a projector for each span, LLaMA, word heads."""
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
        """Views in the batch -> Features.

        Reads image uint8[B, H, W, 3], frames uint8[B, F, h, w, 3], sound float[B, S2, mels],
        audio_frames int[B], and has_image, has_video, has_audio bool[B].
        """
        c = self.config
        image = normalise_pixels(batch["image"], c.image, c.image.encoder.precision.compute)
        if (
            c.missing == "released"
        ):  # a missing image is zeros after normalisation, not a black picture
            image = image * batch["has_image"][:, None, None, None].astype(image.dtype)
        image_tokens = self.ln_vision(self.eva_image(image, deterministic))
        frames = normalise_pixels(batch["frames"], c.video, c.video.encoder.precision.compute)
        count = frames.shape[1]
        tokens = self.eva_video(einops.rearrange(frames, "b f h w c -> (b f) h w c"), deterministic)
        tokens = einops.rearrange(tokens, "(b f) t d -> b f t d", f=count)
        video = pool_video(tokens, c.video_pool)
        valid = batch["audio_frames"] if c.audio_span == "real" else None
        heard = self.whisper(batch["sound"], valid, deterministic)
        self.sow(
            "intermediates", "heard", heard
        )  # kept only where words are to be transcribed (infer/answer.py)
        audio = pool_audio(heard, c.stream_tokens, valid=valid)
        return Features(image_tokens, video, audio)

    def features(self, batch: dict[str, Array], deterministic: bool = True) -> Features:
        """The features that the batch holds (`feature_image` and so on, from a cache), or those of its views."""
        cached = {k.removeprefix(CACHED): v for k, v in batch.items() if k.startswith(CACHED)}
        return self.feature_type(**cached) if cached else self.encode(batch, deterministic)

    def soft_prompt(
        self, features: Features, present: Present, deterministic: bool = True
    ) -> SoftPrompt:
        """Features and bool[B] flags -> SoftPrompt tokens[B, Q, D], mask[B, Q].

        An absent video or audio stream is zeros before its projector. In released mode the image
        tokens stay as the encoder made them (of a zero picture), in masked mode they are zeros too.
        """
        c = self.config
        masked = c.missing == "masked"

        def keep(x: Array, flag: Array) -> Array:
            return x * flag[:, None, None].astype(x.dtype)

        video, audio = keep(features.video, present.video), keep(features.audio, present.audio)
        image = keep(features.image, present.image) if masked else features.image
        patches = image[:, 1:]
        grouped = patches.reshape(image.shape[0], patches.shape[1] // IMAGE_GROUP, -1)
        streams = {"image": grouped, "video": video, "audio": audio}
        if c.fusion.kind != "none":
            cls = jnp.broadcast_to(image[:, :1], (*video.shape[:2], image.shape[2]))
            streams["fusion"] = self.fusion(audio, cls, video, deterministic)
        return self.join(
            streams, {"image": present.image, "video": present.video, "audio": present.audio}
        )

    def join(self, streams: dict[str, Array], flags: dict[str, Array]) -> SoftPrompt:
        """Projects each span and joins them; in masked mode a span is hidden where its flag bool[B] is False."""
        c = self.config
        tokens = jnp.concatenate([self.project[name](streams[name]) for name in c.spans], axis=1)
        everything = jnp.ones((tokens.shape[0],), bool)
        seen = flags if c.missing == "masked" else {}
        columns = [
            jnp.broadcast_to(seen.get(name, everything)[:, None], (tokens.shape[0], size))
            for name, size in c.spans.items()
        ]
        return SoftPrompt(tokens, jnp.concatenate(columns, axis=1))

    def tower_means(self, features: Features) -> dict[str, Array]:
        """float[B, D] by tower, what the word heads read."""
        patches = features._replace(image=features.image[:, 1:])
        return {name: x.mean(axis=1) for name, x in patches._asdict().items()}

    def splice(self, batch: dict[str, Array], soft: SoftPrompt) -> tuple[Array, Array]:
        """Puts the soft tokens into the text: (embeddings[B, T, D], valid[B, T]).

        Reads ids int[B, T], soft_index int[B, T] (which soft token stands here, -1 for text) and
        valid bool[B, T].
        """
        index = batch["soft_index"]
        at = jnp.maximum(index, 0)
        placed = jnp.take_along_axis(soft.tokens, at[:, :, None], axis=1)
        x = jnp.where(index[:, :, None] >= 0, placed, self.llama.embed(batch["ids"]))
        seen = jnp.take_along_axis(soft.mask, at, axis=1)
        return x, batch["valid"] & jnp.where(index >= 0, seen, True)

    def __call__(
        self, batch: dict[str, Array], deterministic: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """Training forward.

        Returns:
          float32[B, A, V] logits at the positions `answer_at` int[B, A] alone, and with `word_heads` the word logits
          float32[B, V] of each tower, else {}.
        """
        present = Present(batch["has_image"], batch["has_video"], batch["has_audio"])
        features = self.features(batch, deterministic)
        read = jax.lax.stop_gradient(features) if self.config.detach_towers else features
        soft = self.soft_prompt(read, present, deterministic)
        x, valid = self.splice(batch, soft)
        hidden, _ = self.llama(x, batch["positions"], valid, None, deterministic)
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
        """Prompts into an empty cache: (float32[B, V] logits after each row's last valid token, cache).

        Rows are padded on the right; the cache's rows end with their last token, so what follows overwrites the padding.
        """
        x, valid = self.splice(batch, soft)
        hidden, cache_out = self.llama(x, batch["positions"], valid, cache, fresh=True)
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
        block_mask: Array | None = None,
    ) -> tuple[Array, Cache]:
        """int[B, T] further tokens: (float32[B, T, V], cache); `among` as of Llama."""
        hidden, cache_out = self.llama(
            self.llama.embed(ids), positions, valid, cache, True, block_mask
        )
        assert cache_out is not None
        return self.llama.logits(hidden), cache_out

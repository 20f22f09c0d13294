"""The fields of config.model -> configurations of the model and of the views that it reads."""

from __future__ import annotations

import dataclasses
from typing import Any

from data_pipeline.media.clip import SAMPLE_RATE
from data_pipeline.media.views import IMAGENET_MEAN, IMAGENET_STD, ViewConfig
from emojax.config.fields import HubertFields, ModelFields, PictureFields, SoundFields, TowerFields
from emojax.model.build import ModelConfig
from emojax.model.dense import LoraConfig, Precision
from emojax.model.emotion import EmotionConfig
from emojax.model.emotion_v1 import EmotionV1Config
from emojax.model.encoders.videomae import VideoMaeConfig
from emojax.model.encoders.vision_transformer import PictureConfig
from emojax.model.encoders.waveform import WaveformConfig
from emojax.model.fusion import FusionConfig
from emojax.model.layers import EncoderConfig
from emojax.model.lm.families import make_decoder
from emojax.model.lm.llama import LlamaConfig
from emojax.model.parts import ENCODERS


def view_config(m: ModelFields) -> ViewConfig:
    """Sizes of the pictures and of the sound that the model reads."""
    v1 = m.version == "v1"
    return ViewConfig(
        image_size=m.image.size,
        frame_size=m.face.size if v1 else m.video.size,
        num_frames=m.num_frames,
        mels=0 if v1 else m.audio.mels,
        seconds=m.hubert.seconds if v1 else m.audio.seconds,
    )


def model_config(m: ModelFields) -> ModelConfig:
    """The configuration of Emotion-LLaMA or Emotion-LLaMAv2, whichever `m.version` names."""
    return _v1(m) if m.version == "v1" else _v2(m)


def _v2(m: ModelFields) -> EmotionConfig:
    return EmotionConfig(
        image=_picture(m, m.image),
        video=_picture(m, m.video),
        audio=ENCODERS[m.audio.family].make(m.audio, _encoder(m, m.audio)),
        image_family=m.image.family,
        video_family=m.video.family,
        audio_family=m.audio.family,
        fusion=FusionConfig(
            kind=m.fusion.kind,
            hidden=m.fusion.hidden,
            width=m.fusion.width,
            out=m.fusion.out,
            blocks=m.fusion.blocks,
            dropout=m.fusion.dropout,
            precision=_precision(m),
        ),
        llama=_llama(m),
        num_frames=m.num_frames,
        video_pool=m.video_pool,
        missing=m.missing,
        audio_span=m.audio_span,
        word_heads=m.word_heads,
        detach_towers=m.detach_towers,
    )


def _picture(m: ModelFields, fields: PictureFields) -> Any:
    config = ENCODERS[fields.family].make(fields, _encoder(m, fields))
    return dataclasses.replace(config, stem=m.stem) if hasattr(config, "stem") else config


def _v1(m: ModelFields) -> EmotionV1Config:
    if m.image.family != "eva":
        raise ValueError(
            f"config.model.image.family is {m.image.family}, but version v1 runs EVA-ViT only; "
            "other encoders need config.model.version=v2"
        )
    return EmotionV1Config(
        image=_picture(m, m.image),
        face=PictureConfig(
            image_size=m.face.size,
            patch=m.face.patch,
            encoder=_encoder(m, m.face, eps=1e-6, key_bias=True),
            final_norm=True,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            stem=m.stem,
        ),
        motion=VideoMaeConfig(
            image_size=m.motion.size,
            patch=m.motion.patch,
            num_frames=m.num_frames,
            encoder=_encoder(m, m.motion, eps=1e-6),
        ),
        audio=WaveformConfig(
            samples=round(m.hubert.seconds * SAMPLE_RATE),
            encoder=_encoder(m, m.hubert, eps=1e-5, key_bias=True),
            conv_widths=(m.hubert.conv_width,) * 7,
            position_kernel=m.hubert.position_kernel,
            position_groups=m.hubert.position_groups,
        ),
        llama=_llama(m),
        face_pool=m.face.pool,
        missing=m.missing,
        word_heads=m.word_heads,
        detach_towers=m.detach_towers,
    )


def _encoder(
    m: ModelFields,
    tower: TowerFields | SoundFields | HubertFields,
    *,
    eps: float = 1e-5,
    key_bias: bool = False,
) -> EncoderConfig:
    """The transformer; families replace what is their own, such as `eps`."""
    return EncoderConfig(
        width=tower.width,
        depth=tower.depth,
        heads=tower.heads,
        mlp=tower.mlp,
        eps=eps,
        dropout=tower.dropout,
        remat="most" if m.remat == "auto" else m.remat,
        unroll=min(m.unroll, tower.depth),
        precision=_precision(m),
        key_bias=key_bias,
        layer_weights=isinstance(tower, PictureFields | SoundFields) and tower.layer_weights,
    )


def _llama(m: ModelFields) -> LlamaConfig:
    return make_decoder(
        m.llama,
        lora=LoraConfig(
            rank=m.lora.rank,
            alpha=m.lora.alpha,
            dropout=m.lora.dropout,
            targets=m.lora.targets,
        ),
        remat=m.remat,
        remat_long=m.remat_long,
        long_row=m.long_row,
        unroll=min(m.unroll, m.llama.depth),
        precision=_precision(m),
        cache=m.cache,
    )


def _precision(m: ModelFields) -> Precision:
    return Precision(m.compute_dtype, m.param_dtype, m.kernels)

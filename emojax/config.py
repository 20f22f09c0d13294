"""ConfigDict -> frozen dataclasses, once, in the mains; below this nobody sees a ConfigDict."""

from __future__ import annotations

import dataclasses
import importlib
import json
from typing import Any, get_args, get_type_hints

from ml_collections import ConfigDict

from data_pipeline.loader.mixture import Per
from data_pipeline.loader.prompts import OTHER_QUESTIONS, TASKS, Layout
from data_pipeline.loader.tasks import StageTasks
from data_pipeline.media.clip import SAMPLE_RATE, Sampling
from data_pipeline.media.views import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, ViewConfig
from emojax.model.build import ModelConfig
from emojax.model.emotion import EmotionConfig
from emojax.model.emotion_v1 import EmotionV1Config
from emojax.model.encoders.eva import EvaConfig
from emojax.model.encoders.hubert import HubertConfig
from emojax.model.encoders.videomae import VideoMaeConfig
from emojax.model.encoders.whisper import WhisperConfig
from emojax.model.fusion import FusionConfig, Kind
from emojax.model.layers import REMAT_POLICIES, EncoderConfig, LoraConfig, Precision
from emojax.model.lm.llama import LlamaConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optim:
    """Fields of config.optim; see configs/base.py."""

    lr: float
    min_lr: float
    warmup_lr: float
    warmup: int
    b1: float
    b2: float
    eps: float
    weight_decay: float
    clip: float
    ema: float


Rules = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One curriculum stage: what it asks, what learns, how, how long, and whose weights it starts from.

    `weights`: "name=weight,..." of its mixture. `inherits`: previous, start, or an earlier stage's name.
    """

    name: str
    steps: int
    tasks: StageTasks
    weights: str
    trainable: Rules
    optim: Optim
    inherits: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Fields of config.train; see configs/base.py."""

    batch: int
    rows_per_device: int
    accumulate: int
    mesh: tuple[int, int, int]
    log_every: int
    save_every: int
    log_clips: bool
    keep: int
    validate_every: int
    validate_clips: int
    take: str
    init_from: str | None
    tokenizer: str
    tokenizer_path: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Fields of config.data; see configs/base.py."""

    image_choice: str
    temporal: str
    buckets: tuple[tuple[int, int], ...]
    layout: str
    questions: dict[str, tuple[str, ...]]
    max_answer: int
    max_subtitle: int
    no_subtitle: str
    augment: float
    eval_views: int
    speaker_norm: float
    words: int
    prefetch: int
    threads: int
    workers: int
    window: int
    draw: str
    weights: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole run, resolved."""

    name: str
    seed: int
    model: ModelConfig
    views: ViewConfig
    data: Data
    stages: tuple[Stage, ...]
    trainable: Rules
    optim: Optim
    train: Train
    raw: dict[str, Any]

    def sampling(self, peak_index: int | None) -> Sampling:
        """How a clip is decoded; `peak_index` is its known apex or None."""
        return Sampling(
            image=self.data.image_choice,  # type: ignore[arg-type]
            index=peak_index,
            temporal=self.data.temporal,  # type: ignore[arg-type]
            num_frames=self.views.num_frames,
        )


def _precision(m: ConfigDict) -> Precision:
    return Precision(m.compute_dtype, m.param_dtype, m.kernels)


def model_config(m: ConfigDict) -> ModelConfig:
    """config.model -> EmotionConfig or EmotionV1Config."""

    def encoder(t: ConfigDict, eps: float, key_bias: bool = False) -> EncoderConfig:
        unroll = min(m.unroll, t.depth)
        return EncoderConfig(
            width=t.width,
            depth=t.depth,
            heads=t.heads,
            mlp=t.mlp,
            eps=eps,
            dropout=t.dropout,
            remat=m.remat,
            unroll=unroll,
            precision=_precision(m),
            key_bias=key_bias,
        )

    image = EvaConfig(
        image_size=m.image.size,
        patch=m.image.patch,
        encoder=encoder(m.image, 1e-6),
        final_norm=False,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        stem=m.stem,
    )
    if m.version == "v1":
        size, patch, hear = m.face.size, m.face.patch, m.hubert
        face = EvaConfig(
            image_size=size,
            patch=patch,
            encoder=encoder(m.face, 1e-6, True),
            final_norm=True,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            stem=m.stem,
        )
        voice = HubertConfig(
            encoder=encoder(hear, 1e-5, True),
            conv_widths=(hear.conv_width,) * 7,
            position_kernel=hear.position_kernel,
            position_groups=hear.position_groups,
        )
        return EmotionV1Config(
            image=image,
            face=face,
            motion=VideoMaeConfig(
                image_size=m.motion.size,
                patch=m.motion.patch,
                num_frames=m.num_frames,
                encoder=encoder(m.motion, 1e-6),
            ),
            audio=voice,
            llama=_llama(m),
            samples=round(hear.seconds * SAMPLE_RATE),
            face_pool=m.face.pool,
            missing=m.missing,
            word_heads=m.word_heads,
            detach_towers=m.detach_towers,
        )
    video = EvaConfig(
        image_size=m.video.size,
        patch=m.video.patch,
        encoder=encoder(m.video, 1e-6),
        final_norm=True,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        stem=m.stem,
    )
    audio = WhisperConfig(m.audio.mels, round(m.audio.seconds * 50), encoder(m.audio, 1e-5))
    f = m.fusion
    fusion = FusionConfig(
        kind=f.kind,
        hidden=f.hidden,
        width=f.width,
        out=f.out,
        blocks=f.blocks,
        dropout=f.dropout,
        precision=_precision(m),
    )
    return EmotionConfig(
        image=image,
        video=video,
        audio=audio,
        fusion=fusion,
        llama=_llama(m),
        num_frames=m.num_frames,
        video_pool=m.video_pool,
        missing=m.missing,
        audio_span=m.audio_span,
        word_heads=m.word_heads,
        detach_towers=m.detach_towers,
    )


def _llama(m: ConfigDict) -> LlamaConfig:
    t = m.llama
    return LlamaConfig(
        vocab=t.vocab,
        width=t.width,
        depth=t.depth,
        heads=t.heads,
        mlp=t.mlp,
        dropout=t.dropout,
        lora=LoraConfig(
            rank=m.lora.rank,
            alpha=m.lora.alpha,
            dropout=m.lora.dropout,
            targets=tuple(m.lora.targets),
        ),
        remat=m.remat,
        remat_long=m.remat_long,
        long_row=m.long_row,
        unroll=min(m.unroll, t.depth),
        precision=_precision(m),
        cache=m.cache,
    )


def _words(owner: type, field: str) -> tuple[str, ...]:
    return get_args(get_type_hints(owner)[field])


# Fields that take one of a few words; a mistyped one would silently mean another.
_WORDS = {
    "model.version": ("v1", "v2"),
    "model.face.pool": _words(EmotionV1Config, "face_pool"),
    "model.kernels": _words(Precision, "kernels"),
    "model.cache": _words(LlamaConfig, "cache"),
    "model.missing": _words(EmotionConfig, "missing"),
    "model.audio_span": _words(EmotionConfig, "audio_span"),
    "model.stem": _words(EvaConfig, "stem"),
    "model.remat": ("none", *REMAT_POLICIES),
    "model.remat_long": ("none", *REMAT_POLICIES),
    "train.take": ("last", "best"),
    "model.fusion.kind": get_args(Kind),
    "data.layout": get_args(Layout),
    "data.temporal": _words(Sampling, "temporal"),
    "data.draw": get_args(Per),
    "data.image_choice": _words(Sampling, "image"),
    "train.tokenizer": ("llama", "small"),
}


def resolve(config: ConfigDict) -> Settings:
    """The one place where a ConfigDict becomes dataclasses.

    Raises:
      ValueError: a word that a field does not know, a stage or task that is not described, a number out of range.
    """
    for field, words in _WORDS.items():
        value: Any = config
        for part in field.split("."):
            value = value[part]
        if value not in words:
            raise ValueError(f"config.{field} is '{value}'; it is one of {', '.join(words)}")
    for field in ("batch", "accumulate", "save_every", "log_every", "keep"):
        if config.train[field] < 1:
            raise ValueError(f"config.train.{field} is {config.train[field]}; it is at least 1")
    if unknown := sorted(set(config.data.questions) - {*TASKS, *OTHER_QUESTIONS}):
        raise ValueError(
            f"config.data.questions names tasks {unknown}; tasks are {', '.join(TASKS)}"
        )
    m = config.model
    stages: list[Stage] = []
    for name in config.stages:
        if name not in config.stage:
            raise ValueError(
                f"config.stages names '{name}', config.stage describes {sorted(config.stage)}"
            )
        s = config.stage[name]
        if s.steps < 0:
            raise ValueError(f"config.stage.{name}.steps is {s.steps}; it is at least 0")
        if unknown := sorted(set(s.tasks) - set(TASKS)):
            raise ValueError(
                f"config.stage.{name}.tasks holds {unknown}; tasks are {', '.join(TASKS)}"
            )
        tasks = StageTasks(
            style=s.style,
            tasks=tuple(s.tasks),
            max_words=s.max_words,
            restore_image=s.restore_image,
            drop_modality=s.drop_modality,
            strange_words=s.strange_words,
            released=s.released,
        )
        if s.inherits not in ("previous", "start", *[earlier.name for earlier in stages]):
            raise ValueError(
                f"config.stage.{name}.inherits is '{s.inherits}'; it is previous, start, or a stage before this one"
            )
        own = {k: v for k, v in s.optim.to_dict().items() if v is not None}
        optim = Optim(**{**config.optim.to_dict(), **own})
        weights = s.weights or config.data.weights
        stages.append(
            Stage(
                name=name,
                steps=s.steps,
                tasks=tasks,
                weights=weights,
                trainable=_rules(s.trainable or config.trainable),
                optim=optim,
                inherits=s.inherits,
            )
        )
    fields = config.train.to_dict()
    return Settings(
        name=config.name,
        seed=config.seed,
        model=model_config(m),
        views=_views(m),
        data=Data(**_tuples(config.data.to_dict())),
        stages=tuple(stages),
        trainable=_rules(config.trainable),
        optim=Optim(**config.optim.to_dict()),
        train=Train(**_tuples(fields)),
        raw=json.loads(config.to_json_best_effort()),
    )


def _rules(pairs: Any) -> Rules:
    return tuple((str(pattern), str(word)) for pattern, word in pairs)


def for_devices(settings: Settings, devices: int) -> Settings:
    """The run on so many devices: with `train.rows_per_device`, its batch, and as many samples in fewer or more steps."""
    t = settings.train
    if not t.rows_per_device:
        return settings
    batch = t.rows_per_device * devices
    stages: list[Stage] = []
    for stage in settings.stages:
        steps = max(1, round(stage.steps * t.batch / batch))
        warmup = round(stage.optim.warmup * t.batch / batch)
        stages.append(
            dataclasses.replace(
                stage, steps=steps, optim=dataclasses.replace(stage.optim, warmup=warmup)
            )
        )
    # What the run's folder remembers is this batch: on another number of devices it would be another run.
    raw = json.loads(json.dumps(settings.raw))
    raw["train"] |= {"batch": batch, "rows_per_device": 0}
    for stage in stages:
        raw["stage"][stage.name]["steps"] = stage.steps
        raw["stage"][stage.name]["optim"]["warmup"] = stage.optim.warmup
    return dataclasses.replace(
        settings, stages=tuple(stages), train=dataclasses.replace(t, batch=batch), raw=raw
    )


def _views(m: ConfigDict) -> ViewConfig:
    if m.version == "v1":
        return ViewConfig(
            image_size=m.image.size,
            frame_size=m.face.size,
            num_frames=m.num_frames,
            mels=0,
            seconds=m.hubert.seconds,
        )
    return ViewConfig(
        image_size=m.image.size,
        frame_size=m.video.size,
        num_frames=m.num_frames,
        mels=m.audio.mels,
        seconds=m.audio.seconds,
    )


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    def deep(value: Any) -> Any:
        return tuple(map(deep, value)) if isinstance(value, (list, tuple)) else value

    return {k: deep(v) for k, v in fields.items()}


PRESETS = "tiny, tiny:people, tiny:v1, tiny:test, tiny:test_v1, tiny:released, tiny:released_v1, v1, v1:pretrain, v1:tune, v1:labels, v1:mer2023_semi, v2, v2:stage1, v2:stage2, v2:joint; those of v1 and v2 with _pod for many devices"


def load_config(preset: str) -> ConfigDict:
    """`tiny`, `tiny:people`, `v2:stage1`, `configs/v2.py:stage1`: a configuration of configs/ by name.

    Raises:
      ValueError: no such preset.
    """
    name, _, variant = preset.partition(":")
    name = name.removeprefix("configs/").removesuffix(".py")  # as --config takes them
    try:
        module = importlib.import_module(f"configs.{name}")
        return module.get_config(variant) if variant else module.get_config()
    except (ModuleNotFoundError, AttributeError, TypeError) as error:
        raise ValueError(f"there is no preset '{preset}'; there are {PRESETS}") from error


def resolve_saved(raw: dict[str, Any]) -> Settings:
    """Settings of a model folder; a field that is newer than the folder has its value in configs/base.py."""

    def over(default: Any, saved: Any) -> Any:
        if not isinstance(default, dict) or not isinstance(saved, dict):
            return saved
        return {**default, **{k: over(default.get(k), v) for k, v in saved.items()}}

    full = over(load_config("base").to_dict(), raw)
    newest = load_config(
        "base"
    ).stage.joint.to_dict()  # stages of other versions have no entry in base.py
    full["stage"] = {name: over(newest, stage) for name, stage in full["stage"].items()}
    return resolve(ConfigDict(full))

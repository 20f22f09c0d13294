"""ConfigDict -> frozen records of a run; below the commands nobody sees a ConfigDict."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.loader.prompts import OTHER_QUESTIONS, TASKS
from data_pipeline.loader.tasks import StageTasks
from data_pipeline.media.clip import Sampling
from data_pipeline.media.views import ViewConfig
from emojax.config.declaration import build, to_config_dict
from emojax.config.fields import Data, Optim, Rules, RunFields, StageFields, Train
from emojax.config.model_config import model_config, view_config
from emojax.config.part_fields import STREAM_KINDS
from emojax.config.renamed_fields import rename_fields
from emojax.model.build import ModelConfig
from emojax.model.emotion_v1 import EmotionV1Config

MOST_SECONDS = 30.0  # the window that the sound encoders were pretrained with


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the curriculum.

    Attributes:
      name: its name in config.stage.
      steps: training steps.
      tasks: what it asks.
      weights: mixture weights of the data sets, "name=weight,...".
      trainable: which leaves are trained.
      optim: optimizer and learning rate.
      inherits: whose weights it starts from: previous, start, or the name of an earlier stage.
    """

    name: str
    steps: int
    tasks: StageTasks
    weights: str
    trainable: Rules
    optim: Optim
    inherits: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole run, resolved. `raw` is its configuration as JSON, for files and hashes."""

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

    @property
    def parts(self) -> dict[str, str]:
        """{section of config.model: name of its pretrained part}, without those that have none."""
        sections = {s: self.raw["model"].get(s) or {} for s in STREAM_KINDS}
        return {s: str(section["part"]) for s, section in sections.items() if section.get("part")}

    def sampling(self, peak_index: int | None) -> Sampling:
        """Which frames of a clip are decoded; `peak_index` is its known apex or None."""
        return Sampling(
            image=self.data.image_choice,
            index=peak_index,
            temporal=self.data.temporal,
            num_frames=self.views.num_frames,
        )


def resolve(config: ConfigDict) -> Settings:
    """The only place where a ConfigDict becomes records.

    Raises:
      ValueError: a field is unknown or missing, a value is not allowed, or a stage or task is not
        described.
    """
    raw = rename_fields(json.loads(config.to_json_best_effort()))
    run = build(RunFields, rename_fields(config.to_dict()))
    check_window(run)
    _check_sound(run)
    tasks = {name: name.rsplit("/", 1)[-1] for name in run.data.questions}  # of DATASET/TASK
    if unknown := sorted(n for n, task in tasks.items() if task not in {*TASKS, *OTHER_QUESTIONS}):
        raise ValueError(
            f"config.data.questions names tasks {unknown}; tasks are {', '.join(TASKS)}"
        )
    stages: list[Stage] = []
    for name in run.stages:
        if name not in run.stage:
            raise ValueError(
                f"config.stages names '{name}', but config.stage describes {sorted(run.stage)}"
            )
        stages.append(_stage(name, run, [earlier.name for earlier in stages]))
    return Settings(
        name=run.name,
        seed=run.seed,
        model=_model(run),
        views=view_config(run.model),
        data=run.data,
        stages=tuple(stages),
        trainable=run.trainable,
        optim=run.optim,
        train=run.train,
        raw=raw,
    )


def check_window(run: RunFields) -> None:
    """Checks that no row is longer than the language model's attention reaches back.

    Raises:
      ValueError: one is.
    """
    window, longest = run.model.llama.window, max((t for t, _ in run.data.buckets), default=0)
    if window and longest + run.data.max_answer > window:
        raise ValueError(
            f"config.model.llama.window is {window} tokens, but rows of config.data.buckets have "
            f"{longest} and answers {run.data.max_answer}: shorten them"
        )


def _check_sound(run: RunFields) -> None:
    """Checks the window of the sound, and that its part is used.

    Raises:
      ValueError: the window is not possible, or v1, which hears with `hubert`, has a sound part.
    """
    m = run.model
    for name, seconds in (("audio", m.audio.seconds), ("hubert", m.hubert.seconds)):
        if not 0 < seconds <= MOST_SECONDS:
            raise ValueError(
                f"config.model.{name}.seconds is {seconds:g}; it must be above 0 and at most "
                f"{MOST_SECONDS:g}"
            )
    if m.version == "v1" and m.audio.part:
        raise ValueError(
            f"config.model.audio.part is {m.audio.part}, but v1 has the encoder of "
            "config.model.hubert instead: use a v2 configuration"
        )


def _model(run: RunFields) -> ModelConfig:
    model = model_config(run.model)
    if isinstance(model, EmotionV1Config):
        return dataclasses.replace(model, zero_faces=run.data.layout == "released_demo")
    return model


def _stage(name: str, run: RunFields, earlier: list[str]) -> Stage:
    fields = run.stage[name]
    if unknown := sorted(set(fields.tasks) - set(TASKS)):
        raise ValueError(f"config.stage.{name}.tasks holds {unknown}; tasks are {', '.join(TASKS)}")
    if fields.inherits not in ("previous", "start", *earlier):
        raise ValueError(
            f"config.stage.{name}.inherits is '{fields.inherits}'; it must be previous, start, or "
            "a stage before this one"
        )
    changes: dict[str, Any] = {k: v for k, v in fields.optim.items() if v is not None}
    return Stage(
        name=name,
        steps=fields.steps,
        tasks=_tasks(fields),
        weights=fields.weights or run.data.weights,
        trainable=fields.trainable or run.trainable,
        optim=dataclasses.replace(run.optim, **changes),
        inherits=fields.inherits,
    )


def _tasks(fields: StageFields) -> StageTasks:
    return StageTasks(
        style=fields.style,
        tasks=fields.tasks,
        max_words=fields.max_words,
        restore_image=fields.restore_image,
        drop_modality=fields.drop_modality,
        random_word_insertion=fields.random_word_insertion,
        released=fields.released,
    )


def for_devices(settings: Settings, devices: int) -> Settings:
    """The run on this many devices.

    With `train.rows_per_device` the batch size follows from the number of devices. Steps and
    warm-up are scaled so that every stage sees as many samples as before.
    """
    t = settings.train
    if not t.rows_per_device:
        return settings
    batch = t.rows_per_device * devices
    stages: list[Stage] = []
    for stage in settings.stages:
        steps = max(1, round(stage.steps * t.batch / batch))
        warmup = round(stage.optim.warmup * t.batch / batch)
        optim = dataclasses.replace(stage.optim, warmup=warmup)
        stages.append(dataclasses.replace(stage, steps=steps, optim=optim))
    # The run folder records this batch size: on another number of devices it is another run.
    raw = json.loads(json.dumps(settings.raw))
    raw["train"] |= {"batch": batch, "rows_per_device": 0}
    for stage in stages:
        raw["stage"][stage.name]["steps"] = stage.steps
        raw["stage"][stage.name]["optim"]["warmup"] = stage.optim.warmup
    return dataclasses.replace(
        settings, stages=tuple(stages), train=dataclasses.replace(t, batch=batch), raw=raw
    )


def resolve_saved(raw: dict[str, Any]) -> Settings:
    """Settings of a model folder; fields that are newer than the folder get their default.

    Raises:
      ValueError: as `resolve`.
    """
    base = to_config_dict(RunFields()).to_dict()
    full = _overlay(base, rename_fields(raw))
    # Stages of other versions have no entry among the defaults.
    newest = base["stage"]["joint"]
    full["stage"] = {name: _overlay(newest, stage) for name, stage in full["stage"].items()}
    return resolve(ConfigDict(full))


def _overlay(default: Any, saved: Any) -> Any:
    """`saved`, with the entries of `default` that it lacks."""
    if not isinstance(default, dict) or not isinstance(saved, dict):
        return saved
    return {**default, **{k: _overlay(default.get(k), v) for k, v in saved.items()}}

"""Training, from records to a model folder; reads top to bottom in order of execution.

The functions below `train` are its sections. A run that is started again with the same settings,
clips and folder continues from its newest checkpoints.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from data_pipeline.datasets.manifest import speakers_in_common
from data_pipeline.loader.batches import BatchIterator, train_iterator
from data_pipeline.loader.features import open_cache
from data_pipeline.loader.samples import NAMES, RowConfig
from data_pipeline.loader.tokens import Tokenizer
from data_pipeline.media.speaker_norm import VoiceStats
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import Bundle, row_config, save_bundle
from emojax.bundle.training_clips import save_training_clips
from emojax.config import Rules, Settings, Stage, for_devices
from emojax.model.variables import Flat, count_parameters, is_encoder_path, merge, split_trainable
from emojax.plan.topology import device_memory
from emojax.sharding import check_batch_size, make_mesh, put_batch, replicated, to_host
from emojax.train import start, step_memory
from emojax.train.checkpoint import Checkpoints, abstract_of
from emojax.train.flops import step_flops
from emojax.train.run_folder import register_run
from emojax.train.state import TrainState, start_state
from emojax.train.step import learning_rate, make_optimizer, make_step
from emojax.train.stop import Stopped, StopRequest
from emojax.train.train_log import TrainLog
from emojax.workflows.encode_features import cache_config
from emojax.workflows.validation import Validation

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Run:
    """What the stages of a run share."""

    settings: Settings
    out: epath.Path
    tokenizer: Tokenizer
    mesh: jax.sharding.Mesh
    rows: RowConfig
    average_speaker: VoiceStats | None
    stop: StopRequest
    validation: Validation | None = None
    progress: Progress = no_progress
    offloaded: dict[str, Any] = dataclasses.field(default_factory=dict)  # variables on the host
    compiled: dict[Any, Callable[..., Any]] = dataclasses.field(default_factory=dict)


def run_training(
    settings: Settings,
    records: Sequence[ClipRecord],
    sources: Mapping[str, Any],
    out: Path | epath.Path,
    *,
    progress: Progress = no_progress,
) -> None:
    """Trains on the `train` split of one set of clips and writes a model folder.

    Args:
      settings: the resolved run.
      records: all clips.
      sources: split -> random-access source.
      out: run folder.
      progress: gets ("train", steps done, steps in all).

    Raises:
      ValueError: there is nothing to train on, or as `train`.
      Stopped: as `train`.
    """
    trained = [r for r in records if r.split == "train"]
    if "train" not in sources:
        raise ValueError("there is no clip with split 'train' to train on")
    for split_name, people in speakers_in_common(records).items():
        logger.info(
            "note: '%s' has speakers of 'train' (%s); its scores do not show how the model works "
            "for unknown speakers",
            split_name,
            ", ".join(people[:5]),
        )
    if missing := sorted({r.label for r in records} - {r.label for r in trained}):
        labels = " or ".join(missing[:5])
        logger.info("note: no training clip is labelled %s; the model cannot learn it", labels)
    validation = None
    if "val" in sources:
        number = settings.train.validate_clips
        validation = Validation(sources["val"], start.label_space(trained), clips=number)
    mixture = {"data": (sources["train"], 1.0)}
    train(settings, trained, mixture, out, validation=validation, progress=progress)
    save_training_clips(out, records)


def train_on_data(
    settings: Settings,
    records: Sequence[ClipRecord],
    sources: Mapping[str, Mapping[str, Any]],
    out: Path | epath.Path,
    *,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> None:
    """Trains on the `train` splits of built data sets and writes a model folder.

    Args:
      settings: the resolved run.
      records: all clips of the data sets.
      sources: data set -> split -> random-access source.
      out: run folder.
      cache: features to train on, instead of the media.
      progress: gets ("train", steps done, steps in all).

    Raises:
      ValueError: there is nothing to train on, the cache is of another model, or as `train`.
      Stopped: as `train`.
    """
    mixture = {
        name: (splits["train"], float(len(splits["train"])))
        for name, splits in sources.items()
        if "train" in splits
    }
    if not mixture:
        raise ValueError("no data set has clips with split 'train' to train on")
    trained = [r for r in records if r.split == "train"]
    # Validation asks all clips the same question: it uses the first data set that has a `val` split
    # and one emotion per clip.
    asked = [r for r in records if r.split == "val" and r.task == "emotion" and r.labels]
    names = {r.dataset for r in asked}
    validation = None
    if name := next((n for n, s in sources.items() if "val" in s and n in names), None):
        clips = (r for r in records if r.dataset == name and r.split == "val" and r.labels)
        labels = next(clips).labels
        number = settings.train.validate_clips
        validation = Validation(sources[name]["val"], labels, clips=number)
    train(settings, trained, mixture, out, cache=cache, validation=validation, progress=progress)
    save_training_clips(out, records)


def train(
    settings: Settings,
    records: Sequence[ClipRecord],
    sources: start.Mixture,
    out: Path | epath.Path,
    *,
    cache: Path | None = None,
    validation: Validation | None = None,
    progress: Progress = no_progress,
) -> None:
    """Trains all stages and writes a model folder.

    Args:
      settings: the resolved run.
      records: the training clips (labels, and texts for the tokenizer).
      sources: data set -> (random-access source of training clips, mixture weight).
      out: run folder; an interrupted run continues from its newest checkpoints.
      cache: features to train on, instead of the media.
      validation: clips that are evaluated every `train.validate_every` steps.
      progress: gets ("train", steps done, steps in all).

    Raises:
      ValueError: `out` holds a run with other settings or clips, or the features are of another
        model.
      Stopped: SIGTERM or Ctrl-C; the same call continues.
    """
    settings = for_devices(settings, jax.device_count())
    run = _prepare(settings, records, sources, epath.Path(out), cached=cache is not None)
    validation = validation if settings.train.validate_every else None
    run = dataclasses.replace(run, validation=validation, progress=progress)
    with run.stop, jax.set_mesh(run.mesh):
        # Variables
        variables = start.initial_variables(settings, run.mesh)
        if cache:
            run, sources = _offload_encoders(run, cache, sources, variables)

        # Stages: state, step, loop
        variables = _train_stages(run, sources, variables)

        # Save
        save_bundle(
            run.out,
            settings,
            run.tokenizer,
            variables=merge(variables, run.offloaded),
            labels=start.label_space(records),
            reasons=any(r.texts.get("reason") for r in records),
            average_speaker=run.average_speaker,
            parts=start.run_parts(settings),
        )


def _prepare(
    settings: Settings,
    records: Sequence[ClipRecord],
    sources: start.Mixture,
    out: epath.Path,
    *,
    cached: bool,
) -> _Run:
    """Everything of a run but its variables."""
    # Tokenizer
    texts = start.training_texts(records, settings.stages, settings.data)
    tokenizer = start.make_tokenizer(settings, texts)

    # Mesh
    mesh = make_mesh(shape=settings.train.mesh)
    check_batch_size(mesh, settings.train.batch, settings.train.accumulate)
    start.report_mesh(mesh, settings.model)

    # Run folder
    base = start.run_base(settings)
    register_run(out, settings.raw, base, records)

    # Input
    strength = 0.0 if cached else settings.data.speaker_norm
    speakers = start.training_speakers(sources, settings.views, strength=strength)
    return _Run(
        settings=settings,
        out=out,
        tokenizer=tokenizer,
        mesh=mesh,
        rows=row_config(settings, augment=True, speakers=speakers),
        average_speaker=speakers.average if speakers else None,
        stop=StopRequest(),
    )


def _offload_encoders(
    run: _Run, cache: Path, sources: start.Mixture, variables: Flat
) -> tuple[_Run, start.Mixture]:
    """Replaces media by cached features; moves the encoders from `variables` to the host."""
    for stage in run.settings.stages:
        start.check_cached(run.settings.data, split_trainable(variables, stage.trainable)[0])
    opened = open_cache(cache, cache_config(run.settings, variables), names=list(sources))
    mixture = {n: (opened.sources[n]["train"], weight) for n, (_, weight) in sources.items()}
    for name, (features, _) in mixture.items():
        media = sources[name][0]
        if features.build != media.built.key or features.records != media.records:
            raise ValueError(
                f"the clips or labels of {name} have changed since {cache} was written: "
                "encode again"
            )
    offloaded = {p: to_host(variables.pop(p)) for p in list(variables) if is_encoder_path(p)}
    rows = dataclasses.replace(run.rows, blank=opened.blank)
    return dataclasses.replace(run, rows=rows, offloaded=offloaded), mixture


def _train_stages(run: _Run, sources: start.Mixture, variables: Flat) -> Flat:
    """Trains every stage from the weights that it inherits; returns those of the last one."""
    stages = run.settings.stages
    inherited = {stage.inherits for stage in stages} - {"previous"}
    kept = {"start": variables} if "start" in inherited else {}
    rules: Rules = ()
    done, total = 0, sum(stage.steps for stage in stages)
    for stage in stages:
        initial = variables if stage.inherits == "previous" else kept[stage.inherits]
        trainable, frozen = split_trainable(initial, stage.trainable)
        if stage.trainable != rules:
            rules, part = stage.trainable, count_parameters(trainable)
            size = part + count_parameters(frozen)
            logger.info(f"{size:,} parameters, {part:,} trainable ({part / size:.1%})")

        def advance(steps: int, before: int = done) -> None:
            run.progress("train", before + steps, total)

        mixture = start.stage_sources(stage, sources)
        trainable = _train_stage(
            run, stage, mixture, trainable=trainable, frozen=frozen, advance=advance
        )
        variables = {**frozen, **trainable}
        if stage.name in inherited:
            kept[stage.name] = variables
        done += stage.steps
        run.progress("train", done, total)
    return variables


def _train_stage(
    run: _Run,
    stage: Stage,
    mixture: start.Mixture,
    *,
    trainable: Flat,
    frozen: Flat,
    advance: Callable[[int], None],
) -> Flat:
    """Trains one stage, or continues from its newest checkpoint; returns its trainable weights."""
    t, optim = run.settings.train, stage.optim
    names = [s.name for s in run.settings.stages]
    seed = run.settings.seed + 1000 * (1 + names.index(stage.name))
    batches = _batches(run, stage, mixture, seed=seed)

    # State
    state = start_state(make_optimizer(optim), trainable, run.mesh, ema=bool(optim.ema))
    checkpoints = Checkpoints(run.out / "checkpoints", stage.name, keep=t.keep)
    first = 0
    if saved := checkpoints.restore(abstract_of(state)):
        state, position = saved
        first = int(state.step)
        batches.set_state(position)
        logger.info("%s: continues from step %d", stage.name, first)

    # Loop
    log = TrainLog(
        run.out,
        stage.name,
        first_step=first,
        log_every=t.log_every,
        flops=step_flops(run.settings.model, trainable, frozen),
        clips=t.log_clips,
    )
    # rbg: the counter-based generator of the hardware, several times faster than threefry.
    key = jax.device_put(jax.random.key(seed, impl="rbg"), replicated(run.mesh))
    state = _loop(
        run,
        stage,
        state,
        frozen,
        steps=range(first + 1, stage.steps + 1),
        key=key,
        batches=batches,
        checkpoints=checkpoints,
        log=log,
        advance=advance,
    )

    # Final weights
    log.close()
    checkpoints.wait()
    best = checkpoints.best() if t.take == "best" else None
    if best is not None and best != stage.steps:
        logger.info("%s: uses the weights of step %d, which score best", stage.name, best)
        restored = checkpoints.restore(abstract_of(state), step=best)
        state = restored[0] if restored else state
    checkpoints.close()
    return state.ema if optim.ema else state.train


def _batches(run: _Run, stage: Stage, mixture: start.Mixture, *, seed: int) -> BatchIterator:
    data = run.settings.data
    return train_iterator(
        mixture,
        stage.tasks,
        run.tokenizer,
        config=run.rows,
        batch=run.settings.train.batch // jax.process_count(),
        seed=seed,
        threads=data.threads,
        prefetch=data.prefetch,
        shard=(jax.process_index(), jax.process_count()),
        workers=data.workers,
        per=data.draw,
        window=data.window,
    )


def _loop(
    run: _Run,
    stage: Stage,
    state: TrainState,
    frozen: Flat,
    *,
    steps: range,
    key: jax.Array,
    batches: BatchIterator,
    checkpoints: Checkpoints,
    log: TrainLog,
    advance: Callable[[int], None],
) -> TrainState:
    """Runs the steps of a stage; returns the state after the last one.

    Raises:
      Stopped: SIGTERM or Ctrl-C; the step in progress is finished and saved first.
    """
    t = run.settings.train
    rates = jax.device_get(learning_rate(stage.optim, stage.steps)(jnp.arange(stage.steps)))
    step = _compiled_step(run, stage, state, frozen)
    for number in steps:
        batch = next(batches)
        clips = batch.pop(NAMES)
        rate = rates[number - 1]
        state, metrics = step(state, frozen, put_batch(batch, run.mesh), rate, key)
        log.step(number, metrics, clips, lr=float(rate))
        last, score = number == stage.steps, None
        if run.validation and (last or number % t.validate_every == 0):
            bundle = _bundle(run, stage, state, frozen)
            score, samples = run.validation.score(bundle)
            log.validation(number, score, samples)
            logger.info(f"{stage.name} {number:>6}  validation {score:.4f}")
        stopping = run.stop.check()
        if last or stopping or score is not None or number % t.save_every == 0:
            checkpoints.save(number, state, batches.get_state(), score=score)
        checkpoints.record_digests()
        if last:
            break  # its progress is reported when the stage is complete
        advance(number)
        if stopping:
            log.close()
            checkpoints.close()
            raise Stopped(
                f"stopped after {stage.name} step {number}, which is saved; run the same command "
                "again to continue",
                code=run.stop.code,
            )
    return state


def _compiled_step(run: _Run, stage: Stage, state: TrainState, frozen: Flat) -> Callable[..., Any]:
    """The compiled step; stages that differ only in rates, mixture or length share one."""
    optim = stage.optim
    key = (stage.trainable, dataclasses.replace(optim, lr=0, min_lr=0, warmup_lr=0, warmup=0))
    if key not in run.compiled:
        run.compiled[key] = make_step(
            run.settings.model,
            make_optimizer(optim),
            optim.ema,
            accumulate=run.settings.train.accumulate,
            shardings=jax.tree.map(lambda x: x.sharding, state),
            room=step_memory.room_for(device_memory(), state, frozen, run.mesh.shape),
        )
    return run.compiled[key]


def _bundle(run: _Run, stage: Stage, state: TrainState, frozen: Flat) -> Bundle:
    """The model after a step, for validation."""
    weights = state.ema if stage.optim.ema else state.train
    return Bundle(
        name=run.settings.name,
        settings=run.settings,
        tokenizer=run.tokenizer,
        variables=merge(weights, {**frozen, **run.offloaded}),
        labels=(),
        style=stage.tasks.style,
        reason_task="",
        average_speaker=run.average_speaker,
    )

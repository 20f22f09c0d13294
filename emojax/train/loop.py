"""One readable page: stages in order, each from its newest checkpoint, to a model folder."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from data_pipeline.loader.batches import NAMES, RowConfig, train_iterator
from data_pipeline.loader.tokens import Tokenizer
from data_pipeline.media.speaker_norm import VoiceStats
from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import row_config, save_bundle
from emojax.config import Rules, Settings, Stage, for_devices
from emojax.model.variables import Flat, count_parameters, is_encoder_path, merge, split_trainable
from emojax.sharding import check_batch_size, make_mesh, put_batch, replicated, to_host
from emojax.train import run_folder
from emojax.train.checkpoint import Checkpoints, abstract_of
from emojax.train.flops import step_flops
from emojax.train.start import (
    Say,
    Sources,
    check_cache,
    label_space,
    stage_sources,
    start_variables,
    train_tokenizer,
    training_speakers,
)
from emojax.train.state import TrainState, start_state
from emojax.train.step import learning_rate, make_optimizer, make_step
from emojax.train.train_log import TrainLog

# (variables {params, lora}, tokenizer, prompt style, sound of the average speaker or None) -> (score of the validation split,
# higher is better; some of its clips)
Validate = Callable[[Any, Tokenizer, str, VoiceStats | None], tuple[float, list[dict[str, Any]]]]


class Stopped(KeyboardInterrupt):
    """The run was asked to stop by SIGTERM or Ctrl-C, and has saved; `code` is the exit code that tells which."""

    def __init__(self, text: str, *, code: int = 128 + signal.SIGTERM) -> None:
        super().__init__(text)
        self.code = code


class StopRequest:
    """SIGTERM, the notice that a machine is about to be taken away, or Ctrl-C: heard by the loop after the step under way.

    A second Ctrl-C stops at once.
    """

    def __init__(self) -> None:
        self._heard = False
        self._asked = 0
        self.code = 128 + signal.SIGTERM
        self._before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            for one in (signal.SIGTERM, signal.SIGINT):
                self._before[one] = signal.signal(one, self._hear)

    def _hear(self, number: int, *_: Any) -> None:
        if self._heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._heard = True
        self.code = 128 + number

    def asked(self) -> bool:
        """Whether to stop after this step; all processes answer alike, whichever of them got the notice."""
        self._asked += 1
        if jax.process_count() == 1:
            return self._heard
        from jax.experimental import multihost_utils

        return bool(multihost_utils.reached_preemption_sync_point(self._asked))

    def close(self) -> None:
        """Signals do what they did before."""
        for one, before in self._before.items():
            signal.signal(one, before)


@dataclasses.dataclass(kw_only=True)
class Run:
    """What the stages of a run share."""

    settings: Settings
    tokenizer: Tokenizer
    rows: RowConfig
    out: epath.Path
    mesh: jax.sharding.Mesh
    say: Say
    stop: StopRequest
    validate: Validate | None = None
    parked: dict[str, Any] = dataclasses.field(default_factory=dict)
    steps: dict[Any, Callable[..., Any]] = dataclasses.field(default_factory=dict)

    def step(self, stage: Stage, state: TrainState) -> Callable[..., Any]:
        """The compiled update; stages that differ in rates, mixture or length alone share one."""
        optim = stage.optim
        key = (stage.trainable, dataclasses.replace(optim, lr=0, min_lr=0, warmup_lr=0, warmup=0))
        if key not in self.steps:
            lies = jax.tree.map(lambda x: x.sharding, state)
            parts = self.settings.train.accumulate
            self.steps[key] = make_step(
                self.settings.model,
                make_optimizer(optim),
                optim.ema,
                accumulate=parts,
                shardings=lies,
            )
        return self.steps[key]


def train(
    settings: Settings,
    sources: Sources,
    records: Sequence[ClipRecord],
    out: Path | epath.Path,
    *,
    say: Say = print,
    tick: Callable[[int, int], None] | None = None,
    cached: Callable[[Flat], tuple[Sources, Mapping[str, np.ndarray]]] | None = None,
    validate: Validate | None = None,
) -> epath.Path:
    """Trains all stages and writes a model folder.

    Args:
      settings: the resolved run.
      sources: name -> (random-access source of training elements, mixture weight).
      records: the training records (labels, texts for the tokenizer).
      out: run folder; a run that was cut off goes on from its newest checkpoints.
      say: takes console lines (of process 0).
      tick: called with (steps done, steps in all).
      cached: variables -> (sources of cached features in place of `sources`, features of nothing; see features.py).
      validate: scores the validation split every `train.validate_every` steps.

    Returns:
      `out`, which `emojax.bundle.load_bundle` reads.

    Raises:
      ValueError: `out` holds a run of other settings or other clips, or the features are of another model.
      Stopped: SIGTERM or Ctrl-C came; the same call goes on.
    """
    settings = for_devices(settings, jax.device_count())
    out = epath.Path(out)
    main = jax.process_index() == 0
    say = say if main else lambda text: None
    tokenizer = train_tokenizer(settings, records)
    mesh = make_mesh(shape=settings.train.mesh)
    check_batch_size(mesh, settings.train.batch, settings.train.accumulate)
    run_folder.claim(out, settings, records)
    speakers = None if cached else training_speakers(settings, sources, say)
    rows = row_config(settings, augment=True, speakers=speakers)
    stop = StopRequest()
    run = Run(
        settings=settings,
        tokenizer=tokenizer,
        rows=rows,
        out=out,
        mesh=mesh,
        say=say,
        stop=stop,
        validate=validate,
    )
    try:
        with jax.set_mesh(mesh):
            variables = start_variables(settings, mesh, say)
            if cached:
                for stage in settings.stages:
                    check_cache(settings, split_trainable(variables, stage.trainable)[0])
                sources, blank = cached(variables)
                run.rows = dataclasses.replace(rows, blank=blank)
                # Towers whose features are cached leave the devices until the model is saved.
                run.parked = {
                    p: to_host(variables.pop(p)) for p in list(variables) if is_encoder_path(p)
                }
            say(
                f"mesh data x fsdp x tensor {' x '.join(map(str, mesh.shape.values()))}, {jax.process_count()} processes"
            )
            variables = run_stages(run, sources, variables, tick)
            reasons = any(r.texts.get("reason") for r in records)
            average = speakers.average if speakers else None
            everything = merge(variables, run.parked)
            save_bundle(
                out,
                settings,
                tokenizer,
                variables=everything,
                labels=label_space(records),
                reasons=reasons,
                average_speaker=average,
            )
    finally:
        stop.close()
    return out


def run_stages(
    run: Run, sources: Sources, variables: Flat, tick: Callable[[int, int], None] | None
) -> Flat:
    """All stages; each starts from the weights that it inherits. Returns those of the last one."""
    stages = run.settings.stages
    needed = {s.inherits for s in stages} - {"previous"}
    kept = {"start": variables} if "start" in needed else {}
    done, total = 0, sum(s.steps for s in stages)
    rules: Rules = ()
    for stage in stages:
        variables = variables if stage.inherits == "previous" else kept[stage.inherits]
        learned, frozen = split_trainable(variables, stage.trainable)
        if stage.trainable != rules:
            rules, size = stage.trainable, count_parameters(learned) + count_parameters(frozen)
            run.say(
                f"{size:,} parameters, {count_parameters(learned):,} learn ({count_parameters(learned) / size:.1%})"
            )

        def advance(n: int, before: int = done) -> None:
            if tick:
                tick(before + n, total)

        learned = run_stage(
            run,
            stage,
            stage_sources(stage, sources, run.say),
            learned=learned,
            frozen=frozen,
            advance=advance,
        )
        variables = {**frozen, **learned}
        if stage.name in needed:
            kept[stage.name] = variables
        done += stage.steps
        advance(stage.steps, done - stage.steps)
    return variables


def run_stage(
    run: Run,
    stage: Stage,
    sources: Sources,
    *,
    learned: Flat,
    frozen: Flat,
    advance: Callable[[int], None],
) -> Flat:
    """One stage from the weights `learned` (or its newest checkpoint) to its last step; returns its weights."""
    settings, optim, t = run.settings, stage.optim, run.settings.train
    seed = settings.seed + 1000 * (1 + [s.name for s in settings.stages].index(stage.name))
    iterator = train_iterator(
        sources,
        stage.tasks,
        run.tokenizer,
        config=run.rows,
        batch=t.batch // jax.process_count(),
        seed=seed,
        threads=settings.data.threads,
        prefetch=settings.data.prefetch,
        shard=(jax.process_index(), jax.process_count()),
        workers=settings.data.workers,
        per=settings.data.draw,  # type: ignore[arg-type]
        window=settings.data.window,
    )
    state = start_state(make_optimizer(optim), learned, run.mesh, bool(optim.ema))
    checkpoints = Checkpoints(run.out / "checkpoints", stage.name, t.keep)
    first = 0
    if found := checkpoints.restore(abstract_of(state), say=run.say):
        state, position = found
        first = int(state.step)
        iterator.set_state(position)
        run.say(f"{stage.name}: goes on from step {first}")
    rate = learning_rate(optim, stage.steps)
    log = TrainLog(
        run.out,
        stage.name,
        first,
        t.log_every,
        step_flops(settings.model, learned, frozen),
        clips=t.log_clips,
    )
    rates = jax.device_get(rate(jnp.arange(stage.steps)))
    # rbg: dropout bits by the counter generator of the hardware, several times faster than threefry
    key = jax.device_put(jax.random.key(seed, impl="rbg"), replicated(run.mesh))
    update = run.step(stage, state)
    for number in range(first + 1, stage.steps + 1):
        batch = next(iterator)
        names = batch.pop(NAMES)
        state, metrics = update(state, frozen, put_batch(batch, run.mesh), rates[number - 1], key)
        if line := log.step(number, metrics, names, float(rates[number - 1])):
            run.say(line)
        while log.bad:
            run.say(f"warning: {log.bad.pop(0)}")
        last, score = number == stage.steps, None
        if run.validate and t.validate_every and (last or number % t.validate_every == 0):
            weights = merge(state.ema if optim.ema else state.train, {**frozen, **run.parked})
            average = run.rows.speakers.average if run.rows.speakers else None
            score, samples = run.validate(weights, run.tokenizer, stage.tasks.style, average)
            log.validation(number, score, samples)
            run.say(f"{stage.name} {number:>6}  validation {score:.4f}")
        stopping = run.stop.asked()
        if last or stopping or score is not None or number % t.save_every == 0:
            checkpoints.save(number, state, iterator.get_state(), score)
        checkpoints.note()
        advance(number)
        if stopping and not last:
            log.close()
            checkpoints.close()
            told = f"stopped after {stage.name} step {number}, which is saved; the same command goes on"
            raise Stopped(told, code=run.stop.code)
    if line := log.flush():
        run.say(line)
    log.close()
    checkpoints.wait()
    best = checkpoints.best() if t.take == "best" else None
    if best is not None and best != stage.steps:
        run.say(f"{stage.name}: takes the weights of step {best}, which score best")
        restored = checkpoints.restore(abstract_of(state), say=run.say, step=best)
        state = restored[0] if restored else state
    checkpoints.close()
    return state.ema if optim.ema else state.train

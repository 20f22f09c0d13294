"""One readable page: stages in order, each from its newest checkpoint, to a model folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline import curriculum, prompts
from data_pipeline.pipeline import NAMES, RowConfig, read_element, train_iterator
from data_pipeline.schema import ClipRecord
from data_pipeline.speakers import Speakers, average_speaker, measure_speakers
from data_pipeline.tasks import answer_text
from data_pipeline.tokens import LlamaTokenizer, SmallTokenizer, Tokenizer
from emojax.bundle import load_bundle, load_tokenizer, row_config, save_bundle
from emojax.settings import Settings, Stage
from emojax.sharding import make_mesh, put_batch, to_host
from emojax.train.checkpoint import Checkpoints, abstract_of
from emojax.train.flops import step_flops
from emojax.train.log import TrainLog
from emojax.train.state import (
    Flat,
    TrainState,
    abstract_variables,
    count,
    flatten,
    init_flat,
    is_tower,
    merge,
    split,
    unbox,
    variable_shardings,
)
from emojax.train.step import learning_rate, make_optimizer, make_step

Say = Callable[[str], None]
Sources = Mapping[str, tuple[Any, float]]


def check_tokenizer(settings: Settings) -> None:
    """Raises ValueError where the run needs the LLaMA-2 tokenizer file and nothing says where it is."""
    t = settings.train
    if t.tokenizer == "llama" and not t.tokenizer_path and not t.init_from:
        raise ValueError(
            "this configuration reads with the LLaMA-2 tokenizer: say where its file is with --config.train.tokenizer_path, "
            "or start from imported weights with --config.train.init_from (python -m emojax.train --config=...)"
        )


def train_tokenizer(settings: Settings, records: Sequence[ClipRecord]) -> Tokenizer:
    """The LLaMA-2 file, that of the weights started from, or a small one learned from the texts of the records.

    Raises:
      ValueError: the LLaMA-2 file is asked for and not given.
    """
    if settings.train.tokenizer_path:
        return LlamaTokenizer(Path(settings.train.tokenizer_path).expanduser())
    if settings.train.init_from:  # its embeddings are of its own pieces
        return load_tokenizer(Path(settings.train.init_from))
    check_tokenizer(settings)
    texts = []
    for record in records:
        for stage in settings.stages:
            for task in stage.tasks.tasks:
                for pick in range(len(prompts.question_pool(task, settings.data.questions))):
                    ask = prompts.question(task, record.labels, pick, settings.data.questions)
                    words = record.subtitle or settings.data.no_subtitle
                    texts.append(prompts.train_prompt(words, task, ask, stage.tasks.style))
                texts.append(prompts.normalise_answer(answer_text(record, task)))
    return SmallTokenizer.train(texts, settings.model.llama.vocab)


def differing(one: Any, other: Any, at: str = "") -> list[str]:
    """Dotted names of the fields in which two trees of dicts differ."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return [] if one == other else [at]
    parts = [differing(one.get(k), other.get(k), f"{at}.{k}".lstrip(".")) for k in {**one, **other}]
    return [name for part in parts for name in part]


def claim_folder(out: Path, settings: Settings, records: Sequence[ClipRecord]) -> None:
    """Writes what a run is (`config.json`, `data.json`), or checks that the folder's run is the same one.

    Raises:
      ValueError: it is another: going on from its checkpoints would mix two runs.
    """
    lines = "".join(r.to_json() for r in records)
    data = {"clips": len(records), "sha256": hashlib.sha256(lines.encode()).hexdigest()}
    out.mkdir(parents=True, exist_ok=True)
    for name, value in (("config.json", settings.raw), ("data.json", data)):
        path = out / name
        if path.exists() and (before := json.loads(path.read_text())) != value:
            fields = ", ".join(differing(before, value)[:5])
            raise ValueError(f"{out} holds a run with another {name} ({fields}); choose another folder or remove it")
        path.write_text(json.dumps(value, indent=1))


def start_variables(settings: Settings, mesh: jax.sharding.Mesh, say: Say) -> Flat:
    """Random variables, or those of the model folder `train.init_from`, in their shards.

    Raises:
      ValueError: the folder's model is of other sizes.
    """
    if not settings.train.init_from:
        return init_flat(settings.model, settings.seed, mesh)
    bundle = load_bundle(Path(settings.train.init_from))
    found = flatten(bundle.variables)
    wanted = {p: x.shape for p, x in flatten(unbox(abstract_variables(settings.model))).items()}
    if bundle.settings.raw["model"]["kernels"] != settings.raw["model"]["kernels"]:
        word = bundle.settings.raw["model"]["kernels"]
        raise ValueError(f"the kernels of {settings.train.init_from} are {word}: set config.model.kernels to {word}")
    if wrong := sorted(p for p in {**wanted, **found} if p not in found or wanted.get(p) != found[p].shape):
        raise ValueError(
            f"{settings.train.init_from} is of another model: {len(wrong)} leaves differ, such as {wrong[0]}"
        )
    say(f"starts from {bundle.name}")
    shardings = variable_shardings(settings.model, mesh)
    return {p: jax.device_put(x, shardings[p]) for p, x in found.items()}


def training_speakers(settings: Settings, sources: Sources, say: Say) -> Speakers | None:
    """Statistics of the people to learn from, where the run normalises by speaker and clips name theirs."""
    if not settings.data.speaker_norm:
        return None
    voices = measure_speakers(
        read_element(source[i], settings.views) for source, _ in sources.values() for i in range(len(source))
    )
    average = average_speaker(voices)
    if average is None:
        say("note: no clip to learn from names its speaker (column `speaker`): sound is not normalised by speaker")
        return None
    people = {name.rpartition("|")[0] for name in voices}
    say(f"sound is normalised by speaker, {len(people)} people to learn from")
    return Speakers(voices, average, settings.data.speaker_norm)


def stage_sources(settings: Settings, stage: Stage, sources: Sources, say: Say) -> Sources:
    """The sources with the weights of config.data.weights, else of a released stage, else their own.

    Raises:
      ValueError: a weight of no data set; a set that a released mixture knows nothing of, without a weight.
    """
    given = parse_weights(settings.data.weights)
    if unknown := sorted(set(given) - set(sources)):
        raise ValueError(f"config.data.weights names '{unknown[0]}'; the data are {', '.join(sorted(sources))}")
    released = stage.tasks.released and stage.tasks.style in curriculum.STAGES
    table = curriculum.released_weights(stage.tasks.style) if released else {}
    known = set(sources) & set(table)
    if known and (others := sorted(set(sources) - known - set(given))):
        raise ValueError(
            f"'{others[0]}' has no weight in the released mixture: set config.data.weights to {others[0]}=60"
        )
    if known and len(known) < len(table):
        absent = ", ".join(sorted(set(table) - known))
        say(f"{stage.name}: not in this mixture: {absent}; the weights of the others keep their proportions")
    return {n: (source, given.get(n, table.get(n, own))) for n, (source, own) in sources.items()}


def parse_weights(text: str) -> dict[str, float]:
    """`meld=150,own=30` -> numbers by name.

    Raises:
      ValueError: anything else.
    """
    out = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = part.partition("=")
        try:
            out[name.strip()] = float(value)
        except ValueError as error:
            raise ValueError(f"config.data.weights holds '{part}', needs name=number") from error
    return out


def check_cache(settings: Settings, learned: Flat) -> None:
    """Raises ValueError where a run changes what a feature cache has fixed."""
    if towers := sorted(p for p in learned if is_tower(p)):
        raise ValueError(f"features are cached, but {towers[0]} learns: freeze the encoders in config.trainable")
    for field in ("augment", "speaker_norm"):
        if getattr(settings.data, field):
            raise ValueError(f"features are cached: config.data.{field} can not change pictures or sound; set it to 0")


def train(
    settings: Settings,
    sources: Sources,
    records: Sequence[ClipRecord],
    out: Path,
    say: Say = print,
    tick: Callable[[int, int], None] | None = None,
    cached: Callable[[Flat], tuple[Sources, Mapping[str, np.ndarray]]] | None = None,
) -> Path:
    """Trains all stages and writes a model folder.

    Args:
      settings: the resolved run.
      sources: name -> (random-access source of training elements, mixture weight).
      records: the training records (labels, texts for the tokenizer).
      out: run folder; a run that was cut off goes on from its newest checkpoints.
      say: takes console lines.
      tick: called with (steps done, steps in all).
      cached: variables -> (sources of cached features in place of `sources`, features of nothing; see features.py).

    Returns:
      `out`, which `emojax.bundle.load_bundle` reads.

    Raises:
      ValueError: `out` holds a run of other settings or other clips, or the features are of another model.
    """
    tokenizer = train_tokenizer(settings, records)
    claim_folder(out, settings, records)
    speakers = None if cached else training_speakers(settings, sources, say)
    rows = row_config(settings, augment=True, speakers=speakers)
    mesh = make_mesh(settings.train.mesh)
    with jax.set_mesh(mesh):
        start = start_variables(settings, mesh, say)
        learned, frozen = split(start, settings.trainable)
        parked: dict[str, Any] = {}  # towers whose features are cached: off the devices until the model is saved
        if cached:
            check_cache(settings, learned)
            sources, blank = cached(start)
            rows = dataclasses.replace(rows, blank=blank)
            parked = {p: to_host(frozen.pop(p)) for p in list(frozen) if is_tower(p)}
        del start
        total = count(learned) + count(frozen)
        say(f"{total:,} parameters, {count(learned):,} learn ({count(learned) / total:.1%})")
        update = make_step(settings.model, make_optimizer(settings.optim), settings.optim.ema)
        done, steps = 0, sum(s.steps for s in settings.stages)
        for stage in settings.stages:

            def advance(n: int, before: int = done) -> None:
                if tick:
                    tick(before + n, steps)

            learned = run_stage(
                settings, stage, update, sources, tokenizer, rows, learned, frozen, out, mesh, say, advance
            )
            done += stage.steps
            advance(stage.steps)
        reasons = any(r.texts.get("reason") for r in records)
        average = speakers.average if speakers else None
        save_bundle(
            out, settings, tokenizer, merge(learned, {**frozen, **parked}), label_space(records), reasons, average
        )
    return out


def label_space(records: Sequence[ClipRecord]) -> tuple[str, ...]:
    """Labels that a model is asked for when nobody says which: of all clips' spaces, in the order they are met."""
    spaces = dict.fromkeys(r.labels for r in records if r.labels)
    return tuple(dict.fromkeys(label for space in spaces for label in space))


def run_stage(
    settings: Settings,
    stage: Stage,
    update: Callable[..., Any],
    sources: Sources,
    tokenizer: Tokenizer,
    rows: RowConfig,
    learned: Flat,
    frozen: Flat,
    out: Path,
    mesh: jax.sharding.Mesh,
    say: Say,
    advance: Callable[[int], None],
) -> Flat:
    """One stage from the weights `learned` (or its newest checkpoint) to its last step; returns its weights."""
    optim, t = settings.optim, settings.train
    seed = settings.seed + 1000 * (1 + [s.name for s in settings.stages].index(stage.name))
    iterator = train_iterator(
        stage_sources(settings, stage, sources, say),
        stage.tasks,
        tokenizer,
        rows,
        t.batch // jax.process_count(),
        seed,
        settings.data.threads,
        settings.data.prefetch,
        (jax.process_index(), jax.process_count()),
        settings.data.workers,
        settings.data.draw,  # type: ignore[arg-type]
        settings.data.window,
    )
    tx = make_optimizer(optim)
    # The step donates its state: copies keep `learned` alive for the caller.
    own = jax.tree.map(jnp.copy, learned)
    state = TrainState(jnp.zeros((), jnp.int32), own, tx.init(own), jax.tree.map(jnp.copy, own) if optim.ema else {})
    checkpoints = Checkpoints(out / "checkpoints" / stage.name, t.keep, t.save_every)
    first = 0
    if checkpoints.latest() is not None:
        state, position = checkpoints.restore(abstract_of(state))
        first = int(state.step)
        iterator.set_state(json.loads(position))
        say(f"{stage.name}: goes on from step {first}")
    rate = learning_rate(optim, stage.steps)
    log = TrainLog(out, stage.name, first, t.log_every, step_flops(settings.model, learned, frozen))
    rates = jax.device_get(rate(jnp.arange(stage.steps)))
    # rbg: dropout bits by the counter generator of the hardware, several times faster than threefry
    key = jax.random.key(seed, impl="rbg")
    for number in range(first + 1, stage.steps + 1):
        batch = next(iterator)
        names = batch.pop(NAMES)
        state, metrics = update(state, frozen, put_batch(batch, mesh), rates[number - 1], key)
        if line := log.step(number, metrics, names, float(rates[number - 1])):
            say(line)
        while log.bad:
            say(f"warning: {log.bad.pop(0)}")
        if number % t.save_every == 0 or number == stage.steps:
            checkpoints.save(number, state, iterator.get_state(), force=number == stage.steps)
        advance(number)
    if line := log.flush():
        say(line)
    log.close()
    checkpoints.close()
    return state.ema if optim.ema else state.train

"""What a run starts from: tokenizer, initial weights, speaker statistics, mixture of data sets."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

from data_pipeline.datasets.labels import normalize_answer
from data_pipeline.loader import prompts, released_stages
from data_pipeline.loader.samples import read_element
from data_pipeline.loader.tasks import answer_text
from data_pipeline.loader.tokens import LlamaTokenizer, SmallTokenizer, Tokenizer
from data_pipeline.media.speaker_norm import Speakers, average_speaker, measure_speakers
from data_pipeline.media.views import ViewConfig
from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import check_face_encoders, load_bundle, load_tokenizer
from emojax.config import Data, Settings, Stage, for_devices
from emojax.config.part_fields import check_parts
from emojax.model.build import ModelConfig
from emojax.model.variables import (
    Flat,
    abstract_variables,
    flatten,
    init_flat,
    is_encoder_path,
    select_trainable,
    unbox,
    variable_shardings,
)
from emojax.sharding import check_batch_size, make_mesh, replication_note
from emojax.train.run_folder import base_weights, check_same_run
from emojax.weights.part_weights import find_parts, load_parts, part_sources, part_tokenizer

logger = logging.getLogger(__name__)

# Data set -> (random-access source of training elements, mixture weight).
Mixture = Mapping[str, tuple[Any, float]]


def check_run(settings: Settings, records: Sequence[ClipRecord], out: Path) -> None:
    """Refuses a run that cannot start here, before its clips are decoded.

    Args:
      settings: the resolved run.
      records: all clips.
      out: run folder.

    Raises:
      ValueError: the batch size cannot be divided over the devices, or `out` holds another run.
    """
    settings = for_devices(settings, jax.device_count())
    mesh = make_mesh(shape=settings.train.mesh)
    check_batch_size(mesh, settings.train.batch, settings.train.accumulate)
    base = run_base(settings)
    trained = [r for r in records if r.split == "train"]
    check_same_run(epath.Path(out), settings.raw, base, trained)


def run_base(settings: Settings) -> dict[str, Any]:
    """Which weights a run starts from, for the run folder.

    Raises:
      FileNotFoundError: files of a part are missing.
    """
    base = base_weights(settings.train.init_from, seed=settings.seed)
    parts = run_parts(settings)
    if not parts:
        return base
    return base | {"parts": {s: [p["name"], p["sha256"]] for s, p in parts.items()}}


def run_parts(settings: Settings) -> dict[str, Any]:
    """Name and origin of the parts that a run starts from, by section of config.model.

    Raises:
      FileNotFoundError: files of a part are missing.
    """
    return {} if settings.train.init_from else part_sources(settings)


def check_start(settings: Settings) -> None:
    """Checks that the run knows where its tokenizer and the weights of its parts are.

    Raises:
      ValueError: the LLaMA-2 tokenizer is needed, but no field says where its file is, or a part
        has other sizes than the configuration.
      FileNotFoundError: files of a part are missing.
    """
    train = settings.train
    if not train.init_from and settings.parts:
        check_parts(settings.raw["model"])
        find_parts(settings)
        part_tokenizer(settings)  # damaged files are refused before clips are decoded
    if settings.parts.get("llama") or train.tokenizer_path or train.init_from:
        return
    if train.tokenizer == "llama":
        raise ValueError(
            "this configuration uses the LLaMA-2 tokenizer: give its file with "
            "--config.train.tokenizer_path, or start from imported weights with "
            "--config.train.init_from (python -m emojax.train --config=...)"
        )


def report_mesh(mesh: jax.sharding.Mesh, model: ModelConfig) -> None:
    """Logs the mesh, and keys and values that its tensor axis cannot split."""
    shape = " x ".join(map(str, mesh.shape.values()))
    logger.info("mesh data x fsdp x tensor %s, %d processes", shape, jax.process_count())
    if note := replication_note(mesh.shape["tensor"], model.llama.kv_heads):
        logger.info(note)


def make_tokenizer(settings: Settings, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer of a run.

    Args:
      settings: name the LLaMA-2 file, the model folder that the run starts from, or its parts.
      texts: read only if a small tokenizer is trained on them.

    Returns:
      LLaMA-2's tokenizer, that of the initial weights, or a new small one.

    Raises:
      ValueError: as `check_start`, or the tokenizer has more tokens than the model.
      FileNotFoundError: as `check_start`.
    """
    train, vocab = settings.train, settings.model.llama.vocab
    if train.tokenizer_path:
        return LlamaTokenizer(Path(train.tokenizer_path).expanduser())
    if train.init_from:  # the embeddings of these weights belong to this tokenizer
        return load_tokenizer(Path(train.init_from))
    check_start(settings)
    tokenizer = part_tokenizer(settings) or SmallTokenizer.train(list(texts), vocab)
    if tokenizer.vocab_size > vocab:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, but config.model.llama.vocab is "
            f"{vocab}"
        )
    return tokenizer


def training_texts(
    records: Sequence[ClipRecord], stages: Sequence[Stage], data: Data
) -> Iterator[str]:
    """All prompts and answers that the stages can make from the records."""
    for record in records:
        for stage in stages:
            for task in stage.tasks.tasks:
                for pick in range(len(prompts.question_pool(task, custom=data.questions))):
                    question = prompts.question(
                        task, record.labels, index=pick, custom=data.questions
                    )
                    words = record.subtitle or data.no_subtitle
                    yield prompts.train_prompt(words, task, question, stage.tasks.style)
                yield normalize_answer(answer_text(record, task))


def initial_variables(settings: Settings, mesh: jax.sharding.Mesh) -> Flat:
    """The initial variables, created or read directly in their shards.

    Args:
      settings: name a model folder (train.init_from), or parts with pretrained weights; what has
        none starts from random variables.
      mesh: devices of the run.

    Returns:
      {path: array} of all variables.

    Raises:
      ValueError: the model in the folder has other sizes, or lacks encoders that this one runs, or
        the files of a part do not fit.
      FileNotFoundError: files of a part are missing.
    """
    init_from, model = settings.train.init_from, settings.model
    if not init_from:
        shardings = variable_shardings(model, mesh)
        parts = load_parts(settings, shardings) if settings.parts else {}
        rest = [path for path in shardings if path not in parts]
        _warn_frozen_start(settings, rest)
        return parts | init_flat(model, settings.seed, mesh, paths=rest)
    expected = {p: x.shape for p, x in flatten(unbox(abstract_variables(model))).items()}
    bundle = load_bundle(Path(init_from), shardings=variable_shardings(model, mesh))
    variables = flatten(bundle.variables)
    kernels = bundle.settings.model.llama.precision.kernels
    if kernels != model.llama.precision.kernels:
        raise ValueError(
            f"the kernels of {init_from} are {kernels}: set config.model.kernels to {kernels}"
        )
    if wrong := sorted(
        p
        for p in {**expected, **variables}
        if p not in variables or expected.get(p) != variables[p].shape
    ):
        raise ValueError(
            f"{init_from} is another model: {len(wrong)} arrays differ, for example {wrong[0]}"
        )
    check_face_encoders(bundle.name, model, bundle.variables)
    logger.info("starts from %s", bundle.name)
    return variables


def _warn_frozen_start(settings: Settings, random: Sequence[str]) -> None:
    """Warns of large parts that start from random weights and are never trained."""
    never = {path for path in random if "/blocks/" in path and path.startswith("params/")}
    for stage in settings.stages:
        trainable = select_trainable(list(random), stage.trainable)
        never = {path for path in never if not trainable[path]}
    if trees := sorted({path.split("/")[1] for path in never}):
        logger.warning(
            "%s: random weights that are never trained. Name a pretrained part "
            "(--config.model.STREAM.part), start from weights (--config.train.init_from), or train "
            "them (config.trainable)",
            ", ".join(trees),
        )


def training_speakers(sources: Mixture, views: ViewConfig, *, strength: float) -> Speakers | None:
    """Audio statistics of the training speakers.

    Args:
      sources: the training clips.
      views: how they are read.
      strength: `config.data.speaker_norm`.

    Returns:
      The statistics; None if the run does not normalise per speaker, or no clip names its speaker.
    """
    if not strength:
        return None
    voices = measure_speakers(
        read_element(source[i], views) for source, _ in sources.values() for i in range(len(source))
    )
    average = average_speaker(voices)
    if average is None:
        logger.info(
            "note: no training clip names its speaker (column `speaker`): audio is not normalised "
            "per speaker"
        )
        return None
    people = {name.rpartition("|")[0] for name in voices}
    logger.info("audio is normalised per speaker, %d training speakers", len(people))
    return Speakers(voices, average, strength)


def stage_sources(stage: Stage, sources: Mixture) -> Mixture:
    """The data sets of a stage with their mixture weights.

    The weight of a data set is the one that the stage gives it (0 excludes it), else that of the
    released stage, else the one in `sources`.

    Raises:
      ValueError: a weight names no data set, a data set has no weight in a released mixture, or no
        data set has a weight above 0.
    """
    given = parse_weights(stage.weights)
    if unknown := sorted(set(given) - set(sources)):
        raise ValueError(
            f"the weights of {stage.name} name '{unknown[0]}'; the data sets are "
            f"{', '.join(sorted(sources))}"
        )
    released = stage.tasks.released and stage.tasks.style in released_stages.STAGES
    table = released_stages.released_weights(stage.tasks.style) if released else {}
    known = set(sources) & set(table)
    if known and (others := sorted(set(sources) - known - set(given))):
        raise ValueError(
            f"'{others[0]}' has no weight in the released mixture: set config.data.weights to "
            f"{others[0]}=60"
        )
    if known and len(known) < len(table):
        logger.info(
            "%s: not in this mixture: %s; the weights of the others keep their proportions",
            stage.name,
            ", ".join(sorted(set(table) - known)),
        )
    weighted = {
        n: (source, given.get(n, table.get(n, weight))) for n, (source, weight) in sources.items()
    }
    mixture = {n: pair for n, pair in weighted.items() if pair[1] > 0}
    if not mixture:
        raise ValueError(f"{stage.name}: no data set of {', '.join(sources)} has a weight above 0")
    return mixture


def parse_weights(text: str) -> dict[str, float]:
    """`meld=150,own=30` -> weight per name.

    Raises:
      ValueError: the text has another form, or a weight is not finite.
    """
    out = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = part.partition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight):
            raise ValueError(f"the mixture weights hold '{part}', which is not name=number")
        out[name.strip()] = weight
    return out


def check_cached(data: Data, trainable: Flat) -> None:
    """Checks that a run does not change what a feature cache has fixed.

    Args:
      data: must not augment or normalise per speaker.
      trainable: must not contain variables of encoders.

    Raises:
      ValueError: it does.
    """
    if towers := sorted(p for p in trainable if is_encoder_path(p)):
        raise ValueError(
            f"features are cached, but {towers[0]} is trainable: freeze the encoders in "
            "config.trainable"
        )
    for field in ("augment", "speaker_norm"):
        if getattr(data, field):
            raise ValueError(
                f"features are cached: config.data.{field} cannot change pictures or sound; set it "
                "to 0"
            )


def label_space(records: Sequence[ClipRecord]) -> tuple[str, ...]:
    """The default labels of a model: those of all clips' label spaces, in order of appearance."""
    spaces = dict.fromkeys(r.labels for r in records if r.labels)
    return tuple(dict.fromkeys(label for space in spaces for label in space))

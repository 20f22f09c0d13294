"""What a run starts from: tokenizer, weights in their shards, statistics of its speakers, the mixture of each stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from data_pipeline.datasets.labels import normalise_answer
from data_pipeline.loader import prompts, released_stages
from data_pipeline.loader.batches import read_element
from data_pipeline.loader.tasks import answer_text
from data_pipeline.loader.tokens import LlamaTokenizer, SmallTokenizer, Tokenizer
from data_pipeline.media.speaker_norm import Speakers, average_speaker, measure_speakers
from data_pipeline.schema import ClipRecord
from emojax.bundle.model_folder import load_bundle, load_tokenizer
from emojax.config import Settings, Stage
from emojax.model.variables import (
    Flat,
    abstract_variables,
    flatten,
    init_flat,
    is_encoder_path,
    unbox,
    variable_shardings,
)

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
                for pick in range(len(prompts.question_pool(task, own=settings.data.questions))):
                    ask = prompts.question(task, record.labels, pick, settings.data.questions)
                    words = record.subtitle or settings.data.no_subtitle
                    texts.append(prompts.train_prompt(words, task, ask, stage.tasks.style))
                texts.append(normalise_answer(answer_text(record, task)))
    return SmallTokenizer.train(texts, settings.model.llama.vocab)


def start_variables(settings: Settings, mesh: jax.sharding.Mesh, say: Say) -> Flat:
    """Random variables, or those of the model folder `train.init_from`, read straight into their shards.

    Raises:
      ValueError: the folder's model is of other sizes.
    """
    if not settings.train.init_from:
        return init_flat(settings.model, settings.seed, mesh)
    wanted = {p: x.shape for p, x in flatten(unbox(abstract_variables(settings.model))).items()}
    bundle = load_bundle(
        Path(settings.train.init_from), shardings=variable_shardings(settings.model, mesh)
    )
    found = flatten(bundle.variables)
    if bundle.settings.raw["model"]["kernels"] != settings.raw["model"]["kernels"]:
        word = bundle.settings.raw["model"]["kernels"]
        raise ValueError(
            f"the kernels of {settings.train.init_from} are {word}: set config.model.kernels to {word}"
        )
    if wrong := sorted(
        p for p in {**wanted, **found} if p not in found or wanted.get(p) != found[p].shape
    ):
        raise ValueError(
            f"{settings.train.init_from} is of another model: {len(wrong)} leaves differ, such as {wrong[0]}"
        )
    say(f"starts from {bundle.name}")
    return found


def training_speakers(settings: Settings, sources: Sources, say: Say) -> Speakers | None:
    """Statistics of the people to learn from, where the run normalises by speaker and clips name theirs."""
    if not settings.data.speaker_norm:
        return None
    voices = measure_speakers(
        read_element(source[i], settings.views)
        for source, _ in sources.values()
        for i in range(len(source))
    )
    average = average_speaker(voices)
    if average is None:
        say(
            "note: no clip to learn from names its speaker (column `speaker`): sound is not normalised by speaker"
        )
        return None
    people = {name.rpartition("|")[0] for name in voices}
    say(f"sound is normalised by speaker, {len(people)} people to learn from")
    return Speakers(voices, average, settings.data.speaker_norm)


def stage_sources(stage: Stage, sources: Sources, say: Say) -> Sources:
    """The sources with the stage's weights (0 leaves a set out), else those of a released stage, else their own.

    Raises:
      ValueError: a weight of no data set; a set that a released mixture knows nothing of, without a weight.
    """
    given = parse_weights(stage.weights)
    if unknown := sorted(set(given) - set(sources)):
        raise ValueError(
            f"the weights of {stage.name} name '{unknown[0]}'; the data are {', '.join(sorted(sources))}"
        )
    released = stage.tasks.released and stage.tasks.style in released_stages.STAGES
    table = released_stages.released_weights(stage.tasks.style) if released else {}
    known = set(sources) & set(table)
    if known and (others := sorted(set(sources) - known - set(given))):
        raise ValueError(
            f"'{others[0]}' has no weight in the released mixture: set config.data.weights to {others[0]}=60"
        )
    if known and len(known) < len(table):
        absent = ", ".join(sorted(set(table) - known))
        say(
            f"{stage.name}: not in this mixture: {absent}; the weights of the others keep their proportions"
        )
    weighed = {n: (source, given.get(n, table.get(n, own))) for n, (source, own) in sources.items()}
    kept = {n: pair for n, pair in weighed.items() if pair[1] > 0}
    if not kept:
        raise ValueError(f"{stage.name}: no data set of {', '.join(sources)} has a weight above 0")
    return kept


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
    if towers := sorted(p for p in learned if is_encoder_path(p)):
        raise ValueError(
            f"features are cached, but {towers[0]} learns: freeze the encoders in config.trainable"
        )
    for field in ("augment", "speaker_norm"):
        if getattr(settings.data, field):
            raise ValueError(
                f"features are cached: config.data.{field} can not change pictures or sound; set it to 0"
            )


def label_space(records: Sequence[ClipRecord]) -> tuple[str, ...]:
    """Labels that a model is asked for when nobody says which: of all clips' spaces, in the order they are met."""
    spaces = dict.fromkeys(r.labels for r in records if r.labels)
    return tuple(dict.fromkeys(label for space in spaces for label in space))

"""A model folder: everything that answering needs, and nothing else.

DIR/model.json       resolved config, label space, prompt style, what it was trained on
DIR/speaker.json     sound of the average training speaker (only with config.data.speaker_norm)
DIR/tokenizer.json   the run's own tokenizer, or tokenizer.model, that of LLaMA-2
DIR/weights/         Orbax tree of all variables
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from flax import traverse_util

from data_pipeline.loader.batches import RowConfig
from data_pipeline.loader.tokens import LlamaTokenizer, SmallTokenizer, Tokenizer
from data_pipeline.media.speaker_norm import Speakers, VoiceStats
from emojax.bundle.calibration import FILE as CALIBRATION
from emojax.bundle.calibration import Calibration, load_calibration
from emojax.config import Settings, resolve_saved
from emojax.model.quantize import quantize_leaves
from emojax.sharding import broadcast_text

TOKENIZER_MODEL, MANIFEST = "tokenizer.model", "manifest.json"
REASON_TASKS = ("reason", "reason_v2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded model folder. `variables`: nested {params, lora}. `style`: prompt style of its last stage.
    `reason_task`: the task that asks for a reason, "" where none was learned. `calibration`: of label
    probabilities, None where it was not fitted.
    """

    name: str
    settings: Settings
    tokenizer: Tokenizer
    variables: Any
    labels: tuple[str, ...]
    style: str
    reason_task: str
    average_speaker: VoiceStats | None = None
    calibration: Calibration | None = None

    @property
    def can_reason(self) -> bool:
        """Whether the model has learned to write reasons."""
        return bool(self.reason_task)

    def rows(self) -> RowConfig:
        """How this model's samples become arrays; never augmented."""
        return row_config(self.settings, augment=False)


def row_config(settings: Settings, augment: bool, *, speakers: Speakers | None = None) -> RowConfig:
    """Settings -> RowConfig; `augment` is True for training rows alone."""
    d = settings.data
    return RowConfig(
        views=settings.views,
        places=settings.model.placeholders,
        buckets=d.buckets,
        max_answer=d.max_answer,
        max_subtitle=d.max_subtitle,
        no_subtitle=d.no_subtitle,
        augment=d.augment if augment else 0.0,
        zero_hidden=settings.model.missing == "released",
        words=d.words if augment and settings.model.word_heads else 0,
        speakers=speakers,
        layout=d.layout,
        questions=d.questions,
    )


def save_bundle(
    folder: Path | epath.Path,
    settings: Settings,
    tokenizer: Tokenizer,
    *,
    variables: Any,
    labels: tuple[str, ...],
    reasons: bool,
    average_speaker: VoiceStats | None = None,
    name: str = "",
    imported: bool = False,
) -> None:
    """Writes the folder; `reasons`: the training clips had reasons to learn from; `imported`: its manifest stands there.

    `model.json` comes last, so a folder that has it is complete.
    """
    folder = epath.Path(folder)
    main = jax.process_index() == 0
    weights = (folder if "://" in str(folder) else folder.resolve()) / "weights"
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        # While its weights are replaced a folder is no model; nothing of the one before may stay.
        for old in (
            "model.json",
            "tokenizer.json",
            "speaker.json",
            CALIBRATION,
            *(() if imported else (MANIFEST,)),
        ):
            (folder / old).unlink(missing_ok=True)
        if weights.exists():
            weights.rmtree()
    broadcast_text("cleared")
    # Without compression: with it Orbax holds a second copy of large trees while it writes, and takes longer.
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False)) as checkpointer:
        checkpointer.save(weights, args=ocp.args.PyTreeSave(variables))
    if not main:
        return
    if isinstance(tokenizer, SmallTokenizer):
        (folder / "tokenizer.json").write_text(tokenizer.to_text())
    elif isinstance(tokenizer, LlamaTokenizer) and str(tokenizer.path) != str(
        folder / TOKENIZER_MODEL
    ):
        epath.Path(tokenizer.path).copy(folder / TOKENIZER_MODEL, overwrite=True)
    if average_speaker:
        (folder / "speaker.json").write_text(average_speaker.to_json())
    last = settings.stages[-1].tasks
    facts = {
        "format": 1,
        "name": name or settings.name,
        "labels": list(labels),
        "style": last.style,
        "reason_task": next((t for t in REASON_TASKS if t in last.tasks), "") if reasons else "",
        "config": settings.raw,
    }
    (folder / "model.json").write_text(json.dumps(facts, indent=1))


def load_bundle(folder: Path, *, shardings: Mapping[str, Any] | None = None) -> Bundle:
    """Reads a model folder; `shardings` ({path: sharding}) say where its weights go, else to the first device.

    Raises:
      FileNotFoundError: the folder holds no finished model; says what to do.
    """
    facts_path = folder / "model.json"
    if not facts_path.exists():
        raise FileNotFoundError(
            f"{folder} holds no model (no model.json): give a folder that `emojax train` or `emojax demo` made, "
            "or wait until its training has ended"
        )
    try:
        facts = json.loads(facts_path.read_text())
        settings = resolve_saved(facts["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{facts_path} is damaged ({type(error).__name__}: {error})") from error
    if not (folder / "weights" / "_METADATA").exists():
        raise FileNotFoundError(
            f"{folder}/weights is missing or damaged: copy the whole model folder again"
        )
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > settings.model.llama.vocab:
        raise ValueError(
            f"the tokenizer of {folder} is of another model: it has {tokenizer.vocab_size} pieces"
        )
    average = folder / "speaker.json"
    variables = _restore(folder, shardings or {})
    return Bundle(
        name=f"{facts['name']}@{folder}",
        settings=settings,
        tokenizer=tokenizer,
        variables=variables,
        labels=tuple(facts["labels"]),
        style=facts["style"],
        # Folders of the first version say only whether there is one.
        reason_task=facts.get("reason_task", "reason" if facts.get("can_reason") else ""),
        average_speaker=VoiceStats.from_json(average.read_text()) if average.exists() else None,
        calibration=load_calibration(folder),
    )


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises:
      FileNotFoundError: it holds none.
    """
    if (folder / "tokenizer.json").exists():
        return SmallTokenizer((folder / "tokenizer.json").read_text())
    if (folder / TOKENIZER_MODEL).exists():
        return LlamaTokenizer(folder / TOKENIZER_MODEL)
    raise FileNotFoundError(f"{folder} holds no tokenizer: copy the whole model folder again")


def as_int8(bundle: Bundle) -> Bundle:
    """The same model with its frozen kernels as int8 (weights only); one that has them is returned as it is."""
    raw = bundle.settings.raw
    if raw["model"]["kernels"] == "int8":
        return bundle
    settings = resolve_saved({**raw, "model": {**raw["model"], "kernels": "int8"}})
    leaves = quantize_leaves(traverse_util.flatten_dict(bundle.variables, sep="/"))
    variables = traverse_util.unflatten_dict(
        {p: jnp.asarray(x) for p, x in leaves.items()}, sep="/"
    )
    return dataclasses.replace(bundle, settings=settings, variables=variables)


def _restore(folder: Path, shardings: Mapping[str, Any]) -> Any:
    weights = folder.absolute() / "weights"
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            metadata = checkpointer.metadata(weights).item_metadata
            device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            flat = traverse_util.flatten_dict(metadata.tree, sep="/")
            abstract = {
                p: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=shardings.get(p, device))
                for p, m in flat.items()
            }
            return checkpointer.restore(weights, traverse_util.unflatten_dict(abstract, sep="/"))
    except Exception as error:  # whatever the library raises on files that are cut, changed or gone
        first = (
            str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        )
        raise ValueError(
            f"{weights} is damaged: import or train the model again ({first})"
        ) from error

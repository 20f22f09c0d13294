"""A model folder: everything that inference needs.

DIR/model.json       resolved configuration, labels, prompt style, training tasks
DIR/speaker.json     audio statistics of the average training speaker (with data.speaker_norm)
DIR/tokenizer.json   tokenizer that was trained with the model; or tokenizer.model, that of LLaMA-2,
                     with tokenizer_config.json; or the folder tokenizer/ with the files of another
                     language model's
DIR/weights/         Orbax tree of all variables
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from data_pipeline.loader.chat_tokenizer import ChatTokenizer
from data_pipeline.loader.samples import RowConfig
from data_pipeline.loader.tokens import TOKENIZER_CONFIG, LlamaTokenizer, SmallTokenizer, Tokenizer
from data_pipeline.media.speaker_norm import Speakers, VoiceStats
from emojax.bundle.calibration import FILE as CALIBRATION
from emojax.bundle.calibration import Calibration, load_calibration
from emojax.bundle.memory import buffer_gb
from emojax.bundle.precision import restore_weights, with_layout, with_precision
from emojax.config import Settings, resolve_saved
from emojax.model.build import ModelConfig
from emojax.model.emotion_v1 import EmotionV1Config
from emojax.model.quantize import quantize_leaves
from emojax.model.variables import flatten, merge
from emojax.sharding import broadcast_text

MODEL_FILE = "model.json"
TOKENIZER_MODEL, MANIFEST = "tokenizer.model", "manifest.json"
TOKENIZER_FOLDER = "tokenizer"
RELEASED_ANSWER = {"v1": 500, "v2": 200}  # max_new_tokens of the official evaluations
FACE_ENCODER_SCALE = "params/mae/norm/scale"  # zeros if the face encoders were not imported
REASON_TASKS = ("reason", "reason_v2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded model folder.

    Attributes:
      name: NAME@FOLDER.
      settings: the run that trained it.
      tokenizer: its tokenizer.
      variables: nested {params, lora}.
      labels: default labels.
      style: prompt style of its last stage.
      reason_task: the task that asks for an explanation; "" if none was trained.
      average_speaker: audio statistics; None if the model does not normalise per speaker.
      calibration: of label probabilities; None if they are not calibrated.
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
        """Whether the model was trained to write explanations."""
        return bool(self.reason_task)

    @property
    def answer_tokens(self) -> int:
        """Most tokens of an answer; of released models as many as in their official runs."""
        longest = self.settings.data.max_answer
        if self.settings.data.layout == "train":
            return longest
        return min(longest, RELEASED_ANSWER["v1" if self.style == "v1" else "v2"])

    def rows(self) -> RowConfig:
        """How samples of this model become arrays, without augmentation."""
        return row_config(self.settings, augment=False)


def row_config(settings: Settings, *, augment: bool, speakers: Speakers | None = None) -> RowConfig:
    """Settings -> RowConfig; `augment` is True only for training rows."""
    d = settings.data
    return RowConfig(
        views=settings.views,
        placeholders=settings.model.placeholders,
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
    parts: Mapping[str, Any] | None = None,
) -> None:
    """Writes a model folder; `model.json` comes last, so a folder that has it is complete.

    Args:
      folder: local or remote; all processes call.
      settings: the run.
      tokenizer: its tokenizer.
      variables: nested {params, lora}; each process may hold only some of the shards.
      labels: default labels.
      reasons: whether the training data contained explanations.
      average_speaker: audio statistics, if the model normalises per speaker.
      name: name of the model; "": that of the settings.
      imported: whether the weights were imported, so that the manifest in the folder is kept.
      parts: where the weights of pretrained parts come from, by section of config.model.
    """
    folder = epath.Path(folder)
    main = jax.process_index() == 0
    weights = (folder if "://" in str(folder) else folder.resolve()) / "weights"
    if main:
        _clear(folder, weights, keep_manifest=imported)
    broadcast_text("cleared")
    # Orbax holds a copy of what it writes: of a few leaves at a time, and of whole trees if it
    # compresses, which is slower too.
    handler = ocp.PyTreeCheckpointHandler(
        use_compression=False, save_concurrent_gb=buffer_gb(variables)
    )
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(weights, args=ocp.args.PyTreeSave(variables))
    if not main:
        return
    _save_tokenizer(tokenizer, folder)
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
        **({"parts": dict(parts)} if parts else {}),
    }
    (folder / MODEL_FILE).write_text(json.dumps(facts, indent=1))


def _save_tokenizer(tokenizer: Tokenizer, folder: epath.Path) -> None:
    """Writes a tokenizer's files into a model folder, local or remote."""
    if isinstance(tokenizer, SmallTokenizer):
        (folder / "tokenizer.json").write_text(tokenizer.to_text())
    elif isinstance(tokenizer, ChatTokenizer):
        (folder / TOKENIZER_FOLDER).mkdir(parents=True)
        with tempfile.TemporaryDirectory() as part:
            for file in tokenizer.save(Path(part)):
                (folder / TOKENIZER_FOLDER / file.name).write_bytes(file.read_bytes())
    elif isinstance(tokenizer, LlamaTokenizer) and str(tokenizer.path) != str(
        folder / TOKENIZER_MODEL
    ):
        epath.Path(tokenizer.path).copy(folder / TOKENIZER_MODEL, overwrite=True)
        (folder / TOKENIZER_CONFIG).write_text(json.dumps({"legacy": tokenizer.legacy}))


def _clear(folder: epath.Path, weights: epath.Path, *, keep_manifest: bool) -> None:
    """Removes an earlier model: while its weights are replaced, the folder holds no model."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [MODEL_FILE, "tokenizer.json", TOKENIZER_CONFIG, "speaker.json", CALIBRATION]
    for name in names if keep_manifest else [*names, MANIFEST]:
        (folder / name).unlink(missing_ok=True)
    for part in (weights, folder / TOKENIZER_FOLDER):
        if part.exists():
            part.rmtree()


def load_bundle(
    folder: Path,
    *,
    shardings: Mapping[str, Any] | None = None,
    precision: str = "",
    layout: str = "",
) -> Bundle:
    """Reads a model folder.

    Args:
      folder: local folder.
      shardings: {path: sharding} of its weights; by default they go to the first device.
      precision: a key of precision.FORMATS; "": as the weights are stored.
      layout: layout of the prompts of released weights; "": as imported.

    Returns:
      The model with its tokenizer, labels and calibration.

    Raises:
      FileNotFoundError: the folder holds no complete model.
      ValueError: a file is damaged or belongs to another model, or the stored weights cannot be
        converted to this precision or have no encoders that this layout needs.
    """
    facts, saved = read_facts(folder)
    saved = with_layout(saved, layout)
    settings = with_precision(saved, precision)
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > settings.model.llama.vocab:
        raise ValueError(
            f"the tokenizer of {folder} belongs to another model: it has {tokenizer.vocab_size} "
            "tokens"
        )
    average = folder / "speaker.json"
    name = model_name(folder, facts)
    variables = restore_weights(folder, shardings or {}, saved=saved, settings=settings)
    check_face_encoders(name, settings.model, variables)
    return Bundle(
        name=name,
        settings=settings,
        tokenizer=tokenizer,
        variables=variables,
        labels=tuple(facts["labels"]),
        style=facts["style"],
        # Folders of the first version only say whether there is one.
        reason_task=facts.get("reason_task", "reason" if facts.get("can_reason") else ""),
        average_speaker=VoiceStats.from_json(average.read_text()) if average.exists() else None,
        calibration=load_calibration(folder),
    )


def check_face_encoders(name: str, model: ModelConfig, variables: Any) -> None:
    """Checks that a model has the face encoders that it runs.

    Args:
      name: of the model, for the message.
      model: the network that is to run.
      variables: nested {params, lora}.

    Raises:
      ValueError: it would run MAE and VideoMAE, whose weights were not imported, so that their
        outputs would be zeros.
    """
    if not isinstance(model, EmotionV1Config) or model.zero_faces:
        return
    if not jnp.any(flatten(variables)[FACE_ENCODER_SCALE]):
        raise ValueError(
            f"{name} was imported without MAE and VideoMAE: it can only answer as the released "
            "demo does (--mode released_demo); import emotion-llama for everything else"
        )


def read_facts(folder: Path) -> tuple[dict[str, Any], Settings]:
    """The content of `model.json`, and the settings in it.

    Raises:
      FileNotFoundError: the folder holds no complete model.
      ValueError: the file is damaged.
    """
    facts_path = folder / MODEL_FILE
    if not facts_path.exists():
        raise FileNotFoundError(
            f"{folder} holds no model (no {MODEL_FILE}): give a folder that `emojax train` or "
            "`emojax demo` made, or wait until its training has ended"
        )
    try:
        facts = json.loads(facts_path.read_text())
        settings = resolve_saved(facts["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{facts_path} is damaged ({type(error).__name__}: {error})") from error
    return facts, settings


def model_name(folder: Path, facts: Mapping[str, Any]) -> str:
    """The name of a model in answers: NAME@FOLDER.

    Args:
      folder: the model folder.
      facts: the content of its `model.json`.
    """
    return f"{facts['name']}@{folder}"


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises:
      FileNotFoundError: the folder has none.
    """
    if (folder / TOKENIZER_FOLDER).is_dir():
        return ChatTokenizer(folder / TOKENIZER_FOLDER)
    if (folder / "tokenizer.json").exists():
        return SmallTokenizer((folder / "tokenizer.json").read_text())
    if (folder / TOKENIZER_MODEL).exists():
        return LlamaTokenizer(folder / TOKENIZER_MODEL)
    raise FileNotFoundError(f"{folder} holds no tokenizer: copy the whole model folder again")


def as_int8(bundle: Bundle) -> Bundle:
    """The same model with its frozen kernels as int8 (weights only), if they are not yet."""
    settings = with_precision(bundle.settings, "int8")
    if settings is bundle.settings:
        return bundle
    leaves = quantize_leaves(flatten(bundle.variables))
    variables = merge({p: jnp.asarray(x) for p, x in leaves.items()}, {})
    return dataclasses.replace(bundle, settings=settings, variables=variables)

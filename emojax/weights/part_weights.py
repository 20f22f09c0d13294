"""Loads the files of the parts that a configuration names, as the start of a training run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from data_pipeline.loader.chat_tokenizer import ChatFacts, ChatTokenizer
from data_pipeline.loader.tokens import LlamaTokenizer, Tokenizer
from emojax.bundle.model_folder import TOKENIZER_MODEL
from emojax.config import Settings
from emojax.config.part_fields import STREAM_KINDS
from emojax.formats.gguf_config import write_tokenizer
from emojax.model.lm.families import LanguageFamily
from emojax.model.parts import ENCODERS, LANGUAGE_MODELS, tree_name
from emojax.model.weight_rules import Table
from emojax.weights.importer import leaf_types
from emojax.weights.load_tensors import WeightsError, choose_table, stream_tensors
from emojax.weights.part_files import RECORD, find_part_files
from emojax.weights.tensor_files import open_tensors

logger = logging.getLogger(__name__)


def find_parts(settings: Settings) -> dict[str, Path]:
    """{section of config.model: folder of its part}, for all parts that are named.

    Raises:
      FileNotFoundError: as `find_part_files`.
    """
    return {s: find_part_files(part, kind=STREAM_KINDS[s]) for s, part in settings.parts.items()}


def part_table(settings: Settings, stream: str) -> tuple[Table, ...]:
    """The weight table of a stream's part on the whole tree, in all its spellings."""
    name = settings.raw["model"][stream]["family"]
    if stream == "llama":
        tables, tree = LANGUAGE_MODELS[name].tables(settings.model.llama), "llama"
    else:
        family = ENCODERS[name]
        tables, tree = family.tables(getattr(settings.model, stream)), tree_name(family, stream)
    return tuple(table.under("", f"params/{tree}/") for table in tables)


def load_parts(settings: Settings, shardings: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Reads the weights of all named parts, leaf by leaf, into their shards.

    Args:
      settings: the run.
      shardings: {path: sharding} of the whole model.

    Returns:
      {path: array} of the parts.

    Raises:
      FileNotFoundError: files are missing.
      WeightsError: they do not fit the model.
    """
    leaves = leaf_types(settings)
    variables: dict[str, jax.Array] = {}
    for stream, folder in find_parts(settings).items():
        tensors = open_tensors(folder)
        table = choose_table(part_table(settings, stream), tensors)
        try:
            for path, array in stream_tensors(table, tensors, leaves):
                variables[path] = jax.device_put(array, shardings[path])
        except WeightsError as error:
            raise WeightsError(f"{folder}: {error}") from error
        logger.info("%s starts from %s", stream, _title(settings.parts[stream], folder))
    return variables


def part_sources(settings: Settings) -> dict[str, Any]:
    """{section of config.model: name, checksum and origin of its part}, for manifests."""
    out = {}
    for stream, folder in find_parts(settings).items():
        named = folder / RECORD
        origin = json.loads(named.read_text()) if named.exists() else {}
        files = sorted((p.name, p.stat().st_size) for p in folder.iterdir() if p.is_file())
        text = json.dumps([origin.get("files"), files if not origin else []])
        digest = hashlib.sha256(text.encode()).hexdigest()
        out[stream] = {"name": settings.parts[stream], "sha256": digest, "source": origin}
    return out


def _title(part: str, folder: Path) -> str:
    note = ""
    if (folder / RECORD).exists():
        origin = json.loads((folder / RECORD).read_text())
        if origin.get("mirror"):
            note = f" (from a mirror{': ' + origin['note'] if origin.get('note') else ''})"
    return f"{part}{note}"


def part_tokenizer(settings: Settings) -> Tokenizer | None:
    """The tokenizer of the named language model; None when none is named."""
    part = settings.parts.get("llama")
    if part is None:
        return None
    folder = find_part_files(part, kind="language")
    family = LANGUAGE_MODELS[settings.raw["model"]["llama"]["family"]]
    if family.name == "llama2" and (folder / TOKENIZER_MODEL).exists():
        return LlamaTokenizer(folder / TOKENIZER_MODEL)
    if not (folder / "tokenizer.json").exists() and (files := sorted(folder.glob("*.gguf"))):
        write_tokenizer(files[0], folder)
    return ChatTokenizer(folder, chat_facts(family))


def chat_facts(family: LanguageFamily) -> ChatFacts:
    """How a family writes its turns."""
    return ChatFacts(family.end_tokens, family.turn)

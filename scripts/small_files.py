"""Small random files in place of released ones, for tests and scripts/import_memory.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sentencepiece
from safetensors.numpy import save_file

from emojax.config import Settings
from emojax.weights.catalogue import SOURCES, catalogue_model
from emojax.weights.importer import leaf_types
from emojax.weights.load_tensors import save_tensors


def tokenizer(folder: Path) -> None:
    """Writes `tokenizer.model`: about 300 SentencePiece pieces, numbered as LLaMA's."""
    (folder / "texts.txt").write_text(
        "\n".join(["the person in video says hello", "which emotion is it", "why not"])
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )


def source_files(name: str, settings: Settings, folder: Path, *, skip: str = "") -> dict[str, Path]:
    """Writes random float32 tensors for the sources of a model.

    Args:
      name: a model of the catalogue.
      settings: its configuration.
      folder: where to write.
      skip: a source whose folder stays empty.

    Returns:
      {source: folder with weights.safetensors}.
    """
    leaves = leaf_types(settings)
    rng = np.random.default_rng(0)
    files = {}
    for key in catalogue_model(name).sources:
        files[key] = folder / key
        files[key].mkdir(parents=True)
        if key == skip:
            continue
        table = SOURCES[key].fills(settings.model)[-1][0]  # of EVA, the encoder with all blocks
        values = {
            p: rng.standard_normal(leaves[p].shape, np.float32) * 0.2
            for r in table.rules
            for p in r.paths
        }
        save_file(save_tensors(table, values), files[key] / "weights.safetensors")
    tokenizer(files["llama-2-7b-chat"])
    return files

"""Which clips a model was trained on, and which of its data were held out.

DIR/training_clips.json   {key of a clip: its split}
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from etils import epath

from data_pipeline.media.notes import counted
from data_pipeline.schema import ClipRecord

FILE = "training_clips.json"  # in the model folder


def clip_key(record: ClipRecord) -> str | None:
    """Identifies a clip by its folder, name, size and span, so that data sets may be moved.

    Returns:
      16 hex digits; None if there is no such file.
    """
    path = Path(record.path)
    if not path.is_file():
        return None
    facts = [path.parent.name, path.name, path.stat().st_size, record.start, record.end]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def save_training_clips(folder: Path | epath.Path, records: Sequence[ClipRecord]) -> None:
    """Writes the splits of the data that a model was trained on into its folder (process 0 does).

    Args:
      folder: the model folder, local or remote.
      records: the clips of all splits.
    """
    if jax.process_index():
        return
    splits = {key: r.split for r in records if (key := clip_key(r))}
    (epath.Path(folder) / FILE).write_text(json.dumps(splits, indent=0))


def load_training_clips(folder: Path) -> dict[str, str]:
    """The splits of the data that a model was trained on, by `clip_key`.

    Returns:
      {} for imported models and those of earlier versions, which do not have the file.

    Raises:
      ValueError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        return {str(key): str(split) for key, split in json.loads(path.read_text()).items()}
    except (AttributeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it") from error


def seen_notes(records: Sequence[ClipRecord], trained: Mapping[str, str]) -> list[str]:
    """Splits other than train with clips that a model was trained on, as sentences.

    Args:
      records: the clips.
      trained: of `load_training_clips`.
    """
    if not trained:
        return []
    totals = Counter(r.split for r in records)
    seen = Counter(
        r.split for r in records if r.split != "train" and trained.get(clip_key(r) or "") == "train"
    )
    return [
        f"the model was trained on {n:,} of the {counted(totals[split], 'clip')} of {split}; "
        f"{'its' if n == 1 else 'their'} scores do not show how it works for other clips"
        for split, n in sorted(seen.items())
    ]

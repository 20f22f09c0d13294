"""The file that grows while a set is being answered, so that an interrupted run can continue.

`<set>.partial.jsonl` has one line that identifies the run and one line per answered batch. When the
set is complete it is replaced by `<set>.jsonl`, and `<set>.run.json` keeps the first line.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.io import write_text
from data_pipeline.schema import ClipRecord
from emojax.evaluate.predictions import Prediction, parse_prediction

Batches = dict[int, list[Prediction]]  # rows by the number of their batch


def is_unanswered(row: Prediction) -> bool:
    """True if a server gave no usable reply; the same command asks again."""
    return row.error_type == "no_answer"


def questions_digest(questions: Sequence[tuple[ClipRecord, str, bool]]) -> str:
    """Hash of the clips of a set and what is asked about them.

    Args:
      questions: (record, truth, whether it is scored) of each clip.
    """

    def size(path: str) -> int:
        return Path(path).stat().st_size if Path(path).is_file() else -1

    asked = [
        (
            r.id,
            Path(r.path).name,
            size(r.path),
            r.start,
            r.end,
            r.peak_index,
            r.subtitle,
            r.speaker,
            r.labels,
            truth,
            scored,
        )
        for r, truth, scored in questions
    ]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()[:16]


def check_same_run(head: Mapping[str, Any], stored: Mapping[str, Any], path: Path) -> None:
    """Compares what identifies two runs.

    Raises:
      ValueError: the stored answers are of another model or other clips.
    """
    if different := sorted(k for k in {*head, *stored} if head.get(k) != stored.get(k)):
        raise ValueError(
            f"{path} was answered with another {', '.join(different)}; choose another --out, or "
            "delete that file"
        )


def read_partial(path: Path, head: Mapping[str, Any], plan: Sequence[Sequence[int]]) -> Batches:
    """The complete batches of an earlier run; a line cut off by a kill is answered again.

    Args:
      path: the growing file.
      head: what identifies this run.
      plan: the clips of each batch.

    Raises:
      ValueError: the file is of another run.
    """
    if not path.exists():
        return {}
    entries = []
    for line in path.read_bytes().split(b"\n"):
        try:
            entries.append(json.loads(line))
        except ValueError:  # cut off, maybe in the middle of a character
            continue
    if not entries or "batch" not in entries[0] or "rows" in entries[0]:
        return {}
    check_same_run(head, entries[0], path)
    done = {}
    for entry in entries[1:]:
        rows = [parse_prediction(r) for r in entry["rows"]]
        if len(rows) == len(plan[entry["batch"]]) and not any(map(is_unanswered, rows)):
            done[entry["batch"]] = rows
    return done


def begin_partial(path: Path, head: Mapping[str, Any], done: Batches) -> None:
    """Writes the file with its complete batches, which removes a line that was cut off."""
    lines = [json.dumps(head), *(batch_line(number, rows) for number, rows in done.items())]
    write_text(path, "".join(line + "\n" for line in lines), durable=True)


def append_batch(path: Path, number: int, rows: Sequence[Prediction]) -> None:
    """Appends one batch and waits until it is on disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(batch_line(number, rows) + "\n")
        file.flush()
        os.fsync(file.fileno())


def batch_line(number: int, rows: Sequence[Prediction]) -> str:
    """One batch as a line of JSON."""
    return json.dumps(
        {"batch": number, "rows": [json.loads(r.to_json()) for r in rows]}, ensure_ascii=False
    )

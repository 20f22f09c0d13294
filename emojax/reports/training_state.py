"""The state of a training run, read from the files that it writes, as a table (`emojax watch`).

The files are config.json, starts.jsonl, log.jsonl, speed.jsonl and validation.jsonl.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from etils import epath
from rich.table import Table

from emojax.bundle.model_folder import MODEL_FILE
from emojax.config import for_devices, resolve_saved
from emojax.train.train_log import SPEED, STEPS, VALIDATION

_LOSS_STEPS = 20  # steps that the shown loss is averaged over


def read_rows(run: epath.Path, name: str) -> list[dict[str, Any]]:
    """The rows of one of a run's files, without a last line that is still being written."""
    path = run / name
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def read_run(run: epath.Path) -> dict[str, Any]:
    """Reads what a run consists of.

    Returns:
      stages [(name, steps)], starts, finished and config.

    Raises:
      ValueError: the folder contains no run, or its configuration cannot be read.
    """
    if not run.exists():
        raise ValueError(f"there is no folder '{run}'")
    if not is_run(run):
        raise ValueError(f"{run} contains no training run (no config.json)")
    starts = read_rows(run, "starts.jsonl")
    try:
        raw = json.loads((run / "config.json").read_text())
        settings = for_devices(resolve_saved(raw), starts[-1]["devices"] if starts else 1)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run}/config.json cannot be read ({error})") from error
    return {
        "stages": [(s.name, s.steps) for s in settings.stages],
        "starts": starts,
        "finished": is_finished(run),
        "config": raw,
    }


def is_run(run: epath.Path) -> bool:
    """True if the folder contains a training run."""
    return bool((run / "config.json").exists())


def is_finished(run: epath.Path) -> bool:
    """True if the run has written its model."""
    return bool((run / MODEL_FILE).exists())


def state_table(run: epath.Path) -> Table:
    """One row per stage: steps, loss, learning rate, speed, memory, best validation, time left.

    Raises:
      ValueError: the folder contains no run.
    """
    facts = read_run(run)
    steps, speed, scores = (read_rows(run, name) for name in (STEPS, SPEED, VALIDATION))
    state = "finished" if facts["finished"] else f"{len(facts['starts'])} starts"
    table = Table(title=f"{run} ({state})")
    for column in ("stage", "steps", "loss", "lr", "clips/s", "memory", "best", "left"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    for stage, total in facts["stages"]:
        stage_steps, stage_speed, stage_scores = (
            [r for r in rows if r["stage"] == stage] for rows in (steps, speed, scores)
        )
        if not stage_steps:
            table.add_row(stage, f"0/{total}", *["-"] * 6)
            continue
        last_losses = [r["loss"] for r in stage_steps[-_LOSS_STEPS:]]
        best = max(stage_scores, key=lambda r: r["score"]) if stage_scores else None
        last = stage_speed[-1] if stage_speed else None
        left = "-"
        if last and len(stage_speed) > 1 and last["step"] > stage_speed[-2]["step"]:
            clips = (total - stage_steps[-1]["step"]) * facts["config"]["train"]["batch"]
            left = f"{clips / max(1e-9, last['clips_per_s']) / 60:.0f} min"
        cells = [
            stage,
            f"{stage_steps[-1]['step']}/{total}",
            f"{sum(last_losses) / len(last_losses):.4f}",
            f"{stage_steps[-1]['lr']:.1e}",
            f"{last['clips_per_s']:.1f}" if last else "-",
            f"{last['memory_bytes'] / 2**30:.1f} GiB" if last else "-",
            f"{best['score']:.3f} at {best['step']}" if best else "-",
            left,
        ]
        table.add_row(*cells)
    return table


def state_tables(run: epath.Path, *, every: float = 1.0) -> Iterator[Table]:
    """Yields `state_table` every so many seconds, until the run has finished.

    Raises:
      ValueError: the folder contains no run.
    """
    yield state_table(run)
    while not is_finished(run):
        time.sleep(every)
        yield state_table(run)

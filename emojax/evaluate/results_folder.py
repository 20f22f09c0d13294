"""A folder of results: evaluation.json, clips.csv and predictions/.

evaluation.json contains the strict scores of a set at its top level (those of several sets below
`sets`, those of a manifest by split) and the official ones below `released`. emojax/reports adds
evaluation.md, report.html and the pictures.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.io import atomic_path, write_text
from emojax.evaluate.metric_scorers import ScoredSet
from emojax.evaluate.predictions import Prediction, PredictionError, write_predictions
from emojax.evaluate.score_files import read_files, set_name
from emojax.evaluate.suites import SETS, Member

_CLIP_COLUMNS = (
    *("set", "clip", "mode", "truth", "response", "read", "right", "probability"),
    *("speaker", "duration", "read_as"),
)


def is_set(value: Any) -> bool:
    """True for the objects of evaluation.json that contain the scores of a set or a split."""
    return isinstance(value, dict) and "n" in value and ("confusion" in value or "primary" in value)


def sets_of(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The scored sets or splits of an evaluation, by name."""
    if is_set(results):
        return {str(results.get("set") or "predictions"): dict(results)}
    return {name: value for name, value in results.get("sets", results).items() if is_set(value)}


def without_nan(value: Any) -> Any:
    """The same JSON value with None in place of NaN and infinity, which JSON cannot represent."""
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_results_json(results: Mapping[str, Any], path: Path) -> None:
    """Writes evaluation.json or comparison.json."""
    write_text(path, json.dumps(without_nan(dict(results)), indent=1, ensure_ascii=False))


def load_results(folder: Path) -> tuple[dict[str, Any], dict[str, list[Prediction]]]:
    """Reads a folder that `emojax evaluate` wrote.

    Returns:
      The contents of evaluation.json, and the rows by set.

    Raises:
      PredictionError: the folder contains no evaluation.
    """
    try:
        results = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PredictionError(
            f"{folder} contains no evaluation (evaluation.json): run `emojax evaluate` first"
        ) from error
    rows: dict[str, list[Prediction]] = {}
    for path in sorted((folder / "predictions").rglob("*.jsonl")):
        if not path.name.endswith(".partial.jsonl"):
            rows[path.stem] = next(iter(read_files(path, name=path.stem).values()))
    return results, rows


def write_clips_csv(out: Path, scored: Mapping[str, ScoredSet]) -> None:
    """Writes clips.csv: one row per scored clip."""
    with (
        atomic_path(out / "clips.csv") as part,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(_CLIP_COLUMNS)
        for name, one in scored.items():
            for row, parsed, correct, how in zip(
                one.rows, one.parsed, one.correctness, one.how, strict=True
            ):
                writer.writerow(
                    [
                        name,
                        row.clip,
                        row.mode,
                        row.answer,
                        row.final_response,
                        "; ".join(parsed),
                        f"{correct:g}",
                        max((row.probabilities or {}).values(), default=""),
                        row.speaker,
                        "" if row.duration is None else row.duration,
                        how,
                    ]
                )


def write_prediction_files(out: Path, by_set: Mapping[str, Sequence[Prediction]]) -> None:
    """Writes predictions/: all rows, in the layout that the official scripts read."""
    for name, rows in by_set.items():
        base = set_name(Path(f"{name}.jsonl"))
        folder = Member(SETS[base]).folder if base else ""
        write_predictions(out / "predictions" / folder / f"{name or 'predictions'}.jsonl", rows)

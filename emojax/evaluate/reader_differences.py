"""Clips whose answer our reader and that of the official scripts read differently."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.datasets.labels import concept
from data_pipeline.io import atomic_path
from emojax.evaluate.emotion_wheels import WordTables
from emojax.evaluate.label_space import answer_words
from emojax.evaluate.metric_scorers import ScoredSet, official_scores
from emojax.evaluate.official_parsing import label_set, last_word, response_items
from emojax.evaluate.predictions import Prediction
from emojax.evaluate.suites import PRIMARY

FILE = "reader_differences.csv"
_COLUMNS = (
    *("set", "clip", "truth", "response", "read_as", "read", "right"),
    *("released_read", "released_right"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReaderDifference:
    """One answer in two readings.

    Attributes:
      row: the answered clip.
      how: how our reader read it, see `parse_answers.HOW`.
      read: the labels or words that our reader found.
      right: how correct they are, 0 to 1.
      released_read: the labels or words that the official script compares.
      released_right: how correct it counts them; None if it does not score the clip.
    """

    row: Prediction
    how: str
    read: tuple[str, ...]
    right: float
    released_read: tuple[str, ...]
    released_right: float | None


def reader_differences(
    scored: ScoredSet, metric: str, tables: WordTables
) -> list[ReaderDifference]:
    """The answers of a scored set that the two readers read differently.

    Spellings of one label that count alike are no difference, nor are words that are no label.

    Args:
      scored: the set.
      metric: its metric.
      tables: clusters of emotion words.
    """
    out = []
    labels = scored.result.get("labels", ())
    space = set(map(concept, labels))
    for row, how, read, right in zip(
        scored.rows, scored.how, scored.parsed, scored.correctness, strict=True
    ):
        official = _official_words(row, metric, labels)
        credit = _official_credit(row, official, metric, tables)
        official_labels = {c for c in map(concept, official) if c in space or not space}
        same_words = official_labels == {c for c in map(concept, read) if c in space or not space}
        if not same_words or (credit is not None and abs(credit - right) > 1e-9):
            out.append(
                ReaderDifference(
                    row=row,
                    how=how,
                    read=read,
                    right=float(right),
                    released_read=official,
                    released_right=credit,
                )
            )
    return out


def _official_words(row: Prediction, metric: str, labels: Sequence[str]) -> tuple[str, ...]:
    if metric == "last_word":
        return (last_word(row.response, labels),)
    if metric == "multi_label":
        return tuple(dict.fromkeys(label_set(row.response)))
    if metric in ("hit_rate", "open_vocabulary"):
        return tuple(dict.fromkeys(response_items(row.response)))
    response = row.final_response.strip().lower()
    return (response,) if response else ()


def _official_credit(
    row: Prediction, words: Sequence[str], metric: str, tables: WordTables
) -> float | None:
    if metric == "multi_label":
        true = set(label_set(row.answer))
        return len(true & set(words)) / max(1, len(true | set(words)))
    if metric in ("hit_rate", "open_vocabulary"):
        truth = [row.answer] if metric == "hit_rate" else answer_words(row.answer)
        return _cluster_credit(truth, words, metric, tables)
    answer = row.answer
    if metric == "two_class":
        answer = answer.strip().lower()
        if answer == "neutral":
            return None
    return float(bool(words) and words[0] == answer)


def _cluster_credit(
    truth: Sequence[str], words: Sequence[str], metric: str, tables: WordTables
) -> float | None:
    """The mean over the wheels that score the clip: a hit, or the overlap of clusters."""
    credits = []
    for wheel in range(1, len(tables.clusters) + 1):
        if true := tables.clusters_of(truth, wheel):
            answered = tables.clusters_of(words, wheel)
            common = len(true & answered)
            whole = 1 if metric == "hit_rate" else len(true | answered)
            credits.append(common / whole)
    return float(np.mean(credits)) if credits else None


def official_score_by_our_reader(
    scored: ScoredSet, metric: str, tables: WordTables
) -> float | None:
    """The official score of the same answers if the script had our reader; None if undefined.

    Args:
      scored: the set.
      metric: its metric.
      tables: clusters of emotion words.
    """
    rows = []
    for row, read, right in zip(scored.rows, scored.parsed, scored.correctness, strict=True):
        # the truth's own spelling, which the official script compares
        is_truth = metric != "open_vocabulary" and right > 1 - 1e-9
        response = row.answer if is_truth else ", ".join(read)
        rows.append(dataclasses.replace(row, response=response, new_response=None))
    score = official_scores(rows, metric, tables, scored.result.get("labels", ()))
    value = score.get(PRIMARY[metric])
    return None if value is None else float(value)


def summary(scored: ScoredSet, metric: str, tables: WordTables) -> dict[str, Any]:
    """What evaluation.json says of the two readers.

    Args:
      scored: the set, with its differences.
      metric: its metric.
      tables: clusters of emotion words.

    Returns:
      differ, and of these: ours_better and released_better (by how correct they count), not_scored
      (clips that the official script leaves out); official_score: its name, and its value with
      either reader.
    """
    differences = scored.differences
    counted = [(d.right, d.released_right) for d in differences if d.released_right is not None]
    return {
        "differ": len(differences),
        "ours_better": sum(a > b + 1e-9 for a, b in counted),
        "released_better": sum(b > a + 1e-9 for a, b in counted),
        "not_scored": len(differences) - len(counted),
        "official_score": {
            "name": PRIMARY[metric],
            "released_reader": scored.result["released"].get(PRIMARY[metric]),
            "our_reader": None
            if scored.official is None  # a clip without prediction stops the script
            else official_score_by_our_reader(scored, metric, tables),
        },
    }


def difference_rows(name: str, differences: Sequence[ReaderDifference]) -> list[list[str]]:
    """Rows of the table of differences, without its header."""
    return [
        [
            *(name, d.row.clip, d.row.answer, d.row.final_response, d.how),
            *("; ".join(d.read), f"{d.right:.4g}", "; ".join(d.released_read)),
            "" if d.released_right is None else f"{d.released_right:.4g}",
        ]
        for d in differences
    ]


def write_reader_differences(out: Path, scored: Mapping[str, ScoredSet]) -> None:
    """Writes reader_differences.csv if any clip is read differently, or if the file is there."""
    rows = [row for name, one in scored.items() for row in difference_rows(name, one.differences)]
    if not rows and not (out / FILE).is_file():
        return
    with atomic_path(out / FILE) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(rows)

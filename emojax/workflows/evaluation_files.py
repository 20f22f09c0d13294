"""Writes the files of an evaluation, whoever answered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipeline.io import write_text
from emojax.evaluate import results_folder
from emojax.evaluate.metric_scorers import ScoredSet
from emojax.evaluate.reader_differences import difference_rows, write_reader_differences
from emojax.reports import evaluation_tables
from emojax.reports.evaluation_page import evaluation_page


def write_evaluation_files(
    results: dict[str, Any], scored: Mapping[str, ScoredSet], *, out: Path, title: str
) -> None:
    """Writes evaluation.json and .md, clips.csv, reader_differences.csv, report.html and plots.

    Args:
      results: the scores, as in evaluation.json.
      scored: {set: scores with one entry per clip}.
      out: folder of the results.
      title: title of the page.
    """
    differences = {n: difference_rows(n, one.differences) for n, one in scored.items()}
    evaluation_tables.write_evaluation(results, out, differences=differences)
    results_folder.write_clips_csv(out, scored)
    write_reader_differences(out, scored)
    write_text(out / "report.html", evaluation_page(results, scored=scored, title=title))

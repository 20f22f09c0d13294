"""The clips of a suite or manifest, as questions to a model or server."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_pipeline.datasets.benchmarks import Benchmark
from data_pipeline.datasets.dataset import DatasetContents
from data_pipeline.datasets.file_index import FileIndex
from data_pipeline.datasets.registry import read_root
from data_pipeline.loader.open_sources import read_records
from data_pipeline.progress import Progress, no_progress
from emojax.evaluate.suite_runner import Question, make_questions
from emojax.evaluate.suites import Member, Suite


def manifest_clips(
    manifest: Path,
    *,
    split: str | None = None,
    limit: int = 0,
    labels: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[dict[Member, tuple[list[Question], int]], tuple[str, ...]]:
    """The clips of a manifest as questions, each split as one set, and the label space.

    Args:
      manifest: see `read_records`.
      split: this split only.
      limit: at most so many clips per split; 0: all of them.
      labels: see `read_records`.
      columns: see `read_records`.

    Returns:
      ({set: (questions, 0)}, label space); media are not looked for.

    Raises:
      ValueError: the manifest has no clip of this split.
    """
    records = read_records(str(manifest), labels=labels, split_of=lambda _: "test", columns=columns)
    records = [r for r in records if split in (None, r.split)]
    if not records:
        raise ValueError(f"{manifest} has no row of split '{split}'")
    space = records[0].labels
    questions: dict[Member, tuple[list[Question], int]] = {}
    for part in sorted({r.split for r in records}):
        benchmark = Benchmark(
            name=part,
            dataset=manifest.stem,
            task="emotion",
            labels=space,
            modes=(part,),
            scored_modes=(part,),
            metric="single",
        )
        rows = [r for r in records if r.split == part]
        asked = [Question(dataclasses.replace(r, mode=part), r.label, True) for r in rows]
        questions[Member(benchmark)] = (asked[:limit] if limit else asked, 0)
    return questions, space


def suite_clips(
    suite: Suite, root: Path, *, limit: int = 0, progress: Progress = no_progress
) -> dict[Member, tuple[list[Question], int]]:
    """The clips of a suite in a folder of data sets.

    Args:
      suite: the suite.
      root: the folder.
      limit: at most so many clips per set; 0: all of them.
      progress: gets the task "read annotations".

    Returns:
      {set: (clips whose media are there, number of clips whose media are missing)}.

    Raises:
      ValueError: there is no such folder.
    """
    names = list(dict.fromkeys(m.benchmark.dataset for m in suite.members))
    progress("read annotations", 0, len(names))
    contents, files = read_root(root, names=names, lenient=True)
    progress("read annotations", len(names), len(names))
    by_name = {c.dataset.name: c for c in contents}
    return {
        m: available(m, by_name[m.benchmark.dataset], files, limit=limit) for m in suite.members
    }


def available(
    member: Member, contents: DatasetContents, files: FileIndex, *, limit: int = 0
) -> tuple[list[Question], int]:
    """The questions about the clips of a set whose media are there.

    Args:
      member: the set.
      contents: the annotations of its data set.
      files: the files of the folder of data sets.
      limit: at most so many clips; 0: all of them.

    Returns:
      (questions, number of clips whose media are missing).
    """
    questions = make_questions(member, contents)
    there = [
        q for q in questions if files.has(Path(q.record.path)) or Path(q.record.path).is_file()
    ]
    return (there[:limit] if limit else there), len(questions) - len(there)
